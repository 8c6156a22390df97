"""Visitors that take their time (J12): headers half sent, downloads hardly read, bodies hardly sent, from one address.

Every address is of this machine's loopback.
"""

import hashlib
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.town import Town

SLOW, OTHER = "127.0.0.3", "127.0.0.2"
MIB = 1024 * 1024
# As templates/edge/nginx.conf.j2 has them.
CONNECTIONS, OF_ONE_SITE, BODIES, LARGE_BODIES = 400, 200, 32, 4
MANY = 8_400  # more than the workers of two processors took before connections were counted
VIDEO = 64 * MIB
WAIT = 90  # seconds that something may take on a busy machine
SOON = 40  # less than the 60 s after which nginx closes by itself what says nothing


@pytest.fixture(scope="module")
def calm(town: Town) -> Town:
    """A town with two sites; the first has a large file among its media."""
    town.create("lente", "calme")
    return town


@pytest.fixture(scope="module")
def video(calm: Town) -> str:
    """Return the address of a large file of the first site."""
    uploads = calm.data_root / "sites" / "lente" / "media"
    file = uploads / "film.mp4"
    file.write_bytes(b"provision " * (VIDEO // 10))
    owner = uploads.stat().st_uid
    os.chown(file, owner, owner)
    return "/wp-content/uploads/film.mp4"


def connect(town: Town, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", town.port), timeout=WAIT, source_address=(source, 0))


@contextmanager
def visit(town: Town, source: str, slug: str = "lente") -> Iterator[ssl.SSLSocket]:
    """Open an encrypted connection to a site from an address."""
    context = ssl.create_default_context(cafile=str(town.root))
    name = f"{slug}.assos.localhost"
    with connect(town, source) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        yield tls


def request(method: str, path: str, slug: str = "lente", **headers: object) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {slug}.assos.localhost", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(tls: ssl.SSLSocket) -> int:
    """Read the first line of an answer."""
    with tls.makefile("rb") as answer:
        return int(answer.readline().split()[1])


def is_served(town: Town, source: str, slug: str = "lente") -> bool:
    with visit(town, source, slug) as tls:
        tls.sendall(request("GET", "/", slug))
        return status(tls) == 200


def until(what: Callable[[], bool], seconds: float = WAIT) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def heard(connection: socket.socket) -> bytes | None:
    """Return what the edge has said so far, b"" if it closed the connection; None if it is silent."""
    connection.settimeout(0)
    try:
        return connection.recv(4096)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except OSError:
        return b""
    finally:
        connection.settimeout(WAIT)


def still_open(connections: list[socket.socket]) -> int:
    """Return how many of these connections the edge has not closed; none of them awaits an answer."""
    return sum(heard(connection) is None for connection in connections)


def test_headers_never_ended_end_nothing_for_others(calm: Town) -> None:
    """One address opens more connections than there are, and begins a handshake or a header on each."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ExitStack() as stack:
            with_header = [stack.enter_context(visit(calm, SLOW)) for _ in range(20)]
            for tls in with_header:
                tls.sendall(b"GET / HTTP/1.1\r\nHost: lente.assos.localhost\r\nX-")
            begun = [stack.enter_context(connect(calm, SLOW)) for _ in range(MANY)]
            for connection in begun:
                try:
                    connection.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a handshake
                except OSError:
                    continue  # closed already
            assert is_served(calm, OTHER)
            assert is_served(calm, OTHER, "calme")
            until(lambda: still_open(begun) <= CONNECTIONS, SOON)
            assert is_served(calm, OTHER)
            # Those that it kept, it closes too, without a word from them.
            until(lambda: still_open([*begun, *with_header]) == 0)
            assert is_served(calm, SLOW)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def stored(town: Town) -> int:
    """Return the bytes that the edge stores for its visitors."""
    total = 0
    for path in (town.data_root / "edge" / "tmp").rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    descriptors = Path(f"/proc/{edge(town)}/task/{edge(town)}/children").read_text().split()
    for worker in descriptors:  # files that are open and unlinked already
        for link in Path(f"/proc/{worker}/fd").iterdir():
            try:
                if "/var/tmp/nginx/" in os.readlink(link) and "(deleted)" in os.readlink(link):
                    total += link.stat().st_size
            except FileNotFoundError:
                continue
    return total


def edge(town: Town) -> int:
    return int(town.docker().containers.get(f"{town.namespace}.edge").attrs["State"]["Pid"])


def test_downloads_hardly_read_cost_no_disk(calm: Town, video: str) -> None:
    with ExitStack() as stack:
        downloads = [stack.enter_context(visit(calm, SLOW)) for _ in range(8)]
        for tls in downloads:
            tls.sendall(request("GET", video))
            assert tls.recv(16).startswith(b"HTTP/1.1 200")
        for _ in range(20):  # as long as it took to store all of it
            assert stored(calm) == 0
            time.sleep(0.1)
        assert is_served(calm, OTHER)
        rest = b"".join(iter(lambda: downloads[0].recv(MIB), b""))
    wanted = hashlib.sha256((calm.data_root / "sites/lente/media/film.mp4").read_bytes()).digest()
    assert hashlib.sha256(rest.partition(b"\r\n\r\n")[2]).digest() == wanted


def test_one_address_does_not_take_all_of_a_site(calm: Town, video: str) -> None:
    """Its downloads hold connections of the site's own nginx, which has more of them than one address may hold."""
    with ExitStack() as stack:
        for _ in range(OF_ONE_SITE):
            tls = stack.enter_context(visit(calm, SLOW))
            tls.sendall(request("GET", video))
            assert status(tls) == 200
        assert not is_served(calm, SLOW)
        assert is_served(calm, SLOW, "calme")
        assert is_served(calm, OTHER)


def hold(town: Town, stack: ExitStack, source: str, count: int, length: int) -> list[ssl.SSLSocket]:
    """Begin ``count`` uploads of ``length`` bytes, of each of which half a MiB comes."""
    uploads = [stack.enter_context(visit(town, source)) for _ in range(count)]
    for tls in uploads:
        tls.sendall(request("POST", "/wp-comments-post.php", Content_Length=length) + b"a" * (MIB // 2))
    return uploads


def let_through(uploads: list[ssl.SSLSocket], refused: int) -> list[ssl.SSLSocket]:
    """Wait until the edge has refused as many uploads; return those that it lets go on."""
    going = set(uploads)

    def ask() -> bool:
        for tls in list(going):
            said = heard(tls)
            if said is not None:
                assert said.startswith(b"HTTP/1.1 503 ")
                going.remove(tls)
        return len(uploads) - len(going) >= refused

    until(ask)
    return list(going)


@pytest.mark.parametrize(
    ("length", "at_a_time"), [(200 * MIB, LARGE_BODIES), (8 * MIB, BODIES)], ids=["large", "others"]
)
def test_bodies_hardly_sent_are_few_per_address(calm: Town, length: int, at_a_time: int) -> None:
    with ExitStack() as stack:
        hold(calm, stack, SLOW, at_a_time, length)
        until(lambda: stored(calm) >= at_a_time * MIB // 4)
        assert let_through(hold(calm, stack, SLOW, 3, length), 3) == []
        assert stored(calm) <= at_a_time * length
        assert is_served(calm, SLOW)
        before = stored(calm)
        others = hold(calm, stack, OTHER, 1, length)
        until(lambda: stored(calm) >= before + MIB // 4)
        assert let_through(others, 0) == others


def test_a_lengthless_body_counts_as_a_large_one(calm: Town) -> None:
    with ExitStack() as stack:
        uploads = [stack.enter_context(visit(calm, SLOW)) for _ in range(LARGE_BODIES + 3)]
        for tls in uploads:
            tls.sendall(request("POST", "/wp-comments-post.php", Transfer_Encoding="chunked") + b"4\r\naaaa\r\n")
        assert len(let_through(uploads, 3)) == LARGE_BODIES
