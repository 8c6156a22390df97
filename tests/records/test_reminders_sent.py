"""Reminders over years: each once, on its working day, none that has lost its reason (FAULTS G4 to G6).

The records are real (SQLite), the mails are files; only the clock is moved, day by day.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

from provisioner import records
from provisioner.agreement.reminders import CONTACTS, Reminder, is_working_day
from provisioner.errors import NeedsHand
from provisioner.installation import Installation
from provisioner.mail import outbox
from provisioner.model.tables import Agreement, Contact, Event, Mail, MailState, Site, SiteState
from provisioner.operations.remind import Reminded, remind
from tests.support.town import Town

ONE_DAY = timedelta(days=1)


@dataclass
class Fleet:
    """A council with many agreements, and a clock of its own."""

    town: Town
    patch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        self.installation = Installation.described(self.town.inventory)
        self.installation.store.upgrade()

    def add(self, *starts: date, alone: int = 0) -> None:
        """Add an agreement per day of ``starts``, signed on that day; the first ``alone`` have one administrator."""
        with self.installation.store.transaction() as session:
            known = len(session.exec(select(Site)).all())
            for number, start in enumerate(starts, known):
                slug = f"a{start:%Y%m%d}-{number}"
                site = Site(
                    slug=slug, host_name=f"{slug}.example.test", host="local", state=SiteState.ONLINE,
                    name=f"Kayane {number}", profile="general", release="6.8", created_at=self.noon(start),
                )  # fmt: skip
                session.add(site)
                session.flush()
                for role, administers in (("presidence", True), ("secretariat", number >= alone)):
                    session.add(
                        Contact(site_id=site.key, name=role, mail=f"{role}.{slug}@example.org", login=role,
                                administrator=administers)
                    )  # fmt: skip
                policy = self.installation.inventory.policy.agreement.model_dump(exclude={"reminders"})
                session.add(Agreement(site_id=site.key, start=start, signed_on=start, **policy))

    @staticmethod
    def noon(day: date) -> datetime:
        return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)

    def at(self, day: date) -> None:
        """Make it noon of ``day``."""
        self.patch.setenv("PROVISION_NOW", self.noon(day).isoformat())

    def night(self, day: date, at_most: int | None = None) -> Reminded:
        """Run the reminders of a day."""
        self.at(day)
        return remind(self.installation, at_most)

    def agreement(self, number: int = 0) -> Agreement:
        with self.installation.store.transaction() as session:
            return session.exec(select(Agreement).order_by(col(Agreement.start))).all()[number]

    def change(self, agreement: Agreement, **values: date) -> None:
        """Record what happened to an agreement."""
        with self.installation.store.transaction() as session:
            stored = session.get_one(Agreement, agreement.id)
            for name, value in values.items():
                setattr(stored, name, value)

    def mails(self) -> list[Mail]:
        with self.installation.store.transaction() as session:
            return list(session.exec(select(Mail).order_by(col(Mail.id))).all())

    def kinds(self, state: MailState = MailState.SENT) -> list[str]:
        return [mail.kind for mail in self.mails() if mail.state is state]

    def files(self) -> list[str]:
        """Return the names of the mails that left, as the folder has them."""
        return sorted(path.name for path in self.installation.mail_folder.glob("*.eml"))


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # thousands of transactions, each synced
        yield Fleet(Town(Path(folder)), monkeypatch)


START = date(2026, 1, 1)  # CONTEXT.md: ends 2028-12-31, notice by 2028-09-30
CHOICE, NOTICE_30, NOTICE_7, RENEWED = date(2028, 6, 30), date(2028, 8, 31), date(2028, 9, 22), date(2028, 10, 2)


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
        "choice", "notice_30", "notice_7", "renewed", CONTACTS, "attestation",
    ]  # fmt: skip
    assert list(sent) == [CHOICE, NOTICE_30, NOTICE_7, RENEWED, date(2028, 12, 29), date(2029, 1, 2)]
    assert Counter(fleet.kinds()) == {
        "choice": 2, "notice": 4, "renewed": 1, "contacts": 1, "attestation": 1,
    }  # fmt: skip
    assert all(mail.outcome.startswith("written to ") and mail.sent_at for mail in fleet.mails())


def test_an_administrator_alone_is_asked_once_a_year(fleet: Fleet) -> None:
    fleet.add(START, alone=1)
    assert fleet.night(date(2027, 1, 4)).queued == [(f"a{START:%Y%m%d}-0", CONTACTS)]
    assert fleet.kinds() == ["administrator_alone"]


# G4: only the newest


def test_after_a_week_without_a_run_the_newest_alone_leaves(fleet: Fleet) -> None:
    fleet.add(START)
    assert fleet.night(RENEWED + ONE_DAY).queued == [(f"a{START:%Y%m%d}-0", "renewed")]
    assert fleet.night(RENEWED + 2 * ONE_DAY).queued == []
    assert len(fleet.files()) == 1


def test_after_a_week_without_a_mail_server_the_newest_alone_leaves(fleet: Fleet) -> None:
    """What waited meanwhile is withdrawn, on record, when its turn comes."""
    fleet.add(START)
    folder = fleet.installation.mail_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()  # a file where the folder should be: no mail can leave
    assert fleet.night(NOTICE_30).delivery.waiting == 2
    delivery = fleet.night(NOTICE_7).delivery
    assert (delivery.waiting, delivery.withdrawn) == (2, 2)
    folder.unlink()
    assert fleet.night(NOTICE_7 + 3 * ONE_DAY).delivery == outbox.Delivery(sent=2)
    assert [mail.matter.split()[2] for mail in fleet.mails() if mail.state is MailState.SENT] == ["notice_7"] * 2
    with fleet.installation.store.transaction() as session:
        assert [event.kind for event in session.exec(select(Event)).all()].count("mail withdrawn") == 2


# G5: mass sending


def test_a_wrong_clock_sends_nothing_to_everybody(fleet: Fleet) -> None:
    """Above a tenth of the fleet a person must say so; a small fleet may be served as a whole."""
    fleet.add(*[START + number * ONE_DAY for number in range(60)])
    with pytest.raises(NeedsHand, match=r"of 60 associations would get one in one run, more than 6; none was sent"):
        fleet.night(date(2028, 7, 27))
    assert (fleet.mails(), fleet.files()) == ([], [])
    assert len(fleet.night(date(2028, 7, 28), at_most=60).queued) > 6
    with fleet.installation.store.transaction() as session:
        assert "reminders refused" in [event.kind for event in session.exec(select(Event)).all()]


def test_five_are_never_too_many(fleet: Fleet) -> None:
    fleet.add(*[START] * 5)
    assert len(fleet.night(CHOICE).queued) == 5
    fleet.add(START)
    with pytest.raises(NeedsHand, match=r"6 of 6"):
        fleet.night(NOTICE_30)


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
    folder = fleet.installation.mail_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()
    fleet.night(CHOICE)
    folder.unlink()
    fleet.change(fleet.agreement(), **change)
    fleet.at(CHOICE + 3 * ONE_DAY)
    assert outbox.retry(fleet.installation) == outbox.Delivery(withdrawn=2)
    assert (fleet.files(), fleet.kinds(MailState.WITHDRAWN)) == ([], ["choice"] * 2)
    assert outbox.retry(fleet.installation) == outbox.Delivery()


def test_a_second_administrator_makes_the_question_another_one(fleet: Fleet) -> None:
    fleet.add(START, alone=1)
    folder = fleet.installation.mail_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()
    fleet.night(date(2027, 1, 4))
    folder.unlink()
    with fleet.installation.store.transaction() as session:
        session.exec(select(Contact).where(Contact.login == "secretariat")).one().administrator = True
    fleet.night(date(2027, 1, 5))
    fleet.night(date(2027, 1, 6))
    assert fleet.kinds() == ["contacts"]
    assert len(fleet.files()) == 1


def test_what_is_too_late_does_not_leave(fleet: Fleet) -> None:
    fleet.add(START)
    folder = fleet.installation.mail_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()
    fleet.night(NOTICE_7)
    folder.unlink()
    fleet.at(date(2028, 10, 1))  # the day after the deadline
    assert outbox.retry(fleet.installation) == outbox.Delivery(withdrawn=2)


# Ten years


def expected(reminders: list[Reminder], runs: list[date], until: date) -> list[tuple[date, str]]:
    """Return what an agreement that stops being reminded on ``until`` gets, told from its reminders one by one."""
    days: dict[date, str] = {}
    of_dates = [reminder for reminder in reminders if reminder.kind != CONTACTS]
    for reminder in of_dates + [reminder for reminder in reminders if reminder.kind == CONTACTS]:
        day = next((run for run in runs if run >= reminder.on and run not in days), date.max)
        later = [other for other in of_dates if other.on > reminder.on and other.on <= day]
        superseded = reminder.kind != CONTACTS and later
        if day < until and day <= reminder.valid_until and reminder.on >= runs[0] and not superseded:
            days[day] = reminder.key
    return sorted(days.items())


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
    runs = [day for day in nights if is_working_day(day)]
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
    assert all(is_working_day(mail.sent_at.date()) for mail in mails if mail.sent_at)
    lines = sorted(f"{mail.sent_at:%Y-%m-%d} {mail.matter} {mail.contact_id}" for mail in mails)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    print(f"\n{count} agreements, ten years: {len(mails)} mails, {dict(Counter(fleet.kinds()))}, at most {most} "
          f"associations a day, sha256 {digest}")  # fmt: skip
