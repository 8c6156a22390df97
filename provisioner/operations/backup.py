"""`provision backup`: a verified snapshot per site, in a repository of its own; repositories checked and pruned."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlmodel import col, delete

from provisioner import clock, eventlog, records
from provisioner.adapters import restic
from provisioner.errors import BadInput, Busy, ProvisionError
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.journal.journal import Journal, Progress, no_progress
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.model.tables import Operation, Site, Snapshot
from provisioner.steps.site import SiteWork
from provisioner.steps.snapshot import abandon_snapshot, ensure_repository, record_snapshot, take_snapshot, taken_at

KIND = "backup"
CHECK_DAYS = 30  # nights in which all data of a repository are read once
LARGEST_REMOVAL = 5  # snapshots that one pruning may remove without being asked twice (D7)

STEPS: tuple[Step[SiteWork], ...] = (
    Step("repository", ensure_repository, undo=nothing_to_undo),
    Step("snapshot", take_snapshot, undo=abandon_snapshot),
    Step("record", record_snapshot, undo=nothing_to_undo),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one site."""

    slug: str
    outcome: str
    exit_code: int = 0
    hint: str = ""
    snapshot: str = ""
    new_bytes: int = 0
    total_bytes: int = 0
    files: int = 0
    seconds: float = 0.0


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    return SiteWork.of(installation, operation, int(operation.arguments["generation"]))


def backup(installation: Installation, slugs: Sequence[str], progress: Progress = no_progress) -> list[Outcome]:
    """Take a snapshot of each site, some at a time; one that fails stops no other (D16).

    Raises:
        BadInput: a slug names no site; nothing was done.

    """
    return _each(installation, slugs, lambda site: _backup_one(installation, site, progress))


def _backup_one(installation: Installation, site: Site, progress: Progress) -> Outcome:
    work = take(installation, site.slug, progress)
    taken = work.notes["taken"]
    return Outcome(
        site.slug,
        "backed up",
        snapshot=taken["snapshot"],
        new_bytes=taken["new_bytes"],
        total_bytes=taken["total_bytes"],
        files=taken["files"],
        seconds=taken["seconds"],
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
        with installation.store.transaction() as session:
            generation = records.serving_generation(session, records.site(session, slug).key)
        if generation is None:
            raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
        operation = journal.begin(slug, {"generation": generation.number})
        work = work_on(installation, operation)
        journal.carry_out(operation, work)
    return work


def check(installation: Installation, slugs: Sequence[str]) -> list[Outcome]:
    """Check each repository's structure and the part of its data that is due today: all of it within 30 days (D10).

    Raises:
        BadInput: as `backup`.

    """
    return _each(installation, slugs, lambda site: _check_one(installation, site))


def _check_one(installation: Installation, site: Site) -> Outcome:
    part = f"{clock.today().toordinal() % CHECK_DAYS + 1}/{CHECK_DAYS}"
    try:
        _ask_alone(installation, site, "check", {"part": part})
    except restic.RepositoryFault as fault:
        with installation.store.transaction() as session:
            eventlog.record(session, site.slug, "repository not sound", reason=fault.message)
        raise
    with installation.store.transaction() as session:
        eventlog.record(session, site.slug, "repository checked", part=part)
    return Outcome(site.slug, f"sound, part {part} of the data read")


def prune(installation: Installation, slugs: Sequence[str], *, allow_many: bool = False) -> list[Outcome]:
    """Remove the snapshots that the inventory's retention does not keep, and the data that nothing needs then.

    Raises:
        BadInput: as `backup`.

    """
    return _each(installation, slugs, lambda site: _prune_one(installation, site, allow_many))


def _prune_one(installation: Installation, site: Site, allow_many: bool) -> Outcome:
    keep = installation.inventory.backup.keep
    plan = _ask_alone(
        installation,
        site,
        "plan",
        {"keep": [f"--keep-{unit}={count}" for unit, count in keep.model_dump().items() if count]},
        pruning=True,
    )
    going = [str(snapshot["id"]) for snapshot in plan["remove"]]
    _refuse_wrong_clock(site.slug, plan, len(going), allow_many)
    _ask_alone(installation, site, "prune", {"snapshots": going}, pruning=True)
    with installation.store.transaction() as session:
        session.exec(delete(Snapshot).where(col(Snapshot.site_id) == site.key, col(Snapshot.snapshot).in_(going)))
        eventlog.record(session, site.slug, "snapshots pruned", removed=len(going), kept=len(plan["keep"]))
    return Outcome(site.slug, f"{len(going)} snapshots removed, {len(plan['keep'])} kept")


def _refuse_wrong_clock(slug: str, plan: dict[str, Any], count: int, allow_many: bool) -> None:
    """Refuse a removal that a clock that jumped would explain (D7)."""
    newest = max((taken_at(snapshot) for snapshot in plan["keep"]), default=None)
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
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        known = {row.snapshot: row for row in records.snapshots(session, site.key)}
    found = _ask(installation, site, "snapshots", {"tags": [f"site:{slug}"]})
    return [
        {
            "snapshot": snapshot["id"],
            "taken_at": taken_at(snapshot),
            "total_bytes": snapshot.get("summary", {}).get("total_bytes_processed", 0),
            "files": snapshot.get("summary", {}).get("total_files_processed", 0),
            "recorded": snapshot["id"] in known,
        }
        for snapshot in found
    ]


def manifest(installation: Installation, site: Site, snapshot: str) -> dict[str, Any]:
    """Return the manifest that a snapshot holds.

    Raises:
        RepositoryFault: it cannot be read.

    """
    return dict(_ask(installation, site, "manifest", {"snapshot": snapshot}))


def _ask_alone(
    installation: Installation, site: Site, verb: str, request: dict[str, Any], *, pruning: bool = False
) -> Any:
    """Ask something that no backup may run beside; a lock whose holder is dead is removed first (D5)."""
    with lock.hold(installation.locks, site.slug) as free:
        if not free:
            raise Busy(f"{site.slug}: an operation is running", f"provision status {site.slug}")
        try:
            return _ask(installation, site, verb, request, pruning=pruning)
        except restic.RepositoryFault as fault:
            if fault.restic_exit_code != restic.LOCKED:
                raise
        host = installation.host(site.host)
        strangers = restic.remove_dead_locks(
            host,
            installation.inventory,
            _repository(installation, site, pruning),
            f"{host.namespace}.backup.{site.slug}",
            host.role_labels("one-shot"),
        )
        if strangers:
            raise ProvisionError(
                f"{site.slug}: its repository is locked by {', '.join(strangers)}, who may be alive",
                "docs/needs-hand.md, a repository is locked",
            )
        return _ask(installation, site, verb, request, pruning=pruning)


def _ask(installation: Installation, site: Site, verb: str, request: dict[str, Any], *, pruning: bool = False) -> Any:
    host = installation.host(site.host)
    return restic.call(
        host,
        installation.inventory,
        verb,
        request,
        name=f"{host.namespace}.backup.{site.slug}.{verb}",
        labels=host.role_labels("one-shot"),
        repository=_repository(installation, site, pruning),
    )


def _repository(installation: Installation, site: Site, pruning: bool) -> restic.Repository:
    key = installation.keys.repository(site.slug)
    return restic.repository(installation.inventory, installation.host(site.host), site.slug, key, pruning=pruning)


def sites(installation: Installation, slugs: Sequence[str]) -> list[str]:
    """Return the sites that are meant: those named, or all.

    Raises:
        BadInput: a slug names no site.

    """
    return [site.slug for site in _sites(installation, slugs)]


def _sites(installation: Installation, slugs: Sequence[str]) -> list[Site]:
    with installation.store.transaction() as session:
        return [records.site(session, slug) for slug in slugs] if slugs else records.live_sites(session)


def _each(installation: Installation, slugs: Sequence[str], act: Callable[[Site], Outcome]) -> list[Outcome]:
    """Do something to each site, some at a time; what fails is told, and stops no other."""

    def one(site: Site) -> Outcome:
        try:
            return act(site)
        except ProvisionError as error:
            return Outcome(site.slug, error.message, error.exit_code, error.hint)

    with ThreadPoolExecutor(max_workers=installation.inventory.policy.parallel) as pool:
        return list(pool.map(one, _sites(installation, slugs)))
