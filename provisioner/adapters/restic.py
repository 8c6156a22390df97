"""Restic repositories, reached from a one-shot on the host whose data they hold: the agent does the work."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from provisioner import named_files
from provisioner.adapters import images
from provisioner.adapters.answers import answered
from provisioner.adapters.docker_host import DockerHost
from provisioner.adapters.relays import Relays, Way
from provisioner.agent import wire
from provisioner.agent.protocol import Access, ListLocks, Relay, Request, Unlock
from provisioner.errors import BadInput, ProvisionError, Unavailable
from provisioner.inventory import Inventory
from provisioner.model.container import FILE_CAPABILITIES, Bind, Confinement, OneShot, Outcome
from provisioner.model.names import LABEL_SUBJECT

MOUNTED = "/repository"  # where a one-shot sees the one that lies in a directory
RELAYED = "/repositories"  # where a relay sees them
QUICK_SECONDS = 15 * 60  # for what copies next to nothing
SLOWEST = 1 << 20  # bytes per second that every copy reaches, over a slow line too
# restic's exit codes that have a name here (D4); any other than 0 is a failure as well.
NO_REPOSITORY, LOCKED, WRONG_KEY = 10, 11, 12

A = TypeVar("A")


class RepositoryFault(ProvisionError):
    """Restic did not succeed; its exit code tells what it met."""

    def __init__(self, message: str, restic_exit_code: int, hint: str = "") -> None:
        super().__init__(message, hint)
        self.restic_exit_code = restic_exit_code


@dataclass(frozen=True)
class Repository:
    """One restic repository, and how a host reaches it."""

    name: str  # of the site, or of the control plane
    address: str  # as restic sees it from inside the container
    directory: Path | None  # on the host, when it is one
    key: str
    credentials: Mapping[str, str]
    login_key: str = ""
    host_key: str = ""

    @property
    def binds(self) -> list[Bind]:
        """Return what must be mounted to reach it."""
        return [Bind(str(self.directory), MOUNTED)] if self.directory else []

    @property
    def network(self) -> str:
        """Return the network from which it can be reached."""
        return "none" if self.directory else "host"

    @property
    def access(self) -> Access:
        """Return what the agent needs to open it."""
        cache = self.directory is None
        return Access(self.address, self.key, dict(self.credentials), self.login_key, self.host_key, cache)

    @property
    def relayed_access(self) -> Access:
        """Return what the agent needs to open it through a relay, beside a site: neither network nor login.

        A REST server without TLS is spoken to over the relay's socket; one with TLS is asked for by its name, so that
        its certificate is checked where the data are encrypted.
        """
        address, credentials, cache = self.address, dict(self.credentials), self.directory is None
        if self.directory is not None:
            address = f"sftp:relay:{RELAYED}/{self.name}"
        elif address.startswith("sftp:"):
            address = f"sftp://relay/{_sftp_place(address)[2]}"
        elif address.startswith("rest:http:"):
            parts = urlsplit(address.removeprefix("rest:"))
            address = f"rest:http+unix:///relay/socket:{parts.path}"
            if parts.username is not None:
                credentials["RESTIC_REST_USERNAME"] = unquote(parts.username)
                credentials["RESTIC_REST_PASSWORD"] = unquote(parts.password or "")
        return Access(address, self.key, credentials, cache=cache, relayed=True)

    @property
    def way(self) -> Way:
        """Return how a relay reaches this repository, and no other where it lies in a directory."""
        if self.directory is not None:
            return Way(Relay("directory"), "none", (Bind(str(self.directory), f"{RELAYED}/{self.name}"),))
        return Way(self._relay, "host")

    @property
    def way_to_all(self) -> Way:
        """Return how a relay reaches every repository of the target."""
        if self.directory is not None:
            return Way(Relay("directory"), "none", (Bind(str(self.directory.parent), RELAYED),))
        return self.way

    @property
    def _relay(self) -> Relay:
        if self.address.startswith("sftp:"):
            login, port, _ = _sftp_place(self.address)
            return Relay("ssh", ssh=["-p", port, login], login_key=self.login_key, host_key=self.host_key)
        if self.address.startswith("rest:http:"):
            parts = urlsplit(self.address.removeprefix("rest:"))
            return Relay("tcp", address=f"{parts.hostname}:{parts.port or 80}")
        return Relay("tls")


def _sftp_place(address: str) -> tuple[str, str, str]:
    """Return login, port and path of an address as restic takes it: sftp:USER@HOST:PATH or sftp://USER@HOST:PORT/PATH.

    In the second form a path from the root begins with a second slash.
    """
    if address.startswith("sftp://"):
        parts = urlsplit(address)
        login = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
        return login, str(parts.port or 22), parts.path.removeprefix("/")
    login, _, path = address.removeprefix("sftp:").partition(":")
    return login, "22", path


def repository(inventory: Inventory, host: DockerHost, name: str, key: str, *, pruning: bool = False) -> Repository:
    """Return the repository ``name`` of the inventory's target, with the credentials for ``pruning`` or for all else.

    Raises:
        BadInput: the target is a directory of this machine and the host is another one; a file is unreadable.

    """
    backup = inventory.backup
    target = backup.prune_target if pruning and backup.prune_target else backup.target
    credentials = backup.prune_credentials if pruning and backup.prune_credentials else backup.credentials
    if backup.is_remote:
        login_key = inventory.resolve(backup.login_key) if backup.login_key else None
        return Repository(
            name=name,
            address=f"{target.rstrip('/')}/{name}",
            directory=None,
            key=key,
            credentials=_variables(inventory.resolve(credentials)) if credentials else {},
            login_key=named_files.text(login_key, named_files.SECRET) if login_key else "",
            host_key=backup.host_key or "",
        )
    if host.settings.engine.startswith("ssh://"):
        raise BadInput(
            f"{inventory.path}: backup.target {target!r} is a directory of this machine, host {host.name} is another",
            "name a target that the host reaches: sftp:… or rest:…",
        )
    directory = inventory.resolve(Path(target)) / name
    return Repository(name=name, address=MOUNTED, directory=directory, key=key, credentials={})


@dataclass(frozen=True)
class Worker:
    """The agent at work on a host: how its one-shots are named and labelled, what they see and open.

    Its verbs raise RepositoryFault where restic did not succeed, ProvisionError where something else failed.
    """

    host: DockerHost
    inventory: Inventory
    prefix: str  # of its containers' names; the verb follows
    labels: Mapping[str, str]
    repository: Repository | None = None
    binds: Sequence[Bind] = ()
    confinement: Confinement | None = None  # None: the steward
    size: int = 0  # bytes that it may have to copy, about: it gets the more time
    relays: Relays = field(default_factory=Relays)

    def call(self, request: Request[A], files: Mapping[str, bytes] | None = None) -> A:
        """Have the agent do what ``request`` asks, with ``files`` put into its container; return its answer."""
        return answered(request, self._run(self._one_shot(request, files or {})).output)

    def collect(self, request: Request[A], directory: str) -> tuple[A, Mapping[str, bytes]]:
        """Do as `call`; return the answer, and the files that lie in ``directory`` of the container then."""
        outcome = self._run(replace(self._one_shot(request, {}), collect=directory))
        return answered(request, outcome.output), outcome.files

    def call_held(self, request: Request[A], files: Mapping[str, bytes] | None = None) -> A:
        """Do as `call`, for who holds the repository's subject: a lock whose holder is dead is removed first (D5).

        Raises:
            ProvisionError: as `call`, or somebody who may be alive holds a lock.

        """
        try:
            return self.call(request, files)
        except RepositoryFault as fault:
            if fault.restic_exit_code != LOCKED:
                raise
        strangers = self._remove_dead_locks()
        if strangers:
            name = self.repository.name if self.repository else self.prefix
            raise ProvisionError(
                f"{name}: its repository is locked by {', '.join(strangers)}, who may be alive",
                "docs/needs-hand.md, a repository is locked",
            )
        return self.call(request, files)

    def _remove_dead_locks(self) -> list[str]:
        """Remove the repository's locks if every holder is proven dead; return who holds the others.

        Proven dead is a one-shot of this very engine that does not run any more, and one that ran under the lock that
        the caller holds now: the process that waited for it is dead, and it is ended. Nobody of ours takes a new
        lock meanwhile.
        """
        alone = replace(self, confinement=None, binds=())  # no content is seen: no relay is needed
        locks = alone.call(ListLocks()).found
        holders = {f"{lock.hostname}, since {lock.time[:19]}": lock.hostname for lock in locks}
        if not holders:
            return []
        running = self.host.running_by_hostname()
        strangers = [
            shown
            for shown, hostname in holders.items()
            if not hostname.startswith(f"{self.host.identity}-") or not self._ended(running.get(hostname))
        ]
        if not strangers:
            alone.call(Unlock())
        return strangers

    def _ended(self, running: Mapping[str, Any] | None) -> bool:
        """Return whether a one-shot has ended, after ending one that a dead process left under the caller's lock."""
        if running is None:
            return True
        subject = self.labels.get(LABEL_SUBJECT)
        if subject is None or running["Config"]["Labels"].get(LABEL_SUBJECT) != subject:
            return False
        self.host.remove(running["Id"])
        return True

    def _one_shot(self, request: Request[Any], files: Mapping[str, bytes]) -> OneShot:
        name, place = f"{self.prefix}.{request.verb}", self.repository
        relayed = place is not None and self.confinement is not None
        access = place.relayed_access if place and relayed else place.access if place else None
        binds = place.binds if place and not relayed else ()
        return OneShot(
            name=name,
            image=images.ensure_service_image(self.host, self.inventory, "agent"),
            labels=self.labels,
            command=[request.verb],
            binds=[*self.binds, *binds],
            confinement=self.confinement,
            network=place.network if place and not relayed else "none",
            # Of its own, too: by it restic's locks tell whether who took them is still there.
            hostname=f"{self.host.identity}-{secrets.token_hex(4)}-{name.replace('.', '-')}"[:63].rstrip("-"),
            # A repository's files and a request's are root's; whoever works on a host's files needs more.
            capabilities=() if place or self.confinement else FILE_CAPABILITIES,
            files={**files, "request.json": wire.written(request, access)},
        )

    def _run(self, one_shot: OneShot) -> Outcome:
        if self.repository is not None and self.repository.directory is not None:
            _ensure_directory(self.repository.directory)
        if self.repository is not None and self.confinement is not None:
            outcome = self._run_with_relay(one_shot, self.repository)
        else:
            outcome = self.host.run(one_shot, self._seconds)
        if outcome.exit_code == 0:
            return outcome
        ended = f"{one_shot.command[0]} ended with exit code {outcome.exit_code}"
        said = " ".join(outcome.errors.split())[-700:] or ended
        if self.repository is None or not said.startswith("restic "):
            raise ProvisionError(said)
        raise RepositoryFault(said, outcome.exit_code, _hint(outcome.exit_code))

    @property
    def _seconds(self) -> float:
        """Return how long a one-shot may take."""
        return QUICK_SECONDS + self.size / SLOWEST

    def _run_with_relay(self, one_shot: OneShot, place: Repository) -> Outcome:
        """Run a one-shot beside a site, whose relay alone reaches the repository."""
        with self.relays.reach(
            self.host, place.way, place.way_to_all, self.prefix, one_shot.image, self.labels
        ) as relay:
            outcome = self.host.run(replace(one_shot, binds=[*one_shot.binds, relay.mount]), self._seconds)
            if outcome.exit_code != 0:  # what ssh says of the target, it says there
                outcome = replace(outcome, errors=f"{outcome.errors} {relay.complaints()}")
            return outcome


def _ensure_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable(f"{directory}: {error.strerror}", "backup.target in inventory.yaml") from None


def _hint(exit_code: int) -> str:
    return {
        NO_REPOSITORY: "check backup.target in inventory.yaml; docs/needs-hand.md, a repository is gone",
        LOCKED: "docs/needs-hand.md, a repository is locked",
        WRONG_KEY: "docs/needs-hand.md, a repository does not open",
    }.get(exit_code, "check the backup target: reachable, not full, its host key unchanged?")


def _variables(path: Path) -> dict[str, str]:
    """Read a file of NAME=VALUE lines: what restic expects in its environment."""
    found = {}
    for number, line in enumerate(named_files.text(path, named_files.SECRET).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            raise BadInput(f"{path}, line {number}: NAME=VALUE is expected")
        found[name] = value
    return found
