"""Every history of at most five acts on an agreement, against an oracle written from the rules of CONTEXT.md alone.

An act is refused with a sentence and changes nothing, or changes days, states and mails as the rules say. Histories
that lead to the same records go on together: what an act does follows from the records and the day alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlmodel import col, delete, select

from provisioner import records
from provisioner.agreement import acts
from provisioner.agreement.acts import Giver, Late, Standing
from provisioner.agreement.terms import Milestones, Term, last_day, planned_closing, state_on, terms
from provisioner.errors import BadInput
from provisioner.journal.journal import Journal
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.model.tables import Agreement, Mail, MailState, SiteState
from provisioner.operations import agreement as operation
from provisioner.steps.agreement import record_signature, record_successor
from provisioner.steps.site import SiteWork
from tests.support.dates import DAY, later
from tests.support.registry import Registry

START, CLOSING_DAYS = date(2026, 9, 15), 30
ENDS = (date(2029, 9, 14), date(2032, 9, 14), date(2035, 9, 14))  # CONTEXT.md, the last of its vectors
DEADLINES = (date(2029, 6, 14), date(2032, 6, 14))
# Before it begins, in time in term 1, too late in it, after it, in the last term, after the cap.
TODAY = (date(2026, 9, 1), date(2027, 3, 1), date(2029, 7, 2), date(2029, 10, 1), date(2033, 1, 10), date(2035, 10, 1))
PROBES = sorted(
    {day + n * DAY for day in (START, *ENDS, *DEADLINES, *TODAY) for n in (-1, 0, 1)}
    | {date(2026, 8, 1), date(2046, 1, 1)}
)


@dataclass(frozen=True)
class Act:
    """What somebody types, and when."""

    today: date
    kind: str  # sign, notice, cancel, terminate
    on: date | None = None
    start: date | None = None
    retroactive: bool = False
    giver: str = "association"
    decided: str | None = None
    confirmed: bool = False


@dataclass(frozen=True)
class One:
    """An agreement as the oracle has it."""

    start: date
    signed: date | None = None
    notice: date | None = None
    notice_ends: date | None = None
    terminated: date | None = None
    recorded: date | None = None


def alphabet() -> list[Act]:
    """Return every act, on lawful and unlawful days."""
    found = []
    for today in TODAY:
        tomorrow = today + DAY
        found += [Act(today, "sign", on=on) for on in (today, tomorrow, date(2026, 8, 31))]
        found += [
            Act(today, "sign", on=today, start=start, retroactive=retroactive)
            for start in (ENDS[0] + DAY, date(2030, 3, 15), date(2030, 3, 16), ENDS[2] + DAY, date(2045, 9, 15))
            for retroactive in (False, True)
        ]
        found += [
            Act(today, "notice", on=on, giver=giver, decided=decided, confirmed=confirmed)
            for on in (date(2026, 8, 31), DEADLINES[0], today, tomorrow)
            for giver, decided, confirmed in (
                ("association", None, False),
                ("council", None, True),
                ("association", "counts", True),
                ("council", "next_term", False),
            )
        ]
        found.append(Act(today, "cancel"))
        found += [
            Act(today, "terminate", on=on)
            for on in (date(2026, 9, 10), today, tomorrow, ENDS[0], ENDS[0] + DAY, ENDS[2] + DAY, date(2045, 1, 1))
        ]
    return found


# The oracle


@cache
def ends_of(start: date) -> tuple[date, ...]:
    """Return the last day of each term: the day before the third, sixth, ninth anniversary."""
    return tuple(later(start, 36 * number) - DAY for number in (1, 2, 3))


def last_of(one: One) -> date:
    days = [ends_of(one.start)[2]]
    days += [one.notice_ends] if one.notice_ends else []
    days += [one.terminated - DAY] if one.terminated else []
    return min(days)


def deadline_of(end: date) -> date:
    day = end - 100 * DAY
    while later(day + DAY, 3) <= end:
        day += DAY
    return day


def state_of(one: One, day: date) -> str:
    if one.signed is None or day < one.signed:
        return "draft"
    if day > last_of(one):
        return "terminated" if one.terminated and one.terminated - DAY == last_of(one) else "expired"
    if one.notice and day >= one.notice:
        return "notice_given"
    if day < one.start:
        return "to_come"
    return "final_term" if day > ends_of(one.start)[1] else "active"


def read_only_of(one: One, day: date) -> date | None:
    """Return when the site is planned to be read-only, seen from ``day``."""
    if one.signed is None or not (one.notice or one.terminated or day > ends_of(one.start)[1]):
        return None
    last = last_of(one)
    late = one.recorded is not None and one.recorded > last
    return one.recorded + timedelta(days=15) if late and one.recorded else last + DAY


def oracle(before: tuple[One, ...], act: Act) -> tuple[One, ...] | None:
    """Return the agreements after an act; None: it is to be refused."""
    *past, one = before
    changed = {"sign": _sign, "notice": _notice, "cancel": _cancel, "terminate": _terminate}[act.kind](one, act)
    if changed is None:
        return None
    if changed.start != one.start or (one.signed and act.kind == "sign"):
        return (*before, replace(changed, recorded=act.today))
    return (*past, replace(changed, recorded=act.today))


def _sign(one: One, act: Act) -> One | None:
    assert act.on is not None
    if act.on > act.today:
        return None
    if one.signed is None:
        return replace(one, signed=act.on) if act.start is None and ends_of(one.start)[2] >= act.today else None
    earliest = last_of(one) + DAY
    begins = act.start or max(earliest, act.on)
    lawful = (
        read_only_of(one, act.today) is not None
        and act.on >= one.signed
        and earliest <= begins <= later(earliest, 6)
        and (begins >= act.on or act.retroactive)
        and ends_of(begins)[2] >= act.today
    )
    return One(begins, signed=act.on) if lawful else None


def _notice(one: One, act: Act) -> One | None:
    assert act.on is not None
    if one.signed is None or one.notice or one.terminated or last_of(one) < act.today:
        return None
    if not one.signed <= act.on <= act.today:
        return None
    ends = ends_of(one.start)
    term = sum(end < act.on for end in ends)
    if term == 2:
        return None
    late = act.on > deadline_of(ends[term])
    if (late and act.decided is None) or (not late and act.decided == "next_term"):
        return None
    end = ends[term + (act.decided == "next_term")]
    if end < act.today and not act.confirmed:
        return None
    return replace(one, notice=act.on, notice_ends=end)


def _terminate(one: One, act: Act) -> One | None:
    assert act.on is not None
    if one.signed is None or one.terminated or last_of(one) < act.today:
        return None
    lawful = max(act.today + DAY, one.start) <= act.on <= last_of(one)
    return replace(one, terminated=act.on) if lawful else None


def _cancel(one: One, act: Act) -> One | None:
    if last_of(one) < act.today or not (one.terminated or one.notice):
        return None
    if one.terminated:
        return replace(one, terminated=None)
    return replace(one, notice=None, notice_ends=None)


# What the program says, without records


@cache
def periods(start: date) -> tuple[Term, ...]:
    return tuple(terms(start, term_years=3, count=3, notice_months=3))


def milestones(one: One) -> Milestones:
    return Milestones(
        signed=one.signed,
        notice=one.notice,
        notice_ends=one.notice_ends,
        terminated=one.terminated,
        recorded=one.recorded,
    )


def by_rules(before: tuple[One, ...], act: Act) -> tuple[One, ...] | str:
    """Return what the operations would record of an act, or the sentence by which they refuse it."""
    try:
        return _by_rules(before, act)
    except BadInput as error:
        return error.message


def _by_rules(before: tuple[One, ...], act: Act) -> tuple[One, ...]:
    *past, one = before
    meets = Standing("kayane", act.today, milestones(one), periods(one.start))
    if act.kind == "sign":
        assert act.on is not None
        if one.signed is None:
            acts.check_first_signature(meets, act.on, act.start)
            return (*past, replace(one, signed=act.on, recorded=act.today))
        begins = acts.following_start(meets, act.on, act.start, retroactive=act.retroactive)
        acts.check_not_over(meets, begins, periods(begins)[-1].end)
        return (*before, One(begins, signed=act.on, recorded=act.today))
    if act.kind == "cancel":
        gone: dict[str, Any] = {key.removesuffix("_on"): None for key in acts.to_take_back(meets)}
        return (*past, replace(one, **gone, recorded=act.today))
    assert act.on is not None
    if act.kind == "terminate":
        acts.check_termination(meets, act.on)
        return (*past, replace(one, terminated=act.on, recorded=act.today))
    accepted = acts.give_notice(meets, act.on, Late(act.decided) if act.decided else None)
    if accepted.is_over and not act.confirmed:
        raise BadInput("kayane: it would be over", "--yes")
    return (*past, replace(one, notice=act.on, notice_ends=accepted.ends, recorded=act.today))


@cache
def check_days(one: One) -> None:
    """Compare state, last day and closing of an agreement with the oracle's, on all days on which they may change."""
    own, dates = milestones(one), periods(one.start)
    assert last_day(own, dates) == last_of(one)
    for day in PROBES:
        assert state_on(day, own, dates).value == state_of(one, day), (one, day)
        planned = planned_closing(day, own, dates, CLOSING_DAYS)
        assert (planned.read_only if planned else None) == read_only_of(one, day), (one, day)


Node = tuple[date, tuple[One, ...]]  # what is on record, and since when no act came


def histories(acts_at_most: int) -> Iterator[tuple[list[Act], Node, int]]:
    """Yield, by depth, each set of records with a history that leads to it, and how many histories do."""
    level: dict[Node, tuple[list[Act], int]] = {(TODAY[0], (One(START),)): ([], 1)}
    for _ in range(acts_at_most):
        following: dict[Node, tuple[list[Act], int]] = {}
        for (day, before), (path, count) in level.items():
            yield path, (day, before), count
            for act in alphabet():
                if act.today < day:
                    continue
                node = (act.today, oracle(before, act) or before)
                known, others = following.get(node, ([*path, act], 0))
                following[node] = (known, others + count)
        level = following


def test_every_history_of_five_acts() -> None:
    """Refused with a sentence, or done as the rules say: nothing between."""
    letters, done, refused, edges = alphabet(), 0, 0, 0
    for path, (day, before), count in histories(5):
        for act in letters:
            if act.today < day:
                continue
            edges += 1
            wanted = oracle(before, act)
            after = by_rules(before, act)
            if isinstance(after, str):
                assert wanted is None, f"{path} {before}: {act} is lawful, and refused: {after}"
                assert after.startswith("kayane: ")
                refused += count
                continue
            assert after == wanted, f"{path} {before}: {act}"
            done += count
            for one in after:
                check_days(one)
    print(f"\n{done + refused} histories of one to five acts ({refused} end with a refusal), {edges} different steps")
    assert done > 1000
    assert refused > 1000


# What the operations put on record, and whom they tell


def put(registry: Registry, agreements: tuple[One, ...]) -> None:
    """Make the records those of a history; its contacts were told of an end that is among them."""
    with registry.installation.store.transaction() as session:
        session.exec(delete(Mail))
        session.exec(delete(Agreement))
        site = records.site(session, "kayane")
        site.state = SiteState.ONLINE if agreements[0].signed else SiteState.PREPARING
        for one in agreements:
            made = records.new_agreement(registry.installation.inventory, site.key, one.start)
            made.signed_on, made.notice_on, made.notice_ends = one.signed, one.notice, one.notice_ends
            made.terminated_on, made.recorded_on = one.terminated, one.recorded
            session.add(made)
            session.flush()
            told = {"notice_recorded": one.notice, "termination_recorded": one.terminated}
            for kind in (kind for kind, day in told.items() if day):
                session.add(
                    Mail(occasion=kind, message_id=kind, kind=kind, site_id=site.key, state=MailState.SENT, subject="",
                         body="", created_at=site.created_at, next_attempt_at=site.created_at)
                )  # fmt: skip


def read(registry: Registry) -> tuple[tuple[One, ...], str, list[tuple[str, str]]]:
    """Return the agreements on record, the site's state, and kind and state of every mail."""
    with registry.installation.store.transaction() as session:
        site = records.site(session, "kayane")
        found = tuple(
            One(a.start, a.signed_on, a.notice_on, a.notice_ends, a.terminated_on, a.recorded_on)
            for a in records.agreements(session, site.key)
        )
        mails = session.exec(select(Mail).where(Mail.occasion != Mail.kind).order_by(col(Mail.id))).all()
        return found, site.state.value, [(mail.kind, mail.state.value) for mail in mails]


def act_on(registry: Registry, act: Act) -> None:
    """Do an act by its operation; of a signature the steps that need no host.

    Raises:
        BadInput: it is refused.

    """
    installation = registry.installation
    if act.kind == "cancel":
        operation.take_back(installation, "kayane")
        return
    assert act.on is not None
    if act.kind == "terminate":
        operation.terminate(installation, "kayane", act.on, "dissoute")
    elif act.kind == "notice":
        operation.give_notice(
            installation, "kayane", act.on, "la présidence", Giver(act.giver),
            decided=Late(act.decided) if act.decided else None, confirmed=act.confirmed,
        )  # fmt: skip
    else:
        given = operation.check_signature(installation, "kayane", act.on, None, act.start, retroactive=act.retroactive)
        record = record_successor if "start" in given else record_signature
        steps: list[Step[SiteWork]] = [Step("record", record, nothing_to_undo)]
        journal = Journal(installation.store, installation.locks, "sign", steps)
        with journal.subject("kayane"):
            begun = journal.begin("kayane", {**given, "recorded_on": act.today.isoformat()})
            journal.carry_out(begun, operation.work_on(installation, begun))


def told_of(before: tuple[One, ...], act: Act, after: tuple[One, ...]) -> list[tuple[str, str]]:
    """Return the mails that an accepted act sends: one to each of two contacts."""
    if act.kind == "sign":
        return []
    if act.kind == "notice":
        ends = after[-1].notice_ends
        over = ends is not None and ends < act.today
        kind = "notice_afterwards" if over else "notice_recorded" if act.giver == "association" else "notice_by_council"
    else:
        kind = {"terminate": "termination_recorded", "cancel": "end_taken_back"}[act.kind]
    return [(kind, "sent")] * 2


def test_what_the_operations_record_and_whom_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, on real records, of every history of at most two acts; a refusal leaves records and mails alone."""
    steps = 0
    with TemporaryDirectory(dir="/dev/shm") as folder:
        registry = Registry(Path(folder))
        registry.serve("kayane")
        for _, (day, before), _ in histories(2):
            fresh = False
            for act in alphabet():
                if act.today < day:
                    continue
                if not fresh:
                    put(registry, before)
                    fresh = True
                monkeypatch.setenv("PROVISION_NOW", f"{act.today}T12:00")
                wanted, (_, site, _) = oracle(before, act), read(registry)
                steps += 1
                if wanted is None:
                    with pytest.raises(BadInput) as refused:
                        act_on(registry, act)
                    assert refused.value.message.startswith("kayane: ")
                    assert read(registry) == (before, site, [])
                    continue
                act_on(registry, act)
                signed = "online" if act.kind == "sign" else site
                assert read(registry) == (wanted, signed, told_of(before, act, wanted)), (before, act)
                fresh = False
    print(f"\n{steps} steps on real records")
    assert steps > 1000
