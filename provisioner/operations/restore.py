"""`provision restore`: a snapshot becomes a new generation, is compared with what it says, and takes its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provisioner import records
from provisioner.agent.protocol import Manifest
from provisioner.errors import BadInput, ProvisionError
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.model.tables import Operation, Site
from provisioner.operations import backup
from provisioner.probes import host as host_probes
from provisioner.probes.manifest import revived
from provisioner.steps.content import probe_generation, probe_site
from provisioner.steps.generation import (
    create_database,
    discard_generation,
    flip,
    flip_back,
    forget_generation,
    prepare_files,
    rest_previous,
)
from provisioner.steps.site import SiteWork
from provisioner.steps.snapshot import (
    choose,
    code_differences,
    compare_database,
    compare_with_manifest,
    fetch_database,
    fetch_snapshot,
    load_dump,
    lock_out,
    measured,
    migrate_database,
    place_files,
    put_files_back,
    reserve_for_database,
    reserve_from_snapshot,
    rotate_salts,
    start_container,
)

KIND = "restore"

# What every recipe does that makes a generation of a snapshot; a drill stops here.
_FILLED: tuple[Step[SiteWork], ...] = (
    Step("reserve", reserve_from_snapshot, undo=forget_generation),
    Step("fetch", fetch_snapshot, undo=discard_generation),
    Step("files", prepare_files, undo=discard_generation),
    Step("database", create_database, undo=discard_generation),
    Step("load", load_dump, undo=discard_generation),
    Step("compare", compare_with_manifest, undo=nothing_to_undo),
)
_STARTED: tuple[Step[SiteWork], ...] = (
    Step("start", start_container, undo=discard_generation),
    Step("probe", probe_generation, undo=nothing_to_undo),
)
_SERVING: tuple[Step[SiteWork], ...] = (
    Step("flip", flip, undo=flip_back),
    Step("verify", probe_site, undo=nothing_to_undo),
    Step("rest", rest_previous, undo=nothing_to_undo),
)
FROM_SNAPSHOT = (*_FILLED, *_STARTED)
STEPS = (*FROM_SNAPSHOT, *_SERVING)
DATABASE_KIND = "restore-database"
DATABASE_ALONE = (
    Step("reserve", reserve_for_database, undo=forget_generation),
    Step("fetch", fetch_database, undo=discard_generation),
    Step("files", prepare_files, undo=discard_generation),
    Step("database", create_database, undo=discard_generation),
    Step("load", load_dump, undo=discard_generation),
    Step("compare", compare_database, undo=nothing_to_undo),
    Step("migrate", migrate_database, undo=discard_generation),
    *_STARTED,
    *_SERVING,
)
FILES_KIND = "restore-files"
FILES_ALONE: tuple[Step[SiteWork], ...] = (
    Step("place", place_files, undo=put_files_back),
    Step("probe", probe_generation, undo=nothing_to_undo),
)
INTRUSION_KIND = "restore-after-intrusion"
# The salts are the site's: the generation before runs with the new ones too, so that going back revives no cookie.
AFTER_INTRUSION = (
    *_FILLED,
    Step("lock-out", lock_out, undo=discard_generation),
    *_STARTED,
    Step("salts", rotate_salts, undo=nothing_to_undo),
    *_SERVING,
)


@dataclass(frozen=True)
class Plan:
    """What a restore would do, and what it would bring back."""

    slug: str
    snapshot: str
    taken_at: datetime
    manifest: Manifest
    revives: dict[str, list[str]] | None  # None: nothing serves that it could be compared with
    free_bytes: int
    needed_bytes: int
    code: dict[str, list[str]] | None = None  # files that serve now against the snapshot's, after an intrusion


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    work = SiteWork.of(installation, operation, int(operation.arguments["generation"]))
    work.notes["snapshot"] = operation.arguments["snapshot"]
    work.notes["manifest"] = operation.arguments["manifest"]
    work.notes |= {key: operation.arguments[key] for key in ("from", "paths") if key in operation.arguments}
    return work


def plan(installation: Installation, slug: str, *, snapshot: str = "", at: datetime | None = None) -> Plan:
    """Choose the snapshot: ``snapshot``, or the newest one that is not younger than ``at``; say what it would revive.

    Raises:
        BadInput: no such site or snapshot, or a snapshot of another site (D12).
        Unavailable: the disk is too small (D17).

    """
    with installation.store.transaction() as session:
        site = records.site(session, slug)
    found = backup.listing(installation, slug)
    chosen = choose(slug, found, snapshot, at)
    manifest = backup.manifest(installation, site, chosen["snapshot"])
    for key, is_of, mine in (
        ("site", manifest["site"], slug),
        ("namespace", manifest["namespace"], installation.namespace),
    ):
        if is_of != mine:
            raise BadInput(f"snapshot {chosen['snapshot'][:8]} is of {key} {is_of!r}, not of {mine!r}")
    host = installation.host(site.host)
    needed = needed_bytes(manifest)
    free = host_probes.require_space(host, needed, f"{slug}: the restore")
    return Plan(
        slug, chosen["snapshot"], chosen["taken_at"], manifest, _revived(installation, site, manifest), free, needed
    )


def code_now(installation: Installation, chosen: Plan) -> dict[str, list[str]] | None:
    """Return the code files that serve now and the snapshot has not, has otherwise, or has alone.

    None: nothing serves that it could be compared with.

    Raises:
        ProvisionError: the snapshot or the files could not be read.

    """
    work = _serving_work(installation, chosen.slug)
    return code_differences(work, chosen.snapshot) if work else None


def needed_bytes(manifest: Manifest) -> int:
    """Return the bytes that a restore takes on the host: the files, the dump, and the database made of it."""
    return manifest["content"]["bytes"] + 3 * manifest["database"]["bytes"]


def restore(installation: Installation, chosen: Plan, progress: Progress = no_progress) -> int:
    """Restore the snapshot of ``chosen``; return the number of the generation that serves now.

    The generation before it is kept for some days: `provision undo` returns to it.

    Raises:
        Busy: somebody works on the site.
        ProvisionError: it failed and was undone; what served serves.

    """
    return carry_out(installation, chosen, KIND, STEPS, progress).number


def restore_after_intrusion(installation: Installation, chosen: Plan, progress: Progress = no_progress) -> int:
    """Restore as `restore`, with new salts, and without the snapshot's sessions, application passwords and links.

    Raises:
        Busy, ProvisionError: as `restore`. Once they were renewed, the salts stay new.

    """
    return carry_out(installation, chosen, INTRUSION_KIND, AFTER_INTRUSION, progress).number


def restore_database(installation: Installation, chosen: Plan, progress: Progress = no_progress) -> int:
    """Restore the snapshot's database alone; code and media are those that serve, and go on being shared.

    Raises:
        BadInput: nothing serves.
        Busy, ProvisionError: as `restore`.

    """
    serving = _require_serving(installation, chosen.slug)
    return carry_out(installation, chosen, DATABASE_KIND, DATABASE_ALONE, progress, {"from": serving}).number


def restore_files(
    installation: Installation, chosen: Plan, paths: Sequence[str], progress: Progress = no_progress
) -> list[str]:
    """Put files of the snapshot back where they were in the generation that serves; return which.

    What they take the place of is kept beside them, as long as the generation is.

    Raises:
        BadInput: a path is not one below wp-content, or nothing serves.
        Busy: somebody works on the site.
        ProvisionError: the snapshot has no such file, or it failed; what was there is there.

    """
    for path in paths:
        if not path or path.startswith("/") or ".." in path.split("/") or "\n" in path:
            raise BadInput(f"{path!r} is no path below wp-content", "such as uploads/2026/11/photo.jpg")
    number = _require_serving(installation, chosen.slug)
    journal = Journal(installation.store, installation.locks, FILES_KIND, FILES_ALONE, progress)
    with journal.subject(chosen.slug):
        arguments = {
            "generation": number, "snapshot": chosen.snapshot, "manifest": chosen.manifest,
            "paths": [path.rstrip("/") for path in paths],
        }  # fmt: skip
        operation = journal.begin(chosen.slug, arguments)
        work = work_on(installation, operation)
        journal.carry_out(operation, work)
    return list(work.notes["placed"])


def _require_serving(installation: Installation, slug: str) -> int:
    work = _serving_work(installation, slug)
    if work is None:
        raise BadInput(f"{slug}: nothing of it serves", f"provision restore {slug}")
    return work.number


def carry_out(
    installation: Installation,
    chosen: Plan,
    kind: str,
    steps: Sequence[Step[SiteWork]],
    progress: Progress,
    more: dict[str, Any] | None = None,
) -> SiteWork:
    """Run a recipe that begins with a snapshot; return the finished work."""
    journal = Journal(installation.store, installation.locks, kind, steps, progress)
    with journal.subject(chosen.slug):
        with installation.store.transaction() as session:
            number = records.next_generation(session, records.site(session, chosen.slug).key)
        arguments = {"generation": number, "snapshot": chosen.snapshot, "manifest": chosen.manifest, **(more or {})}
        operation = journal.begin(chosen.slug, arguments)
        work = work_on(installation, operation)
        journal.carry_out(operation, work)
    return work


def _revived(installation: Installation, site: Site, manifest: Manifest) -> dict[str, list[str]] | None:
    work = _serving_work(installation, site.slug)
    if work is None:
        return None
    try:
        return revived(manifest["database"], measured(work, work.generation, []).database)
    except ProvisionError:  # nothing is left of it, which is why it is restored
        return None


def _serving_work(installation: Installation, slug: str) -> SiteWork | None:
    """Return what is needed to look at the generation that serves, if one does."""
    with installation.store.transaction() as session:
        serving = records.serving_generation(session, records.site(session, slug).key)
    if serving is None:
        return None
    return SiteWork(kind="look", operation_id=0, installation=installation, slug=slug, number=serving.number)
