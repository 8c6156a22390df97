"""Every step of upgrade and undo on the real engine: killed, resumed, undone; frozen and left alone.

And what a new image or the upgrade of a database can do: each is found in the rehearsal, or calls the switch off.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from provisioner.operations import expire, undo, upgrade
from tests.support.commands import Command, impatient, under
from tests.support.derived import derived_release
from tests.support.doors import Traffic, install
from tests.support.kills import DIED, die_after_each, die_undoing_each, points, steps_of
from tests.support.town import Town

UPGRADE, UNDO = steps_of(upgrade.KIND), steps_of(undo.KIND)
REACHED = 180  # seconds until an operation has come to its failpoint, on a busy machine
STATEMENT_SECONDS = 2  # after which the server ends what waits for a lock
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def old_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town whose sites run release 6.1, with 6.8 built."""
    place = Town(tmp_path_factory.mktemp("old"), settings={"default_release": "6.1"})
    try:
        place.init()
        place.run("release", "build", "6.8")
        yield place
        assert place.is_well()  # each case asks of its own site only
    finally:
        place.remove()


@pytest.fixture
def slug(old_town: Town) -> str:
    """A site of its own for each case, that notes what it is sent."""
    name = f"case-{next(_numbers)}"
    old_town.create(name)
    install(old_town, name)
    return name


def begin(town: Town, slug: str, failpoint: str, code: int, **environment: str) -> str:
    """Begin an upgrade that meets a failpoint; return what it said."""
    command = ("upgrade", slug, "--to", "6.8", "--yes")
    done = town.run(*command, code=code, PROVISION_FAILPOINT=failpoint, **environment)
    return done.stdout + done.stderr


def stopped(town: Town, slug: str, point: str, **environment: str) -> Command:
    """Begin an upgrade and stop its process (SIGSTOP) at a failpoint."""
    environment["PROVISION_FAILPOINT"] = f"{point}:stop"
    command = Command(town, "upgrade", slug, "--to", "6.8", "--json", **environment)
    command.wait_until_stopped(REACHED)
    return command


def failed(command: Command) -> dict[str, Any]:
    """Return what became of the site of an upgrade that ends with exit code 1."""
    ended = command.end()
    assert ended.code == 1, ended.said
    return dict(json.loads(ended.output)[0])


def serving(town: Town, slug: str) -> int:
    return int(os.readlink(town.data_root / "run" / "sites" / slug / "current"))


def check_writes(town: Town, slug: str) -> None:
    """Check that the site that serves takes writes by every door, and keeps them."""
    with Traffic(town, slug, pause=0.05) as traffic:
        deadline = time.monotonic() + 60
        while len(traffic.accepted) < 6 or traffic.reads <= 20:
            assert time.monotonic() < deadline, traffic
            time.sleep(0.1)
    traffic.check(serving(town, slug))
    assert traffic.refused == []


def check_converged(town: Town, slug: str, version: str, *generations: int) -> None:
    """Check FAULTS.md's invariants after an upgrade that ended, well or undone: just these generations are there."""
    facts = town.json("status", slug)
    assert facts["wordpress"].startswith(version)
    assert facts["generation"] == serving(town, slug)
    assert facts["release"] == version
    check_writes(town, slug)
    kept = {str(number) for number in generations}
    sockets = {path.name for path in (town.data_root / "run" / "sites" / slug).iterdir()}
    assert sockets == kept | {"current"}
    assert {path.name for path in (town.data_root / "sites" / slug / "generations").iterdir()} == kept
    databases = {name for name in town.sql("SHOW DATABASES").split() if name.startswith(f"{slug.replace('-', '_')}_")}
    assert databases == {f"{slug.replace('-', '_')}_{number}" for number in kept}
    label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={town.namespace}"}
    assert town.docker().volumes.list(filters=label) == []
    roles = [container.labels["provision.role"] for container in town.docker().containers.list(all=True, filters=label)]
    assert not {"twin", "switch", "one-shot"} & set(roles)
    assert not [item for item in town.json("status")["attention"] if item["subject"] == slug and item["pressing"]]
    assert town.is_well(slug)


# What `provision nightly` does with kept generations, alone.
EXPIRE_ALL = "from provisioner.installation import Installation as I; from provisioner.operations import expire as e; "
EXPIRE_ALL += "raise SystemExit(any(one.exit_code for one in e.expire(I.open(None))))"


def expire_all(town: Town, **environment: str) -> int:
    """Remove the kept generations that are due in a process of its own; return its exit code."""
    return subprocess.run([sys.executable, "-c", EXPIRE_ALL], env=town.environment(**environment)).returncode


@pytest.mark.kills("upgrade", "undo", "expire")
@pytest.mark.timeout(1200)
def test_a_life_of_upgrades_killed_at_each_step(old_town: Town, slug: str) -> None:
    """Upgraded and gone back, each killed, taken back and resumed; what was kept goes when its days are over."""

    refused: list[str] = []

    def serves() -> None:
        assert old_town.get(slug).status == 200
        if serving(old_town, slug) == 2 and not refused:  # C6: going back now would lose what it accepted since
            done = old_town.run("undo", slug, "--yes", code=3)
            assert f"provision resume {slug}" in done.stderr
            check_writes(old_town, slug)
            refused.append(done.stderr)

    command, back = ("upgrade", slug, "--to", "6.8", "--yes"), ("undo", slug, "--yes")
    die_undoing_each(old_town, UPGRADE[: UPGRADE.index("upgrade.switch")], slug, *command)
    check_converged(old_town, slug, "6.1", 1)
    die_after_each(old_town, UPGRADE, slug, *command, meanwhile=serves)
    check_converged(old_town, slug, "6.8", 1, 2)
    assert refused
    die_undoing_each(old_town, UNDO, slug, *back)
    assert serving(old_town, slug) == 2
    check_writes(old_town, slug)
    die_after_each(old_town, UNDO, slug, *back)
    check_converged(old_town, slug, "6.1", 1, 2)
    assert expire_all(old_town) == 0
    assert (old_town.data_root / "sites" / slug / "generations" / "2").exists(), "it is kept for seven days"
    now, (first, *later) = "2036-01-01T00:00", steps_of(expire.KIND)
    assert expire_all(old_town, PROVISION_NOW=now, PROVISION_FAILPOINT=f"{first}:after:fail") == 1  # found again then:
    assert expire_all(old_town, PROVISION_NOW=now, PROVISION_FAILPOINT=f"{first}:after:kill") == DIED
    for step in later:
        old_town.run("resume", slug, code=DIED, PROVISION_NOW=now, PROVISION_FAILPOINT=f"{step}:after:kill")
    old_town.run("resume", slug, PROVISION_NOW=now)
    check_converged(old_town, slug, "6.1", 1)
    assert "no earlier generation is kept" in old_town.run(*back, code=2).stderr


@pytest.mark.acceptance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("then", ["resume", "undo"])
@pytest.mark.parametrize("point", points(UPGRADE))
def test_upgrade_killed_anywhere(old_town: Town, slug: str, point: str, then: str) -> None:
    begin(old_town, slug, f"{point}:kill", DIED)
    if then == "undo":
        past = old_town.run("undo", slug, "--yes", code=None).returncode == 3
        assert past == (serving(old_town, slug) != 1)
        if not past:
            check_converged(old_town, slug, "6.1", 1)
            return
    old_town.run("resume", slug)
    check_converged(old_town, slug, "6.8", 1, 2)


@pytest.mark.acceptance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", points(UPGRADE))
def test_upgrade_failing_anywhere(old_town: Town, slug: str, point: str) -> None:
    """Before the flip it is undone; after it, the way back would lose what was written: it is to be resumed (C6)."""
    if not past_the_flip(point):
        begin(old_town, slug, f"{point}:fail", code=1)
        check_converged(old_town, slug, "6.1", 1)
        return
    assert f"provision resume {slug}" in begin(old_town, slug, f"{point}:fail", code=3)
    old_town.run("resume", slug)
    check_converged(old_town, slug, "6.8", 1, 2)


def past_the_flip(point: str) -> bool:
    return point == "upgrade.switch:after" or point.startswith(("upgrade.observe", "upgrade.rest", "upgrade.tell"))


def test_a_site_that_was_left_frozen_thaws_by_itself(old_town: Town, slug: str) -> None:
    """C4: nobody runs anything; until then reads go on and writes are refused visibly."""
    begin(old_town, slug, "upgrade.switch:middle:kill", DIED, **impatient(old_town))
    with Traffic(old_town, slug) as traffic:
        deadline = time.monotonic() + 90
        while len(traffic.accepted) < 6 or traffic.reads <= 20:
            assert time.monotonic() < deadline, "it is frozen for longer than its deadline"
            time.sleep(0.1)
    traffic.check(1)
    assert serving(old_town, slug) == 1
    old_town.run("undo", slug, "--yes")
    check_converged(old_town, slug, "6.1", 1)


def brisk(town: Town) -> dict[str, str]:
    """Return the environment of upgrades whose twins' statements soon end."""
    return under(town, site={"statement_seconds": STATEMENT_SECONDS})


def test_a_control_plane_that_was_stopped_past_the_deadline_switches_nothing(old_town: Town, slug: str) -> None:
    """A12: SIGSTOP while frozen, the deadline passes, a write is accepted, SIGCONT: undone, and the write is there."""
    command = stopped(old_town, slug, "upgrade.switch:middle", **impatient(old_town))
    with Traffic(old_town, slug) as traffic:
        deadline = time.monotonic() + REACHED
        while len(traffic.accepted) < 3 or traffic.reads <= 20:
            assert time.monotonic() < deadline, "it did not thaw"
            time.sleep(0.1)
    command.go_on()
    assert "the freeze reached its deadline" in failed(command)["outcome"]
    traffic.check(1)
    check_converged(old_town, slug, "6.1", 1)


@pytest.fixture(scope="module")
def tried(old_town: Town) -> str:
    """A site on which upgrades are tried that cannot end well; each leaves it as it was."""
    old_town.create("essai")
    install(old_town, "essai")
    return "essai"


def test_a_second_upgrade_is_told_who_is_at_it(old_town: Town, tried: str) -> None:
    """A9."""
    command = stopped(old_town, tried, "upgrade.reserve:before")
    try:
        outcome = json.loads(old_town.run("upgrade", tried, "--to", "6.8", "--json", code=4).stdout)[0]
        assert "upgrade is running since" in outcome["outcome"]
        assert f"(process {command.pid})" in outcome["outcome"]
    finally:
        command.kill()
    old_town.run("undo", tried, "--yes")


@contextmanager
def held_back(town: Town, slug: str, command: Command | None = None) -> Iterator[dict[str, Any]]:
    """Check that an upgrade is held back by its rehearsal: never frozen, never changed; yield its outcome to be filled.

    ``command`` is the upgrade, if it is under way already.
    """
    content = town.json("status", slug)["content_sha256"]
    outcome: dict[str, Any] = {}
    with Traffic(town, slug) as traffic:
        yield outcome
        outcome |= failed(command or Command(town, "upgrade", slug, "--to", "6.8", "--json", **brisk(town)))
        deadline = time.monotonic() + 30
        while traffic.reads <= 20:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    traffic.check(1)
    assert traffic.refused == []
    assert outcome["held"] == ["core"], outcome
    facts = town.json("status", slug)
    assert facts["content_sha256"] == content
    assert facts["wordpress"].startswith("6.1.")
    assert facts["generation"] == serving(town, slug) == 1
    assert not [
        name for name in town.sql("SHOW DATABASES").split() if name.startswith(f"{slug}_") and name[-2:] != "_1"
    ]
    event = [event for event in town.json("log", slug) if event["kind"] == "upgrade held back"][-1]
    assert event["data"]["differences"] == outcome["differences"]


# What listens, and never answers.
MUTE = 'CMD ["php", "-r", "$s = stream_socket_server(\'unix:///run/site/http.sock\'); sleep(1000);"]'
IMAGES = {
    "not there": ('CMD ["/srv/provision/absent"]', "/srv/provision/absent"),
    "ends": ('CMD ["sh", "-c", "echo mon dernier mot >&2; exit 3"]', "its container ended: mon dernier mot"),
    "mute": (MUTE, "no answer: nothing whole came within 30 s, 30 s after its start"),
}


@pytest.mark.parametrize("image", ["not there", pytest.param("ends", marks=pytest.mark.acceptance), "mute"])
def test_an_image_that_does_not_serve_is_found(old_town: Town, tried: str, image: str) -> None:
    change, said = IMAGES[image]
    with derived_release(old_town, "6.8", change), held_back(old_town, tried) as outcome:
        pass
    assert said in outcome["differences"][0]


# What the database refuses, or does not come to the end of, when WordPress writes down how far it got.
TRIGGERS = {
    "refused": ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'pas encore'", "pas encore"),
    "hanging": ("SET @slept = SLEEP(600)", "max_statement_time exceeded"),
}


@contextmanager
def trigger(town: Town, slug: str, statement: str) -> Iterator[None]:
    """Have a statement run in a site's database when the version of its tables changes."""
    town.sql(
        f"USE {slug.replace('-', '_')}_1;\nDELIMITER //\n"
        "CREATE TRIGGER wp_gardien BEFORE UPDATE ON wp_options FOR EACH ROW BEGIN "
        "IF NEW.option_name = 'db_version' AND NEW.option_value <> OLD.option_value "
        f"THEN {statement}; END IF; END//"
    )
    try:
        yield
    finally:
        town.sql(f"USE {slug.replace('-', '_')}_1; DROP TRIGGER wp_gardien")


@pytest.mark.parametrize("fault", [pytest.param("refused", marks=pytest.mark.acceptance), "hanging"])
def test_a_database_that_is_not_upgraded_is_found(old_town: Town, tried: str, fault: str) -> None:
    """C5: WordPress goes on in silence past what the server refuses."""
    statement, said = TRIGGERS[fault]
    with trigger(old_town, tried, statement), held_back(old_town, tried) as outcome:
        pass
    for words in ("upgrade ended with exit code 1", "the database is at version ", said):
        assert words in outcome["differences"][0]


@contextmanager
def locked(town: Town, table: str) -> Iterator[None]:
    """Let nobody write to a table."""
    command = ["docker", "exec", "-i", f"{town.namespace}.database", "mariadb", "-N", "-B", "--unbuffered"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write(f"LOCK TABLES {table} READ; SELECT 'held';\n")
        session.stdin.flush()
        assert session.stdout.readline() == "held\n"
        yield
        session.stdin.close()


@pytest.mark.parametrize("killed", [False, True], ids=["locked", "killed"])
def test_the_upgrade_of_a_locked_database_is_given_up(old_town: Town, tried: str, killed: bool) -> None:
    """C5: the lock outlasts every statement that waits for it; or what waits is killed."""
    command = stopped(old_town, tried, "upgrade.rehearse:before", **brisk(old_town))
    mine = [name for name in old_town.sql("SHOW DATABASES").split() if name.startswith(f"{tried}_")]
    newest = max(mine, key=lambda name: int(name.rpartition("_")[2]))
    with held_back(old_town, tried, command) as outcome, locked(old_town, f"{newest}.wp_options"):
        command.go_on()
        await_upgrade(old_town, newest.rpartition("_")[2], killed)
    assert ("exit code 137" if killed else "max_statement_time exceeded") in outcome["differences"][0]


def await_upgrade(town: Town, number: str, kill: bool) -> None:
    """Wait until the upgrade of a twin's database waits for the lock, and then kill it, or wait until it is over."""
    labels = [f"provision.namespace={town.namespace}", f"provision.generation={number}"]
    filters: dict[str, str | list[str] | bool] = {"label": labels, "name": "upgrade"}
    deadline = time.monotonic() + REACHED
    while not (running := town.docker().containers.list(filters=filters)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    waits = (
        f"SELECT COUNT(*) FROM information_schema.processlist WHERE db LIKE '%\\_{number}' AND state LIKE 'Waiting%'"
    )
    while kill and town.sql(waits) == "0\n":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if kill:
        running[0].kill()
    while town.docker().containers.list(filters=filters):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_database_that_the_switch_cannot_upgrade_is_left(old_town: Town, slug: str) -> None:
    """What the rehearsal could not see, since it came later: nothing is switched to."""
    command = stopped(old_town, slug, "upgrade.switch:before")
    with trigger(old_town, slug, TRIGGERS["refused"][0]):
        command.go_on()
        assert "the database is at version " in failed(command)["outcome"]
    check_converged(old_town, slug, "6.1", 1)


@pytest.fixture(scope="module")
def upgraded(old_town: Town) -> str:
    """A site that was upgraded: each undo leads from one of its generations to the other."""
    old_town.create("pendule")
    install(old_town, "pendule")
    old_town.run("upgrade", "pendule", "--to", "6.8", "--yes")
    return "pendule"


@pytest.mark.acceptance
@pytest.mark.parametrize("point", points(UNDO))
def test_undo_failing_anywhere_leaves_what_serves(old_town: Town, upgraded: str, point: str) -> None:
    before = serving(old_town, upgraded)
    old_town.run("undo", upgraded, "--yes", code=1, PROVISION_FAILPOINT=f"{point}:fail")
    assert serving(old_town, upgraded) == before
    check_writes(old_town, upgraded)
