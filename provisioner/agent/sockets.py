"""What a site says over HTTP, read in one place: never more than so many bytes, nor for longer than so many seconds.

A site is its association's, or an intruder's: its pages may be without end, come a byte at a time, lie about their
length, or be compressed a thousand times. So the clock runs over the whole answer, its headers too; what is beyond the
bound is not read; and nothing is decompressed, since nothing compressed is asked for.
"""

import http.client
import io
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

SOCKETS = Path("/sockets")  # the site's directory of sockets, with `current`
MIB = 1 << 20


class Faulty(OSError):
    """The answer is none, or is not whole: says why in a few words."""


class TooLong(Faulty):
    """The answer goes beyond the bound."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the page is larger than {most // MIB} MiB")


@dataclass(frozen=True)
class Answer:
    """What a site said to one request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode(errors="replace")


class _Timed(io.RawIOBase):
    """What comes over a connection until a moment."""

    def __init__(self, link: socket.socket, until: float) -> None:
        self._link, self._until = link, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        self._link.settimeout(max(self._until - time.monotonic(), 0.001))
        count = self._link.recv_into(buffer)
        if time.monotonic() > self._until:
            raise TimeoutError
        return count


class _Reading:
    """A connection as http.client reads an answer from it."""

    def __init__(self, link: socket.socket, until: float) -> None:
        self._timed = _Timed(link, until)

    def makefile(self, _mode: str) -> io.BufferedIOBase:
        return io.BufferedReader(self._timed, 1 << 16)  # type: ignore[type-var]


def ask(
    link: socket.socket, method: str, path: str, headers: Mapping[str, str], *, most: int, seconds: float
) -> Answer:
    """Send one request over a connection, and return the answer to it, of at most ``most`` bytes within ``seconds``.

    Redirects are not followed. The connection answers nothing else afterwards.

    Raises:
        TooLong: the body has more than ``most`` bytes.
        Faulty: no answer within ``seconds``, or one that is cut short or is none.
        OSError: the connection broke.

    """
    until = time.monotonic() + seconds
    given = {**headers, "Accept-Encoding": "identity", "Connection": "close"}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    if " " in path or not all(line.isascii() and line.isprintable() for line in lines):
        raise Faulty(f"{path[:80]!r} cannot be asked for")  # an address that the site itself named
    try:
        link.settimeout(seconds)
        link.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = http.client.HTTPResponse(_Reading(link, until), method=method)  # type: ignore[arg-type]
        with closing(answer):
            answer.begin()
            body = answer.read(most + 1)
    except TimeoutError:
        raise Faulty(f"nothing whole came within {seconds:.0f} s") from None
    except http.client.HTTPException as error:
        # Its kind alone: its text may be what came, with whatever a terminal would take for commands.
        raise Faulty(f"what came is no whole answer ({type(error).__name__})") from None
    except ValueError:  # such as a length that is no number
        raise Faulty("what came contradicts itself") from None
    if len(body) > most:
        raise TooLong(most)
    if answer.length:
        raise Faulty(f"what came is no whole answer: {answer.length} bytes are missing")
    return Answer(answer.status, answer.headers, body)


def ask_at(path: Path, method: str, address: str, headers: Mapping[str, str], *, most: int, seconds: float) -> Answer:
    """Do as `ask`, over the unix socket at ``path``; connecting counts among the seconds.

    Raises:
        Faulty, OSError: as `ask`, or nobody listens there.

    """
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(seconds)
        try:
            link.connect(str(path))
        except TimeoutError:
            raise Faulty(f"no connection within {seconds:.0f} s") from None
        left = max(seconds - (time.monotonic() - began), 0.001)
        return ask(link, method, address, headers, most=most, seconds=left)
