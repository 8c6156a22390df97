"""The switch: freezes the generation that serves, lets it be copied, and makes the copy serve when told so in time.

It runs beside the site, in a container of its own that owns the freeze: whatever becomes of the control plane, of
this program or of the host, it ends by observing what serves and letting that write again. It prints a line of JSON for
each thing that happened, and is told to go on by files: a signal through the engine would end its right to be started
again after a power cut. Exit codes: 0 the copy serves, 3 what served serves.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import pymysql

from provisioner.agent import database
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Switch, SwitchEvent
from provisioner.agent.sockets import SOCKETS, ask_at

FROZEN = "frozen"  # beside a generation's socket: closes the gate in its image
STEP = 0.02  # seconds between two looks
STATUS_BYTES, STATUS_SECONDS = 1 << 20, 5.0  # of what php-fpm says of its requests
CONNECTIONS_SECONDS = 2.0  # how long a page that is being read may keep its connection
THAWED = 3


class _Over(Exception):
    """The freeze ended before its purpose was reached; says why."""


def _word(request: Switch, word: str) -> Path:
    """Return the file by which this program, or the control plane, leaves word."""
    return SOCKETS / f"switch-{request.operation}.{word}"


def switch(request: Switch) -> int:
    """Do it all; return the exit code."""
    began = time.monotonic()
    reason = "the host or the engine was restarted"
    if not _word(request, "begun").exists():  # else this is a second life: only what it observes counts
        _word(request, "begun").touch()
        try:
            try:
                _freeze_and_flip(request, began)
            finally:
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
        except (_Over, Fault, OSError, pymysql.MySQLError) as error:
            reason = str(error)
    return _conclude(request, reason, began)


def _freeze_and_flip(request: Switch, began: float) -> None:
    signal.signal(signal.SIGALRM, _deadline)
    signal.setitimer(signal.ITIMER_REAL, request.seconds)
    for number in (request.source, request.target):
        _write_flag(number)
    _say(SwitchEvent("frozen"))
    _wait_for_requests(request, began)
    _forbid_writes(request)
    _say(SwitchEvent("still", round(time.monotonic() - began, 3)))
    _word(request, "still").touch()  # what copies beside the site has waited for it
    _wait_for_word(request, "go")
    _flip(request.target)


def _conclude(request: Switch, reason: str, began: float) -> int:
    """Let the generation that serves write again, however long the server takes to hear it."""
    serving = int(os.readlink(SOCKETS / "current"))
    while True:
        try:
            _run(request.allow[str(serving)])
            break
        except (Fault, pymysql.MySQLError):
            time.sleep(0.5)
    _remove_flag(serving)
    if serving == request.target:
        _say(SwitchEvent("serves", round(time.monotonic() - began, 3)))
        return 0
    # What was never routed to keeps its gate closed; it is discarded.
    _say(SwitchEvent("thawed", reason=reason))
    return THAWED


def _deadline(_number: int, _frame: FrameType | None) -> None:
    raise _Over("the freeze reached its deadline")


def _say(event: SwitchEvent) -> None:
    sys.stdout.write(json.dumps(asdict(event)) + "\n")
    sys.stdout.flush()


def _wait_for_word(request: Switch, word: str) -> None:
    while not _word(request, word).exists():
        if _word(request, "off").exists():
            raise _Over("the freeze was called off")
        time.sleep(STEP)


@contextlib.contextmanager
def _socket_directory(number: int) -> Iterator[int]:
    """Open the directory of a generation's socket for a block. The site owns it: nothing in it is followed."""
    handle = os.open(SOCKETS / str(number), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


def _write_flag(number: int) -> None:
    with _socket_directory(number) as folder:
        with contextlib.suppress(
            FileExistsError
        ):  # whatever the site put there: the gate sees it, or the database tells
            os.close(os.open(FROZEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder))
        os.fsync(folder)


def _remove_flag(number: int) -> None:
    # It is gone, or a directory that the site made: the gate looks for a file.
    with _socket_directory(number) as folder, contextlib.suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(FROZEN, dir_fd=folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flip(number: int) -> None:
    following = SOCKETS / "next"
    following.unlink(missing_ok=True)
    following.symlink_to(str(number))
    following.rename(SOCKETS / "current")
    _sync(SOCKETS)


def _run(statements: list[str]) -> None:
    with database.administrator() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _wait_for_requests(request: Switch, began: float) -> None:
    """Wait until every request that began before the gate closed has ended: what it writes is kept.

    Raises:
        _Over: one of them takes too long.

    """
    while (longest := _longest_request(request.source)) > time.monotonic() - began:
        if time.monotonic() - began > request.patience:
            raise _Over(f"a request has been under way for {longest:.0f} s")
        time.sleep(STEP)


def _longest_request(number: int) -> float:
    """Return for how many seconds the longest request that is under way has been running; 0 when there is none."""
    place, path = SOCKETS / str(number) / "http.sock", "/.provision/requests?json&full"
    try:
        answer = ask_at(place, "GET", path, {"Host": "localhost"}, most=STATUS_BYTES, seconds=STATUS_SECONDS)
        processes = json.loads(answer.body)["processes"]
        return max((one["request duration"] / 1e6 for one in processes if one["state"] != "Idle"), default=0.0)
    except (FileNotFoundError, ConnectionError):
        return 0.0  # a site that does not run has no requests
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        said = str(error) or type(error).__name__
        raise _Over(f"php-fpm does not say which requests are under way: {said[:200]}") from None


def _forbid_writes(request: Switch) -> None:
    """Leave the site's user nothing but reading, and end the connections that still can do more.

    The requests that could write are over: what is left are pages that are being read, which get a moment.
    """
    with database.administrator() as cursor:
        for statement in request.forbid:
            cursor.execute(statement)
        cursor.execute("SELECT CONNECTION_ID()")
        newest = database.number(cursor)  # numbers grow: whoever connects later has a higher one
        cursor.execute("SELECT COALESCE(MAX(id), 0) FROM information_schema.processlist")
        newest = max(newest, database.number(cursor))
        deadline = time.monotonic() + CONNECTIONS_SECONDS
        while old := _connections(cursor, request.user, newest):
            if time.monotonic() > deadline:
                for connection in old:
                    with contextlib.suppress(pymysql.MySQLError):  # it ended by itself
                        cursor.execute(f"KILL {connection}")
            time.sleep(STEP)


def _connections(cursor: pymysql.cursors.Cursor, user: str, newest: int) -> list[int]:
    cursor.execute("SELECT id FROM information_schema.processlist WHERE user = %s AND id <= %s", (user, newest))
    return [int(row[0]) for row in cursor.fetchall()]
