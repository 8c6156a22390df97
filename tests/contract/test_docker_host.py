"""One contract for a Docker host, whether its engine is this machine's or behind a real sshd."""

import contextlib
import hashlib
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import BadInput, ProvisionError, Unavailable
from provisioner.inventory import Host
from provisioner.model.container import FILE_CAPABILITIES, Bind, OneShot, Service, Shared
from tests.support.sshd import Sshd
from tests.support.town import Town

DETECTED = 60  # seconds within which a dead connection must be told (A8)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd that the test may kill."""
    server = Sshd(tmp_path)
    try:
        yield server
    finally:
        with contextlib.suppress(AssertionError):
            server.kill()


@pytest.fixture(scope="module")
def image(town: Town) -> str:
    """An image that has a shell."""
    return str(town.docker().containers.get(f"{town.namespace}.edge").attrs["Image"])


@contextlib.contextmanager
def docker_host(**settings: Any) -> Iterator[DockerHost]:
    """A host with a namespace and a data root of its own; all of it is removed at the end."""
    namespace = f"test-{secrets.token_hex(3)}"
    root = Path(f"/srv/provision-{namespace}")
    try:
        yield DockerHost(Host(name="subject", data_root=root, **settings), namespace)
    finally:
        client = docker.DockerClient(timeout=60)
        label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={namespace}"}
        for container in client.containers.list(all=True, filters=label):
            container.remove(force=True, v=True)
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)


@pytest.fixture(scope="module", params=["local", "ssh"])
def host(request: pytest.FixtureRequest, sshd: Sshd) -> Iterator[DockerHost]:
    with docker_host(**(sshd.settings() if request.param == "ssh" else {})) as subject:
        yield subject


@pytest.fixture
def name(host: DockerHost) -> str:
    return f"{host.namespace}.{secrets.token_hex(3)}"


def one_shot(host: DockerHost, name: str, image: str, command: list[str], **more: Any) -> OneShot:
    return OneShot(name=name, image=image, labels=host.role_labels("one-shot"), command=command, **more)


def service(host: DockerHost, name: str, image: str, **more: Any) -> Service:
    values = {"command": ["sleep", "infinity"], "binds": [], **more}
    return Service(name=name, image=image, labels=host.role_labels("service"), **values)


# The engine


def test_version(host: DockerHost) -> None:
    assert host.version()["Version"] == docker.from_env().version()["Version"]


# Services


def test_a_service_is_started_once(host: DockerHost, name: str, image: str) -> None:
    wanted = service(host, name, image)
    assert host.ensure_service(wanted) is True
    first = host.inspect(name)
    assert host.ensure_service(wanted) is False
    assert first is not None
    assert first["State"]["Running"]
    assert host.inspect(name) == first


def test_a_stopped_service_is_started_again(host: DockerHost, name: str, image: str) -> None:
    wanted = service(host, name, image)
    host.ensure_service(wanted)
    docker.from_env().containers.get(name).kill()
    before = host.inspect(name)
    assert host.ensure_service(wanted) is True
    after = host.inspect(name)
    assert before is not None
    assert after is not None
    assert not before["State"]["Running"]
    assert after["State"]["Running"]
    assert after["Id"] == before["Id"]


def test_a_drifted_service_is_replaced(host: DockerHost, name: str, image: str) -> None:
    host.ensure_service(service(host, name, image))
    wanted = service(host, name, image, memory_mb=64)
    assert host.has_drifted(wanted)
    assert host.ensure_service(wanted) is True
    assert not host.has_drifted(wanted)
    found = host.inspect(name)
    assert found is not None
    assert found["State"]["Running"]
    assert found["HostConfig"]["Memory"] == 64 * 1024 * 1024


def test_a_service_is_confined(host: DockerHost, name: str, image: str) -> None:
    host.run(one_shot(host, f"{name}.make", image, ["mkdir", "-p", "/host/own"], binds=[Bind("", "/host")]))
    binds = [Bind("own", "/own", read_only=True)]
    host.ensure_service(service(host, name, image, binds=binds, user="4321:4321", processes=20, cpus=0.5))
    found = host.inspect(name)
    assert found is not None
    confined = found["HostConfig"]
    assert confined["NetworkMode"] == "none"
    assert confined["ReadonlyRootfs"] is True
    assert confined["CapDrop"] == ["ALL"]
    assert confined["SecurityOpt"] == ["no-new-privileges"]
    assert confined["RestartPolicy"]["Name"] == "unless-stopped"
    assert confined["PidsLimit"] == 20
    assert confined["NanoCpus"] == 500_000_000
    assert confined["LogConfig"]["Config"] == {"max-size": "5m", "max-file": "2"}
    assert host.execute(name, ["id", "-u"]).output == "4321\n"
    assert host.execute(name, ["touch", "/own/file"]).exit_code != 0
    assert host.execute(name, ["touch", "/file"]).exit_code != 0


def test_a_service_without_its_image_is_refused(host: DockerHost, name: str) -> None:
    with pytest.raises(ProvisionError, match="host subject"):
        host.ensure_service(service(host, name, "sha256:" + "0" * 64))
    assert host.inspect(name) is None


# One-shots


def test_a_one_shot_returns_exit_code_and_output(host: DockerHost, name: str, image: str) -> None:
    well = host.run(one_shot(host, name, image, ["echo", "déjà vu"]))
    assert (well.exit_code, well.output) == (0, "déjà vu\n")
    ill = host.run(one_shot(host, name, image, ["sh", "-c", "echo out; echo err >&2; exit 3"]))
    assert (ill.exit_code, ill.output, ill.errors) == (3, "out\n", "err\n")
    assert host.inspect(name) is None


def test_a_long_output_arrives_whole(host: DockerHost, name: str, image: str) -> None:
    outcome = host.run(one_shot(host, name, image, ["seq", "20000"]))
    assert outcome.output == "".join(f"{n}\n" for n in range(1, 20001))


def test_a_one_shot_that_is_killed_is_no_success(host: DockerHost, name: str, image: str) -> None:
    def kill_soon() -> None:
        while not (found := docker.from_env().containers.list(filters={"name": f"^{name}\\."})):
            time.sleep(0.05)
        found[0].kill()

    killer = threading.Thread(target=kill_soon)
    killer.start()
    outcome = host.run(one_shot(host, name, image, ["sleep", "60"]))
    killer.join()
    assert outcome.exit_code == 137


def test_a_one_shot_reads_its_files_and_nothing_shows_them(host: DockerHost, name: str, image: str) -> None:
    secret = secrets.token_hex(16)
    files = {"request/a b.json": secret.encode(), "request/binary": bytes(range(256))}
    script = "cat '/request/a b.json'; wc -c < /request/binary"
    assert host.run(one_shot(host, name, image, ["sh", "-c", script], files=files)).output == f"{secret}256\n"
    host.ensure_service(service(host, name, image))
    assert secret not in str(host.inspect(name))


def test_a_one_shot_runs_as_its_user(host: DockerHost, name: str, image: str) -> None:
    assert host.run(one_shot(host, name, image, ["id", "-u"], user="4321:4321")).output == "4321\n"


def test_a_one_shot_works_on_the_data_root(host: DockerHost, name: str, image: str) -> None:
    script = "mkdir -p /host/d && echo kept > /host/d/file && chown 4321:4321 /host/d/file"
    whole = one_shot(host, name, image, ["sh", "-c", script], binds=[Bind("", "/host")], capabilities=FILE_CAPABILITIES)
    host.run(whole).require_success("writing")
    part = one_shot(host, name, image, ["cat", "/d/file"], binds=[Bind("d", "/d", read_only=True)], user="4321:4321")
    assert host.run(part).output == "kept\n"


def test_a_file_is_fetched_whole_or_not_at_all(host: DockerHost, name: str, image: str, tmp_path: Path) -> None:
    script = "mkdir -p /host/f && head -c 30000000 /dev/urandom > /host/f/file && sha256sum /host/f/file"
    maker = one_shot(host, name, image, ["sh", "-c", script], binds=[Bind("", "/host")], capabilities=FILE_CAPABILITIES)
    digest = host.run(maker).require_success("writing").split()[0]
    holder = one_shot(host, name, image, ["never-run"], binds=[Bind("f", "/f", read_only=True)])
    target = tmp_path / "file"
    host.fetch(holder, "/f/file", target, size=30_000_000, sha256=digest)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Unavailable, match="30000000 bytes of /f/file arrived"):
        host.fetch(holder, "/f/file", target, size=30_000_001, sha256=digest)
    with pytest.raises(ProvisionError, match="/f/none"):
        host.fetch(holder, "/f/none", target, size=1, sha256=digest)
    with pytest.raises(OSError, match="No space left"):
        host.fetch(holder, "/f/file", Path("/dev/full"), size=30_000_000, sha256=digest)
    assert host.inspect(name) is None


def test_a_program_that_does_not_exist_is_told(host: DockerHost, name: str, image: str) -> None:
    with pytest.raises(ProvisionError, match="no-such-program"):
        host.run(one_shot(host, name, image, ["no-such-program"])).require_success("it")
    assert host.inspect(name) is None


def test_a_one_shot_without_its_image_is_refused(host: DockerHost, name: str) -> None:
    with pytest.raises(ProvisionError, match="host subject"):
        host.run(one_shot(host, name, "sha256:" + "0" * 64, ["true"]))


def test_a_one_shot_that_does_not_end_is_ended(host: DockerHost, name: str, image: str) -> None:
    began = time.monotonic()
    with pytest.raises(ProvisionError, match="did not end within 2 s"):
        host.run(one_shot(host, name, image, ["sleep", "infinity"]), seconds=2)
    assert time.monotonic() - began < 20
    assert host.inspect(name) is None


def test_one_shots_of_one_name_never_meet(host: DockerHost, name: str, image: str) -> None:
    """Nor do they take the place of what runs under that very name."""
    host.ensure_service(service(host, name, image))
    running = host.inspect(name)
    shot = one_shot(host, name, image, ["sh", "-c", "sleep 2; echo well"])
    with ThreadPoolExecutor(4) as pool:
        assert [done.output for done in pool.map(host.run, [shot] * 4)] == ["well\n"] * 4
    assert host.inspect(name) == running


def test_a_one_shot_that_somebody_removes_is_told(host: DockerHost, name: str, image: str) -> None:
    labels = {**host.role_labels("one-shot"), "provision.test": name}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.run, replace(one_shot(host, name, image, ["sleep", "60"]), labels=labels))
        while not [one for one in host.containers(**{"provision.test": name}) if one["State"] == "running"]:
            time.sleep(0.05)
        host.remove_labelled(**{"provision.test": name})
        with pytest.raises(ProvisionError, match=r"was removed before it ended|exit code 137"):
            running.result(30).require_success("it")


def test_what_a_dead_process_left_is_found(host: DockerHost, name: str, image: str) -> None:
    host.launch(one_shot(host, name, image, ["true"]))
    while (found := host.inspect(name)) is None or found["State"]["Status"] != "exited":
        time.sleep(0.05)
    assert name in host.left_over(-60)
    assert host.left_over(3600) == []
    host.remove(name)


def test_a_name_that_is_taken_is_told_and_left(host: DockerHost, name: str, image: str) -> None:
    host.ensure_service(service(host, name, image))
    running = host.inspect(name)
    with pytest.raises(ProvisionError, match=f"another container has the name {name}"):
        host.launch(replace(one_shot(host, name, image, ["true"]), labels=host.role_labels("switch")))
    assert host.inspect(name) == running


# Commands in running containers


def test_a_command_returns_exit_code_output_and_errors(host: DockerHost, name: str, image: str) -> None:
    host.ensure_service(service(host, name, image))
    outcome = host.execute(name, ["sh", "-c", "echo sortie à part; echo err >&2; exit 7"])
    assert (outcome.exit_code, outcome.output, outcome.errors) == (7, "sortie à part\n", "err\n")
    assert host.execute(name, ["seq", "50000"]).output == "".join(f"{n}\n" for n in range(1, 50001))
    assert host.execute(name, ["printf", "no line end"]).output == "no line end"
    assert host.execute(name, ["no-such-program"]).exit_code != 0


def test_a_command_that_prints_without_end_is_told(host: DockerHost, name: str, image: str) -> None:
    host.ensure_service(service(host, name, image))
    with pytest.raises(ProvisionError, match="yes printed more than 32 MiB"):
        host.execute(name, ["yes", "y" * 10_000])


def test_a_one_shot_that_prints_without_end_is_ended(host: DockerHost, name: str, image: str) -> None:
    """What is kept of it is bounded: 10 MB by the engine."""
    with pytest.raises(ProvisionError, match="did not end within 5 s"):
        host.run(one_shot(host, name, image, ["yes", "y" * 10_000]), seconds=5)
    much = ["sh", "-c", "yes $(printf %010000d 0) | head -c 30000000"]
    ended = host.run(one_shot(host, name, image, much), seconds=120)
    assert ended.exit_code == 0
    assert len(ended.output) <= 10_000_000


def test_a_command_without_its_container_is_refused(host: DockerHost, name: str, image: str) -> None:
    with pytest.raises(ProvisionError, match="host subject"):
        host.execute(name, ["true"])
    host.ensure_service(service(host, name, image))
    docker.from_env().containers.get(name).kill()
    with pytest.raises(ProvisionError, match="host subject"):
        host.execute(name, ["true"])


# Looking, removing


def test_containers_are_found_by_label_and_namespaces_never_meet(host: DockerHost, name: str, image: str) -> None:
    stranger = DockerHost(host.settings, f"{host.namespace}-other")
    mine = Service(name=name, image=image, labels={**host.role_labels("apart"), "colour": "red"}, binds=[])
    host.ensure_service(mine)
    assert [found["Names"] for found in host.containers(colour="red")] == [[f"/{name}"]]
    assert host.containers(colour="blue") == []
    assert stranger.containers() == []
    stranger.remove_labelled(colour="red")
    assert len(host.containers(colour="red")) == 1
    host.remove_labelled(colour="blue")
    assert len(host.containers(colour="red")) == 1
    host.remove_labelled(colour="red")
    assert host.containers(colour="red") == []


def test_removing_may_be_repeated(host: DockerHost, name: str, image: str) -> None:
    host.ensure_service(service(host, name, image))
    host.remove(name)
    host.remove(name)
    assert host.inspect(name) is None


def test_a_volume_whose_container_is_being_removed_is_waited_for(host: DockerHost, name: str, image: str) -> None:
    shared = Shared(name, "/shared", labels=host.role_labels("one-shot"))
    host.launch(one_shot(host, name, image, ["sleep", "100"], binds=[shared]))
    removal = threading.Timer(1, host.remove, [name])
    removal.start()
    host.remove_volume(name)
    removal.join()
    host.remove_volume(name)  # there is none


def test_images(host: DockerHost, image: str) -> None:
    found = host.image(image)
    assert found is not None
    assert found["Id"] == image
    assert host.image("provision/no-such-image:1") is None


def test_many_threads_share_a_host(host: DockerHost, name: str, image: str) -> None:
    """Operations on several sites use one host at once."""
    said: dict[int, str] = {}

    def work(number: int) -> None:
        outcome = host.run(one_shot(host, f"{name}.{number}", image, ["echo", str(number)]))
        said[number] = outcome.output

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert said == {number: f"{number}\n" for number in range(6)}


# Over SSH only (A8)


def test_another_host_key_is_refused(sshd: Sshd) -> None:
    with docker_host(**sshd.settings(host_key="other-host")) as subject:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="another host key than the pinned one: connection refused"):
            subject.version()
        assert time.monotonic() - began < 10


def test_a_host_key_that_changes_is_refused(own_sshd: Sshd) -> None:
    """Also by a process that was connected before it changed."""
    with docker_host(**own_sshd.settings()) as subject:
        subject.version()
        own_sshd.kill()
        own_sshd.start("other-host")
        with pytest.raises(Unavailable, match="another host key than the pinned one"):
            subject.version()


def test_a_stranger_is_refused(sshd: Sshd) -> None:
    settings = sshd.settings(login="stranger")
    with docker_host(**settings) as subject, pytest.raises(Unavailable, match="refuses the login"):
        subject.version()


def test_a_pinned_key_that_is_none_is_told(sshd: Sshd) -> None:
    settings = {**sshd.settings(), "host_key": "ssh-ed25519 AAAAnonsense"}
    with docker_host(**settings) as subject, pytest.raises(BadInput, match="host_key is no public key"):
        subject.version()


def test_a_login_key_that_is_missing_is_told(sshd: Sshd) -> None:
    with docker_host(**{**sshd.settings(), "key_file": "/nonexistent/key"}) as subject:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="/nonexistent/key"):
            subject.version()
        assert time.monotonic() - began < 10


def test_a_connection_that_is_cut_is_made_again(own_sshd: Sshd, image: str) -> None:
    with docker_host(**own_sshd.settings()) as subject:
        subject.version()
        own_sshd.kill()
        own_sshd.start("host")
        shot = one_shot(subject, f"{subject.namespace}.again", image, ["echo", "well"])
        assert subject.run(shot).output == "well\n"


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("run", "kill"),
        *(
            pytest.param(where, fault, marks=pytest.mark.acceptance)
            for where, fault in (
                ("run", "freeze"),
                ("execute", "kill"),
                ("execute", "freeze"),
                ("version", "kill"),
                ("version", "freeze"),
            )
        ),
    ],
)
def test_a_host_that_goes_away_is_told_in_time(own_sshd: Sshd, image: str, where: str, fault: str) -> None:
    with docker_host(**own_sshd.settings()) as subject:
        name = f"{subject.namespace}.long"
        subject.ensure_service(service(subject, f"{name}.service", image))
        acts: dict[str, Callable[[], object]] = {
            "run": lambda: subject.run(one_shot(subject, name, image, ["sleep", "infinity"])),
            "execute": lambda: subject.execute(f"{name}.service", ["sleep", "infinity"]),
            "version": lambda: [subject.version() for _ in range(100_000)],
        }
        told: list[BaseException] = []

        def act() -> None:
            try:
                acts[where]()
            except BaseException as error:
                told.append(error)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        time.sleep(1)
        assert thread.is_alive()
        getattr(own_sshd, fault)()
        began = time.monotonic()
        thread.join(DETECTED * 3)
        took = time.monotonic() - began
        assert [type(error) for error in told] == [Unavailable], told
        assert "host subject: the engine at ssh://" in str(told[0])
        assert took < DETECTED


def test_a_town_over_ssh(sshd: Sshd, tmp_path: Path) -> None:
    """The same two commands, although nothing of the host is reached but through SSH."""
    place = Town(tmp_path, host=sshd.settings())
    try:
        place.init()
        place.create("kayane", "regart")
        assert place.get("kayane").status == 200
        assert place.get("regart").status == 200
        assert place.is_well()
    finally:
        place.remove()
