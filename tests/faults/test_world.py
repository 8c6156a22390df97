"""The world around an operation fails: state, disk, engine, database, clock, images, names, mail (FAULTS A4 to B6).

Whatever happens, the neighbour serves, nothing is left over, and one line says what happened.
"""

import io
import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlmodel import select

from provisioner import clock
from provisioner.installation import Installation
from provisioner.model.tables import Operation, Site, SiteState
from provisioner.operations import create
from provisioner.steps.content import install_wordpress
from provisioner.steps.invitation import queue_invitations
from tests.support.commands import Command, through, variant
from tests.support.creating import begin, check_converged, check_nothing_left, stopped
from tests.support.disks import MIB, fill, mount, unmount
from tests.support.town import Town, association
from tests.support.wire import How, Wire

slow = pytest.mark.acceptance
PATIENCE = 120  # seconds after which an operation on a host that is gone must have ended


# A4: the state database


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the state database as a writer that does not end."""
    with sqlite3.connect(database, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
    connection.close()


def test_state_locked(crowded: Town) -> None:
    before = crowded.belongings()
    with locked(crowded.state / "provision.db"):
        ended = begin(crowded, "locked").end(60)
        ended.check(5, "provision.db: database is locked")
        assert ended.seconds > 4
    check_converged(crowded, "locked", before, exists=False)


@slow
def test_state_locked_before_init(crowded: Town) -> None:
    before = crowded.belongings()
    with locked(crowded.state / "provision.db"):
        Command(crowded, "init").end(60).check(5, "provision.db: database is locked")
    assert crowded.belongings() == before


def test_state_locked_for_a_moment(crowded: Town) -> None:
    before = crowded.belongings()
    with locked(crowded.state / "provision.db"):
        command = begin(crowded, "patient")
        time.sleep(3)
    assert command.end().code == 0
    check_converged(crowded, "patient", before, exists=True)


@slow
def test_state_locked_midway(crowded: Town) -> None:
    """The journal cannot be written: the operation is interrupted, and converges later."""
    before = crowded.belongings()
    command = stopped(crowded, "midway", "create.container:before")
    with locked(crowded.state / "provision.db"):
        command.go_on()
        command.end(60).check(5, "database is locked")
        assert crowded.get("neighbour").status == 200
    crowded.run("undo", "midway", "--yes")
    check_converged(crowded, "midway", before, exists=False)


def test_state_missing(crowded: Town) -> None:
    before = crowded.belongings()
    database, aside = crowded.state / "provision.db", crowded.state / "aside.db"
    database.rename(aside)
    try:
        begin(crowded, "missing").end(30).check(5, "no state database at", "provision init")
        assert not database.exists()
        assert crowded.get("neighbour").status == 200
    finally:
        aside.rename(database)
    check_converged(crowded, "missing", before, exists=False)


def test_state_read_only(crowded: Town) -> None:
    before = crowded.belongings()
    mount("--bind", str(crowded.state), str(crowded.state))
    try:
        mount("-o", "remount,bind,ro", str(crowded.state))
        for command in (begin(crowded, "readonly"), Command(crowded, "init")):
            ended = command.end(30)
            ended.check(5, str(crowded.state))
            assert "read" in ended.said.lower()
    finally:
        unmount(crowded.state)
    check_converged(crowded, "readonly", before, exists=False)


@pytest.fixture
def small_state(crowded: Town) -> Iterator[Path]:
    """A copy of the town's state on a small file system."""
    place = Path(tempfile.mkdtemp(prefix="provision-state-"))
    mount("-t", "tmpfs", "-o", "size=4m", "none", str(place))
    try:
        shutil.copytree(crowded.state, place, dirs_exist_ok=True)
        yield place
    finally:
        unmount(place)
        place.rmdir()


def test_state_full(crowded: Town, small_state: Path) -> None:
    before = crowded.belongings()
    environment = variant(crowded, state=str(small_state))
    fill(small_state)
    begin(crowded, "full", **environment).end(60).check(5, "full")
    check_converged(crowded, "full", before, exists=False)


def test_state_full_midway(crowded: Town, small_state: Path) -> None:
    before = crowded.belongings()
    environment = variant(crowded, state=str(small_state))
    command = stopped(crowded, "full-midway", "create.database:before", **environment)
    filler = fill(small_state)
    command.go_on()
    command.end(60).check(5, "full")
    assert crowded.get("neighbour").status == 200
    filler.unlink()
    crowded.run("undo", "full-midway", "--yes", **environment)
    check_converged(crowded, "full-midway", before, exists=False)


# A5: the host's disk


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town with a neighbour, whose data root is a file system of its own."""
    folder = tmp_path_factory.mktemp("small")
    place = Town(folder, host={"free_disk_mb": 64})
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(500 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    place.data_root.mkdir()
    mount("-o", "loop", str(image), str(place.data_root))
    try:
        place.init()
        place.create("neighbour")
        yield place
        assert place.is_well()
    finally:
        place.remove()
        unmount(place.data_root)
        place.data_root.rmdir()
        image.unlink()


def test_too_little_space_is_refused_with_figures(small: Town) -> None:
    before = small.belongings()
    filler = fill(small.data_root)
    os.truncate(filler, filler.stat().st_size - 40 * MIB)
    try:
        begin(small, "crammed").end(60).check(5, "MiB free on", str(small.data_root), "64 MiB are wanted")
    finally:
        filler.unlink()
    check_converged(small, "crammed", before, exists=False)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("files", marks=slow),
        "database",
        pytest.param("container", marks=slow),
        "install",
    ],
)
def test_disk_full_midway(small: Town, step: str) -> None:
    """Filled between the preflight and a step: undone (or, when the step needed no space, done), others intact."""
    before = small.belongings()
    command = stopped(small, f"full-{step}", f"create.{step}:before")
    filler = fill(small.data_root)
    try:
        command.go_on()
        ended = command.end(PATIENCE)
        assert small.get("neighbour").status == 200
    finally:
        filler.unlink(missing_ok=True)
    if ended.code != 0:
        ended.check(1, "create failed at", "undone")
    check_converged(small, f"full-{step}", before, exists=ended.code == 0)


def test_a_restore_with_too_little_space(small: Town) -> None:
    """D17: refused with figures. A5: filled after that, it is undone, and what served serves."""
    small.run("backup", "neighbour")
    before, content = small.belongings(), small.json("status", "neighbour")["content_sha256"]
    filler = fill(small.data_root)
    os.truncate(filler, filler.stat().st_size - 65 * MIB)
    try:
        refused = Command(small, "restore", "neighbour", "--yes").end(60)
    finally:
        filler.unlink()
    refused.check(5, "neighbour: the restore needs", "MiB on host local", "MiB are free")
    command = Command(small, "restore", "neighbour", "--yes", PROVISION_FAILPOINT="restore.fetch:before:stop")
    command.wait_until_stopped()
    filler = fill(small.data_root)
    try:
        command.go_on()
        ended = command.end(PATIENCE)
        assert small.get("neighbour").status == 200
    finally:
        filler.unlink()
    ended.check(1, "restore failed at fetch", "undone")
    assert small.json("status", "neighbour")["content_sha256"] == content
    assert small.belongings() == before
    assert small.is_well()


@slow
@pytest.mark.parametrize("step", ["probe", "flip", "verify"])
def test_disk_full_for_a_site_that_writes_already(small: Town, step: str) -> None:
    """InnoDB aborts when a rollback finds no space, and MariaDB then waits for it: bounded, and all is well again."""
    slug = f"full-{step}"
    before = small.belongings()
    command = stopped(small, slug, f"create.{step}:before")
    filler = fill(small.data_root)
    try:
        command.go_on()
        ended = command.end(PATIENCE)
    finally:
        filler.unlink()
    wait_for_database(small, 90)
    assert small.get("neighbour").status == 200, "nobody typed anything"
    if ended.code == 3:
        ended.check(3, "could not undo", f"provision undo {slug}")
        small.run("undo", slug, "--yes")
    elif ended.code != 0:
        ended.check(1, "create failed at", "undone")
    check_converged(small, slug, before, exists=ended.code == 0)


def wait_for_database(town: Town, seconds: float) -> None:
    """Wait until the database server answers."""
    deadline = time.monotonic() + seconds
    while "Uptime" not in _quietly(town, "SHOW STATUS LIKE 'Uptime'"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@slow
def test_init_on_a_full_disk_is_undone(empty_town: Town) -> None:
    empty_town.data_root.mkdir()
    mount("-t", "tmpfs", "-o", "size=20m", "none", str(empty_town.data_root))
    try:
        Command(empty_town, "init").end(PATIENCE + 60).check(1, "init failed at database", "undone")
        check_nothing_left(empty_town)
    finally:
        empty_town.remove()
        unmount(empty_town.data_root)
        empty_town.data_root.rmdir()


# A6: the engine and the wire to it


KINDS = ["create", "archive", "containers/[^/]+/start", "wait", "logs", "exec$", "exec/.*/start"]


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with Wire(tmp_path / "engine.sock") as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("how", "path"),
    [
        ("request", "exec/.*/start"),
        ("answer", r"install\.\w+/start"),
        ("half", r"files\.\w+/logs"),
        ("half", "database/exec"),
    ],
)
def test_wire_cut_during_create(crowded: Town, wire: Wire, how: How, path: str) -> None:
    """One cut is waited out: the state is observed, and the site is created."""
    slug = f"cut-{how}-{re.split('[^a-z]', path)[0]}"
    before = crowded.belongings()
    wire.cut(how, path=path)
    ended = begin(crowded, slug, **through(crowded, wire)).end(PATIENCE)
    assert wire.cuts == 1
    assert ended.code == 0, ended.said
    check_converged(crowded, slug, before, exists=True)


@slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["request", "answer", "half"])
def test_wire_cut_at_every_request_of_a_create(empty_town: Town, wire: Wire, how: How) -> None:
    empty_town.init()
    for number in itertools.count(1):
        wire.cut(how, number=number)
        ended = begin(empty_town, f"cut-{number}", **through(empty_town, wire)).end(PATIENCE)
        assert ended.code == 0, (wire.requests[number - 1], ended.said)
        assert empty_town.get(f"cut-{number}").status == 200
        if wire.cuts == 0:
            break
    assert number > 20, "a create makes more requests than that"
    assert empty_town.is_well()


@pytest.mark.parametrize("how", ["half", pytest.param("request", marks=slow), pytest.param("answer", marks=slow)])
@pytest.mark.parametrize("path", KINDS)
def test_wire_cut_at_one_kind_of_request(crowded: Town, wire: Wire, path: str, how: How) -> None:
    """A truncated answer is never taken for a whole one: `doctor` and `status` say what they always say."""
    environment = through(crowded, wire)
    command = ["doctor", "neighbour"] if "exec" in path else ["status", "neighbour", "--json"]
    wanted = crowded.run(*command).stdout
    wire.cut(how, path=path)
    assert crowded.run(*command, **environment).stdout == wanted
    assert wire.cuts == 1


def test_engine_away_for_a_moment(crowded: Town, wire: Wire) -> None:
    before = crowded.belongings()
    command = stopped(crowded, "away", "create.database:before", **through(crowded, wire))
    wire.refuse()
    command.go_on()
    time.sleep(8)
    wire.accept()
    assert command.end().code == 0
    check_converged(crowded, "away", before, exists=True)


@slow
@pytest.mark.parametrize("fault", ["hang", "refuse"])
def test_engine_gone_for_good(crowded: Town, wire: Wire, fault: str) -> None:
    """Bounded; what cannot be undone without an engine needs a hand, and is undone when the engine is back."""
    slug = f"gone-{fault}"
    before = crowded.belongings()
    command = stopped(crowded, slug, "create.container:before", **through(crowded, wire))
    getattr(wire, fault)()
    command.go_on()
    ended = command.end(PATIENCE)
    ended.check(3, "could not undo", "does not answer", f"provision undo {slug}")
    assert crowded.get("neighbour").status == 200
    crowded.run("undo", slug, "--yes")
    check_converged(crowded, slug, before, exists=False)


@pytest.mark.parametrize("fault", ["hang", pytest.param("refuse", marks=slow)])
def test_engine_gone_from_the_beginning(crowded: Town, wire: Wire, fault: str) -> None:
    before = crowded.belongings()
    getattr(wire, fault)()
    ended = begin(crowded, f"never-{fault}", **through(crowded, wire)).end(PATIENCE)
    ended.check(5, "does not answer")
    check_converged(crowded, f"never-{fault}", before, exists=False)


# A7: the database server


@contextmanager
def database_down(town: Town, how: str) -> Iterator[Callable[[], None]]:
    """Pause or stop the database server; yield what brings it back, which happens at the end in any case."""
    server = town.docker().containers.get(f"{town.namespace}.database")
    down, up = {"pause": (server.pause, server.unpause), "stop": (server.kill, server.start)}[how]
    restored = threading.Event()

    def restore() -> None:
        if not restored.is_set():
            restored.set()
            up()
            wait_for_database(town, 30)

    down()
    try:
        yield restore
    finally:
        restore()


def _quietly(town: Town, statement: str) -> str:
    try:
        return town.sql(statement)
    except subprocess.CalledProcessError:
        return ""


@pytest.mark.parametrize(
    ("how", "step"),
    [
        ("stop", "database"),
        ("pause", "install"),
        pytest.param("pause", "database", marks=slow),
        pytest.param("stop", "install", marks=slow),
    ],
)
def test_database_down_for_a_moment(crowded: Town, how: str, step: str) -> None:
    """Waited for: created, or undone."""
    slug = f"blink-{how}-{step}"
    before = crowded.belongings()
    command = stopped(crowded, slug, f"create.{step}:before")
    with database_down(crowded, how) as restore:
        command.go_on()
        time.sleep(4)
        restore()
        ended = command.end(PATIENCE)
    if ended.code != 0:
        ended.check(1, f"create failed at {step}", "undone")
    check_converged(crowded, slug, before, exists=ended.code == 0)


@pytest.mark.parametrize("how", [pytest.param("pause", marks=slow), "stop"])
@pytest.mark.parametrize("step", ["database", pytest.param("install", marks=slow)])
def test_database_down_for_good(crowded: Town, how: str, step: str) -> None:
    """Bounded; undone, except for the database itself where there is one already: that needs a hand."""
    slug = f"down-{how}-{step}"
    before = crowded.belongings()
    command = stopped(crowded, slug, f"create.{step}:before")
    with database_down(crowded, how):
        command.go_on()
        ended = command.end(PATIENCE)
    if step == "database":
        ended.check(1, "create failed at database", "undone")
    else:
        ended.check(3, "could not undo", f"provision undo {slug}")
        crowded.run("undo", slug, "--yes")
    check_converged(crowded, slug, before, exists=False)


@pytest.mark.parametrize("how", ["stop", pytest.param("pause", marks=slow)])
def test_database_down_from_the_beginning(crowded: Town, how: str) -> None:
    before = crowded.belongings()
    with database_down(crowded, how):
        begin(crowded, "no-database").end(60).check(5, "database")
    check_converged(crowded, "no-database", before, exists=False)


# A9, A10, A12: others, clocks, pauses


def test_another_operator_is_told_who_what_and_since_when(crowded: Town) -> None:
    """And a stopped process keeps what it holds, whatever the clock says, and finishes when it goes on."""
    before = crowded.belongings()
    first = stopped(crowded, "contested", "create.install:before")
    since = _started(crowded, "contested")
    for environment in ({}, {"PROVISION_NOW": "2036-02-29T03:00"}, {"PROVISION_NOW": "2001-01-01T00:00"}):
        second = begin(crowded, "contested", **environment).end(30)
        second.check(4, "contested: create is running", f"process {first.pid}", since, "wait for it")
    for command in ("resume", "undo"):
        arguments = ["--yes"] if command == "undo" else []
        Command(crowded, command, "contested", *arguments).end(30).check(4, f"process {first.pid}", since)
    crowded.create("elsewhere")  # a scheduler at work on another site goes on
    assert crowded.get("elsewhere").status == 200
    first.go_on()
    assert first.end().code == 0
    after = crowded.belongings()
    assert after["containers"] - before["containers"] == {
        f"{crowded.namespace}.site.{slug}.1" for slug in ("contested", "elsewhere")
    }
    assert crowded.is_well("contested", "elsewhere")


def _started(town: Town, slug: str) -> str:
    with Installation.open(town.inventory).store.transaction() as session:
        operation = session.exec(select(Operation).where(Operation.subject == slug)).one()
        return operation.started_at.astimezone(clock.PARIS).strftime("%Y-%m-%d %H:%M")


def test_the_same_command_three_times_at_once(crowded: Town) -> None:
    before = crowded.belongings()
    commands = [begin(crowded, "twice") for _ in range(3)]
    codes = sorted(command.end().code for command in commands)
    assert codes[0] == 0
    assert set(codes[1:]) <= {0, 4}, "a late one finds the site as it wants it; the others are told to wait"
    check_converged(crowded, "twice", before, exists=True)


def test_init_twice_at_once(empty_town: Town) -> None:
    first = Command(empty_town, "init", PROVISION_FAILPOINT="init.database:before:stop")
    first.wait_until_stopped()
    Command(empty_town, "init").end(30).check(4, "host:local: init is running since", f"process {first.pid}")
    first.go_on()
    assert first.end().code == 0
    assert empty_town.is_well()


@pytest.mark.parametrize("now", ["2036-02-29T03:00", pytest.param("2001-01-01T00:00", marks=slow)])
def test_a_clock_jump_does_not_steal_an_interrupted_operation(crowded: Town, now: str) -> None:
    before = crowded.belongings()
    begin(crowded, "jump", PROVISION_FAILPOINT="create.files:after:kill").end()
    begin(crowded, "jump", PROVISION_NOW=now).end().check(4, "is unfinished", "provision resume jump")
    crowded.run("undo", "jump", "--yes", PROVISION_NOW=now)
    check_converged(crowded, "jump", before, exists=False)


def test_a_clock_jump_sends_no_mail_twice(crowded: Town) -> None:
    crowded.create("mails")
    folder = crowded.state / "mail"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for now in ("2036-02-29T03:00", "2001-01-01T00:00", "2026-10-25T02:30", "2026-03-29T02:30"):
        assert crowded.run("mail", "retry", PROVISION_NOW=now).stdout.startswith("sent 0,")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2028-02-29T12:00", "2031-02-28"),
        pytest.param("2026-10-25T02:30", "2029-10-24", marks=slow),
        pytest.param("2027-12-31T23:59:59", "2030-12-30", marks=slow),
    ],
)
def test_a_site_created_on_a_strange_day(crowded: Town, now: str, end: str) -> None:
    """Leap day, the hour that comes twice, the last second of a year: the agreement begins on that day in Paris."""
    slug = f"day-{now[:10]}"
    described = {key: value for key, value in association(slug).items() if key != "agreement_start"}
    crowded.run("create", "--from", crowded.describe(described), PROVISION_NOW=now)
    agreement = crowded.json("status", slug)["agreement"]
    assert (agreement["start"], agreement["terms"][0]["end"]) == (now[:10], end)
    assert crowded.get(slug).status == 200


# B2, B3: images


@contextmanager
def release_with(town: Town, image: str) -> Iterator[None]:
    """Let the records say that the town's release is ``image``."""
    with sqlite3.connect(town.state / "provision.db") as connection:
        rows = connection.execute("SELECT id, image FROM release").fetchall()
        connection.execute("UPDATE release SET image = ?", (image,))
    connection.close()
    try:
        yield
    finally:
        with sqlite3.connect(town.state / "provision.db") as connection:
            connection.executemany("UPDATE release SET image = ? WHERE id = ?", [(was, key) for key, was in rows])
        connection.close()


def test_image_missing(crowded: Town) -> None:
    before = crowded.belongings()
    with release_with(crowded, "sha256:" + "0" * 64):
        begin(crowded, "imageless").end().check(5, "the image of release", "is missing", "provision release build")
    check_converged(crowded, "imageless", before, exists=False)


def test_image_of_another_architecture(crowded: Town) -> None:
    before = crowded.belongings()
    client = crowded.docker()
    foreign = client.images.load(_empty_image("arm64"))[0]
    try:
        with release_with(crowded, str(foreign.id)):
            begin(crowded, "foreign").end().check(5, "is for arm64, the host is")
    finally:
        client.images.remove(str(foreign.id), force=True)
    check_converged(crowded, "foreign", before, exists=False)


def _empty_image(architecture: str) -> bytes:
    """Return an image without any file, as `docker save` writes one."""
    config = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    manifest = [{"Config": "config.json", "RepoTags": [f"test-provision/{architecture}:1"], "Layers": []}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class Visitor:
    """Asks for a site all the time while a block runs, and keeps what it was given."""

    def __init__(self, town: Town, slug: str) -> None:
        self.seen: set[int] = set()
        self._town, self._slug = town, slug
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.2):
            self.seen.add(self._town.get(self._slug).status)

    def __enter__(self) -> "Visitor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


BROKEN = {
    "fatal": "COPY broken.php /srv/provision/mu-plugins/a-broken.php",
    "dies": 'CMD ["/bin/false"]',
    "blank": "COPY blank.php /srv/provision/mu-plugins/a-broken.php",
}


@pytest.mark.parametrize(
    "fault",
    ["fatal", pytest.param("dies", marks=slow), pytest.param("blank", marks=slow)],
)
def test_a_release_that_does_not_serve_is_never_routed(crowded: Town, tmp_path: Path, fault: str) -> None:
    """B3: only over HTTP; installing works, so that the probe must find it."""
    slug = f"never-{fault}"
    before = crowded.belongings()
    with sqlite3.connect(crowded.state / "provision.db") as connection:
        (image,) = connection.execute("SELECT image FROM release").fetchone()
    connection.close()
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\n{BROKEN[fault]}\n")
    (tmp_path / "broken.php").write_text("<?php if (PHP_SAPI !== 'cli') { no_such_function(); }\n")
    (tmp_path / "blank.php").write_text("<?php if (PHP_SAPI !== 'cli') { exit; }\n")
    client = crowded.docker()
    broken, _ = client.images.build(path=str(tmp_path), rm=True)
    try:
        with release_with(crowded, str(broken.id)), Visitor(crowded, slug) as visitor:
            ended = begin(crowded, slug).end(PATIENCE)
    finally:
        client.images.remove(str(broken.id), force=True)
    ended.check(1, f"{slug}: create failed at probe", "the front page of generation 1", "undone")
    assert visitor.seen
    assert 200 not in visitor.seen
    assert all(status < 500 or status == 503 for status in visitor.seen)
    check_converged(crowded, slug, before, exists=False)


# B4: installing again


def test_installing_again_changes_nothing(crowded: Town) -> None:
    before = crowded.belongings()
    crowded.create("again")
    counts = "SELECT COUNT(*) FROM again_1.wp_users; SELECT post_type, COUNT(*) FROM again_1.wp_posts GROUP BY 1"
    users_and_posts = crowded.sql(counts)
    content = crowded.json("status", "again")["content_sha256"]
    installation = Installation.open(crowded.inventory)
    with installation.store.transaction() as session:
        operation = session.exec(select(Operation).where(Operation.subject == "again")).one()
    for _ in range(2):
        work = create.work_on(installation, operation)
        install_wordpress(work)
        queue_invitations(work)
    assert crowded.sql(counts) == users_and_posts
    assert crowded.json("status", "again")["content_sha256"] == content
    check_converged(crowded, "again", before, exists=True)


# B5: names that are taken


def test_a_slug_or_host_name_that_is_taken_is_refused(crowded: Town) -> None:
    crowded.create("taken", host_name="taken.example.test")
    before = crowded.belongings()
    for changes, word in (
        (association("taken", name="Autre"), "the slug 'taken' is taken"),
        (association("other", host_name="taken.example.test"), "the host name 'taken.example.test' is taken"),
        (association("other", host_name="neighbour.assos.localhost"), "'neighbour.assos.localhost' is taken"),
    ):
        Command(crowded, "create", "--from", crowded.describe(changes)).end().check(2, word)
        assert crowded.belongings() == before


@pytest.mark.parametrize("state", [SiteState.ARCHIVED, SiteState.DELETED])
def test_the_names_of_a_retired_site_stay_taken(crowded: Town, state: SiteState) -> None:
    before = crowded.belongings()
    store = Installation.open(crowded.inventory).store
    retired = Site(
        slug="retired",
        host_name="retired.example.test",
        host="local",
        state=state,
        name="Retirée",
        profile="general",
        release="6.8",
        created_at=clock.now(),
    )
    with store.transaction() as session:
        session.add(retired)
    try:
        begin(crowded, "retired").end().check(2, "the slug 'retired' is taken")
        described = crowded.describe(association("young", host_name="retired.example.test"))
        Command(crowded, "create", "--from", described).end().check(2, "'retired.example.test' is taken")
        assert crowded.belongings() == before
    finally:
        with store.transaction() as session:
            session.delete(retired)
