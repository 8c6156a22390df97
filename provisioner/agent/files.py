"""The association's files, as they lie in wp-content: counted, sampled, put in their places."""

import contextlib
import errno
import hashlib
import io
import os
import random
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from provisioner.agent.protocol import ContentFacts

SAMPLE = 20  # files whose hash a manifest holds
SAMPLE_BYTES = 8 * 1024 * 1024  # larger ones are left out of the sample


def walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every file and link below ``root``, with what the file system says of it; links are not followed."""
    for folder, directories, names in os.walk(root):
        links = [name for name in directories if (Path(folder) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(folder) / name
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue  # it went while we looked


def describe(content: Path, seed: int) -> ContentFacts:
    """Return count, bytes, a sample of hashes, plugins and themes of a wp-content directory."""
    count = total = 0
    small: list[Path] = []
    for path, state in walk(content):
        count, total = count + 1, total + state.st_size
        if path.is_file() and not path.is_symlink() and state.st_size <= SAMPLE_BYTES and _is_text(path):
            small.append(path)
    chosen = random.Random(seed).sample(sorted(small), min(SAMPLE, len(small)))  # noqa: S311  (no secret)
    return {
        "files": count,
        "bytes": total,
        "sample": {str(path.relative_to(content)): sha256(path) for path in chosen},
        "plugins": _names(content / "plugins"),
        "themes": _names(content / "themes"),
    }


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file, "gone", or "no file" of a FIFO, a device or a link, which is not opened."""
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "gone"
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


def place(fetched: Path, content: Path, media: Path, owner: int) -> None:
    """Move a fetched wp-content to where its generation has it: uploads to ``media``, the rest to ``content``.

    Each is one rename, so that a repetition finds it either there or not yet moved.
    """
    uploads = fetched / "uploads"
    own(fetched, owner)
    if uploads.exists():
        _replace(uploads, media)
    if fetched.exists():
        uploads.mkdir()  # where the media are mounted
        os.chown(uploads, owner, owner)
        _replace(fetched, content)


def own(root: Path, owner: int) -> None:
    """Give everything below ``root`` to the site's user, as far as it is not theirs."""
    for folder, _directories, _names in os.walk(root):
        if os.lstat(folder).st_uid != owner:
            os.lchown(folder, owner, owner)
    for path, state in walk(root):
        if state.st_uid != owner:
            os.lchown(path, owner, owner)


def _replace(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    source.rename(target)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "index.php") if folder.is_dir() else []


def _is_text(path: Path) -> bool:
    """Return whether the path can be written down in JSON."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
