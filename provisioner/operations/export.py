"""`provision export`: one archive of all that an association owns, which it can open without us."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner import clock, records
from provisioner.errors import BadInput, Unavailable
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.model.tables import Operation
from provisioner.probes import host as host_probes
from provisioner.steps import export as steps
from provisioner.steps.site import SiteWork

KIND = "export"
PAGES_BYTES = 64 * host_probes.MIB  # set aside for the copy of the pages and what they need of WordPress

STEPS: tuple[Step[SiteWork], ...] = (
    Step("dump", steps.dump_database, undo=steps.remove_export),
    Step("wordpress", steps.export_wordpress, undo=steps.remove_export),
    Step("pages", steps.copy_pages, undo=steps.remove_export),
    Step("pack", steps.pack_archive, undo=steps.remove_export),
    Step("fetch", steps.fetch_archive, undo=steps.remove_fetched),
    Step("tidy", steps.remove_export, undo=nothing_to_undo),
)


@dataclass(frozen=True)
class Plan:
    """What an export would hold, and whether there is room for it."""

    slug: str
    generation: int
    file: Path
    day: str
    files: int
    content_bytes: int
    database_bytes: int
    needed_bytes: int  # on the host
    free_bytes: int
    needed_here_bytes: int
    free_here_bytes: int


@dataclass(frozen=True)
class Exported:
    """The archive that was made."""

    slug: str
    file: str
    files: int
    bytes: int
    seconds: float
    sha256: str
    pages: int
    pages_left_out: int
    pages_missing: list[str]
    links_left_out: int


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    work = SiteWork.of(installation, operation, int(operation.arguments["generation"]))
    work.notes.update({key: operation.arguments[key] for key in ("target", "day")})
    return work


def plan(installation: Installation, slug: str, to: Path | None = None) -> Plan:
    """Weigh the site; choose the archive's place: ``to``, a file or a folder, or the current folder.

    Raises:
        BadInput: no such site, it is not finished, or the place is taken or is none.
        Unavailable: host or machine lack the room.

    """
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        generation = records.serving_generation(session, site.key)
    if generation is None:
        raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
    day = clock.today().isoformat()
    file = _place(to, f"{slug}-{day}.zip")
    work = SiteWork(kind="look", operation_id=0, installation=installation, slug=slug, number=generation.number)
    weight = steps.weigh(work)
    host = installation.host(site.host)
    # All of it lies there at once: dump, WordPress's own export, pages, and the archive of them and the files.
    packed = weight.bytes + 2 * weight.database_bytes + PAGES_BYTES
    chosen = Plan(
        slug=slug,
        generation=generation.number,
        file=file,
        day=day,
        files=weight.files,
        content_bytes=weight.bytes,
        database_bytes=weight.database_bytes,
        needed_bytes=packed + 2 * weight.database_bytes + PAGES_BYTES,
        free_bytes=max(host_probes.free_disk(host) - host.settings.free_disk_mb * host_probes.MIB, 0),
        needed_here_bytes=packed,
        free_here_bytes=shutil.disk_usage(file.parent).free,
    )
    _require_room(chosen, host.name)
    return chosen


def _place(to: Path | None, name: str) -> Path:
    file = (to or Path()).absolute()
    if file.is_dir():
        file = file / name
    if file.exists() or file.is_symlink():
        raise BadInput(f"{file} exists: an export overwrites nothing", "remove it, or name another by --to")
    if not file.parent.is_dir():
        raise BadInput(f"{file.parent}: no such folder", f"mkdir -p {file.parent}")
    return file


def _require_room(chosen: Plan, host: str) -> None:
    for where, needed, free in (
        (f"on host {host}", chosen.needed_bytes, chosen.free_bytes),
        (f"in {chosen.file.parent}", chosen.needed_here_bytes, chosen.free_here_bytes),
    ):
        if free < needed:
            above = " above free_disk_mb" if where.startswith("on host") else ""
            raise Unavailable(
                f"{chosen.slug}: the export needs {needed // host_probes.MIB} MiB {where}, "
                f"{free // host_probes.MIB} MiB are free{above}",
                "free some space there, or name another place by --to",
            )


def export(installation: Installation, chosen: Plan, progress: Progress = no_progress) -> Exported:
    """Make the archive of ``chosen``; nothing of it stays on the host.

    Raises:
        Busy: somebody works on the site.
        ProvisionError: it failed and was undone: no archive, no part of one.

    """
    began = time.monotonic()
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
    with journal.subject(chosen.slug):
        arguments: dict[str, Any] = {"generation": chosen.generation, "target": str(chosen.file), "day": chosen.day}
        operation = journal.begin(chosen.slug, arguments)
        work = work_on(installation, operation)
        journal.carry_out(operation, work)
    packed, copied = work.notes["packed"], work.notes["copied"]
    return Exported(
        slug=chosen.slug,
        file=str(chosen.file),
        files=packed["files"],
        bytes=packed["bytes"],
        seconds=round(time.monotonic() - began, 3),
        sha256=packed["sha256"],
        pages=copied["pages"],
        pages_left_out=copied["pages_left_out"],
        pages_missing=copied["pages_missing"],
        links_left_out=packed["links"],
    )
