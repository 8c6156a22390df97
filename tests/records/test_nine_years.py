"""Nine years of nights with clocks that jump, lost weeks and mail outages: each due reminder once, in time (G4, G5)."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlmodel import col, select

from provisioner import clock, records
from provisioner.agreement.reminders import CONTACTS, Reminder, WorkingDays
from provisioner.errors import NeedsHand
from provisioner.mail import outbox
from provisioner.model.tables import Agreement, MailState
from provisioner.operations import nightly
from provisioner.operations import remind as reminding
from tests.support.fleet import ONE_DAY, Fleet
from tests.support.town import Town

FIRST, LAST = date(2026, 1, 2), date(2036, 1, 31)


@dataclass
class Weather:
    """What happens on which day: drawn once, from a seed."""

    wrong: dict[date, date] = field(default_factory=dict)  # what the clock shows then
    off: set[date] = field(default_factory=set)
    no_mail: set[date] = field(default_factory=set)


def weather(seed: int) -> Weather:
    """Return spells of trouble, at least one every half year of each kind."""
    draw, found = random.Random(seed), Weather()  # noqa: S311  (no secret is drawn)
    day = FIRST + timedelta(draw.randint(20, 60))
    while day < LAST:
        kind, length = draw.choice(("wrong", "off", "no_mail")), draw.randint(1, 6)
        spell = [day + timedelta(number) for number in range(length)]
        if kind == "wrong":
            shift = draw.choice((-4000, -400, -30, -8, 25, 90, 365, 1100, 9000))
            found.wrong |= {one: one + timedelta(shift) for one in spell}
        elif kind == "off":
            found.off |= {day + timedelta(number) for number in range(length * 3)}
        else:
            found.no_mail |= set(spell)
        day += timedelta(draw.randint(20, 120))
    return found


def night(fleet: Fleet, shown: date) -> str:
    """Do what a night does about reminders, with a clock that shows ``shown``; return why they wait, if they do."""
    fleet.at(shown)
    nightly.begin(fleet.installation, nightly.NIGHT)
    try:
        reminding.remind(fleet.installation)
    except NeedsHand as refused:
        outbox.deliver_due(fleet.installation)  # as the job does that runs every five minutes
        return refused.message
    return ""


def standing(fleet: Fleet) -> list[tuple[int | None, MailState]]:
    return [(mail.id, mail.state) for mail in fleet.mails()]


def near(planned: dict[int, list[Reminder]], trouble: Weather) -> set[date]:
    """Return the days around reminders and trouble, and every seventh: on the others nothing can leave."""
    days = {r.on + timedelta(n) for several in planned.values() for r in several for n in range(4)}
    spells = {*trouble.wrong, *trouble.off, *trouble.no_mail}
    days |= {day + timedelta(n) for day in spells for n in range(4)}
    return days | {FIRST + timedelta(n) for n in range(0, (LAST - FIRST).days, 7)}


@pytest.mark.parametrize(("seed", "each"), [(1, 12), pytest.param(2, 30, marks=pytest.mark.acceptance)])
def test_nine_years_of_nights(monkeypatch: pytest.MonkeyPatch, seed: int, each: int) -> None:
    """``each``: how many agreements begin together on one day, and how many on days of their own.

    Seed 1 leaves out nights on which nothing can leave; seed 2, in `make acceptance`, has every one of them.
    """
    trouble = weather(seed)
    with TemporaryDirectory(dir="/dev/shm") as folder:  # thousands of transactions, each synced
        fleet = Fleet(Town(Path(folder)), monkeypatch)
        fleet.add(*[date(2026, 1, 1)] * each)
        fleet.add(*[date(2026, 1, 2) + timedelta(36 * (number % 10)) for number in range(each)], alone=each + each // 3)
        with fleet.installation.store.transaction() as session:
            everyone = session.exec(select(Agreement).order_by(col(Agreement.id))).all()
            planned = {a.id or 0: records.agreement_reminders(a, fleet.installation.inventory) for a in everyone}
        fleet.ran(FIRST - ONE_DAY)
        days = [FIRST + timedelta(number) for number in range((LAST - FIRST).days)]
        worth = near(planned, trouble) if seed == 1 else set(days)
        good, confirmed, nights, wrong_nights = [], 0, 0, 0
        for day in days:
            if day in trouble.off or day not in worth:
                continue
            nights += 1
            if day in trouble.wrong:
                before = standing(fleet)
                assert "the clock jumped" in night(fleet, trouble.wrong[day])
                assert standing(fleet) == before, "a wrong clock sends, queues and withdraws nothing"
                wrong_nights += 1
                continue
            if day in trouble.no_mail:
                fleet.block_mails()
            if night(fleet, day):  # the machine was off for long: a person looks, and confirms
                held = reminding.held(fleet.installation)
                assert held is not None
                reminding.confirm(fleet.installation, held)
                confirmed += 1
            if day in trouble.no_mail:
                fleet.unblock_mails()
            else:
                good.append(day)
        check(fleet, planned, good)
        mails = fleet.mails()
    states = dict(Counter(mail.state.value for mail in mails))
    print(f"\nseed {seed}: {len(everyone)} agreements, {nights} nights, {wrong_nights} of them with a wrong clock, "
          f"{len(trouble.off)} days off, {len(trouble.no_mail)} without mail, {confirmed} confirmed; "
          f"mails: {states}")  # fmt: skip


def check(fleet: Fleet, planned: dict[int, list[Reminder]], good: list[date]) -> None:
    """Check what left against each reminder's own days, told without the rules' code."""
    left: dict[tuple[int, str], list[datetime]] = defaultdict(list)
    for mail in fleet.mails():
        if mail.state is MailState.SENT and mail.sent_at is not None:
            _, number, key = mail.matter.split(maxsplit=2)
            left[int(number), key].append(mail.sent_at)
        else:
            assert mail.state is MailState.WITHDRAWN, "no mail is left over, none is dead"
    working = [day for day in good if WorkingDays().holds(day)]
    missing = []
    for agreement, reminders in planned.items():
        of_dates = [r for r in reminders if r.kind != CONTACTS]
        for r in reminders:
            sent = {moment.astimezone(clock.PARIS).date() for moment in left.pop((agreement, r.key), [])}
            assert len(sent) <= 1, (agreement, r.key, sent)
            first = next((day for day in working if day >= r.on), date.max)
            newer = r.kind != CONTACTS and any(r.on < other.on <= first for other in of_dates)
            if sent:
                (day,) = sent
                assert r.on <= day <= r.valid_until, (agreement, r.key, day)
                assert WorkingDays().holds(day) or r.valid_until - day < timedelta(days=4), (agreement, r.key, day)
                assert day <= first + timedelta(days=4), f"{agreement} {r.key} left on {day}, it could on {first}"
            elif first <= r.valid_until and first <= LAST - timedelta(days=7) and not newer:
                missing.append((agreement, r.key, r.on, first))
    assert not missing
    assert not left, "nothing left that no agreement calls for"
    once = Counter((mail.matter, mail.contact_id) for mail in fleet.mails() if mail.state is MailState.SENT)
    assert set(once.values()) == {1}
