"""One Docker engine with one data root, local or over SSH: the only road to a host.

All work on a host's files runs in one-shot containers, so that a local and a remote host are the
same to every caller. Transient faults of the engine are waited out here, for a bounded time, and
what happened meanwhile is observed: a cut stream never counts as a success (A6).
"""

import io
import sys
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

import requests
from urllib3.exceptions import HTTPError

from provisioner.errors import ProvisionError, Unavailable
from provisioner.inventory import Host
from provisioner.model.container import Bind, OneShot, Outcome, Service
from provisioner.model.names import LABEL_NAMESPACE, LABEL_ROLE, LABEL_SPEC

# docker imports paramiko for its ssh:// transport and does without where there is none: hidden from it here, every
# command on a local engine starts a tenth of a second sooner. adapters/ssh.py imports both when a host needs them.
_hidden = sys.modules.setdefault("paramiko", None) is None  # type: ignore[arg-type]
import docker  # noqa: E402
from docker.errors import APIError, DockerException, NotFound  # noqa: E402
from docker.types import LogConfig, Mount  # noqa: E402

if _hidden:
    del sys.modules["paramiko"]

ANSWER_SECONDS = 30  # how long one call to the engine may take
RETURN_SECONDS = 40  # how long an engine that went away may take to come back
STOP_SECONDS = 10  # grace between SIGTERM and SIGKILL
ONE_SHOT_SECONDS = 300
_TRANSIENT = (requests.ConnectionError, requests.Timeout, HTTPError, ConnectionError, TimeoutError, EOFError)
# Rotated everywhere: unrotated logs that fill the disk are what users of such systems suffer most.
_LOGS = LogConfig(type=LogConfig.types.JSON, config={"max-size": "5m", "max-file": "2"})

T = TypeVar("T")


class DockerHost:
    """The engine of one host, for one namespace."""

    def __init__(self, host: Host, namespace: str) -> None:
        self.name = host.name
        self.data_root = PurePosixPath(host.data_root)
        self.namespace = namespace
        self.settings = host
        self._host = host
        self._connected: docker.APIClient | None = None

    @property
    def _api(self) -> docker.APIClient:
        if self._connected is None:
            self._connected = _connect(self._host)
        return self._connected

    def call(self, action: Callable[[docker.APIClient], T]) -> T:
        """Run ``action`` on the engine's API; when the engine goes away, wait for it (bounded) and run it again, once.

        Every action given here may be repeated: it names its container, or only looks.
        """
        try:
            return action(self._api)
        except (*_TRANSIENT, DockerException) as error:
            if isinstance(error, APIError) and not _engine_fault(error):
                raise
            self._connected = None
            self._wait_for_return(error)
            try:
                return action(self._api)
            except _TRANSIENT as again:
                raise Unavailable(f"host {self.name}: the engine does not answer: {again}") from again

    def _wait_for_return(self, cause: Exception) -> None:
        deadline = time.monotonic() + RETURN_SECONDS
        while time.monotonic() < deadline:
            try:
                _connect(self._host, timeout=5).ping()
            except Unavailable:
                raise
            except (*_TRANSIENT, DockerException):
                time.sleep(0.5)
            else:
                return
        raise self._silent(cause) from cause

    def _silent(self, cause: Exception) -> Unavailable:
        return Unavailable(
            f"host {self.name}: the engine at {self._host.engine} does not answer: {' '.join(str(cause).split())}",
            "start the engine (systemctl start docker, or .ci/engine where there is no systemd)",
        )

    # What the engine is

    def require_answer(self) -> None:
        """Make sure that the engine answers now, without waiting for it to come back.

        Raises:
            Unavailable: it does not.

        """
        try:
            _connect(self._host, timeout=5).ping()
        except (*_TRANSIENT, DockerException) as error:
            raise self._silent(error) from error

    def version(self) -> dict[str, Any]:
        """Return the engine's version and architecture.

        Raises:
            Unavailable: it does not answer.

        """
        return dict(self.call(lambda api: api.version()))

    # Services

    def ensure_service(self, service: Service) -> bool:
        """Make sure that ``service`` runs as described; return whether anything had to change."""
        if self.runs(service):
            return False
        self.ensure_created(service)
        self.call(lambda api: api.start(service.name))
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
            restart_policy={"Name": "unless-stopped"},
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
        """Create the container ``name``, replacing one that an interrupted run left under this name."""

        def act(api: docker.APIClient) -> None:
            try:
                api.create_container(name=name, **config)
            except APIError as error:
                if error.status_code != 409:
                    raise
                api.remove_container(name, force=True)
                api.create_container(name=name, **config)

        try:
            self.call(act)
        except NotFound as error:
            raise ProvisionError(
                f"host {self.name}: {error.explanation}", "provision release build   (or provision doctor)"
            ) from None

    # One-shots

    def run(self, one_shot: OneShot, seconds: float = ONE_SHOT_SECONDS) -> Outcome:
        """Run ``one_shot`` to its end and return how it ended; its container is removed.

        Raises:
            ProvisionError: it did not end within ``seconds``, or its image is missing.

        """
        api = self._api
        host_config = api.create_host_config(
            **self._one_shot_mounts(one_shot.binds),
            network_mode=one_shot.network,
            cap_drop=["ALL"],
            cap_add=list(one_shot.capabilities),
            security_opt=["no-new-privileges"],
            log_config=_LOGS,
        )
        self._create(
            one_shot.name,
            image=one_shot.image,
            command=list(one_shot.command),
            user=one_shot.user,
            labels=dict(one_shot.labels),
            host_config=host_config,
        )
        try:
            if one_shot.files:
                archive = _archive(one_shot.files)
                self.call(lambda api: api.put_archive(one_shot.name, "/", archive))
            self.call(lambda api: api.start(one_shot.name))
            exit_code = self._wait(one_shot.name, seconds)
            output = self._logs(one_shot.name, stdout=True)
            errors = self._logs(one_shot.name, stdout=False) if exit_code != 0 else ""
        finally:
            self.remove(one_shot.name)
        return Outcome(exit_code, output, errors)

    def _wait(self, name: str, seconds: float) -> int:
        """Return the exit code of ``name`` once it has really exited; a broken wait is repeated."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                ended = self._api.wait(name, timeout=int(min(ANSWER_SECONDS, deadline - time.monotonic() + 1)))
                return int(ended["StatusCode"])
            except _TRANSIENT:
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

        def act(api: docker.APIClient) -> Outcome:
            started = api.exec_create(container, list(argv), stdout=True, stderr=True, user=user)
            output = api.exec_start(started["Id"], demux=True)
            code = api.exec_inspect(started["Id"])["ExitCode"]
            if code is None:  # the stream was cut while the command went on
                raise ConnectionError(f"lost sight of a command in {container}")
            stdout, stderr = output
            return Outcome(
                int(code), (stdout or b"").decode(errors="replace"), (stderr or b"").decode(errors="replace")
            )

        try:
            return self.call(act)
        except APIError as error:
            raise ProvisionError(
                f"host {self.name}: {container}: {error.explanation}", "provision doctor --fix"
            ) from None

    def last_words(self, container: str) -> str:
        """Return the last line that ``container`` printed: what a service that does not stay up died of."""
        try:
            logs = self.call(lambda api: api.logs(container, tail=1))
        except NotFound:
            return "it does not exist"
        return bytes(logs).decode(errors="replace").strip() or "it said nothing"

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Return what the engine knows of ``container``, or None when it does not exist."""
        try:
            return dict(self.call(lambda api: api.inspect_container(container)))
        except NotFound:
            return None

    def containers(self, **labels: str) -> list[dict[str, Any]]:
        """Return this namespace's containers, running or not, that carry all of ``labels``."""
        wanted = {LABEL_NAMESPACE: self.namespace, **labels}
        filters = {"label": [f"{key}={value}" for key, value in wanted.items()]}
        return list(self.call(lambda api: api.containers(all=True, filters=filters)))

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

    def remove_labelled(self, **labels: str) -> None:
        """Remove every container of this namespace that carries all of ``labels``."""
        for container in self.containers(**labels):
            self.remove(container["Id"])

    # Images

    def image(self, reference: str) -> dict[str, Any] | None:
        """Return what the engine knows of an image, or None when it has none of that name."""
        try:
            return dict(self.call(lambda api: api.inspect_image(reference)))  # type: ignore[no-untyped-call]
        except NotFound:
            return None

    def _mounts(self, binds: Sequence[Bind]) -> list[Mount]:
        return [
            Mount(
                target=bind.target,
                source=str(self.data_root / bind.source),
                type="bind",
                read_only=bind.read_only,
            )
            for bind in binds
        ]

    def _one_shot_mounts(self, binds: Sequence[Bind]) -> dict[str, Any]:
        """Return mounts; the data root itself is a classic bind, because only that makes it when it is missing."""
        whole = [f"{self.data_root}:{bind.target}" for bind in binds if not bind.source]
        return {"mounts": self._mounts([bind for bind in binds if bind.source]), "binds": whole}

    def role_labels(self, role: str) -> dict[str, str]:
        """Return the labels of what the host runs once."""
        return {LABEL_NAMESPACE: self.namespace, LABEL_ROLE: role}


def _engine_fault(error: APIError) -> bool:
    """Return whether the engine itself is at fault: it is starting or stopping."""
    return error.status_code is not None and error.status_code in (502, 503)


def _connect(host: Host, timeout: int = ANSWER_SECONDS) -> docker.APIClient:
    if host.engine.startswith("ssh://"):
        from provisioner.adapters.ssh import connect

        return connect(host, timeout)
    return docker.APIClient(base_url=host.engine, version="1.41", timeout=timeout)


def _archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
