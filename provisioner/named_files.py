"""Files that a person named, on the command line or in the inventory: regular ones, of a bounded size.

A device gives bytes without end, a FIFO waits for ever for who writes to it: both are told at once.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from provisioner.errors import BadInput

KIB, MIB = 1 << 10, 1 << 20
SECRET = 64 * KIB  # the longest password, key or list of credentials, in bytes


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading, for a block.

    Raises:
        BadInput: it cannot be opened, or is no regular file.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise BadInput(f"{path}: {'Is a directory' if stat.S_ISDIR(mode) else 'it is no regular file'}")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def content(path: Path, most: int, hint: str = "") -> bytes:
    """Return what a file holds; ``hint`` says what to do about one that is too large.

    Raises:
        BadInput: it cannot be read, is no regular file, or has more than ``most`` bytes.

    """
    with opened(path) as file:
        try:
            found = file.read(most + 1)
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}") from None
    if len(found) > most:
        size = f"{most // MIB} MiB" if most > MIB else f"{most // KIB} KiB"
        raise BadInput(f"{path}: larger than {size}", hint)
    return found


def text(path: Path, most: int, hint: str = "") -> str:
    """Return what a file of text holds.

    Raises:
        BadInput: as `content`, or it is not UTF-8.

    """
    try:
        return content(path, most, hint).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}", "save the file as UTF-8") from None
