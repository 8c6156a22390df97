"""Reminders over years: each once, on its working day, none that has lost its reason (FAULTS G4 to G6).

The records are real (SQLite), the mails are files; only the clock is moved, day by day.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from sqlmodel import col, select

from provisioner import records
from provisioner.agreement.reminders import CONTACTS, WorkingDays
from provisioner.errors import BadInput, NeedsHand
from provisioner.installation import Installation
from provisioner.mail import outbox
from provisioner.model.tables import Agreement, Contact, Event, MailState, Run
from provisioner.operations import alerts, nightly
from provisioner.operations import remind as confirmation
from tests.support.fleet import ONE_DAY, Fleet, expected
from tests.support.town import Town


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # thousands of transactions, each synced
        yield Fleet(Town(Path(folder)), monkeypatch)


START = date(2026, 1, 1)  # CONTEXT.md: ends 2028-12-31, notice by 2028-09-30
CHOICE, NOTICE_31, NOTICE_7, RENEWED = date(2028, 6, 30), date(2028, 8, 30), date(2028, 9, 22), date(2028, 10, 2)


def test_a_term_from_the_choice_to_the_attestation(fleet: Fleet) -> None:
    """The days of CONTEXT.md, moved for weekends and holidays; what is to be decided goes to all, a fact to one."""
    fleet.add(START)
    sent = {}
    day = date(2028, 6, 1)
    while day < date(2029, 2, 1):
        if queued := fleet.night(day).queued:
            sent[day] = [kind for _, kind in queued]
        assert fleet.night(day).queued == [], "a second run on a day sends nothing"
        day += ONE_DAY
    assert [kind for kinds in sent.values() for kind in kinds] == [
        "choice", "notice_31", "notice_7", "renewed", CONTACTS, "attestation",
    ]  # fmt: skip
    assert list(sent) == [CHOICE, NOTICE_31, NOTICE_7, RENEWED, date(2028, 12, 29), date(2029, 1, 2)]
    assert Counter(fleet.kinds()) == {
        "choice": 2, "notice": 4, "renewed": 1, "contacts": 2, "attestation": 1,
    }  # fmt: skip
    assert all(mail.outcome.startswith("written to ") and mail.sent_at for mail in fleet.mails())


def test_an_administrator_alone_is_asked_once_a_year(fleet: Fleet) -> None:
    fleet.add(START, alone=1)
    assert fleet.night(date(2027, 1, 4)).queued == [(f"a{START:%Y%m%d}-0", CONTACTS)]
    assert fleet.kinds() == ["administrator_alone"] * 2


# G4: only the newest


def test_after_a_week_without_a_run_the_newest_alone_leaves(fleet: Fleet) -> None:
    fleet.add(START)
    assert fleet.night(RENEWED + ONE_DAY).queued == [(f"a{START:%Y%m%d}-0", "renewed")]
    assert fleet.night(RENEWED + 2 * ONE_DAY).queued == []
    assert len(fleet.files()) == 1


def test_after_a_week_without_a_mail_server_the_newest_alone_leaves(fleet: Fleet) -> None:
    """What waited meanwhile is withdrawn, on record, when its turn comes."""
    fleet.add(START)
    fleet.block_mails()
    assert fleet.night(NOTICE_31).delivery.waiting == 2
    delivery = fleet.night(NOTICE_7).delivery
    assert (delivery.waiting, delivery.withdrawn) == (2, 2)
    fleet.unblock_mails()
    assert fleet.night(NOTICE_7 + 3 * ONE_DAY).delivery == outbox.Delivery(sent=2)
    assert [mail.matter.split()[2] for mail in fleet.mails() if mail.state is MailState.SENT] == ["notice_7"] * 2
    with fleet.installation.store.transaction() as session:
        assert [event.kind for event in session.exec(select(Event)).all()].count("mail withdrawn") == 2


# G5: mass sending by a wrong clock


@pytest.mark.parametrize("count", [6, 30])
def test_many_that_begin_on_one_day_are_reminded_on_one_day(fleet: Fleet, count: int) -> None:
    """Thirty sites that open together are the normal case."""
    fleet.add(*[START] * count)
    assert len(fleet.night(CHOICE).queued) == count
    assert len(fleet.files()) == 2 * count


@pytest.mark.parametrize("jump", [11, 100, 5000, -1, -400])
def test_a_clock_that_jumped_sends_nothing(fleet: Fleet, jump: int) -> None:
    """Neither new reminders nor queued ones, none is withdrawn either; set right, it goes on as if nothing had been."""
    fleet.add(*[START + number * ONE_DAY for number in range(10)], *[START] * 10)
    fleet.block_mails()
    assert len(fleet.night(CHOICE - ONE_DAY).queued) == 0
    fleet.night(CHOICE)
    fleet.unblock_mails()
    before = [(mail.matter, mail.state) for mail in fleet.mails()]
    with pytest.raises(NeedsHand, match=r"none was sent: the clock jumped, .* last run that fits was on 2028-06-2\d"):
        fleet.night_alone(CHOICE + (jump - (jump < 0)) * ONE_DAY)
    outbox.retry(fleet.installation)
    assert [(mail.matter, mail.state) for mail in fleet.mails()] == before
    assert fleet.files() == []
    fleet.night(CHOICE + 3 * ONE_DAY)  # a Monday
    assert {mail.state for mail in fleet.mails()} == {MailState.SENT}
    assert len(fleet.files()) == len(fleet.mails()) >= len(before) > 0


def test_a_lost_week_needs_nobody_a_longer_one_a_persons_word(fleet: Fleet) -> None:
    fleet.add(*[START] * 30)
    fleet.ran(CHOICE - 5 * ONE_DAY)
    assert len(fleet.night_alone(CHOICE + 3 * ONE_DAY).queued) == 30
    fleet.ran(NOTICE_31 - 20 * ONE_DAY)
    with pytest.raises(NeedsHand, match=r"30 wait, .* this must be settled by 2028-09-30"):
        fleet.night_alone(NOTICE_31)
    held = confirmation.held(fleet.installation)
    assert held is not None
    assert (held.today, len(held.reminders)) == (NOTICE_31, 30)
    fleet.at(NOTICE_31 + ONE_DAY)
    with pytest.raises(BadInput, match="what waits has changed"):
        confirmation.confirm(fleet.installation, held)
    fleet.at(NOTICE_31)
    assert len(confirmation.confirm(fleet.installation, held).queued) == 30
    assert confirmation.held(fleet.installation) is None
    assert fleet.night_alone(NOTICE_31 + ONE_DAY).queued == []
    assert len(fleet.files()) == 4 * 30


def test_a_doubt_is_an_alert_with_the_date_by_which_it_must_be_settled(fleet: Fleet) -> None:
    fleet.add(*[START] * 6)
    fleet.ran(NOTICE_7 - 20 * ONE_DAY)
    fleet.at(NOTICE_7)
    with fleet.installation.store.transaction() as session:
        (found,) = [item for item in alerts.on_record(session, fleet.installation) if item.alarm == alerts.CLOCK]
    assert "to be settled by 2028-09-30" in found.what
    assert "provision mail confirm" in found.command
    assert found.critical
    fleet.ran(NOTICE_7 - ONE_DAY)
    with fleet.installation.store.transaction() as session:
        assert not [item for item in alerts.on_record(session, fleet.installation) if item.alarm == alerts.CLOCK]


def test_a_wrong_clock_closes_no_site_and_forgets_no_run(fleet: Fleet) -> None:
    fleet.add(START)
    fleet.town.write_inventory(policy={"nightly": {"changes": "read_only"}})
    installation = Installation.described(fleet.town.inventory)
    fleet.ran(date(2028, 1, 1))
    fleet.at(date(2035, 1, 1))
    (proposed,) = nightly.run(installation, "changes").jobs["changes"]
    assert (proposed.exit_code, "the clock jumped" in proposed.outcome) == (3, True)
    nightly.run(installation, "tidy")
    with installation.store.transaction() as session:
        assert [run.believed for run in session.exec(select(Run).order_by(col(Run.id)))] == [True, False, False]


# G6: rechecked at the moment of sending


@pytest.mark.parametrize(
    "change",
    [
        {"notice_on": CHOICE, "notice_ends": date(2028, 12, 31)},
        {"terminated_on": date(2028, 8, 1)},
        {"start": date(2028, 7, 1), "signed_on": date(2028, 7, 1)},
    ],
    ids=["notice", "terminated", "renewed"],
)
def test_what_lost_its_reason_while_it_waited_is_withdrawn(fleet: Fleet, change: dict[str, date]) -> None:
    fleet.add(START)
    fleet.block_mails()
    fleet.night(CHOICE)
    fleet.unblock_mails()
    fleet.change(fleet.agreement(), **change)
    fleet.at(CHOICE + 3 * ONE_DAY)
    assert outbox.retry(fleet.installation) == outbox.Delivery(withdrawn=2)
    assert (fleet.files(), fleet.kinds(MailState.WITHDRAWN)) == ([], ["choice"] * 2)
    assert outbox.retry(fleet.installation) == outbox.Delivery()


def test_a_second_administrator_makes_the_question_another_one(fleet: Fleet) -> None:
    fleet.add(START, alone=1)
    fleet.block_mails()
    fleet.night(date(2027, 1, 4))
    fleet.unblock_mails()
    with fleet.installation.store.transaction() as session:
        session.exec(select(Contact).where(Contact.login == "secretariat")).one().administrator = True
    fleet.night(date(2027, 1, 5))
    fleet.night(date(2027, 1, 6))
    assert fleet.kinds() == ["contacts"] * 2
    assert len(fleet.files()) == 2


def test_what_was_held_up_leaves_on_a_working_day_all_the_same(fleet: Fleet) -> None:
    """30 June 2028 is a Friday: the server is back on Saturday, the mail leaves on Monday. What cannot wait leaves."""
    fleet.add(START)
    fleet.block_mails()
    fleet.night(CHOICE)
    fleet.unblock_mails()
    for day, sent in ((1, 0), (2, 0), (3, 2)):
        fleet.ran(CHOICE + (day - 1) * ONE_DAY)
        fleet.at(CHOICE + day * ONE_DAY)
        assert outbox.retry(fleet.installation).sent == sent
    fleet.block_mails()
    fleet.night(NOTICE_7)
    fleet.unblock_mails()
    fleet.ran(date(2028, 9, 29))
    fleet.at(date(2028, 9, 30))  # a Saturday, the last day of the notice
    assert outbox.retry(fleet.installation).sent == 2


def test_what_is_too_late_does_not_leave(fleet: Fleet) -> None:
    fleet.add(START)
    fleet.block_mails()
    fleet.night(NOTICE_7)
    fleet.unblock_mails()
    fleet.at(date(2028, 10, 1))  # the day after the deadline
    assert outbox.retry(fleet.installation) == outbox.Delivery(withdrawn=2)


# Ten years


@pytest.mark.parametrize("count", [8, pytest.param(400, marks=pytest.mark.acceptance)])
def test_ten_years(fleet: Fleet, count: int) -> None:
    """Every due reminder once, on a working day; none after notice; a week without a run is caught up by the newest.

    A few agreements are run only on the days on which something may leave, many on each of the 3,650.
    """
    first, last = date(2026, 10, 1), date(2036, 10, 1)
    fleet.add(*[date(2026, 2, 1) + number * (1000 // count) * ONE_DAY for number in range(count)], alone=count // 8)
    with fleet.installation.store.transaction() as session:
        all_of_them = list(session.exec(select(Agreement).order_by(col(Agreement.start))).all())
    reminders = {one.id: records.agreement_reminders(one, fleet.installation.inventory) for one in all_of_them}
    notice = {one.id: records.agreement_terms(one)[0].notice_by or last for one in all_of_them[::9]}
    stopped = next(one.on for one in reminders[all_of_them[-1].id] if one.kind == "notice_7" and one.on.year > 2030)
    week = {stopped + number * ONE_DAY for number in range(-3, 4)}
    near = {one.on + number * ONE_DAY for several in reminders.values() for one in several for number in range(5)}
    nights = [first + number * ONE_DAY for number in range((last - first).days + 1)]
    nights = [day for day in nights if day not in week and (count > 8 or day in near | {stopped + 4 * ONE_DAY})]
    most = 0
    for day in nights:
        for one in all_of_them:
            if one.id in notice and one.notice_on is None and notice[one.id] <= day:
                one.notice_on = notice[one.id]
                fleet.change(one, notice_on=one.notice_on, notice_ends=records.agreement_terms(one)[0].end)
        most = max(most, len(fleet.night(day).queued))
    runs = [day for day in nights if WorkingDays().holds(day)]
    wanted = set()
    for one in all_of_them:
        until = notice.get(one.id, date.max)
        wanted |= {(one.id, key, day) for day, key in expected(reminders[one.id], runs, until)}
    mails = fleet.mails()
    left = {(int(m.matter.split()[1]), m.matter.split(maxsplit=2)[2], m.sent_at.date()) for m in mails if m.sent_at}
    assert left == wanted
    assert not {day for _, _, day in left} & week
    assert {mail.state for mail in mails} == {MailState.SENT}
    assert len(fleet.files()) == len(mails) == len({(mail.matter, mail.contact_id) for mail in mails})
    assert all(WorkingDays().holds(mail.sent_at.date()) for mail in mails if mail.sent_at)
    lines = sorted(f"{mail.sent_at:%Y-%m-%d} {mail.matter} {mail.contact_id}" for mail in mails)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    print(f"\n{count} agreements, ten years: {len(mails)} mails, {dict(Counter(fleet.kinds()))}, at most {most} "
          f"associations a day, sha256 {digest}")  # fmt: skip
