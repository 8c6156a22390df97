"""What the engine itself knows of everything that a town runs: rights, roots, limits, networks, mounts, secrets."""

import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from provisioner.adapters.archive import unpack
from provisioner.model.names import LABEL_ROLE, SITE_UID_BASE
from tests.support.town import CHECKOUT, Town

DOCUMENT = CHECKOUT / "docs" / "security.md"
REQUESTS = ("/request.json", "/tmp/request.json")  # where a one-shot reads what it is asked
COLUMNS = ("container", "user", "capabilities", "network", "root", "limits", "content")


@dataclass(frozen=True)
class Rights:
    """What one kind of container may do: a row of the table in docs/security.md."""

    container: str  # its role
    user: str  # "site", "root", or a number
    capabilities: frozenset[str]
    network: str
    root: str  # "read-only" or "writable"
    limits: str  # "all" (memory, processes, processors), "some", or "none"
    content: str  # what it sees of what a site owns: "own" site's, "any" site's, "none"

    @property
    def row(self) -> str:
        """Return the row as the table has it, without its reason."""
        capabilities = " ".join(sorted(self.capabilities)) or "none"
        return (
            f"| `{self.container}` | {self.user} | {capabilities} | {self.network} | {self.root} | {self.limits} "
            f"| {self.content} |"
        )


def documented() -> set[Rights]:
    """Return the rows of the table of docs/security.md."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    tables = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    heading = next(number for number, cells in enumerate(tables) if tuple(cells[: len(COLUMNS)]) == COLUMNS)
    found = set()
    for cells in tables[heading + 2 :]:
        if len(cells) != len(COLUMNS) + 1:
            break
        role, user, capabilities, *rest = cells[: len(COLUMNS)]
        found.add(Rights(role, user, frozenset(capabilities.replace("none", "").split()), *rest))
    return found


@dataclass(frozen=True)
class Place:
    """A directory of the host that a container sees."""

    source: Path
    destination: str
    writable: bool
    strangers: tuple[str, ...]  # links in its path, and parents that are not root's, when the container began


@dataclass(frozen=True)
class Seen:
    """A container as it was when it began."""

    name: str
    attributes: Mapping[str, Any]
    places: tuple[Place, ...]
    files: Mapping[str, bytes]  # put there before the start, where it was looked for them

    @property
    def role(self) -> str:
        """Return the role by its label."""
        return str(self.attributes["Config"]["Labels"][LABEL_ROLE])

    @property
    def shown(self) -> str:
        """Return all that the engine tells about it to whoever may ask."""
        return json.dumps(dict(self.attributes))

    @property
    def uid(self) -> int:
        """Return the user that it runs as."""
        user = (self.attributes["Config"]["User"] or "0").partition(":")[0]
        return int(user) if user.isdigit() else 0

    @property
    def limited(self) -> bool:
        """Return whether its memory, its processes and its processors are bounded."""
        settings = self.settings
        return all((settings["Memory"], settings["PidsLimit"], settings["NanoCpus"] or settings["CpuQuota"]))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return what the engine was told about its host side."""
        settings: Mapping[str, Any] = self.attributes["HostConfig"]
        return settings

    def rights(self, data_root: Path) -> Rights:
        """Return what it may do, in the table's words."""
        settings, config = self.settings, self.attributes["Config"]
        uid = (config["User"] or "0").partition(":")[0]
        user = "root" if uid in ("0", "root") else "site" if uid.isdigit() and int(uid) >= SITE_UID_BASE else uid
        limited = [settings["Memory"], settings["PidsLimit"], settings["NanoCpus"] or settings["CpuQuota"]]
        network = "none" if config.get("NetworkDisabled") else settings["NetworkMode"]
        return Rights(
            container=self.role,
            user=user,
            capabilities=frozenset(one.removeprefix("CAP_") for one in settings["CapAdd"] or ()),
            network=network,
            root="read-only" if settings["ReadonlyRootfs"] else "writable",
            limits="all" if all(limited) else "some" if any(limited) else "none",
            content=self._content(data_root),
        )

    def _content(self, data_root: Path) -> str:
        inside = {
            place.source.relative_to(data_root).parts for place in self.places if place.source.is_relative_to(data_root)
        }
        if any(parts in ((), ("sites",), ("run",), ("run", "sites")) for parts in inside):
            return "any"
        own = [parts for parts in inside if parts[:1] == ("sites",) or parts[:2] == ("run", "sites")]
        return "own" if own else "none"


class EngineView:
    """Notes every container of a town that begins while a block runs."""

    def __init__(self, town: Town, *, files: bool = False) -> None:
        self._with_files = files  # takes time
        self.seen: list[Seen] = []
        self._told = 0
        self._client = town.docker()
        self._filters = {"type": "container", "label": f"provision.namespace={town.namespace}", "event": "start"}

    def __enter__(self) -> "EngineView":
        self._events = self._client.events(decode=True, filters=self._filters)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._events.close()
        self._thread.join(timeout=10)

    def since_the_last_time(self) -> list[Seen]:
        """Return what began since this was last asked."""
        seen, self._told = self.seen[self._told :], len(self.seen)
        return seen

    def _watch(self) -> None:
        with suppress(ValueError, OSError):  # the stream was closed
            for event in self._events:
                self.look_at(event["id"])

    def look_at(self, container: str) -> None:
        """Note a container as it is now; one that is gone already is passed over."""
        try:
            attributes = self._client.api.inspect_container(container)
        except NotFound:
            return
        places = tuple(
            Place(Path(one["Source"]), one["Destination"], bool(one["RW"]), tuple(strangers(Path(one["Source"]))))
            for one in attributes["Mounts"]
            if one["Type"] == "bind"
        )
        self.seen.append(
            Seen(attributes["Name"].lstrip("/"), attributes, places, self._files(container) if self._with_files else {})
        )

    def _files(self, container: str) -> dict[str, bytes]:
        """Return the request that a container was given, unless its program has read and removed it already."""
        found: dict[str, bytes] = {}
        for path in REQUESTS:
            with suppress(APIError):  # there is none, or the container is gone
                stream, _ = self._client.api.get_archive(container, path)
                found[path] = b"".join(unpack(b"".join(stream)).values())
        return found


def strangers(source: Path) -> Iterator[str]:
    """Yield what is wrong with a path that root mounts: a link in it, or a parent that is not root's alone."""
    for path in (source, *source.parents):
        with suppress(FileNotFoundError):
            state = os.lstat(path)
            if stat.S_ISLNK(state.st_mode):
                yield f"{path} is a link to {os.readlink(path)}"
            elif path != source and (state.st_uid != 0 or (state.st_mode & 0o022 and not state.st_mode & stat.S_ISVTX)):
                yield f"{path} belongs to user {state.st_uid}, mode {stat.S_IMODE(state.st_mode):o}"
