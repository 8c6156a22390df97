"""A data root that is nearly full is an alarm before anything fails: bytes and inodes, in status, doctor and watch."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provisioner.installation import Installation
from provisioner.operations import nightly
from tests.support.disks import fill, mount, unmount
from tests.support.town import Town, association

MIB = 1024 * 1024
FREE_MB, FREE_INODES = 64, 500


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town whose data root is a file system of its own, with few inodes."""
    folder = tmp_path_factory.mktemp("small")
    place = Town(folder, host={"free_disk_mb": FREE_MB, "free_inodes": FREE_INODES})
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(500 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "8000", str(image)], check=True)
    place.data_root.mkdir()
    mount("-o", "loop", str(image), str(place.data_root))
    try:
        place.init()
        yield place
    finally:
        place.remove()
        unmount(place.data_root)
        place.data_root.rmdir()
        image.unlink()


def leave_bytes(folder: Path, count: int) -> None:
    """Fill a file system until about as many bytes are free."""
    filler = fill(folder)
    os.truncate(filler, filler.stat().st_size - count)


def leave_inodes(folder: Path, count: int) -> None:
    place = folder / "fillers"
    place.mkdir()
    for number in range(os.statvfs(folder).f_favail - count):
        (place / str(number)).touch()


def make_room(folder: Path) -> None:
    (folder / "filler").unlink(missing_ok=True)
    subprocess.run(["rm", "-rf", str(folder / "fillers")], check=True)


def watch(town: Town) -> list[str]:
    """Let the job that comes every few minutes look, and its mails leave; return what it says of incidents."""
    summary = nightly.run(Installation.open(town.inventory), "watch")
    town.run("mail", "retry")
    return [one.outcome for one in summary.jobs["watch"]]


@pytest.mark.parametrize(
    ("leave", "count", "code", "refused"),
    [
        (leave_bytes, 100 * MIB, 0, ""),
        (leave_bytes, 1 * MIB, 5, "MiB free on"),
        (leave_inodes, 900, 0, ""),
        (leave_inodes, 20, 5, "inodes free on"),
    ],
    ids=["few-bytes", "hardly-a-byte", "few-inodes", "hardly-an-inode"],
)
def test_too_little_space_is_a_critical_alarm(
    small: Town, leave: Callable[[Path, int], None], count: int, code: int, refused: str
) -> None:
    """At twice what an operation wants, it comes while operations still begin."""
    assert " 0 critical" in small.run("status", "--check").stdout
    assert small.is_well()
    unit = "MiB" if leave is leave_bytes else "inodes"
    leave(small.data_root, count)
    try:
        what = f" {unit} are free on {small.data_root}, no operation begins below"
        said = small.run("status", "--check", code=2).stdout
        assert said.startswith("PROVISION CRITICAL - 0 sites, 1 critical, 0 warnings; host:local: ")
        free, _, rest = said.partition("host:local: ")[2].partition(" ")
        assert int(free) <= count // (MIB if unit == "MiB" else 1)
        assert what in f" {rest}"
        assert what in small.run("doctor", code=3).stdout
        begins = small.run("create", "--from", small.describe(association("petit")), "--dry-run", code=code)
        assert refused in begins.stderr
        assert watch(small) == [f"incident: {free} {rest.strip()}"]
        assert watch(small) == []
    finally:
        make_room(small.data_root)
    assert " 0 critical" in small.run("status", "--check").stdout
    assert [said.partition(":")[0] for said in watch(small)] == ["over"]
