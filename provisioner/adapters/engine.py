"""The wire to one Docker engine: calls are bounded, repeated after a fault, and their answers whole (A6, A8)."""

import contextlib
import hashlib
import os
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException
from urllib3.exceptions import HTTPError

from provisioner.errors import ProvisionError, Unavailable
from provisioner.inventory import Host
from provisioner.model.container import Outcome

ANSWER_SECONDS = 30  # how long one call to the engine may take
RETURN_SECONDS = 45  # how long an engine may be away, counted from the call that missed it
PING_SECONDS = 5
LARGEST_OUTPUT = 32 << 20  # bytes that a command may print
_CHUNK = 1 << 20  # bytes of a file that are held at once
TRANSIENT = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,  # an answer that was cut in its body
    HTTPError,
    ConnectionError,
    TimeoutError,
    EOFError,
)
# What a command prints ends with its exit code: output without it was cut, however whole the stream looks.
_WITH_EXIT_CODE = ("sh", "-c", '"$@"; printf "\\0%d\\n" "$?"', "sh")

T = TypeVar("T")


class Engine:
    """The engine of one host. Threads may share it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        # A client per thread: docker-py's is not made to be shared, and sshd allows ten sessions per connection.
        self._mine = threading.local()
        self._gone = False  # it was waited for in vain: nothing waits as long for it again

    @property
    def api(self) -> docker.APIClient:
        """Return this thread's client; it connects when first used."""
        api: docker.APIClient | None = getattr(self._mine, "api", None)
        if api is None:
            api = self._mine.api = _connect(self._host)
        return api

    def call(self, action: Callable[[docker.APIClient], T]) -> T:
        """Run ``action``; when the engine goes away, wait for it (bounded) and run it again, once.

        Every action given here may be repeated: it names its container, or only looks.

        Raises:
            Unavailable: the engine does not answer.

        """
        began = time.monotonic()
        if self._gone:
            self.wait_for_return(began - RETURN_SECONDS, ConnectionError("it did not come back"))
        try:
            return action(self.api)
        except (*TRANSIENT, DockerException) as error:
            if isinstance(error, APIError) and not _engine_fault(error):
                raise
            self.wait_for_return(began, error)
            try:
                return action(self.api)
            except TRANSIENT as again:
                raise self._silent(again) from again

    def wait_for_return(self, since: float, cause: Exception) -> None:
        """Wait for the engine until 45 s after ``since``; ask it once at least.

        Raises:
            Unavailable: it did not come back.

        """
        self._mine.api = None
        while True:
            try:
                self._ping()
            except (*TRANSIENT, DockerException):
                self._gone = time.monotonic() > since + RETURN_SECONDS
                if self._gone:
                    raise self._silent(cause) from cause
                time.sleep(0.5)
            else:
                self._gone = False
                return

    def require_answer(self) -> None:
        """Make sure that the engine answers now, without waiting for it to come back.

        Raises:
            Unavailable: it does not.

        """
        try:
            self._ping()
        except (*TRANSIENT, DockerException) as error:
            raise self._silent(error) from error

    def end(self, container: str) -> None:
        """End and remove a container at once, over a connection of its own: whoever waits for it keeps theirs.

        Raises:
            ProvisionError: it is not there, or the engine does not answer.

        """
        try:
            with contextlib.closing(_connect(self._host, timeout=PING_SECONDS)) as api:
                api.remove_container(container, force=True, v=True)
        except (*TRANSIENT, DockerException) as error:
            raise ProvisionError(f"host {self._host.name}: {container}: {error}") from None

    def execute(self, container: str, argv: Sequence[str], user: str) -> Outcome:
        """Run a short, idempotent command in a running container, and return all that it printed.

        Raises:
            APIError: the container does not run.
            Unavailable: the engine does not answer.

        """
        return self.call(lambda api: _execute(api, container, argv, user))

    def _ping(self) -> None:
        with contextlib.closing(_connect(self._host, timeout=PING_SECONDS)) as api:
            api.ping()

    def _silent(self, cause: Exception) -> Unavailable:
        said = " ".join(str(cause).split())
        return Unavailable(
            f"host {self._host.name}: the engine at {self._host.engine} does not answer: {said}",
            "start the engine (systemctl start docker, or .ci/engine where there is no systemd)",
        )


def _execute(api: docker.APIClient, container: str, argv: Sequence[str], user: str) -> Outcome:
    started = api.exec_create(container, [*_WITH_EXIT_CODE, *argv], user=user)
    # Not by docker-py, which waits without limit for a stream that says nothing.
    url = f"{api.base_url}/v{api.api_version}/exec/{started['Id']}/start"
    options: dict[str, Any] = {"json": {"Detach": False, "Tty": False}, "stream": True}
    upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
    with contextlib.closing(api.post(url, headers=upgrade, timeout=ANSWER_SECONDS, **options)) as answer:
        if not answer.ok:
            raise APIError(str(answer.reason), answer, answer.json().get("message"))
        raw: Any = answer.raw  # what follows an upgrade is no HTTP body: it is read where docker-py reads it
        said = raw._fp.fp.read(LARGEST_OUTPUT + 1)
    if len(said) > LARGEST_OUTPUT:
        raise ProvisionError(f"{container}: {argv[0]} printed more than {LARGEST_OUTPUT >> 20} MiB")
    stdout, errors = _streams(said)
    output, nul, code = stdout.rpartition(b"\0")
    if not nul or not code.endswith(b"\n"):
        raise ConnectionError(f"lost sight of a command in {container}")
    return Outcome(int(code), output.decode(errors="replace"), errors.decode(errors="replace"))


def receive(api: docker.APIClient, name: str, path: str, target: Path, size: int, sha256: str) -> None:
    """Write the file ``path`` of the container ``name`` to ``target`` as it comes, readable by its owner alone.

    Raises:
        APIError: there is no such file.
        ConnectionError: what arrived is not the ``size`` bytes with that SHA-256.
        OSError: ``target`` cannot be written.

    """
    url = f"{api.base_url}/v{api.api_version}/containers/{name}/archive"
    options: dict[str, Any] = {"params": {"path": path}, "stream": True}
    # Not by docker-py, which leaves a stream open that is not read to its end: the engine would wait for its reader,
    # and answer nothing else about the container.
    with contextlib.closing(api.get(url, timeout=ANSWER_SECONDS, **options)) as answer:
        if not answer.ok:
            raise APIError(str(answer.reason), answer, answer.json().get("message"))
        received, digest = _write_first(_Chunks(answer.iter_content(_CHUNK)), target)
    if (received, digest) != (size, sha256):
        raise ConnectionError(f"{received} bytes of {path} arrived that are not its {size} bytes")


def _write_first(stream: Any, target: Path) -> tuple[int, str]:
    """Write the first file of a tar archive to ``target``; return how many bytes came, and their SHA-256."""
    digest, received = hashlib.sha256(), 0
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as out:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                entry = archive.next()
                file = archive.extractfile(entry) if entry else None
                while file and (chunk := file.read(_CHUNK)):
                    out.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
        except tarfile.TarError as error:
            raise ConnectionError(f"the stream ended after {received} bytes: {error}") from None
        out.flush()
        os.fsync(out.fileno())
    return received, digest.hexdigest()


class _Chunks:
    """The engine's answer as tarfile reads it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _size: int = -1) -> bytes:
        return next(self._chunks, b"")


def _streams(content: bytes) -> tuple[bytes, bytes]:
    """Return standard output and standard error out of the engine's frames, as far as they arrived."""
    streams = {1: bytearray(), 2: bytearray()}
    while len(content) >= 8:
        stream, length = struct.unpack(">BxxxL", content[:8])
        streams[stream] += content[8 : 8 + length]
        content = content[8 + length :]
    return bytes(streams[1]), bytes(streams[2])


def _engine_fault(error: APIError) -> bool:
    """Return whether the engine itself is at fault: it is starting or stopping."""
    return error.status_code is not None and error.status_code in (502, 503)


def _connect(host: Host, timeout: int = ANSWER_SECONDS) -> docker.APIClient:
    if host.engine.startswith("ssh://"):
        from provisioner.adapters.ssh import connect

        return connect(host, timeout)
    return docker.APIClient(base_url=host.engine, version="1.41", timeout=timeout)
