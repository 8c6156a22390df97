"""Several at work on one site: looks never meet, and what a dead process left at work ends before it is repeated."""

import time
from pathlib import Path

import pytest
from docker.errors import NotFound
from docker.models.containers import Container

from tests.support.commands import Command
from tests.support.town import Town

SITE = "kayane"
LOOKS = 4


@pytest.fixture(scope="module")
def looked_at(town: Town) -> Town:
    """A town with a site that was backed up."""
    town.create(SITE)
    town.run("backup", SITE)
    return town


def one_shots(town: Town, verb: str) -> list[Container]:
    """Return the one-shots of a verb that are there."""
    label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={town.namespace}"}
    found = town.docker().containers.list(filters=label, ignore_removed=True)
    return [one for one in found if f".{verb}." in f"{one.name}."]


@pytest.mark.parametrize("arguments", [(), ("--snapshots",)])
def test_looks_at_one_site_do_not_meet(looked_at: Town, arguments: tuple[str, ...]) -> None:
    """Each sees what one alone sees."""
    alone = looked_at.run("status", SITE, *arguments, "--json").stdout
    looks = [Command(looked_at, "status", SITE, *arguments, "--json") for _ in range(LOOKS)]
    for look in looks:
        ended = look.end()
        assert (ended.code, ended.said, ended.output) == (0, "", alone)


def test_a_backup_that_is_resumed_ends_what_its_dead_process_left(looked_at: Town) -> None:
    """A1: the one-shot that goes on without its process never works beside the one that repeats it."""
    known = looked_at.json("status", SITE, "--snapshots")
    left = killed_at(looked_at, "take", "backup", SITE)
    assert left.status == "paused"
    looked_at.run("resume", SITE)
    assert_gone(left)
    assert one_shots(looked_at, "take") == []
    after = looked_at.json("status", SITE, "--snapshots")
    assert [one["snapshot"] for one in after[:-1]] == [one["snapshot"] for one in known]
    assert len(after) == len(known) + 1
    assert after[-1]["recorded"]


def test_an_undo_ends_what_a_dead_process_left(looked_at: Town) -> None:
    known = looked_at.json("status", SITE, "--snapshots")
    left = killed_at(looked_at, "take", "backup", SITE)
    looked_at.run("undo", SITE, "--yes")
    assert_gone(left)
    assert looked_at.json("status", SITE, "--snapshots") == known
    looked_at.run("backup", SITE)


def test_what_a_dead_process_left_keeps_nobody_from_the_repository(looked_at: Town) -> None:
    """D5: it holds restic's lock and may go on; whoever holds the site's lock now ends it, and nothing else."""
    locks = looked_at.folder / "backups" / SITE / "locks"
    left = killed_at(looked_at, "check", "backup", SITE, "--check", when=locks)
    looked_at.run("backup", SITE, "--check")
    assert_gone(left)
    assert list(locks.iterdir()) == []


def killed_at(town: Town, verb: str, *command: str, when: Path | None = None) -> Container:
    """Kill a command (-9) with its one-shot at work, once something lies in ``when``; return the one-shot, paused."""
    begun = Command(town, *command)
    deadline = time.monotonic() + 60
    while not (found := one_shots(town, verb)) or (when is not None and not list(when.iterdir())):
        assert begun.running, begun.end().said
        assert time.monotonic() < deadline
        time.sleep(0.02)
    found[0].pause()
    begun.kill()
    found[0].reload()
    return found[0]


def assert_gone(container: Container) -> None:
    with pytest.raises(NotFound):
        container.reload()
