"""Whatever comes over a connection: it ends in time, is no larger than its bound, and is an answer or a fault."""

import contextlib
import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.agent.sockets import Answer, Faulty, TooLong, ask

MOST = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


@contextlib.contextmanager
def served(serve: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """Give a connection on whose other side ``serve`` speaks."""
    mine, theirs = socket.socketpair()

    def speak() -> None:
        with theirs, contextlib.suppress(OSError):
            theirs.recv(65536)
            serve(theirs)

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        with mine:
            yield mine
    finally:
        thread.join(20)
        assert not thread.is_alive()


def said(content: bytes, seconds: float = 5) -> Answer:
    with served(lambda link: link.sendall(content)) as link:
        return ask(link, "GET", "/", {"Host": "kayane.test"}, most=MOST, seconds=seconds)


def test_an_answer_comes_whole() -> None:
    answer = said(HEAD + b"Content-Length: 5\r\n\r\nsalut and what is behind it")
    assert (answer.status, answer.text, answer.headers["content-type"]) == (200, "salut", "text/html")
    assert said(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nsalut\r\n0\r\n\r\n").text == "salut"
    assert said(HEAD + b"\r\nuntil it is closed").text == "until it is closed"
    assert len(said(HEAD + b"\r\n" + b"x" * MOST).body) == MOST


def _for_ever(start: bytes, again: bytes, pause: float = 0) -> Callable[[socket.socket], None]:
    def serve(link: socket.socket) -> None:
        link.sendall(start)
        while True:
            link.sendall(again)
            time.sleep(pause)

    return serve


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (HEAD + b"\r\n", b"x" * 65536),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (HEAD + b"Content-Length: 99999999999999\r\n\r\n", b"x" * 65536),
    ],
    ids=["until closed", "chunked", "by length"],
)
def test_a_page_without_end_is_told_and_takes_no_more_than_its_bound(start: bytes, again: bytes) -> None:
    tracemalloc.start()
    try:
        with served(_for_ever(start, again)) as link, pytest.raises(TooLong, match="the page is larger than 1 MiB"):
            ask(link, "GET", "/", {}, most=MOST, seconds=10)
        assert tracemalloc.get_traced_memory()[1] < 8 * MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (HEAD + b"\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: x\r\n"),
        (HEAD, b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"H"),
    ],
    ids=["body", "chunks", "trailers", "header", "interim", "status"],
)
def test_what_drips_ends_within_its_time(start: bytes, again: bytes) -> None:
    began = time.monotonic()
    with served(_for_ever(start, again, 0.01)) as link, pytest.raises(Faulty):
        ask(link, "GET", "/", {}, most=MOST, seconds=0.5)
    assert time.monotonic() - began < 10


def test_nothing_is_decompressed() -> None:
    bomb = gzip.compress(b"x" * (100 * MOST))
    answer = said(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
    assert answer.body == bomb


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not HTTP at all\r\n\r\n",
        b"\x1b[2J\0\r\n\r\n",
        HEAD + b"Content-Length: 10\r\n\r\nshort",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nA\r\nshort",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nshort",
        HEAD + b"X: y\r\n" * 200 + b"\r\n",
        HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_whole_answer_is_told(content: bytes) -> None:
    with pytest.raises(Faulty) as told:
        said(content)
    assert str(told.value).isprintable()


@pytest.mark.parametrize("path", ["/a b", "/é", "/\r\nX: y", "/\0"])
def test_an_address_that_is_none_is_not_asked_for(path: str) -> None:
    with socket.socketpair()[0] as link, pytest.raises(Faulty, match="cannot be asked for"):
        ask(link, "GET", path, {}, most=MOST, seconds=1)


def test_who_says_nothing_is_told() -> None:
    with served(lambda link: time.sleep(1)) as link, pytest.raises(Faulty, match="nothing whole came within 0 s"):
        ask(link, "GET", "/", {}, most=MOST, seconds=0.3)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([b"", HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"]))
def test_whatever_is_said_is_an_answer_or_a_fault(content: bytes, start: bytes) -> None:
    with contextlib.suppress(OSError):
        assert len(said(start + content).body) <= MOST
