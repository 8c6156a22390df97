"""Pages without end, slow ones, compressed ones: whoever looks at a site ends in time, in bounds, and tells."""

import gzip
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from provisioner.installation import Installation
from provisioner.model.names import GenerationNames
from provisioner.probes import page as probe
from tests.support.impostor import Answer, Impostor
from tests.support.town import Town

SITE, NEIGHBOUR = "hostile", "neighbour"
MEMORY = 400 << 20  # bytes that a command may have in use at most
SECONDS = 90
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def sites(town: Town) -> Town:
    """A town with a hostile site and another one."""
    town.create(SITE, NEIGHBOUR)
    return town


def for_ever(start: bytes, again: bytes, pause: float = 0) -> Answer:
    """Return what says ``start``, then ``again`` without end."""

    def answer(link: socket.socket, _head: bytes) -> None:
        link.sendall(start)
        while True:
            link.sendall(again)
            time.sleep(pause)

    return answer


def once(content: bytes) -> Answer:
    return lambda link, _head: link.sendall(content)


BOMB = gzip.compress(b"<p>Une page.</p>" * (96 << 20 >> 4))
PAGES: dict[str, tuple[Callable[[], Answer], str]] = {
    "endless": (lambda: for_ever(HEAD + b"\r\n", b"x" * 65536), "the page is larger than 8 MiB"),
    "endless chunks": (
        lambda: for_ever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        "the page is larger than 8 MiB",
    ),
    "compressed": (
        lambda: once(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        "it is no whole page",
    ),
    "drip": (lambda: for_ever(HEAD + b"\r\n", b"x" * 1000, 0.5), "nothing whole came within 15 s"),
    "no HTTP": (lambda: once(b"\x1b[2J" * 1000), "what came is no whole answer"),
}


@dataclass
class Measured:
    """How a command ended, and the most that it had in use."""

    code: int
    said: str
    memory: int
    seconds: float


def measured(town: Town, *arguments: str) -> Measured:
    """Run a command to its end, and look at its memory as the kernel counts it."""
    began = time.monotonic()
    process = town.start(*arguments)
    most = 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                peak = [line for line in status if line.startswith("VmHWM")]
            most = max([most, *(int(line.split()[1]) << 10 for line in peak)])
        except OSError:
            break
        if time.monotonic() - began > SECONDS or most > 2 * MEMORY:
            process.kill()
        time.sleep(0.05)
    output, errors = process.communicate()
    assert "Traceback" not in errors + output
    return Measured(process.returncode, output + errors, most, time.monotonic() - began)


@pytest.mark.parametrize("page", PAGES)
def test_doctor_tells_a_page_that_has_no_bounds(sites: Town, page: str) -> None:
    """J6: as a finding about this site alone."""
    answer, words = PAGES[page]
    with Impostor(sites, SITE, answer()):
        done = measured(sites, "doctor", SITE, NEIGHBOUR, "--json")
    assert done.code == 3, done.said
    assert done.memory < MEMORY
    found = json.loads(done.said)
    assert [one["subject"] for one in found] == [SITE]
    assert words in found[0]["problem"]


@pytest.mark.parametrize("page", ["endless chunks", "drip"])
def test_a_generation_whose_page_has_no_bounds_is_not_routed_to(sites: Town, page: str) -> None:
    """B3: what is asked over its own socket, before anything is routed there."""
    answer, _ = PAGES[page]
    words = {"endless chunks": "the page is larger than 8 MiB", "drip": "timed out"}[page]
    host = Installation.open(sites.inventory).host("local")
    with Impostor(sites, SITE, answer()):
        problem = probe.generation_problem(host, GenerationNames(sites.namespace, SITE, 1))
    assert problem is not None
    assert words in problem


@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        ("a device", ("agreement", "sign", NEIGHBOUR, "--on", "2026-01-02", "--copy", "/dev/zero")),
        ("a FIFO", ("agreement", "sign", NEIGHBOUR, "--on", "2026-01-02", "--copy", "{fifo}")),
        ("associations", ("create", "--from", "{fifo}", "--yes")),
        ("escrow", ("restore", "--control-plane", "--escrow", "{fifo}", "--inventory", "{folder}/new.yaml")),
        ("inventory", ("status", "--inventory", "{fifo}")),
    ],
)
def test_what_is_named_is_a_regular_file(sites: Town, what: str, arguments: tuple[str, ...]) -> None:
    fifo = sites.folder / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
    given = [one.format(fifo=fifo, folder=sites.folder) for one in arguments]
    done = measured(sites, *given)
    assert done.code == 2, (what, done.said)
    assert "it is no regular file" in done.said
    assert done.memory < MEMORY
