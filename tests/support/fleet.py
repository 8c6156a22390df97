"""A council with many agreements, of which only the records exist, and a clock that the test moves."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlmodel import col, select

from provisioner.agreement.reminders import CONTACTS, Reminder
from provisioner.installation import Installation
from provisioner.model.tables import Agreement, Contact, Mail, MailState, Run, Site, SiteState
from provisioner.operations.remind import Reminded, remind
from tests.support.state import make_state
from tests.support.town import Town

ONE_DAY = timedelta(days=1)


@dataclass
class Fleet:
    """A council with many agreements, and a clock of its own."""

    town: Town
    patch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        self.installation = Installation.described(self.town.inventory)
        make_state(self.installation.store)

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

    def ran(self, day: date) -> None:
        """Record that the scheduler ran on a day, as it does every five minutes."""
        with self.installation.store.transaction() as session:
            session.add(Run(kind="mail", holder="test", started_at=self.noon(day), outcome="well"))

    def night(self, day: date) -> Reminded:
        """Run the reminders of a day, on a machine that ran the day before as well."""
        self.ran(day - ONE_DAY)
        return self.night_alone(day)

    def night_alone(self, day: date) -> Reminded:
        """Run the reminders of a day, whatever ran before."""
        self.at(day)
        return remind(self.installation)

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

    def block_mails(self) -> None:
        """Put a file where the folder of mails should be: none can leave."""
        folder = self.installation.mail_folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            folder.rename(folder.with_name("away"))
        folder.touch()

    def unblock_mails(self) -> None:
        """Let mails leave again."""
        folder = self.installation.mail_folder
        folder.unlink()
        if folder.with_name("away").is_dir():
            folder.with_name("away").rename(folder)

    def files(self) -> list[str]:
        """Return the names of the mails that left, as the folder has them."""
        return sorted(path.name for path in self.installation.mail_folder.glob("*.eml"))


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
