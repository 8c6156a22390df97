"""The agreement on record, and what follows for its site."""

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from sqlmodel import Session, col, delete

from provisioner import eventlog, named_files, records
from provisioner.errors import ProvisionError
from provisioner.keys import write_private
from provisioner.mail import agreements, outbox
from provisioner.model.tables import Agreement, Mail, MailState, SiteState
from provisioner.steps.closing import REOPENS
from provisioner.steps.site import SiteWork


def store_copy(work: SiteWork) -> None:
    """Keep the signed copy, if there is one, beside the agreement's document."""
    if "copy" not in work.notes:
        return
    target = signed_copy(work)
    if target.exists() and _sha256(target.read_bytes()) == work.notes["copy_sha256"]:
        return
    content = named_files.content(Path(work.notes["copy"]), LARGEST_COPY)
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
        agreement = records.agreement(session, site.key)
        agreement.signed_on = date.fromisoformat(work.notes["signed_on"])
        _stamp(agreement, work)
        agreement.online_on = agreement.recorded_on
        site.state = SiteState.ONLINE
        on = work.notes["signed_on"]
        eventlog.record(session, work.slug, "agreement signed", work.operation_id, on=on, **_proof(work))


def record_successor(work: SiteWork) -> None:
    """Record the agreement that follows the one before, which stays in the history; the site is online."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        site.state = SiteState.ONLINE
        agreement = records.agreement(session, site.key)
        if agreement.start != _start(work):  # else an earlier run got so far: they begin one after the other
            agreement = records.new_agreement(work.installation.inventory, site.key, _start(work))
            session.add(agreement)
        agreement.signed_on = date.fromisoformat(work.notes["signed_on"])
        _stamp(agreement, work)
        agreement.online_on = agreement.recorded_on
        told = {"start": work.notes["start"], **_proof(work)}
        eventlog.record(session, work.slug, "agreement signed", work.operation_id, on=work.notes["signed_on"], **told)


def withdraw_successor(work: SiteWork) -> None:
    """Remove the new agreement: the one before is that of record again."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        agreement = records.agreement(session, site.key)
        if agreement.start == _start(work):
            session.delete(agreement)
            site.state = SiteState.CLOSING if work.notes.get(REOPENS) else SiteState.ONLINE


def _start(work: SiteWork) -> date:
    return date.fromisoformat(work.notes["start"])


def withdraw_signature(work: SiteWork) -> None:
    """Take the signature back, and make the site one that is being prepared."""
    with work.installation.store.transaction() as session:
        site = records.site(session, work.slug)
        agreement = records.agreement(session, site.key)
        agreement.signed_on = agreement.online_on = None
        site.state = SiteState.PREPARING


def record_end(work: SiteWork) -> None:
    """Record notice or termination, from which the closing of the site follows; confirm it to every contact."""
    settings, site, url = work.installation, work.site, work.url
    with settings.store.transaction() as session:
        agreement = _set(session, work, _noted_days(work))
        agreement.notice_giver = work.notes.get("notice_giver", agreement.notice_giver)
        kind = agreements.confirmation(agreement, terminated="terminated_on" in work.notes)
        message = agreements.about_closing(kind, settings.inventory, agreement, site, url)
        people = records.contacts(session, site.key)
        outbox.post_to_each(session, settings, f"{kind} {work.operation_id}", message, people)
        what = "agreement terminated" if "terminated_on" in work.notes else "notice given"
        told = {key: work.notes[key] for key in (*_DAYS, "notice_giver", "late_days") if key in work.notes}
        eventlog.record(session, work.slug, what, work.operation_id, **told)


def withdraw_end(work: SiteWork) -> None:
    """Forget notice or termination, and with it the closing; what was to be confirmed is looked at when it leaves."""
    words = ("termination_reason",) if "terminated_on" in work.notes else ("notice_from", "notice_giver")
    with work.installation.store.transaction() as session:
        _set(session, work, dict.fromkeys([*words, *(key for key in _DAYS if key in work.notes)]))


def keep(work: SiteWork) -> None:
    """Take notice or termination back, and with it the closing; tell whoever was told of it."""
    settings, site, url = work.installation, work.site, work.url
    with settings.store.transaction() as session:
        agreement = _set(session, work, {key: None for key in _DAYS if key in work.notes})
        terminated = "terminated_on" in work.notes
        if agreements.was_confirmed(session, site, terminated=terminated):
            kind = agreements.TAKEN_BACK
            message = agreements.about_taking_back(settings.inventory, agreement, site, url, terminated=terminated)
            people = records.contacts(session, site.key)
            outbox.post_to_each(session, settings, f"{kind} {work.operation_id}", message, people)
        what = "termination taken back" if "terminated_on" in work.notes else "notice taken back"
        eventlog.record(session, work.slug, what, work.operation_id)


def end_again(work: SiteWork) -> None:
    """Put back the notice or termination that was about to be taken back; what says otherwise does not leave."""
    with work.installation.store.transaction() as session:
        _set(session, work, _noted_days(work))
        matter = f"{agreements.TAKEN_BACK} {work.operation_id}"
        session.exec(delete(Mail).where(col(Mail.matter) == matter, col(Mail.state) != MailState.SENT))


def signed_copy(work: SiteWork) -> Path:
    """Return where the signed copy is kept."""
    return work.installation.documents(work.slug) / f"convention-signee-{work.notes['signed_on']}.pdf"


LARGEST_COPY = 50 << 20  # bytes of a scanned agreement
_DAYS = ("notice_on", "notice_ends", "terminated_on")


def _noted_days(work: SiteWork) -> dict[str, date]:
    return {key: date.fromisoformat(work.notes[key]) for key in _DAYS if key in work.notes}


def _set(session: Session, work: SiteWork, values: Mapping[str, date | None]) -> Agreement:
    """Change what is on record about the agreement of record, and return it."""
    agreement = records.agreement(session, records.site(session, work.slug).key)
    for key, value in values.items():
        setattr(agreement, key, value)
    _stamp(agreement, work)
    return agreement


def _stamp(agreement: Agreement, work: SiteWork) -> None:
    """Note the day on which this was put on record: no closing that follows from it is due before the next one."""
    if "recorded_on" in work.notes:  # not in a journal of an earlier version
        agreement.recorded_on = date.fromisoformat(work.notes["recorded_on"])


def _proof(work: SiteWork) -> dict[str, str]:
    if "copy" not in work.notes:
        return {}
    return {"copy": signed_copy(work).name, "sha256": work.notes["copy_sha256"]}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
