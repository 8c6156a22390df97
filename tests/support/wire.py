"""A faulty wire in front of a real Docker engine: a unix socket that a test can cut, hang or take away (A6)."""

import contextlib
import re
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

ENGINE = Path("/var/run/docker.sock")
CHUNK = 65536
_REQUEST = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE) (\S+) HTTP/1\.1\r\n")

# What a cut loses: the request itself, the whole answer (the engine did what it was asked), or half of its body.
How = Literal["request", "answer", "half"]


@dataclass(frozen=True)
class _Cut:
    how: How
    number: int | None
    path: str | None

    def meets(self, number: int, path: str) -> bool:
        return number == self.number if self.path is None else re.search(self.path, path) is not None


class Wire:
    """A proxy of an engine's socket, for the length of a ``with`` block."""

    def __init__(self, path: Path, engine: Path = ENGINE) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.requests: list[str] = []  # every request's path, in order
        self.cuts = 0
        self._engine = engine
        self._plan: _Cut | None = None
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._pairs: set[_Pair] = set()

    def __enter__(self) -> "Wire":
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.flow()

    def cut(self, how: How, *, number: int | None = None, path: str | None = None) -> None:
        """Cut the connection once: at the ``number``-th request from now (1 is the next), or the first to ``path``."""
        with self._lock:
            self.cuts = 0
            self.requests.clear()
            self._plan = _Cut(how, number, path)

    def hang(self) -> None:
        """Let no byte through any more; connections are still accepted."""
        self._flows.clear()

    def flow(self) -> None:
        """Let bytes through again."""
        self._flows.set()

    def refuse(self) -> None:
        """Break every connection and take the socket away, as an engine that is gone."""
        if self._listener is not None:
            # Closing alone does not wake the thread that is in accept().
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.path.unlink(missing_ok=True)
        for pair in list(self._pairs):
            pair.close()

    def accept(self) -> None:
        """Take connections (again)."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(str(self._engine))
            _Pair(self, client, engine).start()

    # Called by the pumps of a connection

    def wait_until_flowing(self) -> None:
        self._flows.wait()

    def seen(self, data: bytes) -> How | None:
        """Count the request that ``data`` begins, if it does; return how its connection is to be cut."""
        match = _REQUEST.match(data)
        if match is None:
            return None
        with self._lock:
            self.requests.append(match[1].decode())
            if self._plan is None or not self._plan.meets(len(self.requests), self.requests[-1]):
                return None
            how, self._plan = self._plan.how, None
            self.cuts += 1
            return how

    def opened(self, pair: "_Pair") -> None:
        self._pairs.add(pair)

    def closed(self, pair: "_Pair") -> None:
        self._pairs.discard(pair)


class _Pair:
    """One connection: a client, the engine, and a thread for each direction."""

    def __init__(self, wire: Wire, client: socket.socket, engine: socket.socket) -> None:
        self._wire = wire
        self._client = client
        self._engine = engine
        self._cut: How | None = None
        self._in_body = False

    def start(self) -> None:
        self._wire.opened(self)
        for pump in (self._to_engine, self._to_client):
            threading.Thread(target=pump, daemon=True).start()

    def close(self) -> None:
        self._wire.closed(self)
        for end in (self._client, self._engine):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _to_engine(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(CHUNK):
                self._wire.wait_until_flowing()
                how = self._wire.seen(data)
                if how == "request":
                    self.close()
                    return
                self._cut = self._cut or how
                self._engine.sendall(data)
            self._engine.shutdown(socket.SHUT_WR)

    def _to_client(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._engine.recv(CHUNK):
                self._wire.wait_until_flowing()
                if self._cut is None:
                    self._client.sendall(data)
                elif self._ends_with(data):
                    break
        self.close()

    def _ends_with(self, data: bytes) -> bool:
        """Pass on what a cut answer may still show; return whether that was all."""
        if self._cut == "answer":
            return True
        head, blank, body = data.partition(b"\r\n\r\n")
        if self._in_body:
            head, blank, body = b"", b"", data
        if not body:
            self._client.sendall(data)
            self._in_body = self._in_body or bool(blank)
            return False
        self._client.sendall(head + blank + body[: len(body) // 2])
        return True
