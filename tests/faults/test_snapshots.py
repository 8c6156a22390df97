"""Every step of backup, restore and drill on the real engine: killed, failed; resumed and undone.

The cases walk the steps that the operations list, as those of test_operations.py do.
"""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner import records
from provisioner.installation import Installation
from provisioner.operations import backup, copy_site, drill, restore
from provisioner.operations.recovery import RECIPES
from tests.support.commands import Command, variant
from tests.support.kills import DIED, die_after_each, die_undoing_each, points, steps_of
from tests.support.town import Town, accounts
from tests.support.wire import How, Wire

SITE = "kayane"
BACKUP, RESTORE, DRILL = steps_of(backup.KIND), steps_of(restore.KIND), steps_of(drill.KIND)


@dataclass
class Place:
    """A town with a site of which one good snapshot exists, and a neighbour who must notice nothing."""

    town: Town
    snapshot: str
    restored: str  # hash over the content that the snapshot holds
    number: int = 0

    @property
    def content(self) -> str:
        """Return the hash over the association's content as it serves now."""
        return str(self.town.json("status", SITE)["content_sha256"])

    @property
    def serving(self) -> int:
        """Return the number of the generation that serves, by record."""
        with Installation.open(self.town.inventory).store.transaction() as session:
            generation = records.serving_generation(session, records.site(session, SITE).key)
        assert generation is not None
        return generation.number

    @property
    def taken(self) -> int:
        """Return how many snapshots of the site were ever recorded."""
        return [event["kind"] for event in self.town.json("log", SITE, "-n", "1000")].count("snapshot taken")

    def write(self) -> str:
        """Write to the site what no snapshot has; return the hash over its content."""
        self.number += 1
        self.town.sql(f"UPDATE {SITE}_{self.serving}.wp_posts SET post_title = 'Version {self.number}' WHERE ID = 1")
        return self.content

    def check(self, content: str, before: dict[str, set[str]], serving: int, *, kept: bool = False) -> None:
        """Check FAULTS.md's invariants after an operation: what serves, what is left over, the last good snapshot."""
        town = self.town
        assert town.get("neighbour").status == 200
        assert town.get(SITE).status == 200
        assert self.serving == serving
        pointer = town.data_root / "run" / "sites" / SITE / "current"
        assert os.readlink(pointer) == str(serving)
        assert self.content == content
        after = town.belongings()
        if kept:  # the generation before is there still, beside the new one
            name = f"{SITE}_{serving}"
            assert after["containers"] - before["containers"] == {f"{town.namespace}.site.{SITE}.{serving}"}
            assert after["databases"] - before["databases"] == {name}
            assert after["users"] - before["users"] == accounts(name)
            assert all(before[kind] <= after[kind] for kind in before)
        else:
            assert after == before
        site = town.data_root / "sites" / SITE
        assert {path.name for path in (site / "generations").iterdir()} == {
            name.removeprefix(f"{SITE}_") for name in after["databases"] if name.startswith(f"{SITE}_")
        }
        assert not list(site.glob("work/*/*.sql"))
        labels = [f"provision.namespace={town.namespace}", f"provision.site={SITE}"]
        running = [container.name for container in town.docker().containers.list(filters={"label": labels})]
        assert running == [f"{town.namespace}.site.{SITE}.{serving}"]
        # Each restore here is of this snapshot: that it is whole, they show, and the look at the end.
        assert [path.name.startswith(self.snapshot) for path in self.snapshots].count(True) == 1

    @property
    def snapshots(self) -> list[Path]:
        """Return restic's own files of the site's snapshots."""
        return list((self.town.folder / "backups" / SITE / "snapshots").iterdir())


@pytest.fixture(scope="module")
def place(town: Town) -> Iterator[Place]:
    """A town with a site that was backed up once. When the last case is over, the snapshot is good and all is well."""
    town.create("neighbour", SITE)
    taken = town.json("backup", SITE)[0]
    place = Place(town, taken["snapshot"], str(town.json("status", SITE)["content_sha256"]))
    yield place
    assert town.json("restore", SITE, "--snapshot", place.snapshot, "--dry-run")["snapshot"] == place.snapshot
    assert town.is_well()


def then(town: Town, what: str) -> None:
    """Resume or undo what was interrupted."""
    town.run(what, SITE, *(["--yes"] if what == "undo" else []))


# Backup: the site is left as it is; a snapshot that counts is whole.


def interrupted_backup(place: Place, point: str, action: str, what: str) -> None:
    town, content, serving, before = place.town, place.content, place.serving, place.town.belongings()
    known = place.taken
    town.run("backup", SITE, code=DIED if action == "kill" else 1, PROVISION_FAILPOINT=f"{point}:{action}")
    if action == "kill":
        town.run("backup", SITE, code=4)
        then(town, what)
    place.check(content, before, serving)
    recorded = what == "resume" or point == f"{BACKUP[-1]}:after"  # what is recorded is whole, and stays
    assert place.taken == known + recorded


@pytest.mark.kills("backup")
def test_backup_killed_after_each_step_then_resumed(place: Place) -> None:
    content, serving, before, known = place.content, place.serving, place.town.belongings(), place.taken
    die_after_each(place.town, BACKUP, SITE, "backup", SITE)
    place.check(content, before, serving)
    assert place.taken == known + 1


def test_backup_killed_while_it_takes_then_undone(place: Place) -> None:
    interrupted_backup(place, "backup.snapshot:middle", "kill", "undo")


@pytest.mark.acceptance
@pytest.mark.parametrize(("action", "what"), [("kill", "resume"), ("kill", "undo"), ("fail", "")])
@pytest.mark.parametrize("point", points(BACKUP))
def test_backup_interrupted_anywhere(place: Place, point: str, action: str, what: str) -> None:
    interrupted_backup(place, point, action, what)


# Drill: the site is left as it is, and nothing stays.


def interrupted_drill(place: Place, point: str, action: str, what: str) -> None:
    town, content, serving, before = place.town, place.content, place.serving, place.town.belongings()
    town.run("drill", SITE, code=DIED if action == "kill" else 1, PROVISION_FAILPOINT=f"{point}:{action}")
    if action == "kill":
        town.run("drill", SITE, code=4)
        then(town, what)
    place.check(content, before, serving)


@pytest.mark.kills("drill")
def test_drill_killed_at_each_step(place: Place) -> None:
    content, serving, before = place.content, place.serving, place.town.belongings()
    for interrupted in (die_undoing_each, die_after_each):
        interrupted(place.town, DRILL, SITE, "drill", SITE)
        place.check(content, before, serving)


@pytest.mark.acceptance
@pytest.mark.parametrize(("action", "what"), [("kill", "resume"), ("kill", "undo"), ("fail", "")])
@pytest.mark.parametrize("point", points(DRILL))
def test_drill_interrupted_anywhere(place: Place, point: str, action: str, what: str) -> None:
    interrupted_drill(place, point, action, what)


# Restore: what the snapshot holds serves, or what served before, never a mixture.


def interrupted_restore(place: Place, point: str, action: str, what: str, *options: str) -> None:
    written, serving, before = place.write(), place.serving, place.town.belongings()
    assert written != place.restored
    command = ("restore", SITE, "--snapshot", place.snapshot, "--yes", *options)
    place.town.run(*command, code=DIED if action == "kill" else 1, PROVISION_FAILPOINT=f"{point}:{action}")
    if action == "kill":
        then(place.town, what)
    if what == "resume":
        place.check(place.restored, before, serving + 1, kept=True)
    else:
        place.check(written, before, serving)


def own(kind: str) -> list[str]:
    """Return the steps that a kind of restore has of its own, beside those of the plain one."""
    return [f"{kind}.{step.name}" for step in RECIPES[kind].steps if step not in restore.STEPS]


INTRUSION = own(restore.INTRUSION_KIND)
DATABASE = own(restore.DATABASE_KIND)
FILES = own(restore.FILES_KIND)
WAYS = pytest.mark.parametrize(
    ("steps", "options"),
    [
        pytest.param(RESTORE, (), id="restore"),
        pytest.param(INTRUSION, ("--after-intrusion",), id="after-intrusion"),
        pytest.param(DATABASE, ("--database",), id="database"),
    ],
)


@pytest.mark.kills("restore", "restore-database", "restore-after-intrusion")
@WAYS
def test_restore_killed_at_each_step(place: Place, steps: list[str], options: tuple[str, ...]) -> None:
    """Taken back, what was written serves; resumed, what the snapshot holds."""
    written, serving, before = place.write(), place.serving, place.town.belongings()
    assert written != place.restored
    command = ("restore", SITE, "--snapshot", place.snapshot, "--yes", *options)
    die_undoing_each(place.town, steps, SITE, *command)
    place.check(written, before, serving)
    die_after_each(place.town, steps, SITE, *command)
    place.check(place.restored, before, serving + 1, kept=True)


@pytest.mark.kills("restore-files")
@pytest.mark.parametrize(("interrupted", "back"), [(die_undoing_each, False), (die_after_each, True)])
def test_files_killed_at_each_step(place: Place, interrupted: Callable[..., None], back: bool) -> None:
    """Of a theme's file that the snapshot has, and that has changed since."""
    town, serving, before = place.town, place.serving, place.town.belongings()
    content = town.data_root / "sites" / SITE / "generations" / str(serving) / "content"
    changed = next((content / "themes").glob("*/style.css"))
    good = changed.read_bytes()
    changed.write_bytes(b"/* changed */")
    path = str(changed.relative_to(content))
    written = place.content
    interrupted(town, FILES, SITE, "restore", SITE, "--snapshot", place.snapshot, "--yes", "--files", path)
    assert changed.read_bytes() == (good if back else b"/* changed */")
    assert (place.content != written) is back
    changed.write_bytes(good)
    place.check(place.content, before, serving)


@pytest.mark.parametrize(
    ("failpoint", "code"), [("restore.load:after:interrupt", 130), ("restore.verify:before:fail", 1)]
)
def test_restore_stopped_by_hand_or_failing_is_undone(place: Place, failpoint: str, code: int) -> None:
    """A2; and one that fails when the new generation serves already."""
    written, serving, before = place.write(), place.serving, place.town.belongings()
    command = ("restore", SITE, "--snapshot", place.snapshot, "--yes")
    place.town.run(*command, code=code, PROVISION_FAILPOINT=failpoint)
    place.check(written, before, serving)


@pytest.mark.acceptance
@pytest.mark.parametrize(("action", "what"), [("kill", "resume"), ("kill", "undo"), ("fail", "")])
@pytest.mark.parametrize("point", points(RESTORE))
def test_restore_interrupted_anywhere(place: Place, point: str, action: str, what: str) -> None:
    interrupted_restore(place, point, action, what)


@pytest.mark.acceptance
@pytest.mark.parametrize("step", RESTORE)
def test_undo_of_a_restore_killed_then_undone(place: Place, step: str) -> None:
    written, serving, before = place.write(), place.serving, place.town.belongings()
    command = ("restore", SITE, "--snapshot", place.snapshot, "--yes")
    place.town.run(*command, code=DIED, PROVISION_FAILPOINT=f"{RESTORE[-1]}:after:kill")
    place.town.run("undo", SITE, "--yes", code=DIED, PROVISION_FAILPOINT=f"{step}:undo:kill")
    then(place.town, "undo")
    place.check(written, before, serving)


# After an intrusion, the database alone, and to another name: the steps that these have of their own


COPY = own(copy_site.KIND)


@pytest.mark.acceptance
@pytest.mark.parametrize(("action", "what"), [("kill", "resume"), ("kill", "undo"), ("fail", "")])
@pytest.mark.parametrize("point", points(INTRUSION))
def test_after_intrusion_interrupted_anywhere(place: Place, point: str, action: str, what: str) -> None:
    interrupted_restore(place, point, action, what, "--after-intrusion")


@pytest.mark.acceptance
@pytest.mark.parametrize(("action", "what"), [("kill", "resume"), ("kill", "undo"), ("fail", "")])
@pytest.mark.parametrize("point", points(DATABASE))
def test_database_interrupted_anywhere(place: Place, point: str, action: str, what: str) -> None:
    interrupted_restore(place, point, action, what, "--database")


_copies = itertools.count(1)


def check_copied(place: Place, slug: str, before: dict[str, set[str]], *, made: bool) -> None:
    """Check that the copy is there, whole and hidden from search engines, or that nothing of it is."""
    town = place.town
    after = town.belongings()
    assert [site["slug"] for site in town.json("status")["sites"] if site["slug"] == slug] == [slug] * made
    if not made:
        assert after == before
        return
    name = f"{slug.replace('-', '_')}_1"
    assert after["containers"] - before["containers"] == {f"{town.namespace}.site.{slug}.1"}
    assert after["databases"] - before["databases"] == {name}
    assert after["users"] - before["users"] == accounts(name)
    page = town.get(slug)
    assert page.status == 200
    assert "noindex" in page.data.decode()
    home = town.sql(f"SELECT option_value FROM {name}.wp_options WHERE option_name = 'home'").strip()
    assert home == f"https://{slug}.assos.localhost:{town.port}"


@pytest.mark.kills("copy")
@pytest.mark.parametrize(("interrupted", "made"), [(die_undoing_each, False), (die_after_each, True)])
def test_copy_killed_at_each_step(place: Place, interrupted: Callable[..., None], made: bool) -> None:
    content, serving, before = place.content, place.serving, place.town.belongings()
    slug = f"copy-{next(_copies)}"
    interrupted(place.town, COPY, slug, "restore", SITE, "--snapshot", place.snapshot, "--as", slug)
    check_copied(place, slug, before, made=made)
    place.check(content, place.town.belongings(), serving)


@pytest.mark.acceptance
@pytest.mark.parametrize(("action", "what"), [("kill", "resume"), ("kill", "undo"), ("fail", "")])
@pytest.mark.parametrize("point", points(COPY))
def test_copy_interrupted_anywhere(place: Place, point: str, action: str, what: str) -> None:
    town, content, serving, before = place.town, place.content, place.serving, place.town.belongings()
    slug = f"copy-{next(_copies)}"
    command = ("restore", SITE, "--snapshot", place.snapshot, "--as", slug)
    town.run(*command, code=DIED if action == "kill" else 1, PROVISION_FAILPOINT=f"{point}:{action}")
    if action == "kill":
        town.run(what, slug, *(["--yes"] if what == "undo" else []))
    check_copied(place, slug, before, made=what == "resume")
    place.check(content, town.belongings(), serving)


# A6: the wire to the engine


@pytest.mark.parametrize(("how", "path"), [("half", r"take\.\w+/logs"), ("answer", r"take\.\w+/wait")])
def test_wire_cut_during_a_backup(place: Place, tmp_path: Path, how: How, path: str) -> None:
    """What was cut is asked again: the snapshot that is recorded is the one that was taken."""
    town, content, serving, before, known = (
        place.town, place.content, place.serving, place.town.belongings(), place.taken,
    )  # fmt: skip
    with Wire(tmp_path / "engine.sock") as wire:
        wire.cut(how, path=path)
        behind = variant(town, host={"engine": wire.url}, backup={"target": str(town.folder / "backups")})
        ended = Command(town, "backup", SITE, "--json", **behind).end()
        assert ended.code == 0, ended.said
        assert wire.cuts == 1
    newest = town.json("status", SITE, "--snapshots")[-1]
    assert (newest["recorded"], place.taken) == (True, known + 1)
    place.check(content, before, serving)


# A9: two at once


@pytest.fixture
def held(place: Place) -> Iterator[Command]:
    """A restore that stands still in its middle (SIGSTOP)."""
    command = Command(
        place.town,
        "restore",
        SITE,
        "--snapshot",
        place.snapshot,
        "--yes",
        PROVISION_FAILPOINT="restore.load:before:stop",
    )
    command.wait_until_stopped()
    try:
        yield command
    finally:
        if command.running:
            os.kill(command.pid, signal.SIGKILL)
            command.end()


def test_a_restore_is_alone_and_goes_on_after_a_pause(place: Place, held: Command) -> None:
    """A9, A12: whoever else comes is told who works on the site; a paused process goes on and ends well."""
    town, serving, before = place.town, place.serving, place.town.belongings()
    for command in (("backup", SITE), ("drill", SITE), ("restore", SITE, "--yes"), ("resume", SITE)):
        refused = town.run(*command, code=4)
        assert f"(process {held.pid})" in refused.stdout + refused.stderr, command
    assert town.json("backup", "neighbour")[0]["exit_code"] == 0
    assert town.get(SITE).status == 200
    held.go_on()
    assert held.end().code == 0
    before["databases"].discard(f"{SITE}_{serving + 1}")
    before["users"] -= accounts(f"{SITE}_{serving + 1}")
    place.check(place.restored, before, serving + 1, kept=True)


# A7: the database server is down


def test_database_server_down(place: Place) -> None:
    """No snapshot counts; a restore is undone; when the server is back, both go well."""
    town, written, serving, before = place.town, place.write(), place.serving, place.town.belongings()
    known = place.taken
    command = Command(
        town, "restore", SITE, "--snapshot", place.snapshot, "--yes", PROVISION_FAILPOINT="restore.load:before:stop"
    )
    command.wait_until_stopped()
    server = town.docker().containers.get(f"{town.namespace}.database")
    server.stop(timeout=20)
    try:
        assert town.run("backup", "neighbour", code=1).stdout.count("\n") == 2
        command.go_on()
        ended = command.end()
    finally:
        server.start()
    # The undo could not drop the database of a server that is down: it says so, and can be repeated.
    assert ended.code in (1, 3), ended.said
    assert "restore failed at load" in ended.said or "could not undo" in ended.said
    town.run("doctor", "--fix", code=None)
    if ended.code == 3:
        then(town, "undo")
    place.check(written, before, serving)
    assert place.taken == known


# D1, D3, D8


def test_a_dump_that_dies_is_no_snapshot(place: Place) -> None:
    """D1: a view whose table is gone stops mariadb-dump midway."""
    town, serving, before = place.town, place.serving, place.town.belongings()
    known = place.taken
    database = f"{SITE}_{serving}"
    town.sql(
        f"USE {database}; CREATE TABLE wp_gone (id INT); CREATE VIEW wp_torn AS SELECT id FROM wp_gone; "
        "DROP TABLE wp_gone"
    )
    try:
        failed = town.run("backup", SITE, code=1)
        assert "mariadb-dump ended with exit code" in failed.stdout
        assert "wp_torn" in failed.stdout
        assert "Traceback" not in failed.stdout + failed.stderr
    finally:
        town.sql(f"DROP VIEW {database}.wp_torn")
    assert place.taken == known
    place.check(place.content, before, serving)


def test_upload_while_the_backup_runs(place: Place) -> None:
    """D8: an attachment whose file goes while the snapshot is taken is not in it as a row without a file."""
    town, serving = place.town, place.serving
    database = f"{SITE}_{serving}"
    media = town.json("backup", SITE)[0]  # the repository is warm
    assert media["exit_code"] == 0
    uploads = next(path for path in (town.data_root / "sites" / SITE).glob("media*") if path.name == shown(place))
    owner = uploads.stat().st_uid
    for number in range(40):
        photo = uploads / f"photo-{number}.jpg"
        photo.write_bytes(os.urandom(200_000))
        os.chown(photo, owner, owner)
    command = Command(town, "backup", SITE)
    for number in range(40, 60):
        photo = uploads / f"photo-{number}.jpg"
        photo.write_bytes(os.urandom(1000))
        os.chown(photo, owner, owner)
        town.sql(
            f"INSERT INTO {database}.wp_postmeta (post_id, meta_key, meta_value) "
            f"VALUES (1, '_wp_attached_file', 'photo-{number}.jpg')"
        )
    assert command.end().code == 0
    newest = town.json("restore", SITE, "--dry-run")
    rows = newest["manifest"]["database"]["rows"]["wp_postmeta"]
    assert town.json("restore", SITE)["generation"] == serving + 1
    fresh = town.data_root / "sites" / SITE / f"media-{serving + 1}"
    attached = town.sql(
        f"SELECT meta_value FROM {SITE}_{serving + 1}.wp_postmeta WHERE meta_key = '_wp_attached_file'"
    ).split()
    assert int(town.sql(f"SELECT COUNT(*) FROM {SITE}_{serving + 1}.wp_postmeta")) == rows
    assert [name for name in attached if not (fresh / name).is_file()] == []


def shown(place: Place) -> str:
    """Return the directory of the set of media that the site shows."""
    serving = place.serving
    return "media" if serving == 1 else f"media-{serving}"
