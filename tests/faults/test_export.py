"""Every step of an export killed, failed, resumed and undone; the operator's disk full; the stream cut; two at once."""

import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.operations import export
from tests.support.commands import Command, through, variant
from tests.support.disks import fill, mount, unmount
from tests.support.kills import DIED, die_after_each, die_undoing_each, points, steps_of
from tests.support.town import Town
from tests.support.wire import Wire

SITE = "kayane"
STEPS = steps_of(export.KIND)
slow = pytest.mark.acceptance


@pytest.fixture(scope="module")
def site(town: Town) -> Iterator[Town]:
    """A town with a site to export. When the module's last case is over, all of it is well."""
    town.create(SITE)
    yield town
    assert town.is_well()


@pytest.fixture
def folder(site: Town, tmp_path: Path) -> Iterator[Path]:
    """A folder to export to. Afterwards nothing is left on the host, and the site serves as before."""
    before = site.belongings()
    yield tmp_path
    staging = site.data_root / "sites" / SITE / "export"
    assert not staging.exists()
    assert site.belongings() == before
    assert site.get(SITE).status == 200


def begin(town: Town, folder: Path, failpoint: str, code: int) -> str:
    """Begin an export that meets a failpoint; return what it said."""
    return town.run("export", SITE, "--to", str(folder), code=code, PROVISION_FAILPOINT=failpoint).stderr


def check_whole(folder: Path) -> None:
    """Check that the archive is there, whole, and nothing beside it."""
    (archive,) = folder.iterdir()
    assert archive.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.testzip() is None
        zipped.extractall(folder / "out")
    (inside,) = (folder / "out").iterdir()
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=inside, check=True)


@pytest.mark.kills("export")
def test_killed_after_each_step_then_resumed(site: Town, folder: Path) -> None:
    die_after_each(site, STEPS, SITE, "export", SITE, "--to", str(folder))
    check_whole(folder)


@pytest.mark.kills("export")
def test_killed_then_its_undo_at_each_step(site: Town, folder: Path) -> None:
    die_undoing_each(site, STEPS, SITE, "export", SITE, "--to", str(folder))
    assert list(folder.iterdir()) == []


def test_an_interrupted_export_is_not_begun_again(site: Town, folder: Path) -> None:
    begin(site, folder, f"{STEPS[0]}:after:kill", DIED)
    refused = site.run("export", SITE, "--to", str(folder / "other.zip"), code=4)
    assert f"provision resume {SITE}" in refused.stderr
    site.run("undo", SITE, "--yes")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("point", ["export.pack:middle", "export.fetch:middle"])
def test_failing_is_undone(site: Town, folder: Path, point: str) -> None:
    assert "; undone" in begin(site, folder, f"{point}:fail", 1)
    assert list(folder.iterdir()) == []


@slow
@pytest.mark.parametrize("point", points(STEPS))
def test_failing_anywhere_is_undone(site: Town, folder: Path, point: str) -> None:
    assert "; undone" in begin(site, folder, f"{point}:fail", 1)
    assert list(folder.iterdir()) == []


@slow
@pytest.mark.parametrize("then", ["resume", "undo"])
@pytest.mark.parametrize("point", points(STEPS))
def test_killed_anywhere(site: Town, folder: Path, point: str, then: str) -> None:
    begin(site, folder, f"{point}:kill", DIED)
    site.run(then, SITE, *(["--yes"] if then == "undo" else []))
    if then == "resume":
        check_whole(folder)
    else:
        assert list(folder.iterdir()) == []


@slow
@pytest.mark.parametrize("step", STEPS)
def test_undo_killed_then_undone(site: Town, folder: Path, step: str) -> None:
    begin(site, folder, f"{STEPS[-1]}:after:kill", DIED)
    site.run("undo", SITE, "--yes", code=DIED, PROVISION_FAILPOINT=f"{step}:undo:kill")
    site.run("undo", SITE, "--yes")
    assert list(folder.iterdir()) == []


def test_two_at_once(site: Town, folder: Path) -> None:
    """A9: the second is told who, what and since when."""
    first = Command(site, "export", SITE, "--to", str(folder), PROVISION_FAILPOINT="export.pages:before:stop")
    first.wait_until_stopped()
    try:
        for second in (("export", SITE, "--to", str(folder / "other.zip")), ("backup", SITE)):
            refused = site.run(*second, code=4)
            assert "export is running since" in refused.stderr + refused.stdout
    finally:
        first.go_on()
    assert first.end().code == 0
    check_whole(folder)


def test_a_file_that_appeared_meanwhile_is_kept(site: Town, folder: Path) -> None:
    target = folder / "export.zip"
    first = Command(site, "export", SITE, "--to", str(target), PROVISION_FAILPOINT="export.fetch:middle:stop")
    first.wait_until_stopped()
    target.write_text("a person's own")
    first.go_on()
    first.end().check(1, str(target), "undone")
    assert [path.name for path in folder.iterdir()] == [target.name]
    assert target.read_text() == "a person's own"


def test_too_little_space_on_the_host_is_refused_with_figures(site: Town, folder: Path) -> None:
    environment = variant(site, host={"free_disk_mb": 1_000_000_000})
    begun = len(site.json("log", SITE))
    Command(site, "export", SITE, "--to", str(folder), **environment).end().check(
        5, "MiB on host local", "0 MiB are free"
    )
    assert len(site.json("log", SITE)) == begun
    assert list(folder.iterdir()) == []


def test_too_little_space_here_is_refused_with_figures(site: Town, folder: Path) -> None:
    place = folder / "usb"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place))
    try:
        Command(site, "export", SITE, "--to", str(place)).end().check(5, f"MiB in {place}", "MiB are free")
        assert list(place.iterdir()) == []
    finally:
        unmount(place)


def test_a_disk_that_fills_up_midway(site: Town, folder: Path) -> None:
    """A5, on the operator's machine."""
    place = folder / "usb"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place))
    try:
        command = Command(site, "export", SITE, "--to", str(place), PROVISION_FAILPOINT="export.fetch:before:stop")
        command.wait_until_stopped()
        filler = fill(place)
        command.go_on()
        command.end().check(1, "No space left", "undone")
        assert list(place.iterdir()) == [filler]
    finally:
        unmount(place)


def test_a_stream_that_is_cut_is_no_archive(site: Town, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A6: it is fetched again, and checked."""
    with Wire(tmp_path_factory.mktemp("wire") / "engine.sock") as wire:
        wire.cut("half", path=r"fetch\.\w+/archive")
        command = Command(site, "export", SITE, "--to", str(folder), "--json", **through(site, wire))
        ended = command.end()
        assert ended.code == 0, ended.said
        assert wire.cuts == 1
    check_whole(folder)


def test_a_site_that_does_not_answer_is_told(site: Town, folder: Path) -> None:
    """No archive without the pages: the generation's own web server is down."""
    container = site.docker().containers.get(f"{site.namespace}.site.{SITE}.1")
    container.stop(timeout=5)
    try:
        Command(site, "export", SITE, "--to", str(folder)).end().check(1, "export failed at pages", "does not answer")
        assert list(folder.iterdir()) == []
        assert json.loads(site.run("status", "--json", code=None).stdout)
    finally:
        container.start()
        site.run("doctor", "--fix")
