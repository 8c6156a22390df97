"""The control plane's own snapshots: records, inventory and authority kept as the sites are, and brought back (D11)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from provisioner import clock, eventlog, inventory, named_files, records
from provisioner.adapters import restic
from provisioner.adapters.docker_host import DockerHost
from provisioner.agent import protocol
from provisioner.errors import BadInput, Busy, ProvisionError
from provisioner.escrow import Escrow
from provisioner.installation import Installation
from provisioner.inventory import Inventory
from provisioner.journal import lock
from provisioner.keys import CONTROL_PLANE, repository_key, write_private
from provisioner.steps.snapshot import TAKEN, choose, is_first, taken_at, target_mark

INVENTORY, DATABASE = "inventory.yaml", "state/provision.db"  # what these are called in a snapshot, wherever they lie
_NAMED = "the inventory names it: put it back, or name another"
LARGEST_FILE = 256 << 20  # bytes of one file of the control plane: all of them go through memory
_PUT = "control-plane"  # directory of the container in which the image's program expects them
_JOURNALS = ("-journal", "-wal", "-shm")  # what SQLite keeps beside a database, by what is behind its name


@dataclass(frozen=True)
class File:
    """One file of the control plane."""

    content: bytes
    mode: int

    @property
    def entry(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {"sha256": hashlib.sha256(self.content).hexdigest(), "mode": self.mode}


@dataclass(frozen=True)
class Rebuilt:
    """What a restored control plane consists of, and what it knows."""

    inventory: str
    snapshot: str
    taken_at: datetime
    files: list[str]
    sites: list[str]
    elsewhere: str  # the target that the restored inventory names, where it is not the one that was read


def take(installation: Installation) -> dict[str, Any]:
    """Take a snapshot of the control plane; return its figures.

    In it are the state database (a consistent copy), the rest of the state, the inventory and the files that it
    names. Never in it is the key of backups, which would lie in what it opens: that is what the escrow is for.

    Raises:
        BadInput: a file that the inventory names is missing, or the state is in a PostgreSQL database.
        Busy: another backup of it is running.
        ProvisionError: it failed; no snapshot counts.

    """
    host = home(installation)
    with lock.hold(installation.locks, CONTROL_PLANE) as free:
        if not free:
            raise Busy(f"{CONTROL_PLANE}: a backup of it is running", "wait for it")
        with installation.store.transaction() as session:
            known = eventlog.newest(session, CONTROL_PLANE, TAKEN)
        settings = installation.inventory
        key = installation.keys.repository(CONTROL_PLANE)
        worker = _worker(settings, host, key, f"backup.{CONTROL_PLANE}", held=True)
        if is_first(known, settings):
            worker.call_held(protocol.Initialize())
        request = protocol.KeepControlPlane(
            append_only=settings.backup.append_only,
            time=f"{clock.now():%Y-%m-%d %H:%M:%S}",
            operation=f"{clock.now():%Y%m%dT%H%M%S}",  # no operation is taken twice: it makes a snapshot's tags its own
        )
        taken = asdict(worker.call_held(request, _packed(installation)))
        with installation.store.transaction() as session:
            eventlog.record(session, CONTROL_PLANE, TAKEN, target=target_mark(settings), **taken)
    return taken


def home(installation: Installation) -> DockerHost:
    """Return the host that takes the control plane's snapshots: one on this very machine, if there is one."""
    hosts = installation.inventory.hosts
    near = [host for host in hosts if not host.engine.startswith("ssh://")]
    return installation.host((near or hosts)[0].name)


def _packed(installation: Installation) -> dict[str, bytes]:
    files = dict(_files(installation))
    with installation.store.transaction() as session:
        sites = [site.slug for site in records.live_sites(session)]
    named = installation.inventory.named_files
    manifest = {
        "format": 1,
        "namespace": installation.namespace,
        "site": CONTROL_PLANE,
        "program": version("provision"),
        "sites": sites,
        "named": {_named(number): str(path) for number, path in enumerate(named)},
        "files": {path: file.entry for path, file in files.items()},
    }
    packed = {f"{_PUT}/files/{path}": file.content for path, file in files.items()}
    return {**packed, f"{_PUT}/manifest.json": json.dumps(manifest, indent=2, ensure_ascii=False).encode()}


def _files(installation: Installation) -> Iterator[tuple[str, File]]:
    settings = installation.inventory
    yield INVENTORY, _read(settings.path)
    with TemporaryDirectory(prefix="provision-state-") as folder:
        copy = Path(folder) / "provision.db"
        installation.store.copy_to(copy)
        yield DATABASE, File(copy.read_bytes(), 0o600)
    for path in _state_files(installation):
        yield f"state/{path.relative_to(installation.state)}", _read(path)
    for number, path in enumerate(settings.named_files):
        yield _named(number), _read(settings.resolve(path))


def _state_files(installation: Installation) -> list[Path]:
    """Return what lies in the state's directory, but the database, the key of backups, locks, mails and half files."""
    database = installation.store.path
    apart = {installation.keys.backups, *(database.with_name(database.name + suffix) for suffix in ("", *_JOURNALS))}
    outside = (installation.locks, installation.mail_folder)
    return sorted(
        path
        for path in installation.state.rglob("*")
        if path.is_file()
        and path not in apart
        and path.suffix != ".new"
        and not any(path.is_relative_to(folder) for folder in outside)
    )


def _named(number: int) -> str:
    return f"named/{number}"


def _read(path: Path) -> File:
    try:
        return File(named_files.content(path, LARGEST_FILE), path.stat().st_mode & 0o777)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", _NAMED) from None
    except BadInput as error:
        raise BadInput(error.message, _NAMED) from None


def _worker(settings: Inventory, host: DockerHost, key: str, prefix: str, *, held: bool = False) -> restic.Worker:
    place = restic.repository(settings, host, CONTROL_PLANE, key)
    labels = host.held_labels(CONTROL_PLANE) if held else host.role_labels("one-shot")
    return restic.Worker(host, settings, f"{host.namespace}.{prefix}", labels, place)


def restore(
    escrow: Escrow, path: Path, *, snapshot: str = "", at: datetime | None = None, dry_run: bool = False
) -> Rebuilt:
    """Bring inventory and state back on a machine that has neither: the inventory as ``path``, the rest beside it.

    Repeatable: what is there already as the snapshot has it is left as it is.

    Raises:
        BadInput: there is no such snapshot, it is another installation's (D12), or something else is in its place.
        ProvisionError: the repository does not open.

    """
    with escrow.opened() as settings:
        host = DockerHost(settings.hosts[0], escrow.namespace)
        worker = _worker(settings, host, repository_key(escrow.key, CONTROL_PLANE), "rebuild")
        found = worker.call(protocol.ListSnapshots([f"site:{CONTROL_PLANE}"])).found
        listed = [{"snapshot": one.id, "taken_at": taken_at(one)} for one in found]
        chosen = choose(CONTROL_PLANE, listed, snapshot, at)
        owner: protocol.Owner = {"site": CONTROL_PLANE, "namespace": escrow.namespace}
        found_plane, files = worker.collect(protocol.GiveBackControlPlane(chosen["snapshot"], owner), f"/{_PUT}/files")
        manifest = found_plane.manifest
    given = {path: File(files.get(path, b""), entry["mode"]) for path, entry in manifest["files"].items()}
    torn = [path for path, entry in manifest["files"].items() if given[path].entry != entry]
    if torn:
        raise ProvisionError(f"{CONTROL_PLANE}: {torn[0]} did not come back whole; nothing was changed", "run it again")
    restored, places = _places(path, given, manifest, escrow)
    _refuse_others(places, Installation(restored).store.path)
    if not dry_run:
        for place, file in places.items():
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(place, file.content, file.mode)
    target = restored.backup_target
    return Rebuilt(
        inventory=str(path),
        snapshot=chosen["snapshot"],
        taken_at=chosen["taken_at"],
        files=[str(place) for place in places],
        sites=manifest["sites"],
        elsewhere="" if target.rstrip("/") == escrow.target.rstrip("/") else target,
    )


def _places(
    path: Path, given: dict[str, File], manifest: protocol.ControlPlaneManifest, escrow: Escrow
) -> tuple[Inventory, dict[Path, File]]:
    """Return the restored inventory, and where each file goes, the inventory last: what it describes is whole then."""
    with TemporaryDirectory(prefix="provision-rebuild-") as folder:
        draft = Path(folder) / path.name
        draft.write_bytes(given[INVENTORY].content)
        restored = inventory.load(draft, as_if=path)
    installation = Installation(restored)
    special = {
        INVENTORY: path.absolute(),
        DATABASE: installation.store.path,
        **{name: restored.resolve(Path(named)) for name, named in manifest["named"].items()},
    }
    places = {
        special.get(name, installation.state / name.removeprefix("state/")): file
        for name, file in given.items()
        if name != INVENTORY
    }
    places[installation.keys.backups] = File(escrow.key.encode(), 0o600)
    places[path.absolute()] = given[INVENTORY]
    return restored, places


def _refuse_others(places: dict[Path, File], database: Path) -> None:
    """Refuse to write where another control plane is, or the journal of its database, which would be applied."""
    journals = [database.with_name(database.name + suffix) for suffix in _JOURNALS]
    taken = [place for place, file in places.items() if place.exists() and place.read_bytes() != file.content]
    taken += [journal for journal in journals if journal.exists()]
    if taken:
        raise BadInput(
            f"{taken[0]} exists: this machine has a control plane already, or a part of one; nothing was changed",
            "if it is really lost, move inventory.yaml and the state aside first",
        )
