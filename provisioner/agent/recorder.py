"""The recorder: hears what each site tells of its log-ins and publications, and writes it where no site can reach.

Whose a line is follows from the socket by which it came, never from what it says: a site's container sees one
directory, with its own socket, and cannot change it. It can tell, and nothing else: neither read what is recorded nor
alter it. The time is ours. What a site may fill is bounded by day, and what it may have us read by second: one that
floods costs its neighbours nothing.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

DOORS = Path("/run/activity")  # a directory per site, mounted into its containers read-only
SOCKET = "in.sock"
LOGS = Path("/logs")
DATAGRAM_BYTES = 4096  # a longer one is no line of ours
DAY_BYTES = 1 << 20  # per site: some nine thousand lines
FAILED = "login_failed"  # strangers can cause these: they get half of the day, so that they hide nothing else
FULL = "day_full"
ROUND_SECONDS = 0.25
ROUND_LINES = 250  # per site
EVENT, USER, OBJECT = 40, 60, 200  # longest, in characters


class Door:
    """The socket of one site."""

    def __init__(self, slug: str, inode: int) -> None:
        self.slug = slug
        self.inode = inode  # of its directory: one that was made anew needs a new socket
        self.left = ROUND_LINES
        self._full: set[tuple[str, bool]] = set()  # days, and whether of failed log-ins, whose end was recorded
        path = DOORS / slug / SOCKET
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        path.chmod(0o666)  # the directory says who gets here

    def fileno(self) -> int:
        """Return what a selector waits for."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hear nothing any more."""
        self._socket.close()

    def hear(self) -> None:
        """Take one line and record it; what is no line, or is more than the day holds, is dropped."""
        self.left -= 1
        told = _understood(self._socket.recv(DATAGRAM_BYTES + 1))
        if told is None:
            return
        now = datetime.now(UTC)
        day, failed = f"{now:%Y-%m-%d}", told["event"] == FAILED
        room = DAY_BYTES // 2 if failed else DAY_BYTES
        at = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        if _append(self.slug, day, {"at": at, **told}, room) or (day, failed) in self._full:
            return
        self._full.add((day, failed))
        _append(
            self.slug, day, {"at": at, "event": FULL, "user": "", "object": FAILED if failed else ""}, 2 * DAY_BYTES
        )


def _understood(datagram: bytes) -> dict[str, str] | None:
    """Return event, user and object, printable and of bounded length, or None of what is something else."""
    try:
        told = json.loads(datagram) if len(datagram) <= DATAGRAM_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("event"), str):
        return None
    event = told["event"]
    if not 0 < len(event) <= EVENT or not event.replace("_", "").isalpha() or not event.isascii():
        return None
    return {
        "event": event,
        "user": _printable(told.get("user"), USER),
        "object": _printable(told.get("object"), OBJECT),
    }


def _printable(value: Any, length: int) -> str:
    return "".join(letter for letter in value if letter.isprintable())[:length] if isinstance(value, str) else ""


def _append(slug: str, day: str, entry: dict[str, str], room: int) -> bool:
    """Append a line to the day's file; return whether it had room for it. Never half a line: the disk may be full."""
    line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
    folder = LOGS / slug
    folder.mkdir(exist_ok=True)
    file = os.open(folder / f"activity-{day}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640)
    try:
        size = os.fstat(file).st_size
        if size + len(line) > room:
            return False
        try:
            written = os.write(file, line)
        except OSError:
            written = 0
        if written < len(line):
            os.ftruncate(file, size)
            _say(f"{slug}: a line is lost, the disk may be full")
        return True
    finally:
        os.close(file)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _follow(doors: dict[str, Door], selector: selectors.BaseSelector) -> None:
    """Open a door for each site that came, close those of sites that went."""
    with os.scandir(DOORS) as entries:
        found = {entry.name: entry.inode() for entry in entries if entry.is_dir(follow_symlinks=False)}
    for slug, door in list(doors.items()):
        if found.get(slug) != door.inode:
            if door.left > 0:
                selector.unregister(door)
            doors.pop(slug).close()
    for slug in found.keys() - doors.keys():
        try:
            doors[slug] = Door(slug, found[slug])
        except OSError:  # it is being made; the next round finds it
            continue
        selector.register(doors[slug], selectors.EVENT_READ)


def record() -> None:
    """Record until told to end."""
    signal.signal(signal.SIGTERM, _end)  # the first process of a container gets no signal that it does not ask for
    os.umask(0o027)
    doors: dict[str, Door] = {}
    selector = selectors.DefaultSelector()
    while True:
        _follow(doors, selector)
        for door in doors.values():
            if door.left <= 0:
                selector.register(door, selectors.EVENT_READ)
            door.left = ROUND_LINES
        _listen(selector, time.monotonic() + ROUND_SECONDS)


def _listen(selector: selectors.BaseSelector, until: float) -> None:
    """Take a line from each site in turn; one that has told its share of this round waits for the next."""
    while (rest := until - time.monotonic()) > 0:
        for key, _ in selector.select(rest):
            door = key.fileobj
            assert isinstance(door, Door)  # noqa: S101  (nothing else is registered)
            try:
                door.hear()
            except OSError as error:
                _say(f"{door.slug}: {error}")
            if door.left <= 0:
                selector.unregister(door)


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
