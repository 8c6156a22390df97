"""`provision agreement sign` and `end`: signature, notice, termination; and taking an end back."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sqlmodel import Session

from provisioner import clock, fields, records
from provisioner.agreement.terms import IN_FORCE, AgreementState, last_day, notice_on
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress, refuse_unfinished
from provisioner.journal.step import Step
from provisioner.model.tables import Agreement, ChangeState, Operation
from provisioner.steps.agreement import (
    discard_copy,
    end_again,
    keep,
    record_end,
    record_signature,
    store_copy,
    withdraw_end,
    withdraw_signature,
)
from provisioner.steps.content import conceal, publish
from provisioner.steps.site import SiteWork

SIGN, END, KEEP = "sign", "end", "keep"

SIGN_STEPS: tuple[Step[SiteWork], ...] = (
    Step("copy", store_copy, undo=discard_copy),
    Step("publish", publish, undo=conceal),
    Step("record", record_signature, undo=withdraw_signature),
)
END_STEPS: tuple[Step[SiteWork], ...] = (Step("record", record_end, undo=withdraw_end),)
KEEP_STEPS: tuple[Step[SiteWork], ...] = (Step("record", keep, undo=end_again),)

LONGEST_WORDS = 250
LARGEST_COPY = 50 * 1024 * 1024  # bytes of a scanned agreement


@dataclass(frozen=True)
class Ending:
    """How an agreement ends, and what is planned for its site then."""

    slug: str
    state: AgreementState
    ends: date  # its last day
    late_days: int
    read_only: date
    archive: date


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    work = SiteWork.of(installation, operation, int(operation.arguments.get("generation", 0)))
    work.notes.update(operation.arguments)
    return work


def sign(
    installation: Installation, slug: str, on: date, copy: Path | None = None, progress: Progress = no_progress
) -> None:
    """Record that the agreement of ``slug`` was signed ``on`` that day; its site goes online.

    The signed ``copy``, a PDF, is kept beside the document, its SHA-256 in the log.

    Raises:
        BadInput: no such site, no site to publish, signed already, or a copy that is no PDF.

    """
    arguments = check_signature(installation, slug, on, copy)
    _run(installation, slug, SIGN, SIGN_STEPS, arguments, progress)


def check_signature(installation: Installation, slug: str, on: date, copy: Path | None) -> dict[str, Any]:
    """Return what the operation would have to know: the day, the generation to publish, the copy to keep.

    Raises:
        BadInput: as `sign`.

    """
    with installation.store.transaction() as session:
        agreement = _settled(session, slug)
        generation = records.serving_generation(session, agreement.site_id)
    if agreement.signed_on is not None:
        raise BadInput(f"{slug}: the agreement was signed on {agreement.signed_on.isoformat()} already")
    if generation is None:
        raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
    _refuse_future(slug, on, "a signature")
    return {"signed_on": on.isoformat(), "generation": generation.number, **_copy(copy)}


def give_notice(
    installation: Installation, slug: str, on: date, giver: str, *, accept_late: bool = False, dry_run: bool = False
) -> Ending:
    """Record that ``giver`` gave notice ``on`` that day, and plan the closing of the site after the term.

    Raises:
        BadInput: not in force, the last term, or late: whether a late notice counts is for a person to decide.

    """
    with installation.store.transaction() as session:
        agreement = _settled(session, slug)
        state = records.agreement_state(agreement)
    if state not in IN_FORCE:
        raise BadInput(f"{slug}: its agreement is {state.value}: there is nothing to give notice of", _status(slug))
    _refuse_future(slug, on, "a notice")
    if agreement.signed_on is not None and on < agreement.signed_on:
        raise BadInput(f"{slug}: {on.isoformat()} lies before the signature of {agreement.signed_on.isoformat()}")
    periods = records.agreement_terms(agreement)
    notice = notice_on(on, periods)
    if notice is None:
        raise BadInput(
            f"{slug}: the last term ends on {periods[-1].end.isoformat()} by itself, nothing renews it",
            f"to end it earlier: provision agreement end {slug} --on DATE --termination --reason TEXT",
        )
    if notice.late_days and not accept_late:
        raise BadInput(
            f"{slug}: notice on {on.isoformat()} is {notice.late_days} days late, the last day was "
            f"{notice.notice_by.isoformat()}: the agreement goes on until {notice.otherwise.isoformat()}, "
            f"unless you decide that it ends on {notice.ends.isoformat()}",
            "the same command with --accept-late",
        )
    arguments = {"notice_on": on.isoformat(), "notice_ends": notice.ends.isoformat(), "late_days": notice.late_days}
    agreement.notice_on, agreement.notice_ends = on, notice.ends  # of the copy at hand; the step changes the record
    if not dry_run:
        _run(installation, slug, END, END_STEPS, arguments, record=_noting(slug, notice_from=giver))
    return _ending(slug, agreement, notice.late_days)


def terminate(installation: Installation, slug: str, on: date, reason: str, *, dry_run: bool = False) -> Ending:
    """Record that the agreement is terminated; ``on`` is the first day without it. Plan the closing of the site.

    Raises:
        BadInput: not signed, terminated already, or a day outside of the agreement.

    """
    with installation.store.transaction() as session:
        agreement = _settled(session, slug)
    if agreement.signed_on is None:
        raise BadInput(f"{slug}: its agreement is not signed: there is nothing to terminate", _status(slug))
    if agreement.terminated_on is not None:
        raise BadInput(
            f"{slug}: its agreement was terminated with effect from {agreement.terminated_on.isoformat()} already",
            f"provision agreement end {slug} --cancel   (takes that back)",
        )
    if on < agreement.signed_on:
        raise BadInput(f"{slug}: {on.isoformat()} lies before the signature of {agreement.signed_on.isoformat()}")
    agreement.terminated_on = on
    if not dry_run:
        arguments = {"terminated_on": on.isoformat()}
        _run(installation, slug, END, END_STEPS, arguments, record=_noting(slug, termination_reason=reason))
    return _ending(slug, agreement)


def take_back(installation: Installation, slug: str, *, dry_run: bool = False) -> AgreementState:
    """Take back the termination of an agreement, or else the notice; the closing is cancelled. Return its state then.

    Raises:
        BadInput: there is nothing to take back, or the closing has begun.

    """
    with installation.store.transaction() as session:
        agreement = _settled(session, slug)
        begun = records.changes(session, agreement.site_id, ChangeState.DONE)
    if begun:
        raise BadInput(f"{slug}: its closing has begun ({begun[0].kind.value} on {begun[0].on.isoformat()})")
    keys = ("terminated_on",) if agreement.terminated_on is not None else ("notice_on", "notice_ends")
    days = {key: day for key in keys if (day := getattr(agreement, key)) is not None}
    if not days:
        raise BadInput(f"{slug}: neither notice nor termination is on record", _status(slug))
    if not dry_run:
        _run(installation, slug, KEEP, KEEP_STEPS, {key: day.isoformat() for key, day in days.items()})
    for key in days:
        setattr(agreement, key, None)
    return records.agreement_state(agreement)


def _ending(slug: str, agreement: Agreement, late_days: int = 0) -> Ending:
    closes = records.closing_of(agreement)
    ends = last_day(records.milestones(agreement), records.agreement_terms(agreement))
    state = records.agreement_state(agreement)
    return Ending(slug, state, ends, late_days, closes.read_only, closes.archive)


def _noting(slug: str, **words: str) -> Callable[[Session], None]:
    """Return what writes down who or why: to the record alone, since the journal and the log name nobody."""

    def record(session: Session) -> None:
        for key, value in words.items():
            setattr(_of(session, slug), key, value)

    return record


def _run(
    installation: Installation,
    slug: str,
    kind: str,
    steps: Sequence[Step[SiteWork]],
    arguments: dict[str, Any],
    progress: Progress = no_progress,
    record: Callable[[Session], None] = lambda _session: None,
) -> None:
    journal = Journal(installation.store, installation.locks, kind, steps, progress)
    with journal.subject(slug):
        operation = journal.begin(slug, arguments, record)
        journal.carry_out(operation, work_on(installation, operation))


def _settled(session: Session, slug: str) -> Agreement:
    """Return an agreement of which no operation is half-way through changing the record."""
    agreement = _of(session, slug)
    refuse_unfinished(session, slug)
    return agreement


def _of(session: Session, slug: str) -> Agreement:
    return records.agreement(session, records.site(session, slug).key)


def _refuse_future(slug: str, on: date, what: str) -> None:
    if on > clock.today():
        raise BadInput(f"{slug}: {on.isoformat()} lies in the future; {what} is recorded when it is given")


def one_line(option: str, text: str | None) -> str:
    """Return what ``option`` says about a person or a reason.

    Raises:
        BadInput: it is missing, or more than a line.

    """
    try:
        if len(text or "") > LONGEST_WORDS:
            raise ValueError(f"at most {LONGEST_WORDS} characters")
        return fields.one_line((text or "").strip())
    except ValueError as error:
        raise BadInput(f"{option}: {error}", "provision agreement end --help") from None


def _status(slug: str) -> str:
    return f"provision status {slug}"


def _copy(copy: Path | None) -> dict[str, str]:
    """Return what the journal must know of a signed copy, so that it is still the same one when it is stored."""
    if copy is None:
        return {}
    try:
        content = copy.read_bytes() if copy.stat().st_size <= LARGEST_COPY else b""
    except OSError as error:
        raise BadInput(f"{copy}: {error.strerror}") from None
    if not content.startswith(b"%PDF-"):
        raise BadInput(f"{copy}: a PDF of at most {LARGEST_COPY >> 20} MiB is expected")
    return {"copy": str(copy.resolve()), "copy_sha256": hashlib.sha256(content).hexdigest()}
