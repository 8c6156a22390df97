"""One relay serves a whole run of backups: it goes with the run, and what dies on the way harms no other site."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.models.containers import Container

from tests.support.commands import Command, under, variant
from tests.support.kills import DIED
from tests.support.town import Town
from tests.support.wire import Wire

SITES = ("kayane", "regart")
RUN = ("backup", *SITES)
BETWEEN = "backup.record:before"  # a site's snapshot is taken; at the first one, the second one's is not begun


@pytest.fixture(scope="module")
def fleet(town: Town) -> Iterator[Town]:
    """A town with two sites, whose backups go one after the other."""
    town.create(*SITES)
    town.run(*RUN)
    yield town
    assert town.is_well()


def one_at_a_time(town: Town) -> dict[str, str]:
    return under(town, parallel=1)


def relays(town: Town) -> list[Container]:
    labels = [f"provision.namespace={town.namespace}", "provision.role=relay"]
    return town.docker().containers.list(all=True, filters={"label": labels})


def volumes(town: Town) -> list[str]:
    found = town.docker().volumes.list(filters={"label": f"provision.namespace={town.namespace}"})
    return [volume.name for volume in found]


def end(command: Command) -> None:
    """Have a run go on that stands between its sites, and see it end well."""
    command.go_on()
    command.wait_until_stopped()
    command.go_on()
    assert command.end().code == 0


def test_a_run_has_one_relay_that_goes_with_it(fleet: Town) -> None:
    before = fleet.belongings()
    command = Command(fleet, *RUN, PROVISION_FAILPOINT=f"{BETWEEN}:stop", **one_at_a_time(fleet))
    command.wait_until_stopped()
    (first,) = relays(fleet)
    assert first.attrs["HostConfig"]["NetworkMode"] == "none"
    assert [mount["Destination"] for mount in first.attrs["Mounts"] if mount["Type"] == "bind"] == ["/repositories"]
    assert "was left by a process that died" not in fleet.run("doctor", code=None).stdout
    end(command)
    assert (fleet.belongings(), relays(fleet), volumes(fleet)) == (before, [], [])


def test_a_relay_that_dies_costs_at_most_its_own_request(fleet: Town) -> None:
    command = Command(fleet, *RUN, PROVISION_FAILPOINT=f"{BETWEEN}:stop", **one_at_a_time(fleet))
    command.wait_until_stopped()
    (first,) = relays(fleet)
    first.remove(force=True)
    end(command)  # the second site got another
    assert (relays(fleet), volumes(fleet)) == ([], [])


@pytest.mark.parametrize("then", [("doctor", "--fix"), RUN], ids=" ".join)
def test_the_relay_of_a_run_that_died_is_removed(fleet: Town, then: tuple[str, ...]) -> None:
    fleet.run(*RUN, code=DIED, PROVISION_FAILPOINT=f"{BETWEEN}:kill", **one_at_a_time(fleet))
    fleet.run("undo", SITES[0], "--yes")
    assert len(relays(fleet)) == 1
    assert "was left by a process that died" in fleet.run("doctor", code=None).stdout
    fleet.run(*then)
    assert (relays(fleet), volumes(fleet)) == ([], [])


def test_a_relay_that_cannot_be_removed_takes_nothing_from_what_became_of_the_sites(
    fleet: Town, tmp_path: Path
) -> None:
    """The engine goes away between the last snapshot and the end of the run."""
    with Wire(tmp_path / "engine.sock") as wire:
        target = {"backup": {"target": str(fleet.folder / "backups")}}
        behind = variant(fleet, host={"engine": wire.url}, policy={"parallel": 1}, **target)
        command = Command(fleet, *RUN, "--json", PROVISION_FAILPOINT=f"{BETWEEN}:stop", **behind)
        command.wait_until_stopped()
        command.go_on()
        command.wait_until_stopped()  # the second site's snapshot is taken, too; what follows needs no engine
        wire.refuse()
        command.go_on()
        ended = command.end()
    assert ended.code == 0, ended.said
    assert [one["exit_code"] for one in json.loads(ended.output)] == [0, 0]
    assert len(relays(fleet)) == 1
    fleet.run("doctor", "--fix")
    assert (relays(fleet), volumes(fleet)) == ([], [])
