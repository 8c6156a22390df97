"""Snapshots: taken of the serving generation, fetched into a new one, compared with what they say of themselves."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlmodel import select

from provisioner import clock, eventlog, records
from provisioner.adapters import restic
from provisioner.agent import protocol
from provisioner.errors import BadInput, ProvisionError, Unavailable
from provisioner.inventory import Inventory
from provisioner.model.container import Bind
from provisioner.model.names import LABEL_OPERATION
from provisioner.model.tables import Event, Generation, Release, Snapshot
from provisioner.probes import manifest as manifest_probe
from provisioner.steps.beside import (
    ask,
    ask_steward,
    directory,
    hand_over,
    inside,
    prepare_repository,
    require_reader,
)
from provisioner.steps.generation import record_generation
from provisioner.steps.site import SiteWork, edge_image

TAKEN = "snapshot taken"  # the event that tells of one
_TIDY = """
set -eu
for directory; do if [ -d "/host/$directory" ]; then find "/host/$directory" -mindepth 1 -delete; fi; done
"""


def repository(work: SiteWork, slug: str = "") -> restic.Repository:
    """Return the repository of the operation's site, or of the site ``slug``."""
    name = slug or work.slug
    return restic.repository(work.installation.inventory, work.host, name, work.installation.keys.repository(name))


def identity(work: SiteWork) -> protocol.Identity:
    """Return what tells a site's snapshot from any other's."""
    generation = work.generation
    return {
        "format": 1,
        "namespace": work.installation.namespace,
        "site": work.slug,
        "netloc": work.netloc,
        "generation": generation.number,
        "release": generation.release,
        "image": generation.image,
        "wordpress": generation.wordpress,
        "php": generation.php,
    }


def ensure_repository(work: SiteWork) -> None:
    """Make the site's repository, before its first snapshot on this target."""
    with work.installation.store.transaction() as session:
        last = eventlog.newest(session, work.slug, TAKEN)
    if is_first(last, work.installation.inventory):  # opening one costs most of a second: only where it may be missing
        prepare_repository(work, repository(work))


def is_first(last: Event | None, inventory: Inventory) -> bool:
    """Return whether the inventory's target is another than that of the ``last`` snapshot, if there was any.

    One that is missing where the last snapshot went is never made anew: a person must look where it is.
    """
    return last is None or last.data.get("target") != target_mark(inventory)


def target_mark(inventory: Inventory) -> str:
    """Return what tells a target from another in the records; the target itself may hold a password."""
    return hashlib.sha256(inventory.backup_target.encode()).hexdigest()[:12]


def take_snapshot(work: SiteWork) -> None:
    """Take one snapshot of database, files and manifest, and see that all of it is in there."""
    names = work.names
    again = bool(work.notes.get("attempted"))
    work.note("attempted", True)
    taken = ask(
        work,
        protocol.Take(
            identity=identity(work),
            operation=work.operation_id,
            again=again,
            append_only=work.installation.inventory.backup.append_only,
            time=clock.now().strftime("%Y-%m-%d %H:%M:%S"),
        ),
        [
            *inside(work, work.generation),
            Bind(names.backup_directory, "/site"),
            Bind(f"{names.directory}/content", "/site/wp-content", read_only=True),
            Bind(f"{names.site_directory}/{work.generation.media}", "/site/wp-content/uploads", read_only=True),
        ],
        repository(work),
    )
    work.middle()
    work.note("taken", {**asdict(taken.figures), "seconds": taken.seconds, "retaken": taken.retaken})


def record_snapshot(work: SiteWork) -> None:
    """Record the snapshot: from here on the site counts as backed up."""
    taken = work.notes["taken"]
    with work.installation.store.transaction() as session:
        query = select(Snapshot).where(Snapshot.site_id == work.site.key, Snapshot.snapshot == taken["snapshot"])
        if session.exec(query).first() is not None:
            return
        session.add(
            Snapshot(
                site_id=work.site.key,
                snapshot=taken["snapshot"],
                taken_at=clock.now(),
                generation=work.number,
                new_bytes=taken["new_bytes"],
                total_bytes=taken["total_bytes"],
                files=taken["files"],
                seconds=taken["seconds"],
            )
        )
        mark = target_mark(work.installation.inventory)
        eventlog.record(session, work.slug, TAKEN, work.operation_id, target=mark, **taken)


def abandon_snapshot(work: SiteWork) -> None:
    """Stop what takes the snapshot and remove its dump; a snapshot that is in the repository already is void now."""
    remove_staging(work, work.names.backup_directory)


def remove_staging(work: SiteWork, *directories: str) -> None:
    """Stop what this operation runs on the host, and empty the directories that it worked in."""
    work.host.remove_labelled(**{LABEL_OPERATION: str(work.operation_id)})
    work.run_as_root(
        "tidy", ["sh", "-c", _TIDY, "tidy", *directories], [Bind("", "/host")], image=edge_image(work.host)
    ).require_success(f"{work.slug}: emptying {', '.join(directories)}")


def reserve_from_snapshot(work: SiteWork) -> None:
    """Record the new generation, with the image of the snapshot's time and media of its own."""
    manifest = work.notes["manifest"]
    with work.installation.store.transaction() as session:
        release = release_of(work, manifest)
        record_generation(session, work.site, work.number, release, f"media-{work.number}")


def release_of(work: SiteWork, manifest: Mapping[str, Any]) -> Release:
    """Return the release that a snapshot ran on, with the very image if the host has it still.

    A host that was rebuilt has not: there the release has moved on, with WordPress's corrections since then.

    Raises:
        Unavailable: the host has neither the image nor the release with the same WordPress or a later one.

    """
    with work.installation.store.transaction() as session:
        built = records.release(session, manifest["release"], work.site.host)
    if work.host.image(manifest["image"]) is not None:
        return Release(
            name=manifest["release"],
            host=work.site.host,
            image=manifest["image"],
            wordpress=manifest["wordpress"],
            php=manifest["php"],
            content_key="",
            built_at=clock.now(),
        )
    if built is None or _version(built.wordpress) < _version(manifest["wordpress"]):
        has = f"has WordPress {built.wordpress} instead" if built else "is not built"
        raise Unavailable(
            f"{work.slug}: the snapshot ran on release {manifest['release']} (WordPress {manifest['wordpress']}), "
            f"which {has} on host {work.site.host}",
            f"provision release build {manifest['release']}",
        )
    return built


def _version(wordpress: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", wordpress)]


def fetch_snapshot(work: SiteWork) -> None:
    """Restore the snapshot's files and dump into the new generation's directories."""
    names = work.names
    content, media = f"{names.directory}/content", f"{names.site_directory}/{work.generation.media}"
    hand_over(work, names, [*names.work_directories, content, media, names.fetched_directory])
    _fetch(work, [Bind(content, "/site/wp-content"), Bind(media, "/site/wp-content/uploads")])


def _fetch(work: SiteWork, files: list[Bind]) -> None:
    source = work.notes["manifest"]
    fetched = ask(
        work,
        protocol.Fetch(
            snapshot=work.notes["snapshot"],
            files=bool(files),
            owner={"site": source["site"], "namespace": source["namespace"]},
        ),
        [Bind(work.names.fetched_directory, "/site"), *files],
        repository(work, source["site"]),
    )
    work.middle()
    if fetched.manifest != source:
        raise ProvisionError(f"{work.slug}: the manifest in snapshot {work.notes['snapshot']} is another one now")


def reserve_for_database(work: SiteWork) -> None:
    """Record the new generation: the snapshot's database, and the image, code and media that serve now."""
    with work.installation.store.transaction() as session:
        serving = records.generation(session, work.site.key, work.notes["from"])
        release = Release(
            name=serving.release, host=work.site.host, image=serving.image, wordpress=serving.wordpress,
            php=serving.php, content_key="", built_at=clock.now(),
        )  # fmt: skip
        record_generation(session, work.site, work.number, release, serving.media)


def fetch_database(work: SiteWork) -> None:
    """Restore the snapshot's dump into the new generation's directory, beside the code that serves now."""
    names = work.names
    hand_over(work, names, [*names.work_directories, f"{names.directory}/content", names.fetched_directory])
    ask(work, protocol.CopyCode(work.notes["from"], [work.number]), [directory(work, read_only=False)])
    _fetch(work, [])


def migrate_database(work: SiteWork) -> None:
    """Bring the snapshot's database to the version of the WordPress that serves now."""
    work.run_in_site(protocol.Upgrade([]))


def compare_database(work: SiteWork) -> None:
    """Compare the new generation's database with the snapshot's manifest: rows, objects, people."""
    different = manifest_probe.database_differences(work.notes["manifest"], measured(work, work.generation, []))
    _require_same(work, different)


def place_files(work: SiteWork) -> None:
    """Put files of the snapshot into their places, one rename each; what was there is kept beside them."""
    request = protocol.Place(
        snapshot=work.notes["snapshot"],
        paths=work.notes["paths"],
        number=work.number,
        media=work.generation.media,
        operation=work.operation_id,
    )
    require_reader(work, work.generation)  # and the directory that it works in
    answer = ask(work, request, [directory(work, read_only=False)], repository(work))
    work.middle()
    work.note("placed", answer.files)


def put_files_back(work: SiteWork) -> None:
    """Put back what the restored files took the place of."""
    request = protocol.PutBack(work.number, work.generation.media, work.operation_id)
    ask(work, request, [directory(work, read_only=False)])


def load_dump(work: SiteWork) -> None:
    """Load the snapshot's dump into the new generation's database, as its own user."""
    ask(work, protocol.Load(work.number), inside(work, read_only=False))


def compare_with_manifest(work: SiteWork) -> None:
    """Compare the new generation with the snapshot's manifest: rows, objects, people, files, hashes."""
    manifest = work.notes["manifest"]
    found = measured(work, work.generation, list(manifest["content"]["sample"]))
    _require_same(work, manifest_probe.differences(manifest, found))


def _require_same(work: SiteWork, different: list[str]) -> None:
    if different:
        more = f" (and {len(different) - 3} more)" if len(different) > 3 else ""
        raise ProvisionError(f"{work.slug}: what was restored is not the snapshot: {'; '.join(different[:3])}{more}")


def measured(work: SiteWork, generation: Generation, sample: list[str]) -> protocol.Measured:
    """Return what a manifest would say of a generation as it is now, with the hashes of the files in ``sample``."""
    request = protocol.Measure(generation.number, generation.media, sample)
    return ask(work, request, inside(work, generation))


def compared(work: SiteWork, earlier: Generation, later: Generation) -> dict[str, protocol.Changes]:
    """Return what was made, changed and deleted in ``later``: posts, comments, users and media, by their names."""
    return ask(work, protocol.Compare(earlier.number, later.number), inside(work, earlier, later)).since


def readdress(work: SiteWork) -> None:
    """Change the addresses of the snapshot's site into those of the new one, also inside serialized data (D18)."""
    old = work.notes["manifest"]["netloc"]
    if old != work.netloc:
        ask(work, protocol.Rewrite(work.number, old, work.netloc), inside(work))


def lock_out(work: SiteWork) -> None:
    """End every session, application password and link for a new password in the new generation."""
    ask(work, protocol.LockOut(work.number), inside(work))


def rotate_salts(work: SiteWork) -> None:
    """Give the site new salts: cookies that an intruder forged or took are void, in every generation."""
    ask_steward(work, protocol.RenewSalts(), [directory(work, read_only=False)])


def code_differences(work: SiteWork, snapshot: str) -> dict[str, list[str]]:
    """Return the code files of the operation's generation that ``snapshot`` has not, has otherwise, or has alone."""
    return asdict(ask(work, protocol.CompareCode(snapshot, work.number), [directory(work)], repository(work)))


def start_container(work: SiteWork) -> None:
    """Start the new generation's container; nothing is routed to it yet."""
    work.host.ensure_service(work.service)


def taken_at(snapshot: protocol.SnapshotEntry) -> datetime:
    """Return when one of restic's snapshots was taken."""
    return datetime.fromisoformat(snapshot.time).astimezone(UTC)


def choose(slug: str, found: list[dict[str, Any]], snapshot: str, at: datetime | None) -> dict[str, Any]:
    """Return the snapshot that is meant, of those ``found``, oldest first; one that is void only by its id.

    Raises:
        BadInput: none fits, or several.

    """
    if snapshot:
        fitting = [one for one in found if one["snapshot"].startswith(snapshot)]
        if len(fitting) > 1:
            raise BadInput(f"{slug}: {len(fitting)} snapshots begin with {snapshot!r}", "give more of its id")
        wanted = f"snapshot {snapshot!r}"
    else:
        fitting = [one for one in found if (at is None or one["taken_at"] <= at) and not one.get("void")]
        wanted = f"snapshot of {at:%Y-%m-%d %H:%M} UTC or before" if at else "snapshot"
    if not fitting:
        raise BadInput(f"{slug}: there is no {wanted}", f"provision status {slug} --snapshots")
    return fitting[-1]
