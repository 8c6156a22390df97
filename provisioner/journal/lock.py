"""One process works on a subject at a time.

The lock is the operation's row plus a kernel lock on a file: when a process dies the kernel lets go
at once, whatever the clock says, and the row shows an *interrupted* operation, not a stuck one.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provisioner.errors import Unavailable


def _path(directory: Path, subject: str) -> Path:
    return directory / f"{subject.replace(':', '-')}.lock"


@contextmanager
def hold(directory: Path, subject: str) -> Iterator[bool]:
    """Hold the process lock of ``subject`` for a block; yield whether it could be had.

    Raises:
        Unavailable: the lock directory cannot be written (disk full, read-only).

    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = _path(directory, subject).open("a")
    except OSError as error:
        raise Unavailable(f"{directory}: {error.strerror}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def wait_for(directory: Path, subject: str) -> Iterator[None]:
    """Hold the process lock of ``subject`` for a block, waiting for a short holder (such as an edge change)."""
    directory.mkdir(parents=True, exist_ok=True)
    with _path(directory, subject).open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def is_held(directory: Path, subject: str) -> bool:
    """Return whether some process works on ``subject`` now."""
    if not _path(directory, subject).exists():
        return False
    with hold(directory, subject) as free:
        return not free
