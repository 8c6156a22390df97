"""Files of an association's as the agent reads them: regular ones; whatever else took their place is not opened."""

import hashlib
import os
import socket
import time
from pathlib import Path

import pytest

from provisioner.agent import files


@pytest.mark.parametrize("kind", ["fifo", "link", "device", "socket", "folder"])
def test_what_is_no_regular_file_has_no_hash(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/etc/passwd")
        case "device":
            path = Path("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case "folder":
            path.mkdir()
    began = time.monotonic()
    assert files.sha256(path) == "no file"
    assert time.monotonic() - began < 5


def test_a_file_has_its_hash_and_one_that_went_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"salut")
    assert files.sha256(path) == hashlib.sha256(b"salut").hexdigest()
    assert files.sha256(tmp_path / "none") == "gone"
