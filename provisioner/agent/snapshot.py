"""Taking a snapshot: dump first, then files, one snapshot of both; it counts when all of it was seen to be there."""

import json
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner.agent import database, files, wire
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Figures, Manifest, ManifestFound, Owner, ReadManifest, Take, Taken
from provisioner.agent.repository import UNREADABLE, Repository

SITE = Path("/site")  # dump, manifest and wp-content, as the snapshot shows them
CONTENT = SITE / "wp-content"
UPLOADS = CONTENT / "uploads"
DUMP, MANIFEST = SITE / "database.sql", SITE / "manifest.json"
TRIES = 3


@dataclass
class Seen:
    """What restic said that it read."""

    summary: dict[str, Any] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    bytes: int = 0


@dataclass(frozen=True)
class Mark:
    """What tells a snapshot from others in its repository, and whether it can be withdrawn."""

    site: str
    namespace: str
    operation: int | str
    time: str
    append_only: bool

    @property
    def tags(self) -> str:
        """Return its tags, as restic takes them."""
        return f"site:{self.site},namespace:{self.namespace},operation:{self.operation}"


def take(repository: Repository, request: Take) -> Taken:
    """Take one verified snapshot of the site; return its id, figures and manifest.

    A snapshot in which the site changed so that files and dump do not fit together is taken again. On
    the last try a site whose files change all the time is taken as it is, and its manifest says so.
    Nor does what an earlier run left count, which died before anybody heard from it.

    Raises:
        Fault: the dump or restic failed, or attachments were missing again and again.

    """
    began = time.monotonic()
    if request.again:
        for left_behind in repository.snapshots(f"operation:{request.operation}"):
            withdraw(repository, request.append_only, left_behind.id)
    identity = request.identity
    mark = Mark(identity["site"], identity["namespace"], request.operation, request.time, request.append_only)
    reader = database.reader(request.identity["generation"])
    unsound: list[str] = []
    for left in reversed(range(TRIES)):
        manifest = _write(request, reader, settled=left > 0)
        wanted = _attachments(reader)
        try:
            seen = read_into(repository, mark, SITE, _unread(manifest))
        except Fault as fault:
            if fault.exit_code != UNREADABLE or left == 0:  # a file that went while restic was on its way to it
                raise
            unsound.append(str(fault))
            continue
        problem = _problem(manifest, wanted, seen)
        if problem is None:
            return Taken(figures(seen), round(time.monotonic() - began, 3), len(unsound), manifest)
        unsound.append(problem)
        withdraw(repository, request.append_only, seen.summary["snapshot_id"])
    raise Fault(f"no sound snapshot in {TRIES} tries: {unsound[-1]}")


def read_manifest(repository: Repository, request: ReadManifest) -> ManifestFound:
    """Return what a snapshot says of itself."""
    said = repository.run("dump", "--no-lock", request.snapshot, str(MANIFEST))
    return ManifestFound(wire.read(Manifest, json.loads(said), "manifest"))


def _write(request: Take, reader: database.Account, *, settled: bool) -> Manifest:
    """Write dump and manifest."""
    described = database.describe(reader, _dump(reader))
    manifest: Manifest = {
        **request.identity,
        "settled": settled,
        "database": {**described, "bytes": DUMP.stat().st_size, "sha256": files.sha256(DUMP)},
        "content": files.describe(CONTENT, request.operation),
    }
    MANIFEST.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return manifest


def _dump(reader: database.Account) -> dict[str, int]:
    """Dump the database until every table that stood still meanwhile has its rows in the dump."""
    for _ in range(TRIES):
        with database.connection(reader) as cursor:
            cursor.execute(
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = %s AND table_type = 'BASE TABLE'",
                (reader.database,),
            )
            before = database.count(cursor, [str(row[0]) for row in cursor.fetchall()])
        dumped = database.dump(reader, DUMP)
        wrong = [table for table, rows in before.items() if rows != dumped.get(table, 0)]
        with database.connection(reader) as cursor:  # counting reads a table from end to end: only where it tells more
            after = database.count(cursor, wrong)
        wrong = [table for table in wrong if before[table] == after[table]]
        if not wrong:
            return dumped
    table = wrong[0]
    raise Fault(f"table {table} has {before[table]} rows, its dump has {dumped.get(table, 0)}")


def _unread(manifest: Manifest) -> set[str]:
    """Return the paths that restic cannot read and will complain of; sockets it passes over in silence."""
    paths = {f"{CONTENT}/{path}" for path in manifest["content"].get("unread", [])}
    return {path for path in paths if not Path(path).is_socket()}


def _attachments(reader: database.Account) -> set[str]:
    """Return the attachments whose file is there now: each must be in the snapshot (D8)."""
    return {
        path
        for path in database.attachments(reader)
        if os.access(UPLOADS / path, os.R_OK) and (UPLOADS / path).is_file()
    }


def read_into(repository: Repository, mark: Mark, root: Path, unread: Collection[str] = ()) -> Seen:
    """Have restic read all below ``root`` into one snapshot, tagged with whose it is; return what it says it read.

    Raises:
        Fault: restic failed, or could not read anything else than ``unread``. Its snapshot was withdrawn.

    """
    seen = Seen()
    try:
        for line in repository.stream(
            "backup", str(root), "--json", "--verbose=2", "--no-scan", "--host", mark.site,
            "--tag", mark.tags, "--time", mark.time, accept=(0, UNREADABLE) if unread else (0,),
        ):  # fmt: skip
            _hear(seen, json.loads(line))
        if repository.unread - set(unread):
            unexpected = min(repository.unread - set(unread))
            raise Fault(f"restic backup could not read every file (exit code 3): {unexpected}", UNREADABLE)
    except Fault:
        if seen.summary.get("snapshot_id"):  # it keeps what it could read, though it could not read everything (D4)
            withdraw(repository, mark.append_only, seen.summary["snapshot_id"])
        raise
    if not seen.summary.get("snapshot_id"):
        raise Fault("restic ended well, but named no snapshot")
    return seen


def _hear(seen: Seen, message: dict[str, Any]) -> None:
    kind = message.get("message_type")
    if kind == "verbose_status" and message.get("action") in ("new", "modified", "unchanged"):
        if not message["item"].endswith("/"):
            seen.paths.add(message["item"])
            seen.bytes += message.get("data_size", 0)
    elif kind == "summary":
        seen.summary = message


def figures(seen: Seen) -> Figures:
    """Return the id of the snapshot that was taken, and how much it took."""
    return Figures(
        snapshot=seen.summary["snapshot_id"],
        time=seen.summary.get("backup_end", ""),
        new_bytes=seen.summary["data_added_packed"],
        total_bytes=seen.summary["total_bytes_processed"],
        files=len(seen.paths),
    )


def require_owner(found: Owner, wanted: Owner) -> None:
    """Make sure that a snapshot is of the site, or the control plane, that is meant (D12).

    Raises:
        Fault: it is another's.

    """
    for key, is_of, should_be in (
        ("site", found["site"], wanted["site"]),
        ("namespace", found["namespace"], wanted["namespace"]),
    ):
        if is_of != should_be:
            raise Fault(f"the snapshot is of {key} {is_of!r}, not of {should_be!r}")


def _problem(manifest: Manifest, wanted: set[str], seen: Seen) -> str | None:
    """Return why the snapshot does not hold what its manifest says."""
    missing = [path for path in wanted if f"{UPLOADS}/{path}" not in seen.paths]
    if missing:
        return f"{len(missing)} attachments are not in it, such as {missing[0]}"
    if DUMP.stat().st_mtime_ns > MANIFEST.stat().st_mtime_ns:  # which was written after it
        return "the dump changed while it was read"
    if not manifest["settled"]:
        return None
    content = manifest["content"]
    count = len(seen.paths) - 2  # dump and manifest
    size = seen.summary["total_bytes_processed"] - DUMP.stat().st_size - MANIFEST.stat().st_size
    if (count, size) != (content["files"], content["bytes"]):
        return f"it has {count} files and {size} bytes, the manifest {content['files']} and {content['bytes']}"
    changed = [path for path, digest in content["sample"].items() if files.sha256(CONTENT / path) != digest]
    return f"{changed[0]} changed meanwhile" if changed else None


def withdraw(repository: Repository, append_only: bool, snapshot: str) -> None:
    """Forget an unsound snapshot; a target that only takes additions keeps it, and a later one stands before it."""
    if not append_only:
        repository.run("forget", snapshot)


def tidy() -> None:
    """Remove dump and manifest: what is in the repository need not lie on the host as well."""
    for path in (DUMP, MANIFEST):
        path.unlink(missing_ok=True)
