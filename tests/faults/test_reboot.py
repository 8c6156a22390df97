"""After a power cut, and after a process died: every site serves again by itself (A3), with or without `provision`."""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from tests.faults.second_engine import SecondEngine, kill, second_engine
from tests.town import Town

SITES = ("kayane", "regart")


@pytest.fixture(scope="module")
def engine(town: Town) -> Iterator[SecondEngine]:
    """An engine of one's own that has the images which the first engine built."""
    with second_engine(Path(f"/var/lib/provision-test-{secrets.token_hex(3)}")) as own:
        client = town.docker()
        labelled = client.containers.list(filters={"label": f"provision.namespace={town.namespace}"})
        tags = {tag for container in labelled if container.image for tag in container.image.tags}
        site = next(row["image"] for row in town.json("release", "list") if row["default"])
        own.load(sorted(tags | set(client.images.get(site).tags)))
        yield own


@pytest.fixture(scope="module")
def living(engine: SecondEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town with two sites on that engine."""
    place = Town(tmp_path_factory.mktemp("living"), engine=engine.url)
    try:
        place.init()
        place.create(*SITES)
        yield place
    finally:
        place.remove()


def answers(town: Town, slug: str) -> bool:
    """Return whether a site shows its front page."""
    try:
        return town.get(slug).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def seconds_until(question: Callable[[], bool], limit: float) -> float:
    """Return how long it took until ``question`` was true; more than ``limit`` fails."""
    begun = time.monotonic()
    while not question():
        assert time.monotonic() - begun < limit, f"still not after {limit} s"
        time.sleep(0.1)
    return time.monotonic() - begun


def processes_of(town: Town, slug: str, pattern: str) -> list[int]:
    """Return the processes of a site whose command line matches."""
    container = town.docker().containers.get(f"{town.namespace}.site.{slug}.1")
    rows = container.top(ps_args="-eo pid,args")["Processes"]
    return [int(row[0]) for row in rows if re.search(pattern, row[1])]


@pytest.mark.parametrize("master", ["php-fpm: master", "nginx: master"])
def test_a_dead_master_is_back_within_five_seconds(living: Town, master: str) -> None:
    assert answers(living, "kayane")
    victims = processes_of(living, "kayane", master)
    assert len(victims) == 1
    kill(victims)
    seconds_until(lambda: processes_of_or_none(living, "kayane", master) not in ([], victims), 5)
    assert seconds_until(lambda: answers(living, "kayane"), 5) < 5
    assert answers(living, "regart")


def processes_of_or_none(town: Town, slug: str, pattern: str) -> list[int]:
    """Return the matching processes, or none while the container is between two lives."""
    try:
        return processes_of(town, slug, pattern)
    except Exception:  # the engine refuses to look into a container that restarts
        return []


def test_a_reboot_needs_nobody(living: Town, engine: SecondEngine) -> None:
    """Every process dies, then the engine; the engine starts again, and nobody runs `provision`."""
    state = living.state.rename(living.state.with_name("moved-away"))
    try:
        kill(engine.processes())
        engine.stop()
        assert not any(answers_without_state(living, state, slug) for slug in SITES)
        engine.start()
        for slug in SITES:
            seconds_until(lambda slug=slug: answers_without_state(living, state, slug), 60)  # type: ignore[misc]
    finally:
        state.rename(living.state)
    assert living.run("doctor").stdout.startswith("all is well")


def test_sites_do_not_need_the_control_plane(living: Town) -> None:
    """With the control plane's files moved away, the sites go on serving, and so does a restarted one."""
    state = living.state.rename(living.state.with_name("moved-away"))
    try:
        for slug in SITES:
            assert answers_without_state(living, state, slug)
        living.docker().containers.get(f"{living.namespace}.site.kayane.1").restart(timeout=5)
        seconds_until(lambda: answers_without_state(living, state, "kayane"), 10)
    finally:
        state.rename(living.state)


def answers_without_state(town: Town, moved: Path, slug: str) -> bool:
    """Return whether a site answers; only its root certificate is read, from where the state was moved to."""
    name = f"{slug}.assos.localhost"
    root = str(moved / "authority" / "root.pem")
    pool = urllib3.HTTPSConnectionPool(
        "127.0.0.1", town.port, server_hostname=name, assert_hostname=name, ca_certs=root, timeout=10, retries=False
    )
    try:
        return pool.request("GET", "/", headers={"Host": f"{name}:{town.port}"}).status == 200
    except urllib3.exceptions.HTTPError:
        return False
