"""A site whose programs are an intruder's: whatever is asked over its socket, our own server answers."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.town import Town

Answer = Callable[[socket.socket, bytes], None]  # the connection, and the head of the request that came over it


class Impostor:
    """Stands in for a site's container at the generation's own socket, for as long as a block runs."""

    def __init__(self, town: Town, slug: str, answer: Answer, number: int = 1) -> None:
        self.asked = 0
        self._path = town.data_root / "run" / "sites" / slug / str(number) / "http.sock"
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._path.rename(self._path.with_name("aside.sock"))
        self._listener.bind(str(self._path))
        self._path.chmod(0o666)  # for the edge
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink()
        self._path.with_name("aside.sock").rename(self._path)

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[link], daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):  # whoever asked has heard enough
            head = b""
            while b"\r\n\r\n" not in head and (more := link.recv(65536)):
                head += more
            self.asked += 1
            self._answer(link, head)


def page(text: str = "") -> bytes:
    """Return a whole answer with a page worth the name."""
    body = f"<html><body>{text}{'Une page. ' * 100}</body></html>".encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body), body,
    )  # fmt: skip
