"""Relays: what stands between one-shots beside a site and their repositories; one a request, or one for a whole run.

A relay sees no content, and knows no repository's key (provisioner/agent/relay.py).
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from provisioner.adapters.docker_host import DockerHost
from provisioner.agent import wire
from provisioner.agent.protocol import Relay
from provisioner.errors import ProvisionError
from provisioner.model.container import Bind, OneShot, Shared
from provisioner.model.names import LABEL_ROLE

ROLE = "relay"  # of one that a whole run shares; the others belong to their request's operation
SOCKETS = "/relay"


@dataclass(frozen=True)
class Way:
    """How a relay reaches repositories."""

    request: Relay
    network: str
    binds: tuple[Bind, ...] = ()

    def relay(self, host: DockerHost, prefix: str, image: str, labels: Mapping[str, str]) -> "Begun":
        """Return a relay on a host, not begun."""
        shared = Shared(f"{prefix}.relay.{secrets.token_hex(4)}", SOCKETS, labels=labels)
        one_shot = OneShot(
            name=shared.source,
            image=image,
            labels=labels,
            command=[Relay.verb],
            binds=[shared, *self.binds],
            network=self.network,
            files={"request.json": wire.written(self.request)},
        )
        return Begun(host, one_shot, Shared(shared.source, SOCKETS, read_only=True, labels=labels))


@dataclass(frozen=True)
class Begun:
    """A relay on its host, and how a one-shot mounts the directory of its socket."""

    host: DockerHost
    one_shot: OneShot
    mount: Shared

    def complaints(self) -> str:
        """Return what it has said of its targets so far."""
        return self.host.complaints(self.one_shot.name)

    def runs(self) -> bool:
        """Return whether it runs now."""
        found = self.host.inspect(self.one_shot.name)
        return found is not None and bool(found["State"]["Running"])

    def end(self) -> None:
        """Remove it, and the volume with its socket."""
        self.host.remove(self.one_shot.name)
        self.host.remove_volume(self.one_shot.name)


class Relays:
    """The relays that this process has begun."""

    def __init__(self) -> None:
        self._shares = False
        self._shared: dict[tuple[str, bytes], Begun] = {}
        self._swept: set[str] = set()  # hosts on which nothing is left of a run that died
        self._lock = threading.Lock()  # sites of a run are worked on side by side

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Have all requests of a block share one relay per host and target.

        Only one process at a time may do so: what it finds of that kind was left by one that died.
        """
        self._shares = True
        try:
            yield
        finally:
            self._shares = False
            for begun in self._shared.values():
                # A host that is gone by now takes nothing from what became of the sites; the next run sweeps there.
                with suppress(ProvisionError):
                    begun.end()
            self._shared.clear()
            self._swept.clear()

    @contextmanager
    def reach(
        self, host: DockerHost, own: Way, all_of_them: Way, prefix: str, image: str, labels: Mapping[str, str]
    ) -> Iterator[Begun]:
        """Have a relay for a block: to its ``own`` repository alone, or to ``all_of_them`` where one is shared.

        One of its own begins while the block runs: the engine takes as long to start either.

        Raises:
            ProvisionError: it does not start.

        """
        if self._shares:
            yield self._shared_one(host, all_of_them, image)
            return
        begun = own.relay(host, prefix, image, labels)
        try:
            with ThreadPoolExecutor(1) as pool:
                started: Future[None] = pool.submit(host.launch, begun.one_shot)
                yield begun
                started.result()
        finally:
            begun.end()

    def _shared_one(self, host: DockerHost, way: Way, image: str) -> Begun:
        place = host.name, wire.written(way.request)
        with self._lock:
            if host.name not in self._swept:
                host.remove_labelled(**{LABEL_ROLE: ROLE})
                self._swept.add(host.name)
            begun = self._shared.get(place)
            if begun is not None:
                if begun.runs():
                    return begun
                begun.end()  # it died: the next site gets another
            self._shared[place] = begun = way.relay(host, host.namespace, image, host.role_labels(ROLE))
            host.launch(begun.one_shot)
            return begun
