"""One Docker engine with one data root, local or over SSH: the only road to a host.

All work on a host's files runs in one-shot containers, so that a local and a remote host are the
same to every caller. Transient faults of the engine are waited out here, for a bounded time, and
what happened meanwhile is observed: a cut stream never counts as a success (A6).
"""

import hashlib
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from provisioner.agent import protocol
from provisioner.errors import ProvisionError
from provisioner.inventory import Host
from provisioner.model.container import Bind, OneShot, Outcome, Overlay, Scratch, Service, Shared
from provisioner.model.names import LABEL_NAMESPACE, LABEL_ROLE, LABEL_SPEC, LABEL_SUBJECT, ONE_SHOT_ROLES

# docker imports paramiko for its ssh:// transport and does without where there is none: hidden from it here, every
# command on a local engine starts a tenth of a second sooner. adapters/ssh.py imports both when a host needs them.
_hidden = sys.modules.setdefault("paramiko", None) is None  # type: ignore[arg-type]
import docker  # noqa: E402
from docker.errors import APIError, NotFound  # noqa: E402
from docker.types import LogConfig, Mount  # noqa: E402

from provisioner.adapters import under_way  # noqa: E402
from provisioner.adapters.archive import pack, unpack  # noqa: E402
from provisioner.adapters.engine import TRANSIENT, Engine, receive  # noqa: E402

if _hidden:
    del sys.modules["paramiko"]

STOP_SECONDS = 10  # grace between SIGTERM and SIGKILL
ONE_SHOT_SECONDS = 300
WAIT_SECONDS = 15  # how long one look at a one-shot that runs may take
FREE_SECONDS = 10  # how long the name, or a volume, of a container that is being removed may stay taken
_ENDED = ("created", "exited", "dead")  # states of a container in which nothing runs
# Rotated everywhere: unrotated logs that fill the disk are what users of such systems suffer most.
_LOGS = LogConfig(type=LogConfig.types.JSON, config={"max-size": "5m", "max-file": "2"})


class DockerHost:
    """The engine of one host, for one namespace."""

    def __init__(self, host: Host, namespace: str) -> None:
        self.name = host.name
        self.data_root = PurePosixPath(host.data_root)
        self.namespace = namespace
        self.settings = host
        self._engine = Engine(host)
        self.call = self._engine.call
        self._protocols: dict[str, int] = {}  # by image: a digest never changes what it names

    @property
    def _api(self) -> docker.APIClient:
        return self._engine.api

    # What the engine is

    def require_answer(self) -> None:
        """Make sure that the engine answers now, without waiting for it to come back.

        Raises:
            Unavailable: it does not.

        """
        self._engine.require_answer()

    def version(self) -> dict[str, Any]:
        """Return the engine's version and architecture.

        Raises:
            Unavailable: it does not answer.

        """
        return dict(self.call(lambda api: api.version()))

    @cached_property
    def identity(self) -> str:
        """Return a short name of this very engine: two engines never share it."""
        return hashlib.sha256(str(self.call(lambda api: api.info())["ID"]).encode()).hexdigest()[:8]

    # Services

    def ensure_service(self, service: Service) -> bool:
        """Make sure that ``service`` runs as described; return whether anything had to change."""
        if self.runs(service):
            return False
        self.ensure_created(service)
        self._start(service.name)
        return True

    def ensure_created(self, service: Service) -> None:
        """Make sure that the container of ``service`` exists as described, without starting it."""
        if self.has_drifted(service):
            self.remove(service.name)
        if self.inspect(service.name) is None:
            self._create_service(service)

    def runs(self, service: Service) -> bool:
        """Return whether ``service`` runs, as described."""
        existing = self.inspect(service.name)
        return existing is not None and bool(existing["State"]["Running"]) and not self.has_drifted(service)

    def has_drifted(self, service: Service) -> bool:
        """Return whether a container of that name exists that was made from another description."""
        existing = self.inspect(service.name)
        return existing is not None and existing["Config"]["Labels"].get(LABEL_SPEC) != service.fingerprint

    def _create_service(self, service: Service) -> None:
        api = self._api
        host_config = api.create_host_config(
            mounts=self._mounts(service.binds),
            network_mode=service.network,
            read_only=True,
            cap_drop=["ALL"],
            cap_add=list(service.capabilities),
            security_opt=["no-new-privileges"],
            restart_policy={"Name": service.restart},
            log_config=_LOGS,
            tmpfs=dict(service.tmpfs),
            mem_limit=f"{service.memory_mb}m" if service.memory_mb else None,
            memswap_limit=f"{service.memory_mb}m" if service.memory_mb else None,
            nano_cpus=int(service.cpus * 1e9) if service.cpus else None,
            pids_limit=service.processes,
        )
        self._create(
            service.name,
            image=service.image,
            command=list(service.command) if service.command else None,
            user=service.user,
            labels={**service.labels, LABEL_SPEC: service.fingerprint},
            host_config=host_config,
        )

    def _create(self, name: str, **config: Any) -> None:
        """Create the container ``name``.

        A container that has the name already is never removed: somebody may be at work in it. It is the one that is
        wanted where an earlier try made it, whose answer was lost.
        """
        deadline = time.monotonic() + FREE_SECONDS

        def act(api: docker.APIClient) -> None:
            while True:
                try:
                    api.create_container(name=name, **config)
                    return
                except APIError as error:
                    if error.status_code != 409:
                        raise
                if self._is_there(name, config["labels"], time.monotonic() > deadline):
                    return
                time.sleep(0.1)

        try:
            self.call(act)
        except NotFound as error:
            raise ProvisionError(
                f"host {self.name}: {error.explanation}", "provision release build   (or provision doctor)"
            ) from None
        except APIError as error:  # such as a directory to mount that is not there (any more)
            if error.is_server_error():
                raise
            raise ProvisionError(f"host {self.name}: {name}: {error.explanation}", "provision doctor") from None

    def _is_there(self, name: str, labels: Mapping[str, str], late: bool) -> bool:
        """Return whether the container ``name`` carries ``labels``; False while one of that name is being removed.

        Raises:
            ProvisionError: it is another one, or its removal does not end.

        """
        found = self.inspect(name)
        if found is None:
            return False
        if labels.items() <= (found["Config"]["Labels"] or {}).items():
            return True
        if late or found["State"]["Status"] != "removing":
            raise ProvisionError(f"host {self.name}: another container has the name {name}", f"docker inspect {name}")
        return False

    def _start(self, name: str) -> None:
        try:
            self.call(lambda api: api.start(name))
        except APIError as error:
            raise ProvisionError(f"host {self.name}: {name} does not start: {error.explanation}") from None

    # One-shots

    def run(self, one_shot: OneShot, seconds: float = ONE_SHOT_SECONDS) -> Outcome:
        """Run ``one_shot`` to its end and return how it ended; its container is removed.

        Its container gets a name of its own, so that two at a time never meet.

        Raises:
            ProvisionError: it did not end within ``seconds``, somebody removed it, or its image is missing.
            Interrupted: a signal asked to stop meanwhile.

        """
        one_shot = _of_its_own(one_shot)
        with under_way.waited_for(one_shot.name, lambda: self._engine.end(one_shot.name)) as waited:
            try:
                return self._run(one_shot, seconds, waited)
            except (ProvisionError, APIError):
                waited.require_wanted()  # else a stop took its container away, whatever was asked of it just then
                raise

    def _run(self, one_shot: OneShot, seconds: float, waited: under_way.OneShotUnderWay) -> Outcome:
        self.launch(one_shot)
        try:
            waited.require_wanted()
            exit_code = self._wait(one_shot.name, seconds)
            waited.require_wanted()
            output = self.said(one_shot.name)
            errors = self._logs(one_shot.name, stdout=False) if exit_code != 0 else ""
            wanted = exit_code == 0 and one_shot.collect
            files = self._collected(one_shot.name, one_shot.collect) if wanted else {}
        except APIError as error:
            if error.status_code not in (404, 409):  # gone, or going
                raise
            raise ProvisionError(f"host {self.name}: {one_shot.name} was removed before it ended") from None
        finally:
            self.remove(one_shot.name)
        return Outcome(exit_code, output, errors, files)

    def _collected(self, name: str, directory: str) -> dict[str, bytes]:
        try:
            return unpack(self.call(lambda api: b"".join(api.get_archive(name, directory)[0])))
        except NotFound:
            return {}

    def launch(self, one_shot: OneShot) -> None:
        """Start ``one_shot`` under its very name and do not wait for it; whoever launches it removes it.

        Raises:
            ProvisionError: its image is missing, or it does not start.

        """
        self._create_one_shot(one_shot)
        try:
            if one_shot.files:
                confined = one_shot.confinement
                archive = pack(one_shot.files, confined.uid if confined else 0)
                place = "/tmp" if confined and not confined.writable_root else "/"  # noqa: S108  (inside the container)
                self.call(lambda api: api.put_archive(one_shot.name, place, archive))
            self._start(one_shot.name)
        except Exception:
            self.remove(one_shot.name)
            raise

    def said(self, name: str) -> str:
        """Return what a container has printed so far."""
        return self._logs(name, stdout=True)

    def complaints(self, name: str) -> str:
        """Return what a container has printed to standard error so far."""
        return self._logs(name, stdout=False)

    def fetch(self, holder: OneShot, path: str, target: Path, *, size: int, sha256: str) -> None:
        """Bring the file ``path``, as ``holder`` sees it, to ``target`` on this machine; ``holder`` never runs.

        Raises:
            Unavailable: not all of its ``size`` bytes arrived, twice; what did lies in ``target`` (A6).
            OSError: ``target`` cannot be written.

        """
        holder = _of_its_own(holder)
        self._create_one_shot(holder)
        try:
            self.call(lambda api: receive(api, holder.name, path, target, size, sha256))
        except APIError as error:
            raise ProvisionError(f"host {self.name}: {path}: {error.explanation}") from None
        finally:
            self.remove(holder.name)

    def _create_one_shot(self, one_shot: OneShot) -> None:
        api, confined = self._api, one_shot.confinement
        mounts = self._one_shot_mounts(one_shot.binds)
        limits: dict[str, Any] = {"cap_add": list(one_shot.capabilities)}
        if confined:
            mounts["mounts"].append(Mount(target="/tmp", source=None, type="volume"))  # noqa: S108  (its own)
            limits = {
                "read_only": not confined.writable_root,
                "mem_limit": f"{confined.memory_mb}m",
                "memswap_limit": f"{confined.memory_mb}m",
                "nano_cpus": int(confined.cpus * 1e9),
                "pids_limit": confined.processes,
            }
        host_config = api.create_host_config(
            **mounts,
            **limits,
            network_mode=one_shot.network,
            extra_hosts=dict(one_shot.addresses),
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            restart_policy={"Name": one_shot.restart},
            log_config=_LOGS,
        )
        self._create(
            one_shot.name,
            image=one_shot.image,
            command=list(one_shot.command),
            user=confined.user if confined else one_shot.user,
            hostname=one_shot.hostname,
            labels=dict(one_shot.labels),
            host_config=host_config,
            # The same isolation, a network namespace with nothing but lo, without the two programs that the engine
            # runs to prepare one: that is half of what such a container costs (0.35 s instead of 0.64 on a busy host).
            network_disabled=one_shot.network == "none",
        )

    def _wait(self, name: str, seconds: float) -> int:
        """Return the exit code of ``name`` once it has really exited; a broken wait is repeated."""
        deadline = time.monotonic() + seconds
        while (began := time.monotonic()) < deadline:
            try:
                ended = self._api.wait(name, timeout=int(min(WAIT_SECONDS, deadline - began + 1)))
                return int(ended["StatusCode"])
            except TRANSIENT as error:
                self._engine.wait_for_return(began, error)
                state = self.call(lambda api: api.inspect_container(name))["State"]
                if state["Status"] == "exited":
                    return int(state["ExitCode"])
        raise ProvisionError(f"host {self.name}: {name} did not end within {seconds:.0f} s")

    def _logs(self, name: str, *, stdout: bool) -> str:
        logs = self.call(lambda api: api.logs(name, stdout=stdout, stderr=not stdout))
        return bytes(logs).decode(errors="replace")

    # Looking and short commands

    def execute(self, container: str, argv: Sequence[str], user: str = "") -> Outcome:
        """Run a short, idempotent command in a running container (never anything long: an exec outlives its client)."""
        try:
            return self._engine.execute(container, argv, user)
        except APIError as error:
            raise ProvisionError(
                f"host {self.name}: {container}: {error.explanation}", "provision doctor --fix"
            ) from None

    def last_words(self, container: str) -> str:
        """Return the last lines that ``container`` printed: what a service that does not stay up died of."""
        try:
            logs = self.call(lambda api: api.logs(container, tail=2))
        except NotFound:
            return "it does not exist"
        return " ".join(bytes(logs).decode(errors="replace").split()) or "it said nothing"

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Return what the engine knows of ``container``, or None when it does not exist."""
        try:
            return dict(self.call(lambda api: api.inspect_container(container)))
        except NotFound:
            return None

    def containers(self, **labels: str) -> list[dict[str, Any]]:
        """Return this namespace's containers, running or not, that carry all of ``labels``."""
        filters = {"label": self._wanted(labels)}
        return list(self.call(lambda api: api.containers(all=True, filters=filters)))

    def _wanted(self, labels: Mapping[str, str]) -> list[str]:
        return [f"{key}={value}" for key, value in {LABEL_NAMESPACE: self.namespace, **labels}.items()]

    def running_by_hostname(self) -> dict[str, dict[str, Any]]:
        """Return what the engine knows of this namespace's containers that run (or are paused), by their host names."""
        found = (self.inspect(one["Id"]) for one in self.containers() if one["State"] not in _ENDED)
        return {str(details["Config"]["Hostname"]): details for details in found if details is not None}

    def remove(self, container: str) -> None:
        """Remove ``container`` whether it runs or not; nothing happens when there is none."""

        def act(api: docker.APIClient) -> None:
            try:
                api.remove_container(container, force=True, v=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != 409:  # its removal is already under way
                    raise

        self.call(act)

    def stop(self, container: str) -> None:
        """Stop ``container``, which answers first what it has accepted; it does not start again by itself."""
        try:
            self.call(lambda api: api.stop(container, timeout=STOP_SECONDS))
        except NotFound:
            return

    def remove_labelled(self, **labels: str) -> None:
        """Remove every container of this namespace that carries all of ``labels``, then such volumes."""
        for container in self.containers(**labels):
            self.remove(container["Id"])
        filters = {"label": self._wanted(labels)}
        found = self.call(lambda api: api.volumes(filters=filters))["Volumes"]
        for volume in found or []:
            self.remove_volume(volume["Name"])

    # Images

    def image(self, reference: str) -> dict[str, Any] | None:
        """Return what the engine knows of an image, or None when it has none of that name."""
        try:
            return dict(self.call(lambda api: api.inspect_image(reference)))  # type: ignore[no-untyped-call]
        except NotFound:
            return None

    def protocol(self, reference: str) -> int:
        """Return the protocol that the program in a site's image speaks; images older than protocols speak the first.

        Raises:
            ProvisionError: the host has no such image.

        """
        if reference not in self._protocols:
            image = self.image(reference)
            if image is None:
                raise ProvisionError(
                    f"host {self.name}: the image {reference[:19]} is missing", "provision release build"
                )
            labels = image["Config"].get("Labels") or {}
            self._protocols[reference] = int(labels.get(protocol.LABEL, protocol.FIRST))
        return self._protocols[reference]

    def _mounts(self, binds: Sequence[Bind]) -> list[Mount]:
        return [self._mount(bind) for bind in binds]

    def _mount(self, bind: Bind) -> Mount:
        if isinstance(bind, Overlay):
            return self._overlay(bind)
        if isinstance(bind, Shared):
            self.call(lambda api: api.create_volume(bind.source, labels=dict(bind.labels)))
            return Mount(target=bind.target, source=bind.source, type="volume", read_only=bind.read_only)
        return Mount(
            target=bind.target, source=str(self.data_root / bind.source), type="bind", read_only=bind.read_only
        )

    def _overlay(self, overlay: Overlay) -> Mount:
        """Return the mount of a volume that the engine's own driver makes of two directories; it is made once."""
        lower, upper, work = (
            self.data_root / part for part in (overlay.source, f"{overlay.layer}/upper", f"{overlay.layer}/work")
        )
        options = {"type": "overlay", "device": "overlay", "o": f"lowerdir={lower},upperdir={upper},workdir={work}"}
        self.call(
            lambda api: api.create_volume(
                overlay.name, driver="local", driver_opts=options, labels=dict(overlay.labels)
            )
        )
        return Mount(target=overlay.target, source=overlay.name, type="volume", no_copy=True)

    def remove_volume(self, name: str) -> None:
        """Remove a volume; nothing happens when there is none.

        Raises:
            ProvisionError: a container uses it, and is not on its way out.

        """
        deadline = time.monotonic() + FREE_SECONDS
        while True:
            try:
                self.call(lambda api: api.remove_volume(name))
                return
            except NotFound:
                return
            except APIError as error:
                # Somebody else is removing its last container, such as a signal that asked to stop.
                if error.status_code != 409 or time.monotonic() > deadline:
                    raise ProvisionError(f"host {self.name}: volume {name}: {error.explanation}") from None
            time.sleep(0.1)

    def _one_shot_mounts(self, binds: Sequence[Bind]) -> dict[str, Any]:
        """Return mounts; the data root and a scratch directory are classic binds, which are made when missing."""
        made = [bind for bind in binds if not bind.source or isinstance(bind, Scratch)]
        return {
            "mounts": self._mounts([bind for bind in binds if bind not in made]),
            "binds": [f"{self.data_root / bind.source}:{bind.target}" for bind in made],
        }

    def left_over(self, age: float) -> list[str]:
        """Return the names of one-shots that ended, made more than ``age`` seconds ago: nobody waits for them."""
        before = time.time() - age
        return [
            one["Names"][0].lstrip("/")
            for one in self.containers()
            if one["Labels"].get(LABEL_ROLE) in ONE_SHOT_ROLES
            and one["State"] in ("exited", "dead")
            and one["Created"] < before
        ]

    def role_labels(self, role: str) -> dict[str, str]:
        """Return the labels of what the host runs once."""
        return {LABEL_NAMESPACE: self.namespace, LABEL_ROLE: role}

    def held_labels(self, subject: str) -> dict[str, str]:
        """Return the labels of a one-shot that runs under the lock of ``subject``, and so alone."""
        return {**self.role_labels("one-shot"), LABEL_SUBJECT: subject}


def _of_its_own(one_shot: OneShot) -> OneShot:
    return replace(one_shot, name=f"{one_shot.name}.{secrets.token_hex(4)}")
