"""A rehearsal on twins whose pages are an intruder's: it ends in bounds, and tells which page."""

import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from provisioner.agent import rehearsal
from provisioner.agent.protocol import ComparePages, Twin

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
WELL = HEAD + b"\r\n<html><title>Kayane</title><body>" + b"Une page. " * 100 + b"</body></html>"
MOST = 200 << 20  # bytes of memory


def _endless(link: socket.socket) -> None:
    link.sendall(HEAD + b"\r\n<html>")
    number = 0
    while True:  # words of which none comes twice
        link.sendall(b"".join(b"%x " % n for n in range(number, number + 4096)))
        number += 4096


ANSWERS: dict[str, Callable[[socket.socket], None]] = {
    "/": lambda link: link.sendall(WELL),
    "/endless/": _endless,
    "/brackets/": lambda link: link.sendall(HEAD.replace(b"html", b"xml") + b"\r\n" + b"<" * (1 << 20)),
    "/cut/": lambda link: link.sendall(HEAD + b"Content-Length: 100\r\n\r\nshort"),
}


@contextmanager
def twin(folder: Path, number: int, *, hostile: bool) -> Iterator[None]:
    """Have a twin answer at its socket."""
    place = folder / str(number)
    place.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "http.sock"))
    listener.listen(64)

    def serve(link: socket.socket) -> None:
        with link, suppress(OSError):
            path = link.recv(65536).split()[1].decode()
            (ANSWERS.get(path, ANSWERS["/"]) if hostile else ANSWERS["/"])(link)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_pages_without_bounds_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SOCKETS", tmp_path)
    paths = list(ANSWERS)
    tracemalloc.start()
    try:
        with twin(tmp_path, 1, hostile=False), twin(tmp_path, 2, hostile=True):
            found = rehearsal.rehearse(ComparePages("kayane.test", Twin(1, ""), Twin(2, ""), paths))
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert "/endless/: no answer: the page is larger than 2 MiB instead of 200" in found.differences
    assert "/cut/: no answer: what came is no whole answer: 95 bytes are missing instead of 200" in found.differences
    assert not [one for one in found.differences if one.startswith("/:")]
    assert found.pages == len(paths)
