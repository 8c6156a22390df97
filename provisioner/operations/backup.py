"""`provision backup`: a verified snapshot per site, in a repository of its own; repositories checked and pruned."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlmodel import Session, col, delete

from provisioner import clock, eventlog, records
from provisioner.adapters import restic
from provisioner.agent import protocol
from provisioner.errors import BadInput, Busy, ProvisionError
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.journal.journal import Journal, Progress, no_progress, stoppable
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.keys import CONTROL_PLANE
from provisioner.model.tables import Event, Operation, Site, Snapshot
from provisioner.operations import control_plane, fleet
from provisioner.steps.site import SiteWork
from provisioner.steps.snapshot import (
    TAKEN,
    abandon_snapshot,
    ensure_repository,
    record_snapshot,
    take_snapshot,
    taken_at,
)

A = TypeVar("A")
KIND = "backup"
RELAY = "relay:"  # the lock of the process whose sites share one; no slug ends like that
CHECK_DAYS = 30  # nights in which all data of a repository are read once
LARGEST_REMOVAL = 5  # snapshots that one pruning may remove without being asked twice (D7)
_CHECKED, _UNSOUND = "repository checked", "repository not sound"  # events

STEPS: tuple[Step[SiteWork], ...] = (
    Step("repository", ensure_repository, undo=nothing_to_undo),
    Step("snapshot", take_snapshot, undo=abandon_snapshot),
    Step("record", record_snapshot, undo=nothing_to_undo),
)


@dataclass(frozen=True)
class Kept:
    """Whatever has a repository of its own: a site, or the control plane."""

    name: str
    host: str
    site_id: int | None = None  # None: the control plane

    @classmethod
    def of(cls, site: Site) -> "Kept":
        """Return a site as something that is kept."""
        return cls(site.slug, site.host, site.key)


@dataclass(frozen=True)
class Outcome(fleet.Outcome):
    """What became of one site, or of the control plane."""

    snapshot: str = ""
    new_bytes: int = 0
    total_bytes: int = 0
    files: int = 0
    seconds: float = 0.0


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    return SiteWork.of(installation, operation, int(operation.arguments["generation"]))


def backup(installation: Installation, slugs: Sequence[str], progress: Progress = no_progress) -> list[Outcome]:
    """Take a snapshot of each site, some at a time, then of the control plane; one that fails stops no other (D16).

    Raises:
        BadInput: a slug names no site; nothing was done.

    """
    with share_relay(installation) if len(subjects(installation, slugs)) > 1 else nullcontext():
        return _each(installation, slugs, lambda kept: _backup_one(installation, kept, progress))


@contextmanager
def share_relay(installation: Installation) -> Iterator[None]:
    """Have the sites of a block share what reaches their repositories; a second process meanwhile does without."""
    with lock.hold(installation.locks, RELAY) as free, installation.relays.shared() if free else nullcontext():
        yield


def plan(installation: Installation, slugs: Sequence[str], *, serving: bool) -> list[Outcome]:
    """Return for each site, and the control plane, whether work on it would begin; nothing is changed.

    A backup needs a generation that is ``serving``, checks and prunings do not.

    Raises:
        BadInput: as `backup`.

    """

    def look(kept: Kept) -> Outcome:
        if serving and kept.site_id is not None:
            _serving(installation, kept.name)
        return Outcome(kept.name, "would be begun")

    return _each(installation, slugs, look)


def _serving(installation: Installation, slug: str) -> int:
    """Return the number of the generation that serves.

    Raises:
        BadInput: there is no such site, or none of its generations serves.

    """
    with installation.store.transaction() as session:
        generation = records.serving_generation(session, records.site(session, slug).key)
    if generation is None:
        raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
    return generation.number


def _backup_one(installation: Installation, kept: Kept, progress: Progress) -> Outcome:
    if kept.site_id is None:
        taken = control_plane.take(installation)
    else:
        taken = take(installation, kept.name, progress).notes["taken"]
    return Outcome(
        kept.name,
        "backed up",
        snapshot=taken["snapshot"],
        new_bytes=taken["new_bytes"],
        total_bytes=taken["total_bytes"],
        files=taken["files"],
        seconds=taken.get("seconds", 0.0),
    )


def take(installation: Installation, slug: str, progress: Progress = no_progress) -> SiteWork:
    """Take one snapshot of ``slug``; return the finished work.

    Raises:
        BadInput: the site has no generation that serves.
        Busy: somebody works on it.
        ProvisionError: it failed; no snapshot counts.

    """
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
    with journal.subject(slug):
        operation = journal.begin(slug, {"generation": _serving(installation, slug)})
        work = work_on(installation, operation)
        journal.carry_out(operation, work)
    return work


def check(installation: Installation, slugs: Sequence[str]) -> list[Outcome]:
    """Check each repository's structure and the part of its data that is due today: all of it within 30 days (D10).

    Raises:
        BadInput: as `backup`.

    """
    return _each(installation, slugs, lambda kept: _check_one(installation, kept))


def _check_one(installation: Installation, kept: Kept) -> Outcome:
    with installation.store.transaction() as session:
        bad = unsound(session, kept.name)
    # What was found bad is read again first: it stays so until it is seen to be mended.
    part = str(bad.data["part"]) if bad else f"{clock.today().toordinal() % CHECK_DAYS + 1}/{CHECK_DAYS}"
    try:
        _ask_alone(installation, kept, protocol.Check(part))
    except restic.RepositoryFault as fault:
        with installation.store.transaction() as session:
            eventlog.record(session, kept.name, _UNSOUND, part=part, reason=fault.message)
        raise
    with installation.store.transaction() as session:
        eventlog.record(session, kept.name, _CHECKED, part=part)
    return Outcome(kept.name, f"sound, part {part} of the data read")


def unsound(session: Session, name: str) -> Event | None:
    """Return the check of a repository that failed and was not repeated with success since."""
    bad = eventlog.newest(session, name, _UNSOUND)
    if bad is None:
        return None
    later = [event for event in eventlog.all_of(session, name, _CHECKED) if (event.id or 0) > (bad.id or 0)]
    return None if any(event.data["part"] == bad.data["part"] for event in later) else bad


def prune(installation: Installation, slugs: Sequence[str], *, allow_many: bool = False) -> list[Outcome]:
    """Remove the snapshots that the inventory's retention does not keep, and the data that nothing needs then.

    Raises:
        BadInput: as `backup`.

    """
    return _each(installation, slugs, lambda kept: _prune_one(installation, kept, allow_many))


def _prune_one(installation: Installation, kept: Kept, allow_many: bool) -> Outcome:
    plan = _planned(installation, kept)
    void = _void(installation, kept, [*plan.keep, *plan.remove])
    if void:  # they go first: one that does not count must not be kept as the newest of its day
        _ask_alone(installation, kept, protocol.Forget(sorted(void)), pruning=True)
        plan = _planned(installation, kept)
    going = [snapshot.id for snapshot in plan.remove]
    _refuse_wrong_clock(kept.name, plan, len(going), allow_many)
    _ask_alone(installation, kept, protocol.Prune(going), pruning=True)
    with installation.store.transaction() as session:
        session.exec(delete(Snapshot).where(col(Snapshot.site_id) == kept.site_id, col(Snapshot.snapshot).in_(going)))
        eventlog.record(session, kept.name, "snapshots pruned", removed=len(going), kept=len(plan.keep))
    return Outcome(kept.name, f"{len(going)} snapshots removed, {len(plan.keep)} kept")


def _planned(installation: Installation, kept: Kept) -> protocol.Plan:
    """Return which snapshots the inventory's retention would keep and which it would remove."""
    keep = installation.inventory.backup.keep.model_dump()
    rules = [f"--keep-{unit}={count}" for unit, count in keep.items() if count]
    return _ask_alone(installation, kept, protocol.PlanPruning(rules), pruning=True)


def _void(installation: Installation, kept: Kept, found: Sequence[protocol.SnapshotEntry]) -> set[str]:
    """Return the snapshots among ``found`` that backups of ours, over since, did not count: unsound, or taken again.

    Where the target takes additions only, they stay until it is pruned. A snapshot that the records do not know
    because they are older than the repository is none of them.
    """
    with installation.store.transaction() as session:
        known = _known(session, kept)
        unknown = [one for one in found if one.id not in known]
        if not unknown:
            return set()  # as on every ordinary night: years of operations need not be read
        over = {f"operation:{one.key}": one.started_at for one in records.past_operations(session, KIND, kept.name)}
    return {
        one.id
        for one in unknown
        if any(tag in over and taken_at(one) >= over[tag].replace(microsecond=0) for tag in one.tags)
    }


def _known(session: Session, kept: Kept) -> set[str]:
    if kept.site_id is None:
        return {str(event.data["snapshot"]) for event in eventlog.all_of(session, kept.name, TAKEN)}
    return {row.snapshot for row in records.snapshots(session, kept.site_id)}


def _refuse_wrong_clock(slug: str, plan: protocol.Plan, count: int, allow_many: bool) -> None:
    """Refuse a removal that a clock that jumped would explain (D7)."""
    newest = max((taken_at(snapshot) for snapshot in plan.keep), default=None)
    if count and newest is None:
        raise ProvisionError(f"{slug}: pruning would leave no snapshot; nothing was removed")
    if newest is not None and newest > clock.now() + timedelta(hours=1):
        raise ProvisionError(
            f"{slug}: its newest snapshot is of the future, {newest:%Y-%m-%d %H:%M} UTC; nothing was removed",
            "check this machine's clock",
        )
    if count > LARGEST_REMOVAL and not allow_many:
        raise ProvisionError(
            f"{slug}: pruning would remove {count} snapshots, more than {LARGEST_REMOVAL} at once; nothing was removed",
            f"check this machine's clock, then: provision backup {slug} --prune --yes",
        )


def listing(installation: Installation, slug: str) -> list[dict[str, Any]]:
    """Return the snapshots that the repository of ``slug`` holds, oldest first; the repository is the truth.

    Raises:
        BadInput: no such site.
        RepositoryFault: its repository cannot be read.

    """
    kept = _kept(installation, [slug])[0]
    with installation.store.transaction() as session:
        known = _known(session, kept)
    found = _worker(installation, kept).call(protocol.ListSnapshots([f"site:{slug}"])).found
    void = _void(installation, kept, found)
    return [
        {
            "snapshot": snapshot.id,
            "taken_at": taken_at(snapshot),
            "total_bytes": snapshot.total_bytes,
            "files": snapshot.files,
            "recorded": snapshot.id in known,
            "void": snapshot.id in void,
        }
        for snapshot in found
    ]


def manifest(installation: Installation, site: Site, snapshot: str) -> protocol.Manifest:
    """Return the manifest that a snapshot holds.

    Raises:
        RepositoryFault: it cannot be read.

    """
    return _worker(installation, Kept.of(site)).call(protocol.ReadManifest(snapshot)).manifest


def _ask_alone(installation: Installation, kept: Kept, request: protocol.Request[A], *, pruning: bool = False) -> A:
    """Ask something that no backup may run beside; a lock whose holder is dead is removed first (D5)."""
    with lock.hold(installation.locks, kept.name) as free:
        if not free:
            raise Busy(f"{kept.name}: an operation is running", f"provision status {kept.name}")
        return _worker(installation, kept, held=True, pruning=pruning).call_held(request)


def _worker(installation: Installation, kept: Kept, *, held: bool = False, pruning: bool = False) -> restic.Worker:
    host, key = installation.host(kept.host), installation.keys.repository(kept.name)
    place = restic.repository(installation.inventory, host, kept.name, key, pruning=pruning)
    prefix = f"{host.namespace}.backup.{kept.name}"
    labels = host.held_labels(kept.name) if held else host.role_labels("one-shot")
    with installation.store.transaction() as session:
        taken = records.snapshots(session, kept.site_id) if kept.site_id is not None else []
    return restic.Worker(
        host, installation.inventory, prefix, labels, place, size=sum(snapshot.new_bytes for snapshot in taken)
    )


def subjects(installation: Installation, slugs: Sequence[str]) -> list[str]:
    """Return what is meant: what is named, or all sites and the control plane.

    Raises:
        BadInput: a slug names no site.

    """
    return [kept.name for kept in _kept(installation, slugs)]


def _kept(installation: Installation, slugs: Sequence[str]) -> list[Kept]:
    plane = Kept(CONTROL_PLANE, control_plane.home(installation).name)
    with installation.store.transaction() as session:
        if not slugs:
            return [*map(Kept.of, records.live_sites(session)), plane]
        return [plane if slug == CONTROL_PLANE else Kept.of(records.site(session, slug)) for slug in slugs]


def _each(installation: Installation, slugs: Sequence[str], act: Callable[[Kept], Outcome]) -> list[Outcome]:
    """Do something to each site, some at a time, then to the control plane: its records tell of the sites' then."""

    def failed(kept: Kept, error: ProvisionError) -> Outcome:
        return Outcome.failed(kept.name, error)

    wanted = _kept(installation, slugs)
    sites = [kept for kept in wanted if kept.site_id is not None]
    with stoppable("fleet"):
        done = fleet.each(sites, act, failed, installation.inventory.policy.parallel)
        return [*done, *fleet.each([kept for kept in wanted if kept.site_id is None], act, failed)]
