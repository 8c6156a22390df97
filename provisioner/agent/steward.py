"""The steward: makes directories for a site's own user, and secrets that the site's container never sees.

It is root, and touches only paths of which every parent belongs to root: each is opened from the one above it, and no
link is followed.
"""

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from provisioner.agent.faults import Fault
from provisioner.agent.protocol import HandedOver, HandOver

ROOT = Path("/host")  # the data root
READER = "reader.json"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def hand_over(request: HandOver) -> HandedOver:
    """Make the directories and the secret that are not there yet; return the hash of the reader's password.

    Raises:
        Fault: something else lies in the way, or a parent is not root's.

    """
    for directory in request.directories:
        with _directory(directory, request.uid, 0o700):
            pass
    with _directory(request.secrets, 0, 0o550, group=request.uid) as folder:
        content = _secret(folder, request)
    return HandedOver("*" + hashlib.sha1(hashlib.sha1(content["password"].encode()).digest()).hexdigest().upper())  # noqa: S324  (MariaDB's own)


@contextlib.contextmanager
def _directory(path: str, owner: int, mode: int, group: int | None = None) -> Iterator[int]:
    """Open a directory below the data root for a block, made where it is missing; one that is there keeps its mode."""
    *parents, name = PurePosixPath(path).parts
    with contextlib.ExitStack() as stack:
        folder = _opened(stack, str(ROOT), None)
        for parent in parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o711, dir_fd=folder)
            folder = _opened(stack, parent, folder)
            if os.fstat(folder).st_uid != 0:
                raise Fault(f"{path}: {parent} does not belong to root")
        made = not _exists(name, folder)
        if made:
            os.mkdir(name, 0o700, dir_fd=folder)
        inner = _opened(stack, name, folder)
        if made:
            os.fchmod(inner, mode)
            os.fchown(inner, owner, owner if group is None else group)
        yield inner


def _opened(stack: contextlib.ExitStack, name: str, folder: int | None) -> int:
    try:
        handle = os.open(name, _OPEN, dir_fd=folder)
    except OSError as error:
        raise Fault(f"{name}: {error.strerror}") from None
    stack.callback(os.close, handle)
    return handle


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _secret(folder: int, request: HandOver) -> dict[str, str]:
    """Return what the secret holds; it is written aside first, so that there is never half of one."""
    if not _exists(READER, folder):
        content = {"database": request.database, "user": request.user, "password": secrets.token_hex(20)}
        new = f"{READER}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440, dir_fd=folder)
        with os.fdopen(handle, "w") as file:
            os.fchown(handle, 0, request.uid)
            file.write(json.dumps(content) + "\n")
            file.flush()
            os.fsync(handle)
        os.rename(new, READER, src_dir_fd=folder, dst_dir_fd=folder)
    handle = os.open(READER, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    with os.fdopen(handle) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Fault(f"{request.secrets}/{READER} is no file")
        content = json.loads(file.read(4096))
    if (content["database"], content["user"]) != (request.database, request.user):
        raise Fault(f"{request.secrets}/{READER} is of user {content['user']!r}, not of {request.user!r}")
    return dict(content)
