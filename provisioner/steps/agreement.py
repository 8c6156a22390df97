"""The agreement on record, and the site's state that follows from it."""

from datetime import date

from provisioner import eventlog, records
from provisioner.model.tables import SiteState
from provisioner.steps.site import SiteWork


def record_signature(work: SiteWork) -> None:
    """Record the signature; the site is online from now on."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        records.agreement(session, site.key).signed_on = date.fromisoformat(work.notes["signed_on"])
        site.state = SiteState.ONLINE
        eventlog.record(session, work.slug, "agreement signed", work.operation_id, on=work.notes["signed_on"])


def withdraw_signature(work: SiteWork) -> None:
    """Make the agreement a draft again, and the site one that is being prepared."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        records.agreement(session, site.key).signed_on = None
        site.state = SiteState.PREPARING
