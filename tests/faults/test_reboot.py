"""What a machine survives without anybody typing `provision`: a power cut, a dead process, no control plane.

On an engine of the tests' own, because the machine's engine serves others.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from provisioner.adapters import images
from provisioner.installation import Installation
from tests.support.commands import FREEZE_SECONDS, Command, impatient
from tests.support.creating import check_converged, stopped
from tests.support.derived import derived_release
from tests.support.doors import Traffic, install
from tests.support.kills import DIED
from tests.support.second_engine import SecondEngine
from tests.support.town import Town

SLUGS = ("kayane", "regart")
AFTER_A_REBOOT = 60  # seconds within which every site answers again
AFTER_A_DEATH = 5


@pytest.fixture(scope="module")
def engine(town: Town) -> Iterator[SecondEngine]:
    second = SecondEngine()
    try:
        second.start()
        second.load(_images(town))
        yield second
    finally:
        second.remove()


def _images(town: Town) -> list[str]:
    """Return the names of the images that the session's town runs on, of what makes backups, and of their bases."""
    client = town.docker()
    installation = Installation.open(town.inventory)
    backup = images.ensure_service_image(installation.host("local"), installation.inventory, "agent")
    label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={town.namespace}"}
    wanted = {container.attrs["Image"] for container in client.containers.list(filters=label)}
    wanted.add(backup)
    wanted |= {release["image"] for release in town.json("release", "list") if release["image"]}
    names = [name for image in client.images.list() if image.id in wanted for name in image.tags]
    return names + [name for image in client.images.list("provision/base") for name in image.tags if "trixie" in name]


class SecondTown(Town):
    """A town on the second engine."""

    def sql(self, statement: str) -> str:
        """Run SQL as the server's administrator, beside `provision`."""
        command = ["docker", "--host", self.engine, "exec", f"{self.namespace}.database"]
        command += ["mariadb", "-N", "-B", "-e", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def living(engine: SecondEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town with two sites, and the neighbour whom `check_converged` asks."""
    place = SecondTown(tmp_path_factory.mktemp("living"), engine=engine.url)
    try:
        place.init()
        place.create("neighbour", *SLUGS)
        yield place
    finally:
        place.remove()


def test_the_machines_own_engine_keeps_its_bridge(engine: SecondEngine) -> None:
    """Sites have no network, but what else runs on the machine may need docker0."""
    assert engine.client().ping()
    assert Path("/sys/class/net/docker0").exists()


def problem(town: Town, slug: str) -> str | None:
    """Return what is wrong with a site, or None."""
    try:
        answer = town.get(slug)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return str(error)
    return None if answer.status == 200 and b"</html>" in answer.data else f"status {answer.status}"


def wait_until_all_serve(town: Town, seconds: float) -> float:
    """Wait until every site answers and return how long that took."""
    began = time.monotonic()
    while problems := {slug: said for slug in SLUGS if (said := problem(town, slug)) is not None}:
        assert time.monotonic() - began < seconds, problems
        time.sleep(0.1)
    return time.monotonic() - began


def without_control_plane(town: Town) -> Callable[[], None]:
    """Move the state folder away and return what brings it back."""
    aside = town.state.rename(town.folder / "state-aside")
    # The test trusts the root certificate, as browsers do; they keep their own copy.
    town.root.parent.mkdir(parents=True)
    town.root.write_bytes((aside / "authority/root.pem").read_bytes())

    def restore() -> None:
        town.root.unlink()
        town.root.parent.rmdir()
        town.state.rmdir()
        aside.rename(town.state)

    return restore


def test_every_site_answers_again_after_a_power_cut(living: Town, engine: SecondEngine) -> None:
    """A3, without the control plane: it is not there at all."""
    restore = without_control_plane(living)
    try:
        wait_until_all_serve(living, 10)
        engine.reboot()
        took = wait_until_all_serve(living, AFTER_A_REBOOT)
    finally:
        restore()
    print(f"all sites answered {took:.1f} s after the engine")
    assert living.is_well()


@pytest.mark.parametrize("program", ["php-fpm: master", "nginx: master"])
def test_a_site_answers_again_after_a_death(living: Town, program: str) -> None:
    """One of its two masters is killed alone; the container must not live on as half a site."""
    container = living.docker().containers.get(f"{living.namespace}.site.kayane.1")
    (victim,) = [int(row[1]) for row in container.top()["Processes"] if program in row[-1]]
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while Path(f"/proc/{victim}").exists():
        assert time.monotonic() < deadline
    wait_until_all_serve(living, AFTER_A_DEATH)
    again = [row[-1] for row in container.top()["Processes"]]
    assert any("php-fpm: master" in command for command in again)
    assert any("nginx: master" in command for command in again)


@pytest.mark.parametrize("service", ["database", "edge", "cron", "recorder"])
def test_a_service_comes_back_after_a_death(living: Town, service: str) -> None:
    container = living.docker().containers.get(f"{living.namespace}.{service}")
    before = container.attrs["State"]["StartedAt"]
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while container.attrs["State"]["StartedAt"] == before or not container.attrs["State"]["Running"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        container.reload()
    wait_until_all_serve(living, 30)


def test_the_engine_is_restarted_in_the_middle_of_a_create(living: Town, engine: SecondEngine) -> None:
    """A6: sites go on serving, the operation waits and succeeds."""
    before = living.belongings()
    command = stopped(living, "meanwhile", "create.container:before")
    engine.restart()
    wait_until_all_serve(living, 10)
    command.go_on()
    ended = command.end()
    assert ended.code == 0, ended.said
    check_converged(living, "meanwhile", before, exists=True)


@pytest.fixture(scope="module")
def noting(living: Town) -> None:
    """Have kayane note what it is sent."""
    install(living, "kayane")


@pytest.fixture
def frozen(living: Town, noting: None) -> Iterator[dict[str, str]]:
    """The environment in which an upgrade of kayane, to another image of its release, has a freeze of some seconds."""
    with derived_release(living, "6.8"):
        yield impatient(living)


def await_writes(town: Town, seconds: float) -> None:
    """Check that kayane takes writes within so many seconds, keeps them, and that every read is well meanwhile."""
    deadline = time.monotonic() + seconds
    with Traffic(town, "kayane") as traffic:
        while len(traffic.accepted) < 3 or traffic.reads <= 20:
            assert time.monotonic() < deadline, "it does not write again"
            time.sleep(0.1)
    traffic.check(1)


def test_the_engine_is_restarted_while_a_site_is_frozen(
    living: Town, engine: SecondEngine, frozen: dict[str, str]
) -> None:
    """A6, A12: the freeze ends at its deadline though neither engine nor control plane are there; nothing is lost."""
    at = "upgrade.switch:middle:stop"
    command = Command(living, "upgrade", "kayane", "--to", "6.8", "--json", **frozen, PROVISION_FAILPOINT=at)
    command.wait_until_stopped(180)
    with Traffic(living, "kayane") as traffic:
        engine.restart()
        while traffic.reads <= 20:
            time.sleep(0.1)
    traffic.check(1)
    assert {door for door, *_ in traffic.refused} == {"form", "get", "rest", "override", "ajax"}
    await_writes(living, FREEZE_SECONDS + 10)
    command.go_on()
    ended = command.end()
    assert (ended.code, "the freeze reached its deadline" in ended.output) == (1, True), ended
    await_writes(living, 30)
    assert living.is_well()


def test_a_power_cut_under_a_freeze(living: Town, engine: SecondEngine, frozen: dict[str, str]) -> None:
    """A3, C4: everything dies at once; after the boot the site writes again by itself, nobody types anything."""
    at = "upgrade.switch:middle:kill"
    living.run("upgrade", "kayane", "--to", "6.8", "--yes", code=DIED, **frozen, PROVISION_FAILPOINT=at)
    restore = without_control_plane(living)
    try:
        engine.reboot()
        wait_until_all_serve(living, AFTER_A_REBOOT)
        await_writes(living, FREEZE_SECONDS + 10)
    finally:
        restore()
    living.run("undo", "kayane", "--yes")
    await_writes(living, 30)
    assert living.is_well()


@pytest.mark.acceptance
@pytest.mark.parametrize("then", ["resume", "undo"])
@pytest.mark.parametrize("step", ["files", "database", "install", "flip"])
def test_a_power_cut_in_the_middle_of_a_create(living: Town, engine: SecondEngine, step: str, then: str) -> None:
    """A3: the control plane's machine and the host die together; the operation goes on, or is undone."""
    slug = f"cut-{step}-{then}"
    before = living.belongings()
    command = stopped(living, slug, f"create.{step}:after")
    os.kill(command.pid, signal.SIGKILL)
    engine.reboot()
    command.end()
    wait_until_all_serve(living, AFTER_A_REBOOT)
    Command(living, then, slug, *(["--yes"] if then == "undo" else [])).end()
    check_converged(living, slug, before, exists=then == "resume")


def test_sites_serve_without_the_control_plane(living: Town) -> None:
    """Acceptance 8: also pages that no cache holds, and what WordPress does at night."""
    restore = without_control_plane(living)
    try:
        for slug in SLUGS:
            assert living.get(slug, f"/?nocache={time.time_ns()}").status == 200
            assert living.get(slug, "/wp-login.php").status == 200
        living.run("status", code=5)
    finally:
        restore()
    assert living.is_well()
