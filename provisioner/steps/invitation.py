"""Invitations: a single-use link that sets a password, for each administrator, through the outbox."""

from datetime import timedelta
from urllib.parse import urlencode

from sqlmodel import col, delete

from provisioner import clock, records
from provisioner.agent.protocol import Invite
from provisioner.mail import messages, outbox
from provisioner.model.tables import Contact, Mail, MailState
from provisioner.steps.site import ANSWER_SECONDS, SiteWork


def queue_invitations(work: SiteWork) -> None:
    """Queue one invitation per administrator, with a single-use link that sets a password."""
    settings = work.installation
    with settings.store.transaction() as session:
        for person in invited(work, records.administrators(session, work.site.key)):
            message = messages.compose(
                "invitation",
                site=work.site,
                council=settings.inventory.council,
                contact=person,
                url=work.url,
                link=_link(work, person),
                valid_until=clock.now() + timedelta(days=settings.inventory.policy.invitation_days),
            )
            outbox.post(session, settings, f"{_occasion(work)}{person.id}", message, person)


def withdraw_invitations(work: SiteWork) -> None:
    """Take back this operation's invitations that have not left."""
    with work.installation.store.transaction() as session:
        mine = col(Mail.occasion).startswith(_occasion(work))
        session.exec(delete(Mail).where(mine, col(Mail.state) != MailState.SENT))


def renew_link(work: SiteWork) -> None:
    """Give the administrator a new link in the site; an earlier one no longer works."""
    settings = work.installation
    with settings.store.transaction() as session:
        people = invited(work, records.administrators(session, work.site.key))
    for person in people:
        token = settings.keys.invitation_token(work.operation_id, person.id or 0)
        days = settings.inventory.policy.invitation_days
        work.run_in_site(Invite(person.mail, token, days), seconds=ANSWER_SECONDS)


def invited(work: SiteWork, people: list[Contact]) -> list[Contact]:
    """Return whom the operation invites: everybody, unless it names one contact."""
    return [person for person in people if work.notes.get("contact") in (None, person.id)]


def _occasion(work: SiteWork) -> str:
    return f"invitation {work.operation_id} "


def _link(work: SiteWork, person: Contact) -> str:
    """Return WordPress' own address for setting a password with a key."""
    token = work.installation.keys.invitation_token(work.operation_id, person.id or 0)
    return f"{work.url}/wp-login.php?{urlencode({'action': 'rp', 'key': token, 'login': person.login})}"
