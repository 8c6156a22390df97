"""One invitation per administrator, queued in the outbox."""

from datetime import timedelta
from urllib.parse import urlencode

from sqlmodel import col, delete

from provisioner import clock, records
from provisioner.mail import messages, outbox
from provisioner.model.tables import Contact, Mail, MailState
from provisioner.steps.site import SiteWork


def queue_invitations(work: SiteWork) -> None:
    """Queue one invitation per administrator, with a single-use link that sets a password."""
    settings = work.installation
    with settings.store.transaction() as session:
        for person in records.administrators(session, work.site.key):
            message = messages.compose(
                "invitation",
                site=work.site,
                council=settings.inventory.council,
                contact=person,
                url=work.url,
                link=_link(work, person),
                valid_until=clock.now() + timedelta(days=settings.inventory.policy.invitation_days),
            )
            outbox.post(session, settings, _occasion(work, person), message, person)


def withdraw_invitations(work: SiteWork) -> None:
    """Take back the invitations that have not left."""
    with work.installation.store.transaction() as session:
        mails = delete(Mail).where(col(Mail.site_id) == work.site.key, col(Mail.state) != MailState.SENT)
        session.exec(mails)


def _occasion(work: SiteWork, person: Contact) -> str:
    return f"invitation {work.operation_id} {person.id}"


def _link(work: SiteWork, person: Contact) -> str:
    """Return WordPress' own address for setting a password with a key."""
    token = work.installation.invitation_token(work.operation_id, person.id or 0)
    return f"{work.url}/wp-login.php?{urlencode({'action': 'rp', 'key': token, 'login': person.login})}"
