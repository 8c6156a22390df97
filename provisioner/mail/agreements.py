"""Mails about agreements: which reminders are due, what each says, to whom, and whether it still holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from sqlmodel import Session, col, select

from provisioner import clock, records, runs
from provisioner.agreement.acts import Giver
from provisioner.agreement.reminders import CONTACTS, Reminder, WorkingDays, due
from provisioner.agreement.terms import IN_FORCE, AgreementState, last_day, plus_months, term_on
from provisioner.inventory import Inventory
from provisioner.mail.messages import Message, compose
from provisioner.model.tables import GONE, Agreement, Contact, Mail, MailState, Site, SiteState

_ABOUT_AGREEMENTS = ("choice", "notice", "renewed", "attestation", "last_term")
_CONTACTS = ("contacts", "administrator_alone")
_TO_EVERY_CONTACT = ("choice", "notice", "last_term", *_CONTACTS)  # what asks something, asks all who may answer
_REMINDER = "reminder"
NOTICE_RECORDED, NOTICE_BY_COUNCIL, NOTICE_AFTERWARDS = "notice_recorded", "notice_by_council", "notice_afterwards"
TERMINATION_RECORDED, TAKEN_BACK, CLOSED = "termination_recorded", "end_taken_back", "closing"
_OF_NOTICE = (NOTICE_RECORDED, NOTICE_BY_COUNCIL, NOTICE_AFTERWARDS)
_OF_ENDS = (*_OF_NOTICE, TERMINATION_RECORDED, TAKEN_BACK)
_AHEAD_MONTHS = 12
CHUNK = 1000  # values of one query: SQLite takes no more than 32,766


@dataclass(frozen=True)
class Due:
    """A reminder that an agreement calls for today."""

    agreement: Agreement
    reminder: Reminder

    @property
    def matter(self) -> str:
        """Return what its mails are about: one reminder of one agreement, for ever."""
        return f"{_REMINDER} {self.agreement.id} {self.reminder.key}"


def in_force(session: Session) -> list[Agreement]:
    """Return the agreements that are reminded of anything: signed, and nobody gave notice or ended them."""
    query = select(Agreement).where(
        Agreement.site_id == Site.id,
        records.of_record(),
        col(Site.state).not_in(GONE),
        col(Agreement.signed_on).is_not(None),
        col(Agreement.notice_on).is_(None),
        col(Agreement.terminated_on).is_(None),
    )
    return list(session.exec(query).all())


def due_today(session: Session, inventory: Inventory, agreements: Sequence[Agreement]) -> list[Due]:
    """Return what is to be sent today to each of ``agreements``: one reminder at most, and none that was sent.

    What could not leave on its working day, because `provision` did not run, waits for the next one if it can.
    """
    today = clock.today()
    current: list[tuple[Agreement, list[Reminder], list[Due]]] = []
    for agreement in agreements:
        reminders = records.agreement_reminders(agreement, inventory)
        newest = [Due(agreement, reminder) for reminder in _newest(reminders, today)]
        if newest:
            current.append((agreement, reminders, newest))
    queued = _queued(session, [one.matter for _, _, newest in current for one in newest])
    found = []
    for agreement, reminders, newest in current:
        sent = {one.reminder.key for one in newest if one.matter in queued}
        found += [Due(agreement, reminder) for reminder in due(reminders, today, sent)]
    return [
        one
        for one in found
        if _waits_until(one.reminder, today, inventory) is None and records.agreement_state(one.agreement) in IN_FORCE
    ]


def settle_by(session: Session, inventory: Inventory, doubt: runs.Doubt) -> date | None:
    """Return the last day of the first reminder that is lost while a doubt about the clock holds reminders back.

    Of a clock that was set back, the days until the last run that fits are over in any case.
    """
    first = max(doubt.now, doubt.last).astimezone(clock.PARIS).date()
    ahead = [
        Due(agreement, reminder)
        for agreement in in_force(session)
        for reminder in records.agreement_reminders(agreement, inventory)
        if first <= reminder.valid_until <= plus_months(first, _AHEAD_MONTHS)
    ]
    queued = _queued(session, [one.matter for one in ahead])
    return min((one.reminder.valid_until for one in ahead if one.matter not in queued), default=None)


def is_reminder(mail: Mail) -> bool:
    """Return whether a mail leaves because of its day alone."""
    return mail.matter.startswith(f"{_REMINDER} ")


def message(inventory: Inventory, one: Due, site: Site, people: Sequence[Contact]) -> Message:
    """Return the mail of a reminder."""
    kind, periods = _kind(one.reminder, people), records.agreement_terms(one.agreement)
    term = periods[one.reminder.term - 1]
    values: dict[str, Any] = {
        "site": site,
        "council": inventory.council,
        "contacts": people,
        "start": one.agreement.start,
        "term_years": one.agreement.term_years,
        "term_end": term.end,
        "deadline": term.notice_by,
        "cap_end": periods[-1].end,
    }
    if one.reminder.term < len(periods):
        following = periods[one.reminder.term]
        values |= {"next_start": following.start, "next_end": following.end, "next_is_last": following is periods[-1]}
    closing = records.closing_of(one.agreement)
    if closing is not None:
        values |= {"closes_on": closing.read_only, "export_until": closing.export_until}
    day: date | None = {"choice": term.notice_by, "notice": term.notice_by, "last_term": term.end}.get(kind)
    return compose(kind, day=day, **values)


def confirmation(agreement: Agreement, *, terminated: bool) -> str:
    """Return the kind of mail that confirms an end which was just put on record."""
    if terminated:
        return TERMINATION_RECORDED
    if agreement.notice_ends is not None and agreement.notice_ends < clock.today():
        return NOTICE_AFTERWARDS
    return NOTICE_BY_COUNCIL if agreement.notice_giver == Giver.COUNCIL else NOTICE_RECORDED


def was_confirmed(session: Session, site: Site, *, terminated: bool) -> bool:
    """Return whether anybody was told of the notice, or of the termination, of a site's agreement."""
    kinds = (TERMINATION_RECORDED,) if terminated else _OF_NOTICE
    query = select(Mail.id).where(Mail.site_id == site.key, col(Mail.kind).in_(kinds), Mail.state == MailState.SENT)
    return session.exec(query).first() is not None


def has_unsent_confirmation(session: Session, site: Site) -> bool:
    """Return whether a mail that confirms the end of a site's agreement still waits to leave."""
    query = select(Mail).where(Mail.site_id == site.key, col(Mail.kind).in_(_OF_ENDS), Mail.state == MailState.QUEUED)
    return any(not _is_outdated_end(session, mail) for mail in session.exec(query))


def about_taking_back(inventory: Inventory, agreement: Agreement, site: Site, url: str, *, terminated: bool) -> Message:
    """Return the mail that says that a notice or termination was taken back, and how the agreement goes on."""
    periods, closing = records.agreement_terms(agreement), records.closing_of(agreement)
    return compose(
        TAKEN_BACK,
        site=site,
        council=inventory.council,
        url=url,
        terminated=terminated,
        ends=last_day(records.milestones(agreement), periods) if closing else None,
        term_end=periods[term_on(clock.today(), periods) - 1].end,
    )


def about_closing(kind: str, inventory: Inventory, agreement: Agreement, site: Site, url: str) -> Message:
    """Return the mail that confirms an end, or that says that the site is read-only now: what follows, and when.

    Raises:
        LookupError: nothing plans the site's closing.

    """
    closing = records.closing_of(agreement)
    if closing is None:
        raise LookupError(f"agreement {agreement.id}: no closing is planned")
    ends = last_day(records.milestones(agreement), records.agreement_terms(agreement))
    return compose(
        kind,
        day=closing.export_until if kind in (CLOSED, NOTICE_AFTERWARDS) else ends,
        site=site,
        council=inventory.council,
        url=url,
        given_on=agreement.notice_on,
        reason=_reason(agreement),
        given_by=agreement.notice_from,
        by_council=agreement.notice_giver == Giver.COUNCIL,
        first_day_without=agreement.terminated_on,
        term_end=ends,
        closes_on=closing.read_only,
        export_until=closing.export_until,
    )


def _reason(agreement: Agreement) -> Literal["termination", "notice", "last_term"]:
    """Return why a site closes: what came last is what ended its agreement."""
    if records.agreement_state(agreement) is AgreementState.TERMINATED:
        return "termination"
    return "last_term" if agreement.notice_on is None else "notice"


def recipients(reminder: Reminder, people: Sequence[Contact]) -> Sequence[Contact]:
    """Return who gets a reminder: every contact where there is something to decide, else the first."""
    return people if _kind(reminder, people) in _TO_EVERY_CONTACT else people[:1]


def is_copied(session: Session, mail: Mail) -> bool:
    """Return whether the adviser gets a copy: of the first mail of each matter about an agreement."""
    if mail.kind not in (*_ABOUT_AGREEMENTS, *_OF_ENDS, CLOSED):
        return False
    query = select(Mail.id).where(Mail.matter == mail.matter, Mail.state == MailState.SENT)
    return session.exec(query).first() is None


def is_outdated(session: Session, inventory: Inventory, mail: Mail) -> bool:
    """Return whether a mail has lost its reason since it was queued (G6), or a newer one says what counts (G4)."""
    if mail.site_id is None:
        return False
    agreement = records.agreement(session, mail.site_id)
    if mail.kind in _OF_ENDS:
        return _is_outdated_end(session, mail)
    if mail.kind == CLOSED:
        return session.get_one(Site, mail.site_id).state is not SiteState.CLOSING
    if not is_reminder(mail):
        return False
    stands = agreement.notice_on is None and agreement.terminated_on is None
    if not stands or records.agreement_state(agreement) not in IN_FORCE:
        return True
    people = records.contacts(session, mail.site_id)
    newest = _newest(records.agreement_reminders(agreement, inventory), clock.today())
    current = {(Due(agreement, reminder).matter, _kind(reminder, people)) for reminder in newest}
    return (mail.matter, mail.kind) not in current


def day_to_leave(session: Session, inventory: Inventory, mail: Mail) -> date | None:
    """Return the working day that a reminder waits for which could not leave on its own; None: it may leave today."""
    if mail.site_id is None or not is_reminder(mail):
        return None
    agreement, today = records.agreement(session, mail.site_id), clock.today()
    newest = _newest(records.agreement_reminders(agreement, inventory), today)
    own = next((reminder for reminder in newest if Due(agreement, reminder).matter == mail.matter), None)
    return _waits_until(own, today, inventory) if own else None


def _waits_until(reminder: Reminder, today: date, inventory: Inventory) -> date | None:
    """Return the next working day, if ``today`` is none and the reminder still makes sense then."""
    working_day = WorkingDays(inventory.legal.alsace_moselle).after(today)
    return None if today == working_day or reminder.valid_until < working_day else working_day


def _is_outdated_end(session: Session, mail: Mail) -> bool:
    """Return whether what a mail confirms was taken back since, or followed by an end of which a newer one speaks."""
    agreement = records.agreement(session, mail.site_id or 0)
    gone = {TAKEN_BACK: False, TERMINATION_RECORDED: agreement.terminated_on is None}
    newer = select(Mail.id).where(
        Mail.site_id == mail.site_id, col(Mail.kind).in_(_OF_ENDS), Mail.matter != mail.matter, col(Mail.id) > mail.id
    )
    return gone.get(mail.kind, agreement.notice_on is None) or session.exec(newer).first() is not None


def _kind(reminder: Reminder, people: Iterable[Contact]) -> str:
    """Return the mail that says it: one for all leads; once a year, an administrator alone is asked something else."""
    if reminder.kind == CONTACTS:
        return _CONTACTS[sum(person.administrator for person in people) < 2]
    return next(kind for kind in _ABOUT_AGREEMENTS if reminder.kind.startswith(kind))


def _newest(reminders: Sequence[Reminder], today: date) -> list[Reminder]:
    """Return what may leave today, sent or not: of the dates the newest alone, and the question about the contacts."""
    about_contacts = [reminder for reminder in reminders if reminder.kind == CONTACTS]
    of_dates = [reminder for reminder in reminders if reminder.kind != CONTACTS]
    return [*due(of_dates, today, ()), *due(about_contacts, today, ())]


def _queued(session: Session, matters: Sequence[str]) -> set[str]:
    """Return those of ``matters`` that have a mail, whatever became of it, unless it was withdrawn."""
    found: set[str] = set()
    for begin in range(0, len(matters), CHUNK):
        some = col(Mail.matter).in_(matters[begin : begin + CHUNK])
        query = select(Mail.matter).where(some, Mail.state != MailState.WITHDRAWN)
        found |= set(session.exec(query).all())
    return found
