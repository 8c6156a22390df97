"""Files to and from a container, as the engine takes and gives them: in a tar stream."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker

_CHUNK = 1 << 20  # bytes of a file that are held at once


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of ``files``, as a container takes them before its start."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    """Return the files of an archive by their path below the directory that it holds."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive if entry.isfile()}
        return {path: file.read() for path, file in found.items() if file is not None}


class _Chunks:
    """The engine's answer as tarfile reads it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _size: int = -1) -> bytes:
        return next(self._chunks, b"")


def receive(api: docker.APIClient, name: str, path: str, target: Path, size: int, sha256: str) -> None:
    """Write the file ``path`` of a container to ``target``, as it comes, readable by its owner alone."""
    chunks, _state = api.get_archive(name, path, chunk_size=_CHUNK)
    stream: Any = _Chunks(iter(chunks))  # it is asked for no more than to be read
    digest, received = hashlib.sha256(), 0
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as out:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                entry = archive.next()
                file = archive.extractfile(entry) if entry else None
                while file and (chunk := file.read(_CHUNK)):
                    out.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
        except tarfile.TarError as error:
            raise ConnectionError(f"{received} of {size} bytes of {path} arrived: {error}") from None
        out.flush()
        os.fsync(out.fileno())
    if received != size or digest.hexdigest() != sha256:
        raise ConnectionError(f"{received} bytes of {path} arrived that are not its {size} bytes")
