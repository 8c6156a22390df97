"""A fleet: who goes first, and what a stop leaves alone."""

import json
import signal
import sqlite3
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from provisioner.journal import lock
from tests.support.doors import add_plugin
from tests.support.town import Town, association

STOPPED = 130
SITES = ("a-jour", "bloque", "calme", "doux")
PLUGIN = """<?php
/* Plugin Name: Bonne extension
 * Version: {version} */
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Four sites; for the last three the mirror has a newer plugin, the first has nothing to be upgraded."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "mirror" / "plugins").mkdir(parents=True)
    nightly = {"upgrade": "extensions"}
    policy = {"extensions": {"mirror": "mirror", "after_days": 0}, "parallel": 1, "nightly": nightly}
    place = Town(folder, settings={"policy": policy})
    try:
        place.init()
        place.create(*SITES)
        for slug in SITES[1:]:
            add_plugin(place, slug, "bonne", PLUGIN.format(version="1.0"))
        with zipfile.ZipFile(folder / "mirror" / "plugins" / "bonne-2.0.zip", "w") as archive:
            archive.writestr("bonne/bonne.php", PLUGIN.format(version="2.0"))
        yield place
    finally:
        place.remove()


def operations(town: Town) -> list[tuple[str, str, str]]:
    """Return subject, kind and state of every operation, oldest first."""
    with sqlite3.connect(town.state / "provision.db") as database:
        return database.execute("SELECT subject, kind, state FROM operation ORDER BY id").fetchall()


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {one["slug"]: one["outcome"] for one in json.loads(done.stdout)}


# Canaries


def test_the_canary_is_a_site_that_has_work(fleet: Town) -> None:
    """The first site with work goes alone, and where it fails no other is begun."""
    with lock.hold(fleet.state / "locks", "bloque"):
        done = outcomes(fleet.run("upgrade", "--all", "--json", code=4))
    assert done["a-jour"] == "up to date"
    assert "bloque" in done["bloque"]
    assert {done[slug].partition(":")[0] for slug in ("calme", "doux")} == {"not begun"}
    assert not [kind for _, kind, _ in operations(fleet) if kind == "upgrade"]


def test_a_named_canary_without_work_is_none(fleet: Town) -> None:
    planned = json.loads(fleet.run("upgrade", "--all", "--canary", "a-jour", "--dry-run", "--json").stdout)
    assert planned["canaries"] == ["bloque"]
    planned = json.loads(fleet.run("upgrade", "--all", "--canary", "doux", "--dry-run", "--json").stdout)
    assert planned["canaries"] == ["doux"]


def test_the_nights_canary_has_work_too(fleet: Town) -> None:
    with lock.hold(fleet.state / "locks", "bloque"):
        done = json.loads(fleet.run("nightly", "--json", code=3).stdout)["jobs"]["upgrade"]
    assert {one["subject"]: one["outcome"].partition(":")[0] for one in done} == {
        "a-jour": "up to date",
        "bloque": "bloque",
        "calme": "not begun",
        "doux": "not begun",
    }


# Ctrl-C


def interrupted(town: Town, point: str, *command: str) -> tuple[subprocess.CompletedProcess[str], list[Any]]:
    """Interrupt a command, as Ctrl-C does, when it reaches a failpoint; return it and the operations that it made."""
    before = operations(town)
    done = town.run(*command, code=STOPPED, PROVISION_FAILPOINT=f"{point}:interrupt")
    return done, operations(town)[len(before) :]


@pytest.mark.parametrize(
    ("point", "command", "first", "left"),
    [
        ("backup.snapshot:before", ("backup", "--all"), "a-jour", "bloque, calme, doux, control-plane"),
        ("drill.reserve:before", ("drill", "a-jour", "bloque", "calme"), "a-jour", "bloque, calme"),
        ("backup.snapshot:before", ("upgrade", "--all", "--yes"), "bloque", "calme, doux"),
    ],
    ids=["backup", "drill", "upgrade"],
)
def test_a_stop_leaves_alone_what_was_not_begun(
    fleet: Town, point: str, command: tuple[str, ...], first: str, left: str
) -> None:
    done, made = interrupted(fleet, point, *command)
    assert [(subject, state) for subject, _, state in made] == [(first, "UNDONE")]
    assert f"! stopped, {left.count(',') + 1} not begun: {left}\n" in done.stdout


def test_a_stop_between_backup_and_upgrade_begins_no_upgrade(fleet: Town) -> None:
    _, made = interrupted(fleet, "backup.record:after", "upgrade", "--all", "--yes")
    assert made == [("bloque", "backup", "SUCCEEDED")]


def test_a_stop_of_forty_creations_undoes_only_what_it_began(fleet: Town) -> None:
    associations = fleet.describe(*(association(f"n{n}") for n in range(40)))
    done, made = interrupted(fleet, "create.files:before", "create", "--from", associations)
    assert made == [("n0", "create", "UNDONE")]
    assert f"! stopped, 39 not begun: {', '.join(f'n{n}' for n in range(1, 40))}\n" in done.stdout


@pytest.mark.parametrize("job", ["--check", "--prune"])
def test_a_stop_of_checks_names_those_left(fleet: Town, job: str) -> None:
    """They are no operations: the signal comes while the first one's container runs."""
    process = fleet.start("backup", "--all", job)
    wait_for(lambda: one_shot(fleet, "a-jour"))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == STOPPED
    assert "a-jour: " in said.splitlines()[0]
    assert "control-plane" in next(line for line in said.splitlines() if line.startswith("! stopped, "))


def one_shot(town: Town, slug: str) -> bool:
    prefix = f"{town.namespace}.backup.{slug}"
    return any((c.name or "").startswith(prefix) for c in town.docker().containers.list(filters={"name": prefix}))


def wait_for(what: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline


def test_a_stopped_night_names_what_is_left(fleet: Town) -> None:
    due = {"PROVISION_NOW": f"{time.localtime().tm_year + 1}-06-01T12:00"}
    point = "backup.snapshot:before:interrupt"
    done = fleet.run("nightly", "--json", code=STOPPED, PROVISION_FAILPOINT=point, **due)
    said = json.loads(done.stdout)
    assert said["outcome"] == "stopped"
    assert {one["outcome"] for one in said["jobs"]["backup"][1:]} == {"not begun: stopped before its turn"}
    assert said["jobs"]["check"] == [
        {
            "subject": "check",
            "outcome": "not begun: stopped before its turn",
            "exit_code": STOPPED,
            "hint": "",
            "figure": 0,
        }
    ]
