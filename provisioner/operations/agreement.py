"""`provision agreement sign`, `end` and `close`: signature, notice, termination, read-only; and taking an end back."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlmodel import Session

from provisioner import clock, fields, named_files, records
from provisioner.agreement import acts
from provisioner.agreement.acts import Giver, Late, Standing
from provisioner.agreement.terms import ONE_DAY, AgreementState, Closing, last_day
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress, refuse_unfinished
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.mail import agreements as mails
from provisioner.mail import outbox
from provisioner.model.tables import Agreement, Operation, SiteState
from provisioner.steps.agreement import (
    LARGEST_COPY,
    discard_copy,
    end_again,
    keep,
    record_end,
    record_signature,
    record_successor,
    store_copy,
    withdraw_end,
    withdraw_signature,
    withdraw_successor,
)
from provisioner.steps.closing import (
    REOPENS,
    close_again,
    close_writes,
    open_again,
    open_writes,
    record_closing,
    tell_contacts,
    withdraw_closing,
    withdraw_mails,
)
from provisioner.steps.content import conceal, probe_site, publish
from provisioner.steps.site import SiteWork

SIGN, SIGN_AGAIN, END, KEEP, CLOSE = "sign", "sign-again", "end", "keep", "close"

SIGN_STEPS: tuple[Step[SiteWork], ...] = (
    Step("copy", store_copy, undo=discard_copy),
    Step("publish", publish, undo=conceal),
    Step("record", record_signature, undo=withdraw_signature),
)
END_STEPS: tuple[Step[SiteWork], ...] = (Step("record", record_end, undo=withdraw_end),)
KEEP_STEPS: tuple[Step[SiteWork], ...] = (Step("record", keep, undo=end_again),)
# Whether search engines are welcome was the association's own business since its first agreement.
SIGN_AGAIN_STEPS: tuple[Step[SiteWork], ...] = (
    Step("copy", store_copy, undo=discard_copy),
    Step("open", open_again, undo=close_again),
    Step("record", record_successor, undo=withdraw_successor),
)
CLOSE_STEPS: tuple[Step[SiteWork], ...] = (
    Step("record", record_closing, undo=withdraw_closing),
    Step("lock", close_writes, undo=open_writes),
    Step("verify", probe_site, undo=nothing_to_undo),
    Step("tell", tell_contacts, undo=withdraw_mails),
)

LONGEST_WORDS = 250


@dataclass(frozen=True)
class Ending:
    """How an agreement ends, and what is planned for its site then."""

    slug: str
    state: AgreementState
    ends: date  # its last day
    late_days: int
    read_only: date
    archive: date


@dataclass(frozen=True)
class Kept:
    """What an agreement is once its end was taken back, and what is planned for its site all the same."""

    slug: str
    state: AgreementState
    site: SiteState
    planned: Closing | None


@dataclass(frozen=True)
class Closed:
    """A site that is read-only, and the last day on which it is read and exports are offered."""

    slug: str
    read_only: date
    export_until: date


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    work = SiteWork.of(installation, operation, int(operation.arguments.get("generation", 0)))
    work.notes.update(operation.arguments)
    return work


def sign(installation: Installation, slug: str, arguments: dict[str, Any], progress: Progress = no_progress) -> None:
    """Record what `check_signature` found in order: the site goes online, or is opened again by a new agreement.

    The signed copy is kept beside the document, its SHA-256 in the log.
    """
    kind, steps = (SIGN_AGAIN, SIGN_AGAIN_STEPS) if "start" in arguments else (SIGN, SIGN_STEPS)
    _run(installation, slug, kind, steps, arguments, progress)


def check_signature(
    installation: Installation,
    slug: str,
    on: date,
    copy: Path | None,
    start: date | None = None,
    *,
    retroactive: bool = False,
) -> dict[str, Any]:
    """Return what the operation has to know: the day, the generation to publish, the PDF to keep.

    Where the agreement of record ends, or is over, a new one is signed: it begins on ``start``, by default on the day
    after the last of the one before, or on that of the signature if that is later.

    Raises:
        BadInput: no such site, no site to publish, a copy that is no PDF; or as `acts.check_first_signature`,
            `acts.following_start` and `acts.check_not_over`.

    """
    with installation.store.transaction() as session:
        agreement, site = _settled(session, slug), records.site(session, slug)
        generation = records.serving_generation(session, site.key)
    if generation is None:
        raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
    meets = _standing(slug, agreement)
    arguments = {"signed_on": on.isoformat(), "generation": generation.number, **_copy(copy)}
    if agreement.signed_on is None:
        acts.check_first_signature(meets, on, start)
        return arguments
    begins = acts.following_start(meets, on, start, retroactive=retroactive)
    following = records.agreement_terms(records.new_agreement(installation.inventory, site.key, begins))
    acts.check_not_over(meets, begins, following[-1].end)
    return {**arguments, "start": begins.isoformat(), REOPENS: site.state is SiteState.CLOSING}


def give_notice(
    installation: Installation,
    slug: str,
    on: date,
    person: str,
    giver: Giver = Giver.ASSOCIATION,
    *,
    decided: Late | None = None,
    confirmed: bool = False,
    dry_run: bool = False,
) -> Ending:
    """Record that ``person`` gave notice for ``giver``, received ``on`` that day; plan the closing, tell all contacts.

    Raises:
        BadInput: as `acts.give_notice`; or the term is over already, and nobody has ``confirmed`` that it is meant.

    """
    with installation.store.transaction() as session:
        agreement = _settled(session, slug)
    accepted = acts.give_notice(_standing(slug, agreement), on, decided)
    # Of the copy at hand; the step changes the record.
    agreement.notice_on, agreement.notice_ends, agreement.notice_giver = on, accepted.ends, giver
    ending = _ending(slug, agreement, accepted.late_days)
    if dry_run:
        return ending
    if accepted.is_over and not confirmed:
        raise BadInput(
            f"{slug}: by this notice its agreement was over on {accepted.ends}: every contact would be told now, and "
            f"its site would be read-only on {ending.read_only}; after that day it cannot be taken back",
            "the same command with --yes, if that is meant",
        )
    arguments = {
        "notice_on": on.isoformat(),
        "notice_ends": accepted.ends.isoformat(),
        "notice_giver": giver.value,
        "late_days": accepted.late_days,
    }
    _run(installation, slug, END, END_STEPS, arguments, record=_noting(slug, notice_from=person))
    outbox.deliver_due(installation)
    return ending


def terminate(installation: Installation, slug: str, on: date, reason: str, *, dry_run: bool = False) -> Ending:
    """Record that the agreement is terminated; ``on`` is the first day without it. Plan the closing, tell all contacts.

    Raises:
        BadInput: as `acts.check_termination`.

    """
    with installation.store.transaction() as session:
        agreement = _settled(session, slug)
    acts.check_termination(_standing(slug, agreement), on)
    agreement.terminated_on = on
    if not dry_run:
        arguments = {"terminated_on": on.isoformat()}
        _run(installation, slug, END, END_STEPS, arguments, record=_noting(slug, termination_reason=reason))
        outbox.deliver_due(installation)
    return _ending(slug, agreement)


def take_back(installation: Installation, slug: str, *, dry_run: bool = False) -> Kept:
    """Take back the termination of an agreement that is in force, or else the notice; the contacts are told.

    Raises:
        BadInput: as `acts.to_take_back`.

    """
    with installation.store.transaction() as session:
        agreement, site = _settled(session, slug), records.site(session, slug)
    keys = acts.to_take_back(_standing(slug, agreement))
    arguments: dict[str, Any] = {key: getattr(agreement, key).isoformat() for key in keys}
    for key in keys:
        setattr(agreement, key, None)  # of the copy at hand; the step changes the record
    if not dry_run:
        _run(installation, slug, KEEP, KEEP_STEPS, arguments)
        outbox.deliver_due(installation)
    return Kept(slug, records.agreement_state(agreement), site.state, records.closing_of(agreement))


def check_closing(installation: Installation, slug: str) -> Closed:
    """Return since when ``slug`` would be read-only, today, and until when exports would be offered.

    Raises:
        BadInput: no such site, not online, or nothing plans its closing for today or earlier.

    """
    return _closable(installation, slug)[0]


def close(installation: Installation, slug: str, progress: Progress = no_progress) -> Closed:
    """Make the site read-only, as was planned: visitors read on, administrators log in and export, all get a mail.

    Raises:
        BadInput: as `check_closing`.
        ProvisionError: it failed and was undone: the site is online.

    """
    closed, generation = _closable(installation, slug)
    arguments = {"closed_on": closed.read_only.isoformat(), "generation": generation}
    _run(installation, slug, CLOSE, CLOSE_STEPS, arguments, progress)
    outbox.deliver_due(installation)
    return closed


def _closable(installation: Installation, slug: str) -> tuple[Closed, int]:
    with installation.store.transaction() as session:
        agreement, site = _settled(session, slug), records.site(session, slug)
        generation = records.serving_generation(session, site.key)
        waiting = mails.has_unsent_confirmation(session, site)
    if site.state is not SiteState.ONLINE:
        raise BadInput(f"{slug}: it is {site.state.value}: only a site that is online is closed", _status(slug))
    planned, today = records.closing_of(agreement), clock.today()
    if planned is None:
        state = records.agreement_state(agreement).value
        raise BadInput(f"{slug}: its agreement is {state}, no closing is planned", "provision agreement end --help")
    if planned.read_only > today:
        raise BadInput(f"{slug}: its closing is planned for {planned.read_only.isoformat()}, not before", _status(slug))
    if generation is None:
        raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
    if waiting:
        raise BadInput(
            f"{slug}: the mail that says how its agreement ends has not left yet: no site closes before its contacts "
            "were told",
            "provision mail list",
        )
    last = today + timedelta(days=agreement.closing_days) - ONE_DAY
    return Closed(slug, today, last), generation.number


def _standing(slug: str, agreement: Agreement) -> Standing:
    return Standing(slug, clock.today(), records.milestones(agreement), records.agreement_terms(agreement))


def _ending(slug: str, agreement: Agreement, late_days: int = 0) -> Ending:
    agreement.recorded_on = clock.today()
    closes = records.closing_of(agreement)
    assert closes is not None  # noqa: S101  (it has just been ended)
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
        operation = journal.begin(slug, {**arguments, "recorded_on": clock.today().isoformat()}, record)
        journal.carry_out(operation, work_on(installation, operation))


def _settled(session: Session, slug: str) -> Agreement:
    """Return an agreement of which no operation is half-way through changing the record."""
    agreement = _of(session, slug)
    refuse_unfinished(session, slug)
    return agreement


def _of(session: Session, slug: str) -> Agreement:
    return records.agreement(session, records.site(session, slug).key)


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
    expected = f"a PDF of at most {LARGEST_COPY >> 20} MiB is expected"
    content = named_files.content(copy, LARGEST_COPY, expected)
    if not content.startswith(b"%PDF-"):
        raise BadInput(f"{copy}: {expected}")
    return {"copy": str(copy.resolve()), "copy_sha256": hashlib.sha256(content).hexdigest()}
