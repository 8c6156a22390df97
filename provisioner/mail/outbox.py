"""The outbox: mails are inserted with the change they speak of, and leave later, each at most once."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage

from sqlmodel import Session, col, select

from provisioner import clock, eventlog
from provisioner.adapters import smtp
from provisioner.errors import Unavailable
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.mail.messages import Message
from provisioner.model.tables import Contact, Mail, MailState, Site

GIVE_UP = timedelta(days=5)  # RFC 5321, 4.5.4.1: at least four to five days
FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=4)


@dataclass(frozen=True)
class Delivery:
    """What became of the mails that were due."""

    sent: int
    waiting: int
    dead: int
    reason: str = ""


def post(session: Session, installation: Installation, occasion: str, message: Message, contact: Contact) -> None:
    """Insert a mail for ``occasion``, once: the same occasion again changes a mail only while it is unsent."""
    existing = session.exec(select(Mail).where(Mail.occasion == occasion)).first()
    if existing is not None:
        if existing.sent_at is None:
            existing.subject, existing.body = message.subject, message.body
        return
    identity = hashlib.sha256(f"{installation.namespace} {occasion}".encode()).hexdigest()[:32]
    session.add(
        Mail(
            occasion=occasion,
            message_id=f"<{identity}@{installation.inventory.domain}>",
            kind=message.kind,
            site_id=contact.site_id,
            contact_id=contact.id,
            subject=message.subject,
            body=message.body,
            created_at=clock.now(),
            next_attempt_at=clock.now(),
        )
    )


def deliver_due(installation: Installation) -> Delivery:
    """Send what is due; what fails waits for its next attempt.

    A mail is recorded as sent right after the server took it: a crash in between sends it once more,
    under the same Message-ID (G1).
    """
    results: list[tuple[MailState, str]] = []
    with lock.hold(installation.locks, "outbox") as free:
        if not free:
            return Delivery(0, 0, 0, "another process is sending")
        results = [_send(installation, mail_id) for mail_id in _due(installation)]
    count = Counter(state for state, _ in results)
    reasons = [said for state, said in results if state is not MailState.SENT]
    reason = reasons[-1] if reasons else ""
    return Delivery(count[MailState.SENT], count[MailState.QUEUED], count[MailState.DEAD], reason)


def retry(installation: Installation) -> Delivery:
    """Make every mail that has not left due now, dead ones included, and send what is due."""
    with installation.store.transaction() as session:
        for mail in session.exec(select(Mail).where(Mail.state != MailState.SENT)).all():
            mail.state, mail.next_attempt_at = MailState.QUEUED, clock.now()
    return deliver_due(installation)


@dataclass(frozen=True)
class MailLine:
    """One mail, as `provision mail list` shows it."""

    id: int
    site: str
    kind: str
    to: str
    state: str
    attempts: int
    outcome: str
    message_id: str


def listing(installation: Installation) -> list[MailLine]:
    """Return every mail, oldest first."""
    with installation.store.transaction() as session:
        query = select(Mail, Site, Contact).where(Mail.site_id == Site.id, Mail.contact_id == Contact.id)
        return [
            MailLine(
                id=mail.id or 0,
                site=site.slug,
                kind=mail.kind,
                to=contact.mail,
                state=mail.state.value,
                attempts=mail.attempts,
                outcome=mail.outcome,
                message_id=mail.message_id,
            )
            for mail, site, contact in session.exec(query.order_by(col(Mail.id))).all()
        ]


def _due(installation: Installation) -> list[int]:
    with installation.store.transaction() as session:
        due = (Mail.state == MailState.QUEUED, Mail.next_attempt_at <= clock.now())
        query = select(Mail.id).where(*due).order_by(col(Mail.id))
        return [mail_id for mail_id in session.exec(query).all() if mail_id is not None]


def _send(installation: Installation, mail_id: int) -> tuple[MailState, str]:
    with installation.store.transaction() as session:
        mail = session.get_one(Mail, mail_id)
        contact = session.get_one(Contact, mail.contact_id)
        site = session.get_one(Site, mail.site_id)
    permanent = False
    try:
        proof = _hand_over(installation, mail, contact)
    except smtp.Refused as error:
        proof, reason, permanent = "", str(error), error.permanent
    except Unavailable as error:
        proof, reason = "", error.message
    with installation.store.transaction() as session:
        mail = session.get_one(Mail, mail_id)
        mail.attempts += 1
        if proof:
            mail.state, mail.sent_at, mail.outcome = MailState.SENT, clock.now(), proof
            eventlog.record(session, site.slug, "mail sent", mail=mail.id, kind_of_mail=mail.kind)
            return mail.state, proof
        mail.outcome = reason
        mail.next_attempt_at = clock.now() + min(FIRST_PAUSE * 2 ** min(mail.attempts - 1, 10), LONGEST_PAUSE)
        if permanent or clock.now() - mail.created_at > GIVE_UP:
            mail.state = MailState.DEAD
            eventlog.record(session, site.slug, "mail dead", mail=mail.id, kind_of_mail=mail.kind, reason=reason)
        return mail.state, reason


def _hand_over(installation: Installation, mail: Mail, contact: Contact) -> str:
    settings = installation.inventory.mail
    message = EmailMessage()
    message["From"] = settings.sender
    message["To"] = contact.mail
    message["Subject"] = mail.subject
    message["Date"] = mail.created_at
    message["Message-ID"] = mail.message_id
    message["Auto-Submitted"] = "auto-generated"
    # Whoever opens a mail's file wants to read it, and to copy its link: no transfer encoding there.
    message.set_content(mail.body, cte="8bit" if settings.server is None else None)
    if settings.server is None:
        recipient = re.sub(r"[^A-Za-z0-9@._+-]", "_", contact.mail)
        return smtp.write(installation.mail_folder, f"{mail.id:06}-{mail.kind}-{recipient}", message)
    password = None
    if settings.server.password_file is not None:
        try:
            password = installation.inventory.resolve(settings.server.password_file).read_text().strip()
        except OSError as error:
            raise Unavailable(f"{settings.server.password_file}: {error.strerror}") from error
    return smtp.send(settings.server, password, message)
