"""The outbox: mails are inserted with the change they speak of, and leave later, each at most once."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from sqlalchemy import ColumnElement, or_
from sqlmodel import Session, col, select

from provisioner import clock, eventlog, named_files, records, runs
from provisioner.adapters import smtp
from provisioner.errors import BadInput, ProvisionError, Unavailable
from provisioner.installation import Installation
from provisioner.journal import failpoint, lock
from provisioner.mail import agreements
from provisioner.mail.messages import Message, compose, envelope
from provisioner.model.tables import UNSENT, Contact, Mail, MailState, Site

GIVE_UP = timedelta(days=5)  # RFC 5321, 4.5.4.1: at least four to five days
FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=4)
FARTHEST = timedelta(days=7)  # a next attempt further ahead was set by a wrong clock; holidays keep no mail that long
OPERATORS = "operators"  # what stands in a site's place where a mail is for them


@dataclass(frozen=True)
class Delivery:
    """What became of the mails that were due."""

    sent: int = 0
    waiting: int = 0
    dead: int = 0
    withdrawn: int = 0
    reason: str = ""


def post(
    session: Session, installation: Installation, occasion: str, message: Message, contact: Contact, matter: str = ""
) -> None:
    """Insert a mail for ``occasion``, once: the same occasion again changes a mail only while it is unsent.

    With a ``matter``, the mail speaks to the association: where its address is refused, the next contact gets it.
    """
    existing = session.exec(select(Mail).where(Mail.occasion == occasion)).first()
    if existing is not None:
        if existing.state is not MailState.SENT:
            existing.kind, existing.subject, existing.body = message.kind, message.subject, message.body
            existing.day, existing.day_says = message.day, message.day_says
        if existing.state is MailState.WITHDRAWN:
            existing.state, existing.next_attempt_at = MailState.QUEUED, clock.now()
        return
    mail = _mail(installation, occasion, message)
    mail.site_id, mail.contact_id, mail.matter = contact.site_id, contact.id, matter
    session.add(mail)


def post_to_each(
    session: Session, installation: Installation, matter: str, message: Message, people: Sequence[Contact]
) -> None:
    """Insert a mail about ``matter``, which concerns the association, to each of ``people``, once each."""
    for person in people:
        post(session, installation, f"{matter} {person.id}", message, person, matter)


def post_to_operators(session: Session, installation: Installation, occasion: str, message: Message) -> None:
    """Insert a mail to the operators, whose address the inventory names when it leaves; once per ``occasion``."""
    if session.exec(select(Mail.id).where(Mail.occasion == occasion)).first() is not None:
        return
    session.add(_mail(installation, occasion, message))


def _mail(installation: Installation, occasion: str, message: Message) -> Mail:
    identity = hashlib.sha256(f"{installation.namespace} {occasion}".encode()).hexdigest()[:32]
    return Mail(
        occasion=occasion,
        message_id=f"<{identity}@{installation.inventory.domain}>",
        kind=message.kind,
        subject=message.subject,
        body=message.body,
        day=message.day,
        day_says=message.day_says,
        created_at=clock.now(),
        next_attempt_at=clock.now(),
    )


def deliver_due(installation: Installation) -> Delivery:
    """Send what is due; what fails waits for its next attempt.

    A mail is recorded as sent right after the server took it: a crash in between sends it once more,
    under the same Message-ID (G1). A server that does not answer is asked once, not for every mail.
    """
    results: list[tuple[MailState, str]] = []
    with lock.hold(installation.locks, "outbox") as free:
        if not free:
            return Delivery(reason="another process is sending")
        while due := _due(installation):  # an address that is refused makes a mail to the next contact due
            try:
                for mail_id in due:
                    results.append(_send(installation, mail_id))  # noqa: PERF401  (what was sent counts, whatever follows)
            except Unavailable as error:
                results += _put_off(installation, error.message)
    count = Counter(state for state, _ in results)
    reason = next((said for state, said in reversed(results) if state in UNSENT and said), "")
    return Delivery(
        count[MailState.SENT], count[MailState.QUEUED], count[MailState.DEAD], count[MailState.WITHDRAWN], reason
    )


def retry(installation: Installation) -> Delivery:
    """Make every mail that has not left due now, dead ones included, and send what is due."""
    with installation.store.transaction() as session:
        for mail in session.exec(select(Mail).where(col(Mail.state).in_(UNSENT))).all():
            if mail.state is MailState.DEAD:
                mail.tried_since = None  # whoever tries again grants it the whole time again
            mail.state, mail.next_attempt_at = MailState.QUEUED, clock.now()
    return deliver_due(installation)


def send_test(installation: Installation, address: str) -> str:
    """Send one mail to ``address``, past the outbox, and return what the server answered.

    Raises:
        ProvisionError: the server refused it.
        Unavailable: the server does not answer, or refuses ourselves.

    """
    message = compose("test", council=installation.inventory.council, today=clock.today())
    mail = Mail(
        occasion=f"test {clock.now().isoformat()}",
        message_id=f"<test-{clock.now():%Y%m%d%H%M%S%f}@{installation.inventory.domain}>",
        kind=message.kind,
        subject=message.subject,
        body=message.body,
        created_at=clock.now(),
        next_attempt_at=clock.now(),
    )
    try:
        return _hand_over(installation, mail, address)
    except smtp.Refused as error:
        raise ProvisionError(f"the mail to {address} was refused: {error}") from error


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
        query = (
            select(Mail, Site, Contact)
            .select_from(Mail)
            .join(Site, col(Mail.site_id) == Site.id, isouter=True)
            .join(Contact, col(Mail.contact_id) == Contact.id, isouter=True)
        )
        return [
            MailLine(
                id=mail.id or 0,
                site=site.slug if site else OPERATORS,
                kind=mail.kind,
                to=contact.mail if contact else installation.inventory.operators_mail,
                state=mail.state.value,
                attempts=mail.attempts,
                outcome=mail.outcome,
                message_id=mail.message_id,
            )
            for mail, site, contact in session.exec(query.order_by(col(Mail.id))).all()
        ]


def _is_due() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    at, now = col(Mail.next_attempt_at), clock.now()
    return col(Mail.state) == MailState.QUEUED, or_(at <= now, at > now + FARTHEST)


def _due(installation: Installation) -> list[int]:
    with installation.store.transaction() as session:
        query = select(Mail.id).where(*_is_due()).order_by(col(Mail.id))
        return [mail_id for mail_id in session.exec(query).all() if mail_id is not None]


def _send(installation: Installation, mail_id: int) -> tuple[MailState, str]:
    with installation.store.transaction() as session:
        mail = session.get_one(Mail, mail_id)
        contact = session.get_one(Contact, mail.contact_id) if mail.contact_id else None
        subject = session.get_one(Site, mail.site_id).slug if mail.site_id else OPERATORS
        if agreements.is_reminder(mail) and (doubt := runs.doubt(session)):
            mail.next_attempt_at, mail.outcome = clock.now() + LONGEST_PAUSE, doubt.words
            return mail.state, ""
        if agreements.is_outdated(session, installation.inventory, mail):
            mail.state, mail.outcome = MailState.WITHDRAWN, "what it says had become untrue, or too late"
            eventlog.record(session, subject, "mail withdrawn", mail=mail.id, kind_of_mail=mail.kind)
            return mail.state, ""
        if day := agreements.day_to_leave(session, installation.inventory, mail):
            mail.next_attempt_at = datetime.combine(day, time(), clock.PARIS)
            mail.outcome = f"waits for the next working day, {day}"
            return mail.state, ""
        copied = agreements.is_copied(session, mail)
    to = contact.mail if contact else installation.inventory.operators_mail
    adviser = installation.inventory.mail.adviser if copied else None
    proof, refusal = "", None
    failpoint.reach("mail", "send", "before")
    try:
        proof = _hand_over(installation, mail, to, adviser)
    except smtp.Refused as error:
        refusal = error
    failpoint.reach("mail", "send", "after")
    with installation.store.transaction() as session:
        mail = session.get_one(Mail, mail_id)
        mail.attempts += 1
        if refusal is None:
            mail.state, mail.sent_at, mail.outcome = MailState.SENT, clock.now(), proof
            eventlog.record(session, subject, "mail sent", mail=mail.id, kind_of_mail=mail.kind)
            return mail.state, proof
        _wait(mail, str(refusal))
        mail.tried_since = mail.tried_since or clock.now()
        if refusal.permanent or clock.now() - mail.tried_since > GIVE_UP:
            mail.state = MailState.DEAD
            if _pass_on(session, installation, mail):
                mail.outcome += "; the next contact gets it"
            eventlog.record(session, subject, "mail dead", mail=mail.id, kind_of_mail=mail.kind)
        return mail.state, mail.outcome


def _wait(mail: Mail, reason: str) -> None:
    """Make a mail wait for its next attempt, longer each time."""
    mail.outcome = reason
    mail.next_attempt_at = clock.now() + min(FIRST_PAUSE * 2 ** min(max(mail.attempts - 1, 0), 10), LONGEST_PAUSE)


def _put_off(installation: Installation, reason: str) -> list[tuple[MailState, str]]:
    """Make all that is due wait: no mail is at fault, so none dies of it, however long it lasts."""
    with installation.store.transaction() as session:
        mails = session.exec(select(Mail).where(*_is_due())).all()
        for mail in mails:
            mail.attempts += 1
            _wait(mail, reason)
    return [(MailState.QUEUED, reason)] * len(mails)


def _pass_on(session: Session, installation: Installation, mail: Mail) -> bool:
    """Queue what a mail says to the association for its next contact, unless another one gets it anyway (G3)."""
    if not mail.matter or mail.site_id is None:
        return False
    siblings = session.exec(select(Mail).where(Mail.matter == mail.matter, Mail.id != mail.id)).all()
    if any(sibling.state in (MailState.QUEUED, MailState.SENT) for sibling in siblings):
        return False
    tried = {mail.contact_id, *(sibling.contact_id for sibling in siblings)}
    message = Message(mail.kind, mail.subject, mail.body, mail.day, mail.day_says)
    for person in records.contacts(session, mail.site_id):
        if person.id not in tried:
            post_to_each(session, installation, mail.matter, message, [person])
            return True
    return False


def _hand_over(installation: Installation, mail: Mail, to: str, copy_to: str | None = None) -> str:
    """Hand a mail to the server, or to the folder, and return what stands as proof.

    A copy that is refused is told in the proof; it never makes the mail leave twice.
    """
    settings = installation.inventory.mail
    try:
        message = envelope(mail, installation.inventory, to, copy_to)
    except ValueError as error:  # G7
        raise smtp.Refused(f"not sent: {error}", permanent=True) from error
    if settings.server is None:
        recipient = re.sub(r"[^A-Za-z0-9@._+-]", "_", to)
        return smtp.write(installation.mail_folder, f"{mail.id or 0:06}-{mail.kind}-{recipient}", message)
    password = None
    if settings.server.password_file is not None:
        try:
            file = installation.inventory.resolve(settings.server.password_file)
            password = named_files.text(file, named_files.SECRET).strip()
        except BadInput as error:
            raise Unavailable(error.message, error.hint) from None
    proof = smtp.send(settings.server, password, message, to)
    if copy_to is None:
        return proof
    try:
        return f"{proof}; copy: {smtp.send(settings.server, password, message, copy_to)}"
    except (smtp.Refused, Unavailable) as error:
        return f"{proof}; no copy: {error}"
