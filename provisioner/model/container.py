"""Descriptions of containers: services that run for good, one-shots that do one thing, and how they end."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from provisioner.errors import ProvisionError

# What a root one-shot needs to prepare files for other users, and nothing else.
FILE_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER")


@dataclass(frozen=True)
class Bind:
    """A directory as a container sees it. Directories only: a file keeps its old inode.

    ``source`` is relative to the host's data root, or an absolute path on the host.
    """

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Scratch(Bind):
    """A directory for a one-shot to work in, made by the engine when it is missing."""


@dataclass(frozen=True)
class Overlay(Bind):
    """A directory as it is, with a layer above it that takes the writes: ``upper`` and ``work``, beside each other.

    The volume that mounts both is called ``name``, and goes with its container.
    """

    name: str = ""
    layer: str = ""  # directory of upper and work, relative to the data root
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shared(Bind):
    """A volume of the engine's, by its name (``source``), through which two containers speak; made if missing."""

    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """A container that is to run for good."""

    name: str
    image: str
    labels: Mapping[str, str]
    binds: Sequence[Bind]
    command: Sequence[str] | None = None
    user: str | None = None
    network: str = "none"
    capabilities: Sequence[str] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    memory_mb: int | None = None
    cpus: float | None = None
    processes: int | None = None
    restart: str = "unless-stopped"

    @property
    def fingerprint(self) -> str:
        """Return a hash of everything above; a container that carries another one has drifted."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Confinement:
    """A site's own rights and limits, for what works beside it.

    Its user id without any capability or further group, and a /tmp of its own that goes with the container. The root is
    read-only but for images that are older than this (``writable_root``).
    """

    uid: int
    memory_mb: int
    cpus: float
    processes: int
    writable_root: bool = False

    @property
    def user(self) -> str:
        """Return the user and group as the engine takes them."""
        return f"{self.uid}:{self.uid}"


@dataclass(frozen=True)
class OneShot:
    """A container that does one thing and ends; its exit code is what counts."""

    name: str  # its container's; each that is run gets some letters of its own behind it
    image: str
    labels: Mapping[str, str]
    command: Sequence[str]
    binds: Sequence[Bind] = ()
    user: str = "0:0"
    confinement: Confinement | None = None  # beside a site; it takes the place of user and capabilities
    network: str = "none"
    hostname: str | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)  # host names that it finds without asking a DNS server
    capabilities: Sequence[str] = ()
    files: Mapping[str, bytes] = field(
        default_factory=dict
    )  # put below / (where the root is read-only: below /tmp) before the start, never in argv or environment
    restart: str = "no"
    collect: str = ""  # directory inside whose files come back when it ended well: small ones, they go through memory


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    exit_code: int
    output: str
    errors: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)  # what was collected, by path below that directory

    def require_success(self, what: str) -> str:
        """Return the output.

        Raises:
            ProvisionError: the exit code is not 0.

        """
        if self.exit_code != 0:
            said = " ".join((self.errors or self.output).split())[-400:]
            raise ProvisionError(f"{what} ended with exit code {self.exit_code}: {said or 'it said nothing'}")
        return self.output
