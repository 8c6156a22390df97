"""Servers on this machine that note who speaks to them: sites that call nobody leave them empty."""

import socket
import threading
from types import TracebackType
from typing import Self


class Catcher:
    """Accepts every connection to this machine, greets it, and notes what it says first."""

    def __init__(self, greeting: bytes = b"") -> None:
        self.caught: list[bytes] = []
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link:
                link.settimeout(2)
                try:
                    link.sendall(self._greeting)
                    self.caught.append(link.recv(200))
                except OSError:
                    self.caught.append(b"")
