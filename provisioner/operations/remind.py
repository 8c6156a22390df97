"""Reminders: what each agreement calls for today, queued once and sent; part of the nightly run."""

from dataclasses import dataclass
from datetime import date

from sqlmodel import Session, col, select

from provisioner import clock, eventlog, runs
from provisioner.errors import BadInput, NeedsHand
from provisioner.installation import Installation
from provisioner.journal import failpoint
from provisioner.journal.journal import holder
from provisioner.mail import agreements, outbox
from provisioner.mail.agreements import Due
from provisioner.model.tables import Contact, Mail, MailState, Run, Site

CONFIRMED = "clock"  # kind of the run that stands for a person's word
WAY_ON = "set the clock right; if it is right: provision mail confirm"


@dataclass(frozen=True)
class Reminded:
    """What a run queued, site by site, and what became of all that was due to leave."""

    queued: list[tuple[str, str]]  # slug, reminder
    delivery: outbox.Delivery


@dataclass(frozen=True)
class Held:
    """What waits because the clock is not believed: what a person looks at before confirming it."""

    today: date
    why: str
    reminders: list[tuple[str, str]]  # slug, reminder: those that are not queued yet
    mails: int  # that are queued, and wait


def remind(installation: Installation) -> Reminded:
    """Queue what every agreement calls for today and send what is due; each reminder once, however often this runs.

    However many that are: associations that begin on one day are reminded on one day. Only a clock is not believed.

    Raises:
        NeedsHand: the clock jumped; nothing was queued or sent. It names the day by which that must be settled.

    """
    with installation.store.transaction() as session:
        wanted = _wanted(session, installation)
        doubt = runs.doubt(session)
        queued = [] if doubt else _queue(session, installation, wanted)
        if doubt:
            by = agreements.settle_by(session, installation.inventory, doubt)
            eventlog.record(session, "reminders", "reminders held", wanted=len(wanted))
    if doubt:
        until = f"; this must be settled by {by}" if by else ""
        raise NeedsHand(f"reminders: {len(wanted)} wait, none was sent: {doubt.words}{until}", WAY_ON)
    failpoint.reach("remind", "queue", "after")
    return Reminded(queued, outbox.deliver_due(installation))


def held(installation: Installation) -> Held | None:
    """Return what waits for a person's word about the clock; None: it is believed."""
    with installation.store.transaction() as session:
        return _held(session, installation)


def confirm(installation: Installation, seen: Held) -> Reminded:
    """Believe the clock from now on, as somebody who saw ``seen`` says; queue and send that night's list.

    Raises:
        BadInput: another list waits by now; nothing was changed.

    """
    with installation.store.transaction() as session:
        if _held(session, installation) != seen:
            raise BadInput("what waits has changed meanwhile: nothing was sent", "provision mail confirm")
        now = clock.now()
        session.add(Run(kind=CONFIRMED, holder=holder(), started_at=now, ended_at=now, outcome="well"))
        eventlog.record(session, "reminders", "clock confirmed", reminders=len(seen.reminders), mails=seen.mails)
        for mail in _waiting(session):
            mail.next_attempt_at = now
    return remind(installation)


def _held(session: Session, installation: Installation) -> Held | None:
    doubt = runs.doubt(session)
    if doubt is None:
        return None
    wanted = _wanted(session, installation)
    listed = sorted((session.get_one(Site, one.agreement.site_id).slug, one.reminder.kind) for one in wanted)
    return Held(clock.today(), doubt.words, listed, len(_waiting(session)))


def _waiting(session: Session) -> list[Mail]:
    query = select(Mail).where(Mail.state == MailState.QUEUED)
    return [mail for mail in session.exec(query) if agreements.is_reminder(mail)]


def _wanted(session: Session, installation: Installation) -> list[Due]:
    return agreements.due_today(session, installation.inventory, agreements.in_force(session))


def _queue(session: Session, installation: Installation, wanted: list[Due]) -> list[tuple[str, str]]:
    ids = [one.agreement.site_id for one in wanted]
    sites = {site.id: site for site in session.exec(select(Site).where(col(Site.id).in_(ids))).all()}
    people: dict[int, list[Contact]] = {site_id: [] for site_id in ids}
    for person in session.exec(select(Contact).where(col(Contact.site_id).in_(ids)).order_by(col(Contact.id))).all():
        people[person.site_id].append(person)
    queued = []
    for one in wanted:
        site, contacts = sites[one.agreement.site_id], people[one.agreement.site_id]
        message = agreements.message(installation.inventory, one, site, contacts)
        to = agreements.recipients(one.reminder, contacts)
        outbox.post_to_each(session, installation, one.matter, message, to)
        queued.append((site.slug, one.reminder.kind))
    return queued
