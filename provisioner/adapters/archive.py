"""Files to and from a container, as the engine takes and gives them: in a tar stream."""

import io
import tarfile
from collections.abc import Mapping


def pack(files: Mapping[str, bytes], uid: int = 0) -> bytes:
    """Return an archive of ``files``, as a container takes them before its start; they belong to ``uid``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600 if uid else 0o644
            entry.uid = entry.gid = uid
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    """Return the files of an archive by their path below the directory that it holds."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive if entry.isfile()}
        return {path: file.read() for path, file in found.items() if file is not None}
