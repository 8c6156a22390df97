"""A site in closing: everybody reads, its administrators log in and export, nobody writes; until it is opened again.

Two locks, as in an upgrade's freeze: the gate in its image, which says why, and its database's user, which is the
guarantee (docs/decisions/0015). Both follow the site's state, whichever of its generations comes to serve.
"""

import json
from datetime import date

from sqlmodel import col, delete

from provisioner import eventlog, records
from provisioner.adapters import mariadb
from provisioner.french import in_full
from provisioner.mail import agreements, outbox
from provisioner.model.container import Bind
from provisioner.model.names import CLOSED, GenerationNames
from provisioner.model.tables import Mail, MailState, SiteState
from provisioner.steps.site import SiteWork, edge_image

REOPENS = "reopens"  # noted where an operation opens a site that is in closing
_PUT = """
set -eu
cd "/host/$1"
printf %s "$3" >"$2.new"
chown "0:$4" "$2.new"
chmod 0440 "$2.new"
sync "$2.new"
mv "$2.new" "$2"
sync .
"""
_TAKE_AWAY = """
set -eu
cd "/host/$1"
rm -f "$2"
sync .
"""


def record_closing(work: SiteWork) -> None:
    """Record that the site is read-only from today on: from here on every lock of it follows."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        site.state = SiteState.CLOSING
        records.agreement(session, site.key).closed_on = date.fromisoformat(work.notes["closed_on"])
        eventlog.record(session, work.slug, "site closed to writes", work.operation_id, on=work.notes["closed_on"])


def withdraw_closing(work: SiteWork) -> None:
    """Record that the site is online as before."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        site.state = SiteState.ONLINE
        records.agreement(session, site.key).closed_on = None


def close_writes(work: SiteWork) -> None:
    """Close the gate to whatever writes, and take all rights but reading and logging in from the database's user."""
    settings, site = work.installation, work.site
    with settings.store.transaction() as session:
        closing = records.closing_of(records.agreement(session, site.key))
    until = in_full(closing.export_until) if closing else ""
    said = {
        "until": until,
        "council": settings.inventory.council.in_sentence.the,
        "mail": settings.inventory.council.mail,
    }
    _at_gate(work, "close", _PUT, json.dumps(said), str(site.uid))
    work.middle()
    mariadb.execute(work.host, "; ".join(mariadb.logging_in(work.names.database)))


def open_writes(work: SiteWork) -> None:
    """Open the gate, and let the database's user write again."""
    mariadb.execute(work.host, "; ".join(mariadb.writing(work.names.database)))
    _at_gate(work, "open", _TAKE_AWAY)


def open_again(work: SiteWork) -> None:
    """Open the site to writes if it is in closing; its contents are as they were."""
    if work.notes.get(REOPENS):
        open_writes(work)


def close_again(work: SiteWork) -> None:
    """Close the site that was about to be opened."""
    if work.notes.get(REOPENS):
        close_writes(work)


def keep_closed(work: SiteWork) -> None:
    """Close a generation that is about to serve, if its site is in closing."""
    if is_closing(work):
        close_writes(work)


def rights(work: SiteWork, number: int) -> list[str]:
    """Return the statements by which a generation's user may do what the state of its site allows."""
    database = GenerationNames(work.installation.namespace, work.slug, number).database
    return mariadb.logging_in(database) if is_closing(work) else mariadb.writing(database)


def is_closing(work: SiteWork) -> bool:
    """Return whether the site is in closing, as the records say at this moment."""
    with work.installation.store.transaction() as session:
        return records.site(session, work.slug).state is SiteState.CLOSING


def tell_contacts(work: SiteWork) -> None:
    """Queue a mail to every contact: the site is read-only, and until when exports are offered."""
    settings, site, url = work.installation, work.site, work.url
    with settings.store.transaction() as session:
        agreement = records.agreement(session, site.key)
        message = agreements.about_closing(agreements.CLOSED, settings.inventory, agreement, site, url)
        outbox.post_to_each(session, settings, _matter(work), message, records.contacts(session, site.key))


def withdraw_mails(work: SiteWork) -> None:
    """Take back those of these mails that have not left."""
    with work.installation.store.transaction() as session:
        session.exec(delete(Mail).where(col(Mail.matter) == _matter(work), col(Mail.state) != MailState.SENT))


def _matter(work: SiteWork) -> str:
    return f"{agreements.CLOSED} {work.operation_id}"


def _at_gate(work: SiteWork, name: str, script: str, *arguments: str) -> None:
    secrets = f"{work.names.site_directory}/secrets"
    command = ["sh", "-c", script, name, secrets, CLOSED, *arguments]
    image = edge_image(work.host)
    work.run_as_root(name, command, [Bind("", "/host")], image=image).require_success(f"{work.slug}: {name} its gate")
