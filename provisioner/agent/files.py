"""The association's files, as they lie in wp-content: counted and sampled."""

import contextlib
import errno
import hashlib
import io
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

from provisioner.agent.faults import Fault
from provisioner.agent.protocol import ContentFacts

SAMPLE = 20  # files whose hash a manifest holds
UNREADABLE = "unreadable"
SAMPLE_BYTES = 8 * 1024 * 1024  # larger ones are left out of the sample


def walk(root: Path, unread: list[Path] | None = None) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every file and link below ``root``, with what the file system says of it; links are not followed.

    Folders that cannot be listed, since their owner may not or their path is too long, are added to ``unread``.

    Raises:
        Fault: there is such a folder, and nobody wants to know of it.

    """

    def note(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            return  # it went while we looked
        if unread is None:
            raise Fault(f"{error.filename}: {error.strerror}")
        unread.append(Path(error.filename))

    for folder, directories, names in os.walk(root, onerror=note):
        links = [name for name in directories if (Path(folder) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(folder) / name
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue  # it went while we looked
            except OSError as error:
                note(error)


def describe(content: Path, seed: int) -> ContentFacts:
    """Return count, bytes, a sample of hashes, plugins and themes of a wp-content directory; and what is unreadable."""
    count = total = 0
    small: list[Path] = []
    unread: list[Path] = []
    for path, state in walk(content, unread):
        if _is_out_of_reach(path, state):
            unread.append(path)
            continue
        count, total = count + 1, total + state.st_size
        if stat.S_ISREG(state.st_mode) and state.st_size <= SAMPLE_BYTES and _is_text(path):
            small.append(path)
    chosen = random.Random(seed).sample(sorted(small), min(SAMPLE, len(small)))  # noqa: S311  (no secret)
    facts: ContentFacts = {
        "files": count,
        "bytes": total,
        "sample": {str(path.relative_to(content)): sha256(path) for path in chosen},
        "plugins": _names(content / "plugins"),
        "themes": _names(content / "themes"),
    }
    if unread:
        facts["unread"] = sorted(shown(path.relative_to(content)) for path in unread)
    return facts


def _is_out_of_reach(path: Path, state: os.stat_result) -> bool:
    """Return whether no snapshot can hold something: a socket, or a file that its own owner may not read."""
    if stat.S_ISSOCK(state.st_mode):
        return True
    return stat.S_ISREG(state.st_mode) and not os.access(path, os.R_OK)


def shown(path: Path) -> str:
    """Return a path as text, whatever bytes it has."""
    return os.fsencode(path).decode(errors="backslashreplace")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file; else "gone", "unreadable", or "no file": FIFOs, devices, links."""
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "gone"
    except PermissionError:
        return UNREADABLE
    except NoFile:
        return "no file"


class NoFile(OSError):
    """What was expected to be a regular file is something else."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file of the association's for a block; a FIFO that took its place never makes us wait.

    Raises:
        NoFile: it is something else, or a link.
        OSError: it cannot be opened.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise NoFile(error.errno, "it is no regular file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoFile(errno.EINVAL, "it is no regular file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "index.php") if folder.is_dir() else []


def _is_text(path: Path) -> bool:
    """Return whether the path can be written down in JSON."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
