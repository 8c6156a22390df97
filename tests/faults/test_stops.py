"""What hangs ends by itself in minutes, and at once when it is asked to stop; nothing of it stays at work."""

import json
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from provisioner.model.names import LABEL_ROLE, ONE_SHOT_ROLES
from tests.support.commands import Command
from tests.support.inside import container
from tests.support.town import Town

SITE = "kayane"
STOPPED = 40  # seconds within which a stop has ended everything, on a busy machine too
# As the site's own user: holds a table until it is killed.
HOLDER = """<?php
$login = json_decode(file_get_contents('/run/secrets/generation/generation.json'), true);
$link = new mysqli('localhost', $login['user'], $login['password'], $login['database']);
$link->query('LOCK TABLES wp_options WRITE, wp_posts WRITE');
echo "held\\n";
sleep(600);
"""


@pytest.fixture(scope="module")
def town_with_site(town: Town) -> Town:
    town.create(SITE)
    town.run("backup", SITE)
    return town


@contextmanager
def held_tables(town: Town, slug: str) -> Iterator[None]:
    """Have the site's own code hold tables of its database, as long as a block runs."""
    command = ["docker", "exec", "-i", container(town, slug), "php"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(HOLDER)
        holder.stdin.close()
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.kill()
            numbers = town.sql(f"SELECT id FROM information_schema.processlist WHERE user = '{slug}_1'").split()
            for number in numbers:
                subprocess.run(
                    ["docker", "exec", f"{town.namespace}.database", "mariadb", "-e", f"KILL {number}"],
                    check=False, capture_output=True,
                )  # fmt: skip


def one_shots(town: Town) -> set[str]:
    """Return the names of the one-shots that are there."""
    label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={town.namespace}"}
    found = town.docker().containers.list(all=True, filters=label, ignore_removed=True)
    return {one.name or "" for one in found if one.labels.get(LABEL_ROLE) in ONE_SHOT_ROLES}


def wait_for_one_shot(town: Town, command: Command, part: str) -> None:
    deadline = time.monotonic() + 60
    while not any(f".{part}." in name for name in one_shots(town)):
        assert command.running
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_table_that_a_site_holds_fails_its_backup(town_with_site: Town) -> None:
    """J5: nobody waits for it longer than a minute; a day is the server's own default."""
    town = town_with_site
    assert town.sql("SELECT @@GLOBAL.lock_wait_timeout") == "60\n"
    town.sql("SET GLOBAL lock_wait_timeout = 3")
    try:
        with held_tables(town, SITE):
            outcome = json.loads(town.run("backup", SITE, "--json", code=1).stdout)[0]
    finally:
        town.sql("SET GLOBAL lock_wait_timeout = 60")
    assert "Lock wait timeout exceeded" in outcome["outcome"]
    assert one_shots(town) == set()
    town.run("backup", SITE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_one_shot_of_a_step(town_with_site: Town, number: signal.Signals) -> None:
    """A2: the step that waits for a host does not wait on; the operation is undone."""
    town = town_with_site
    known = town.json("status", SITE, "--snapshots")
    with held_tables(town, SITE):
        backup = Command(town, "backup", SITE, "--json")
        wait_for_one_shot(town, backup, "take")
        os.kill(backup.pid, number)
        began = time.monotonic()
        ended = backup.end()
        assert time.monotonic() - began < STOPPED
    assert ended.code == 130, ended.said
    assert "stopping the step under way" in ended.said
    assert "undone" in json.loads(ended.output)[0]["outcome"]
    assert one_shots(town) == set()
    assert town.json("status", SITE, "--snapshots") == known
    town.run("backup", SITE)


def test_a_second_stop_leaves_nothing_at_work(town_with_site: Town) -> None:
    """It ends the process at once; what it left can be resumed."""
    town = town_with_site
    with held_tables(town, SITE):
        backup = Command(town, "backup", SITE)
        wait_for_one_shot(town, backup, "take")
        os.kill(backup.pid, signal.SIGTERM)
        os.kill(backup.pid, signal.SIGTERM)
        ended = backup.end()
    assert ended.code in (130, 143), ended.said
    assert one_shots(town) == set()
    if ended.code == 143:
        town.run("resume", SITE)
    town.run("backup", SITE)


def test_a_stop_ends_a_look(town_with_site: Town) -> None:
    town = town_with_site
    with held_tables(town, SITE):
        status = Command(town, "status", SITE)
        wait_for_one_shot(town, status, "look")
        os.kill(status.pid, signal.SIGTERM)
        began = time.monotonic()
        ended = status.end()
        assert time.monotonic() - began < STOPPED
    assert (ended.code, ended.output) == (143, "")
    assert one_shots(town) == set()


def test_a_fifo_among_the_files_makes_nobody_wait(town_with_site: Town) -> None:
    """J1: for a backup, an export, and a restore that compares the code."""
    town = town_with_site
    content = town.data_root / "sites" / SITE / "generations" / "1" / "content"
    fifo = content / "plugins" / "aaa.php"
    os.mkfifo(fifo)
    owner = fifo.parent.stat().st_uid
    os.chown(fifo, owner, owner)
    town.run("backup", SITE)
    town.run("export", SITE, "--to", str(town.folder / "export.zip"))
    with zipfile.ZipFile(town.folder / "export.zip") as archive:
        assert not [name for name in archive.namelist() if name.endswith("aaa.php")]
    town.run("restore", SITE, "--after-intrusion", "--yes")
    town.run("doctor", SITE)
