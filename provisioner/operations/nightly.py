"""The nightly run, and what else comes again by itself: one table of jobs, one row per run, one summary.

A site, or a whole job, that fails stops no other (D16).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import col, delete, select

from provisioner import clock, records, runs
from provisioner.agreement.terms import ChangeKind
from provisioner.errors import Busy, Interrupted, NeedsHand, ProvisionError
from provisioner.installation import Installation
from provisioner.journal import failpoint, lock
from provisioner.journal.journal import Progress, holder, no_progress, stop_requested, stoppable
from provisioner.keys import CONTROL_PLANE
from provisioner.mail import agreements, outbox
from provisioner.mail.messages import compose
from provisioner.model.tables import UNSENT, Mail, Run, Site
from provisioner.operations import (
    agreement,
    alerts,
    backup,
    doctor,
    drill,
    expire,
    fleet,
    logs,
    register,
    remind,
    status,
    upgrade,
)
from provisioner.probes import host as host_probes
from provisioner.steps.routing import refresh_edge

NIGHT = "nightly"
WELL, FAILED, STOPPED = "well", "failed", "stopped"
DAYS_KEPT = 400  # of nightly runs; of those that come every few minutes, two


@dataclass(frozen=True)
class Result:
    """What became of one subject in one job; ``figure`` in bytes, where the job measures some."""

    subject: str
    outcome: str
    exit_code: int = 0
    hint: str = ""
    figure: int = 0


@dataclass(frozen=True)
class Job:
    """Something that is done again and again: ``due`` says to which subjects now, ``do`` does it."""

    name: str
    does: str
    due: Callable[[Installation], Sequence[str]]
    do: Callable[[Installation, Sequence[str], Progress], Sequence[Result]]
    at_night: bool = True
    minutes: int = 0  # between two runs by day as well
    weekday: int | None = None  # 0 is Monday: once a week, at the night's hour


@dataclass
class Summary:
    """All that one run did."""

    kind: str
    started_at: datetime
    outcome: str = ""
    jobs: dict[str, list[Result]] = field(default_factory=dict)

    @property
    def failures(self) -> list[tuple[str, Result]]:
        """Return what a person must look at, with the job's name; what a stop cut short or left is none of it."""
        well = (0, Interrupted.exit_code)
        return [(name, one) for name, results in self.jobs.items() for one in results if one.exit_code not in well]

    @property
    def left(self) -> dict[str, list[str]]:
        """Return, by job, the subjects that a stop left: a job that was not begun is named instead of its own."""
        left = {
            name: [one.subject for one in results if one.outcome == fleet.NOT_BEGUN]
            for name, results in self.jobs.items()
        }
        return {name: subjects for name, subjects in left.items() if subjects}

    @property
    def stored(self) -> dict[str, Any]:
        """Return it as the table of runs keeps it."""
        measured = [one for one in self.jobs.get("space", []) if not one.exit_code]
        free = {one.subject.removeprefix("host:"): one.figure for one in measured}
        jobs = {name: [asdict(one) for one in results] for name, results in self.jobs.items()}
        return {"jobs": jobs, "free": free}


def _each(subjects: Sequence[str], act: Callable[[str], Sequence[fleet.Outcome]]) -> list[Result]:
    """Do something to each subject, one after the other."""

    def failed(subject: str, error: ProvisionError) -> Sequence[fleet.Outcome]:
        return [fleet.Outcome.failed(subject, error)]

    return [one for done in fleet.each(subjects, act, failed) for one in _results(done)]


def _results(outcomes: Iterable[fleet.Outcome]) -> list[Result]:
    return [Result(one.slug, one.outcome, one.exit_code, one.hint) for one in outcomes]


def _sites(installation: Installation) -> list[str]:
    with installation.store.transaction() as session:
        return [site.slug for site in records.live_sites(session)]


def _repositories(installation: Installation) -> list[str]:
    return backup.subjects(installation, [])


def _hosts(installation: Installation) -> list[str]:
    return [f"host:{settings.name}" for settings in installation.inventory.hosts]


def _always(subject: str) -> Callable[[Installation], list[str]]:
    return lambda _installation: [subject]


def _unsaved(installation: Installation) -> list[str]:
    """Return what was not backed up since the night began: begun again, a night takes only what is left."""
    since = clock.slot(clock.now(), installation.inventory.policy.nightly.hour)
    with installation.store.transaction() as session:
        left = []
        for site in records.live_sites(session):
            last = records.last_snapshot(session, site.key)
            if last is None or last.taken_at < since:
                left.append(site.slug)
    return [*left, CONTROL_PLANE]  # it remembers the snapshots of this night, whoever took them


def _back_up(installation: Installation, subjects: Sequence[str], progress: Progress) -> list[Result]:
    return _results(backup.backup(installation, subjects, progress))


def _check(installation: Installation, subjects: Sequence[str], _progress: Progress) -> list[Result]:
    return _each(subjects, lambda slug: backup.check(installation, [slug]))


def _prune(installation: Installation, subjects: Sequence[str], _progress: Progress) -> list[Result]:
    return _each(subjects, lambda slug: backup.prune(installation, [slug]))


def _drill(installation: Installation, subjects: Sequence[str], progress: Progress) -> list[Result]:
    return _results(drill.drill(installation, subjects, progress))


def _past_their_days(installation: Installation) -> list[str]:
    return [f"{slug} generation {number}" for slug, number in expire.due(installation)]


def _expire(installation: Installation, subjects: Sequence[str], progress: Progress) -> list[Result]:
    failed = [one for one in expire.expire(installation, progress) if one.exit_code]
    return [*_results(failed), Result("generations", f"{len(subjects) - len(failed)} removed")]


def _upgradable(installation: Installation) -> list[str]:
    return [] if installation.inventory.policy.nightly.upgrade == "off" else _sites(installation)


def _upgrade(installation: Installation, subjects: Sequence[str], progress: Progress) -> list[Result]:
    only = "extensions" if installation.inventory.policy.nightly.upgrade == "extensions" else None
    plans, refused = upgrade.plans(installation, subjects, only=only)
    first = upgrade.canaries(plans, [], wanted=True)
    return _results([*refused, *upgrade.upgrade(installation, plans, first, 1, progress)])


def _to_remind(installation: Installation) -> list[str]:
    with installation.store.transaction() as session:
        fleet = agreements.in_force(session)
        due = agreements.due_today(session, installation.inventory, fleet)
        return sorted({session.get_one(Site, one.agreement.site_id).slug for one in due})


def _remind(installation: Installation, _subjects: Sequence[str], _progress: Progress) -> list[Result]:
    return [Result(slug, f"reminder {kind} queued") for slug, kind in remind.remind(installation).queued]


def _changing(installation: Installation) -> list[str]:
    return [slug for slug, _, _ in register.changes_due(installation)]


def _change(installation: Installation, _subjects: Sequence[str], progress: Progress) -> list[Result]:
    """Make sites read-only where the inventory allows it, and the clock is believed; propose the rest."""
    due = {slug: (day, kind) for slug, day, kind in register.changes_due(installation)}
    with installation.store.transaction() as session:
        doubt = runs.doubt(session)
    by_itself = installation.inventory.policy.nightly.changes == "read_only" and doubt is None

    def change(slug: str) -> fleet.Outcome:
        day, kind = due[slug]
        if kind is ChangeKind.READ_ONLY and by_itself:
            until = agreement.close(installation, slug, progress).export_until
            return fleet.Outcome(slug, f"read-only, as planned for {day}; exports are offered until {until}")
        hint = (
            f"provision agreement close {slug}" if kind is ChangeKind.READ_ONLY else "docs/operator.md, planned changes"
        )
        what = f"planned since {day}: {kind.value.replace('_', ' ')}" + (f"; {doubt.words}" if doubt else "")
        return fleet.Outcome(slug, what, NeedsHand.exit_code, hint)

    return _each(list(due), lambda slug: [change(slug)])


def _renew(installation: Installation, subjects: Sequence[str], _progress: Progress) -> list[Result]:
    def renew(subject: str) -> list[fleet.Outcome]:
        changed = refresh_edge(installation, installation.host(subject.removeprefix("host:")))
        return [fleet.Outcome(subject, "installed anew" if changed else "as the records want it")]

    return _each(subjects, renew)


def _tidy_logs(installation: Installation, subjects: Sequence[str], _progress: Progress) -> list[Result]:
    return _each(subjects, lambda subject: [logs.tidy(installation, subject.removeprefix("host:"))])


def _measure(installation: Installation, subjects: Sequence[str], _progress: Progress) -> list[Result]:
    def measure(subject: str) -> Result:
        free = host_probes.free_disk(installation.host(subject.removeprefix("host:")))
        return Result(subject, f"{free // host_probes.MIB} MiB free", figure=free)

    return fleet.each(subjects, measure, lambda subject, error: _results([fleet.Outcome.failed(subject, error)])[0])


def _examine(installation: Installation, _subjects: Sequence[str], _progress: Progress) -> list[Result]:
    return [
        Result(finding.subject, finding.problem, NeedsHand.exit_code, finding.mend)
        for finding in doctor.examine(installation)
    ]


def _deliver(installation: Installation, _subjects: Sequence[str], _progress: Progress) -> list[Result]:
    delivery = outbox.deliver_due(installation)
    said = f"{delivery.sent} sent, {delivery.waiting} wait, {delivery.dead} refused for good"
    if delivery.reason:
        return [Result("outbox", f"{said}: {delivery.reason}", NeedsHand.exit_code, "provision mail list")]
    return [Result("outbox", said)]


def _watch(installation: Installation, _subjects: Sequence[str], _progress: Progress) -> list[Result]:
    known = [item for item in status.overview(installation).attention if item.alarm != alerts.SILENT]
    changed = alerts.keep_incidents(installation, [*known, *alerts.silent(installation)])
    return [Result(row.subject, f"{'over' if row.ended_at else 'incident'}: {row.what}") for row in changed]


def _tidy(installation: Installation, _subjects: Sequence[str], _progress: Progress) -> list[Result]:
    old, recent = clock.now() - timedelta(days=DAYS_KEPT), clock.now() - timedelta(days=2)
    with installation.store.transaction() as session:
        if runs.doubt(session):
            return []  # a wrong clock would make every run an old one
        session.exec(delete(Run).where(col(Run.started_at) < old))
        frequent = [job.name for job in JOBS if job.minutes]
        session.exec(delete(Run).where(col(Run.kind).in_(frequent), col(Run.started_at) < recent))
    return []


def _digest(installation: Installation, _subjects: Sequence[str], _progress: Progress) -> list[Result]:
    overview = status.overview(installation)
    week = clock.now() - timedelta(days=7)
    with installation.store.transaction() as session:
        nights = session.exec(select(Run).where(Run.kind == NIGHT, Run.started_at > week)).all()
        message = compose(
            "digest",
            namespace=installation.namespace,
            today=clock.today(),
            sites=len(overview.sites),
            nights=len(nights),
            failed=sum(night.outcome != WELL for night in nights),
            waiting=len(session.exec(select(Mail.id).where(col(Mail.state).in_(UNSENT))).all()),
            attention=overview.attention,
        )
        outbox.post_to_operators(session, installation, f"digest {clock.today()}", message)
    return []


# Every job there is, the night's in the order in which the night does them. A new one is a line here.
JOBS: tuple[Job, ...] = (
    Job("backup", "a verified snapshot of every site, then of the control plane", _unsaved, _back_up),
    Job("check", "the repositories' structure, and a thirtieth of their data", _repositories, _check),
    Job("drill", "restores for proof that are due", drill.due, _drill),
    Job("upgrade", "what policy.nightly.upgrade allows", _upgradable, _upgrade),
    Job("expire", "kept generations whose days are over are removed", _past_their_days, _expire),
    Job("prune", "snapshots that the retention does not keep are removed", _repositories, _prune),
    Job("edge", "certificates near their end are renewed", _hosts, _renew),
    Job("changes", "planned changes whose day has come, as policy.nightly.changes allows", _changing, _change),
    Job("remind", "what agreements call for today is queued", _to_remind, _remind),
    Job("logs", "logs of past days are compressed, those past their time dropped", _hosts, _tidy_logs),
    Job("space", "free space is recorded", _hosts, _measure),
    Job("doctor", "hosts and records are compared", _hosts, _examine),
    Job("tidy", "old records of runs are removed", _always("runs"), _tidy),
    Job("watch", "sites are asked over HTTPS, incidents begin and end", _always("incidents"), _watch, minutes=5),
    Job("mail", "mails that are due leave", _always("outbox"), _deliver, minutes=5),
    Job("digest", "the operators' weekly digest", _always("operators"), _digest, at_night=False, weekday=0),
)


def due(installation: Installation) -> dict[str, list[str]]:
    """Return, by job of the night, the subjects that are due now."""
    return {job.name: list(job.due(installation)) for job in JOBS if job.at_night}


def run(installation: Installation, kind: str = NIGHT, progress: Progress = no_progress) -> Summary:
    """Do all that is due at night, or one job of another rhythm; a failed night is told by mail as well.

    Raises:
        Busy: another process is at it; says who and since when.
        Unavailable: the state cannot be written.

    """
    jobs = [job for job in JOBS if (job.at_night if kind == NIGHT else job.name == kind)]
    with lock.hold(installation.locks, kind) as free:
        if not free:
            raise Busy(f"{kind}: {at_it(installation, kind)}", "wait for it")
        with stoppable(kind):
            row_id = begin(installation, kind)
            summary = Summary(kind, clock.now())
            for place, job in enumerate(jobs):
                if stop_requested.is_set():
                    summary.jobs[job.name] = [Result(job.name, fleet.NOT_BEGUN, Interrupted.exit_code)]
                    continue
                progress(kind, job.name, place, len(jobs))
                failpoint.reach(NIGHT, job.name, "before")
                summary.jobs[job.name] = _do(installation, job, progress)
                failpoint.reach(NIGHT, job.name, "after")
            progress(kind, "done", len(jobs), len(jobs))
            summary.outcome = STOPPED if stop_requested.is_set() else FAILED if summary.failures else WELL
            _end(installation, row_id, summary)
        if kind == NIGHT and summary.outcome == FAILED:
            outbox.deliver_due(installation)
    return summary


def _do(installation: Installation, job: Job, progress: Progress) -> list[Result]:
    try:
        subjects = job.due(installation)
        return list(job.do(installation, subjects, progress)) if subjects else []
    except ProvisionError as error:
        return [Result(job.name, error.message, error.exit_code, error.hint)]
    except Exception as error:  # a fault of one job, ours included, must not cost the night's others
        return [Result(job.name, f"{type(error).__name__}: {error}", ProvisionError.exit_code)]


def begin(installation: Installation, kind: str) -> int:
    """Record that a run begins; return its number."""
    with installation.store.transaction() as session:
        row = Run(kind=kind, holder=holder(), started_at=clock.now(), believed=runs.doubt(session) is None)
        session.add(row)
        session.flush()
        return row.id or 0


def _end(installation: Installation, row_id: int, summary: Summary) -> None:
    with installation.store.transaction() as session:
        row = session.get_one(Run, row_id)
        row.ended_at, row.outcome, row.summary = clock.now(), summary.outcome, summary.stored
        if summary.kind == NIGHT and summary.outcome == FAILED:
            message = compose(
                "nightly",
                namespace=installation.namespace,
                started=row.started_at,
                local=alerts.local,
                failures=[(one.subject, name, one.outcome, one.hint) for name, one in summary.failures],
                parts=[(n, sum(not r.exit_code for r in results), len(results)) for n, results in summary.jobs.items()],
            )
            outbox.post_to_operators(session, installation, f"nightly {row_id}", message)


def at_it(installation: Installation, kind: str) -> str:
    """Return who runs ``kind`` and since when, by the newest row that has not ended."""
    with installation.store.transaction() as session:
        query = select(Run).where(Run.kind == kind, col(Run.ended_at).is_(None))
        row = session.exec(query.order_by(col(Run.id).desc())).first()
    if row is None:
        return "another process is about to begin"
    return f"{row.holder} is at it since {alerts.local(row.started_at)}"
