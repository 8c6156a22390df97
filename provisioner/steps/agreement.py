"""The agreement on record, and what follows for its site."""

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from sqlmodel import Session, col, delete

from provisioner import eventlog, records
from provisioner.errors import ProvisionError
from provisioner.keys import write_private
from provisioner.model.tables import ChangeKind, ChangeState, PlannedChange, SiteState
from provisioner.steps.site import SiteWork


def store_copy(work: SiteWork) -> None:
    """Keep the signed copy, if there is one, beside the agreement's document."""
    if "copy" not in work.notes:
        return
    target = signed_copy(work)
    if target.exists() and _sha256(target.read_bytes()) == work.notes["copy_sha256"]:
        return
    content = Path(work.notes["copy"]).read_bytes()
    if _sha256(content) != work.notes["copy_sha256"]:
        raise ProvisionError(f"{work.notes['copy']}: it is not the file any more that it was at the beginning")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_private(target, content)


def discard_copy(work: SiteWork) -> None:
    """Remove the signed copy that this operation stored."""
    if "copy" in work.notes:
        signed_copy(work).unlink(missing_ok=True)


def record_signature(work: SiteWork) -> None:
    """Record the signature; the site is online from now on."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        records.agreement(session, site.key).signed_on = date.fromisoformat(work.notes["signed_on"])
        site.state = SiteState.ONLINE
        proof = {"copy": signed_copy(work).name, "sha256": work.notes["copy_sha256"]} if "copy" in work.notes else {}
        eventlog.record(session, work.slug, "agreement signed", work.operation_id, on=work.notes["signed_on"], **proof)


def withdraw_signature(work: SiteWork) -> None:
    """Take the signature back, and make the site one that is being prepared."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        records.agreement(session, site.key).signed_on = None
        site.state = SiteState.PREPARING


def record_end(work: SiteWork) -> None:
    """Record notice or termination, and plan when the site becomes read-only and when it is archived."""
    with work.installation.store.transaction() as session:
        _set(session, work, {key: date.fromisoformat(work.notes[key]) for key in _DAYS if key in work.notes})
        what = "agreement terminated" if "terminated_on" in work.notes else "notice given"
        told = {key: work.notes[key] for key in (*_DAYS, "late_days") if key in work.notes}
        eventlog.record(session, work.slug, what, work.operation_id, **told)


def withdraw_end(work: SiteWork) -> None:
    """Forget notice or termination, and the closing that was planned for it."""
    words = "termination_reason" if "terminated_on" in work.notes else "notice_from"
    with work.installation.store.transaction() as session:
        session.exec(delete(PlannedChange).where(col(PlannedChange.operation_id) == work.operation_id))
        _set(session, work, {words: None, **{key: None for key in _DAYS if key in work.notes}})


def keep(work: SiteWork) -> None:
    """Take notice or termination back, and cancel the closing that was planned for it."""
    with work.installation.store.transaction() as session:
        _set(session, work, {key: None for key in _DAYS if key in work.notes})
        what = "termination taken back" if "terminated_on" in work.notes else "notice taken back"
        eventlog.record(session, work.slug, what, work.operation_id)


def end_again(work: SiteWork) -> None:
    """Put back the notice or termination that was about to be taken back, and the closing."""
    with work.installation.store.transaction() as session:
        _set(session, work, {key: date.fromisoformat(work.notes[key]) for key in _DAYS if key in work.notes})


def signed_copy(work: SiteWork) -> Path:
    """Return where the signed copy is kept."""
    return work.installation.documents(work.slug) / f"convention-signee-{work.notes['signed_on']}.pdf"


_DAYS = ("notice_on", "notice_ends", "terminated_on")


def _set(session: Session, work: SiteWork, values: Mapping[str, date | None]) -> None:
    """Change what is on record about the agreement, and with it what is planned for the site."""
    agreement = records.agreement(session, records.site(session, work.slug).key)
    for key, value in values.items():
        setattr(agreement, key, value)
    wanted: dict[ChangeKind, date] = {}
    if agreement.notice_ends is not None or agreement.terminated_on is not None:
        closes = records.closing_of(agreement)
        wanted = {ChangeKind.READ_ONLY: closes.read_only, ChangeKind.ARCHIVE: closes.archive}
    for change in records.changes(session, agreement.site_id, ChangeState.DONE):
        wanted.pop(change.kind, None)
    for change in records.changes(session, agreement.site_id):
        if wanted.get(change.kind) == change.on:
            del wanted[change.kind]
        else:
            change.state = ChangeState.CANCELLED
    for kind, on in wanted.items():
        session.add(PlannedChange(site_id=agreement.site_id, kind=kind, on=on, operation_id=work.operation_id))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
