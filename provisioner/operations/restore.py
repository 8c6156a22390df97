"""`provision restore`: a snapshot becomes a new generation, is compared with what it says, and takes its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provisioner import records
from provisioner.errors import BadInput, ProvisionError, Unavailable
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
    compare_with_manifest,
    fetch_snapshot,
    load_dump,
    measured,
    reserve_from_snapshot,
    start_container,
)

KIND = "restore"

# What every recipe does that makes a generation of a snapshot; a drill stops here.
FROM_SNAPSHOT: tuple[Step[SiteWork], ...] = (
    Step("reserve", reserve_from_snapshot, undo=forget_generation),
    Step("fetch", fetch_snapshot, undo=discard_generation),
    Step("files", prepare_files, undo=discard_generation),
    Step("database", create_database, undo=discard_generation),
    Step("load", load_dump, undo=discard_generation),
    Step("compare", compare_with_manifest, undo=nothing_to_undo),
    Step("start", start_container, undo=discard_generation),
    Step("probe", probe_generation, undo=nothing_to_undo),
)
STEPS: tuple[Step[SiteWork], ...] = (
    *FROM_SNAPSHOT,
    Step("flip", flip, undo=flip_back),
    Step("verify", probe_site, undo=nothing_to_undo),
    Step("rest", rest_previous, undo=nothing_to_undo),
)


@dataclass(frozen=True)
class Plan:
    """What a restore would do, and what it would bring back."""

    slug: str
    snapshot: str
    taken_at: datetime
    manifest: dict[str, Any]
    revives: dict[str, list[str]] | None  # None: nothing serves that it could be compared with
    free_bytes: int
    needed_bytes: int


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    work = SiteWork.of(installation, operation, int(operation.arguments["generation"]))
    work.notes["snapshot"] = operation.arguments["snapshot"]
    work.notes["manifest"] = operation.arguments["manifest"]
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
    for key, mine in (("site", slug), ("namespace", installation.namespace)):
        if manifest[key] != mine:
            raise BadInput(f"snapshot {chosen['snapshot'][:8]} is of {key} {manifest[key]!r}, not of {mine!r}")
    host = installation.host(site.host)
    needed = needed_bytes(manifest)
    free = host_probes.free_disk(host) - host.settings.free_disk_mb * host_probes.MIB
    if free < needed:
        raise Unavailable(
            f"{slug}: the restore needs {needed // host_probes.MIB} MiB on host {host.name}, "
            f"{max(free, 0) // host_probes.MIB} MiB are free above free_disk_mb",
            "free some space on its data root",
        )
    return Plan(
        slug, chosen["snapshot"], chosen["taken_at"], manifest, _revived(installation, site, manifest), free, needed
    )


def needed_bytes(manifest: dict[str, Any]) -> int:
    """Return the bytes that a restore takes on the host: the files, the dump, and the database made of it."""
    return int(manifest["content"]["bytes"]) + 3 * int(manifest["database"]["bytes"])


def restore(installation: Installation, chosen: Plan, progress: Progress = no_progress) -> int:
    """Restore the snapshot of ``chosen``; return the number of the generation that serves now.

    The generation before it is kept for some days: `provision undo` returns to it.

    Raises:
        Busy: somebody works on the site.
        ProvisionError: it failed and was undone; what served serves.

    """
    return carry_out(installation, chosen, KIND, STEPS, progress).number


def carry_out(
    installation: Installation, chosen: Plan, kind: str, steps: Sequence[Step[SiteWork]], progress: Progress
) -> SiteWork:
    """Run a recipe that begins with a snapshot; return the finished work."""
    journal = Journal(installation.store, installation.locks, kind, steps, progress)
    with journal.subject(chosen.slug):
        with installation.store.transaction() as session:
            number = records.next_generation(session, records.site(session, chosen.slug).key)
        arguments = {"generation": number, "snapshot": chosen.snapshot, "manifest": chosen.manifest}
        operation = journal.begin(chosen.slug, arguments)
        work = work_on(installation, operation)
        journal.carry_out(operation, work)
    return work


def _revived(installation: Installation, site: Site, manifest: dict[str, Any]) -> dict[str, list[str]] | None:
    with installation.store.transaction() as session:
        serving = records.serving_generation(session, site.key)
    if serving is None:
        return None
    work = SiteWork(kind="look", operation_id=0, installation=installation, slug=site.slug, number=serving.number)
    try:
        return revived(manifest, measured(work, serving, {}))
    except ProvisionError:  # nothing is left of it, which is why it is restored
        return None
