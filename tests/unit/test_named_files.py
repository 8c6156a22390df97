"""Files that a person named: regular, bounded, or one clear line at once."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import named_files
from provisioner.errors import BadInput

MOST = 64 << 10


@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_file_comes_whole_or_not_at_all(tmp_path_factory: pytest.TempPathFactory, content: bytes, most: int) -> None:
    path = tmp_path_factory.getbasetemp() / "file"
    path.write_bytes(content)
    if len(content) <= most:
        assert named_files.content(path, most) == content
    else:
        with pytest.raises(BadInput, match="larger than"):
            named_files.content(path, most)


@pytest.mark.parametrize("name", ["fifo", "/dev/zero", "/dev/null", "socket", "folder", "none", "nul\0"])
def test_what_is_no_regular_file_is_told_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.mknod(tmp_path / "socket", 0o140600)
    (tmp_path / "folder").mkdir()
    began = time.monotonic()
    with pytest.raises(BadInput) as told:
        named_files.content(tmp_path / name, MOST)
    assert str(tmp_path / name) in told.value.message
    assert time.monotonic() - began < 5


def test_a_large_one_is_told_with_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadInput, match="larger than 64 KiB") as told:
        named_files.content(path, MOST, "split the file")
    assert told.value.hint == "split the file"
