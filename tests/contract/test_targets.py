"""One contract for every target of backups: a directory, SFTP with a pinned key, restic's REST server append-only."""

import base64
import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support.sshd import Sshd
from tests.support.town import Town, free_port

SITE = "kayane"
REST_SERVER = "provision/test-rest-server"
DOCKERFILE = """
FROM {base}
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends restic-rest-server
"""


@pytest.fixture(scope="module")
def site(town: Town) -> Town:
    """A town with a site."""
    town.create(SITE)
    return town


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the inventory says of a target behind a real sshd."""
    folder = tmp_path_factory.mktemp("sftp")
    server = Sshd(folder)
    reached = server.settings()
    address = server.engine.removeprefix("ssh://")
    try:
        yield {
            "target": f"sftp://{address}/{folder}/repositories",
            "host_key": reached["host_key"],
            "login_key": reached["key_file"],
        }
    finally:
        server.kill()


@pytest.fixture(scope="module")
def rest(site: Town, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the inventory says of two real REST servers on one directory: one takes additions only, one prunes."""
    folder = tmp_path_factory.mktemp("rest")
    base = next(tag for image in site.docker().images.list("provision/base") for tag in image.tags if "trixie" in tag)
    described = DOCKERFILE.format(base=base)
    subprocess.run(
        ["docker", "build", "-q", "--network", "host", "-t", REST_SERVER, "-"],
        input=described, text=True, check=True, capture_output=True,
    )  # fmt: skip
    targets = {}
    for user, options in (("nightly", ["--append-only"]), ("pruner", [])):
        port, password = free_port(), f"password of {user}"
        digest = base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()  # noqa: S324  (htpasswd's own form)
        (folder / f"{user}.htpasswd").write_text(f"{user}:{{SHA}}{digest}\n")
        credentials = folder / f"{user}.credentials"
        credentials.write_text(f"RESTIC_REST_USERNAME={user}\nRESTIC_REST_PASSWORD={password}\n")
        site.docker().containers.run(
            REST_SERVER,
            ["restic-rest-server", "--listen", f"127.0.0.1:{port}", "--path", "/repositories",
             "--htpasswd-file", f"/repositories/{user}.htpasswd", *options],
            detach=True, network_mode="host", name=f"{site.namespace}.rest.{user}",
            volumes={str(folder): {"bind": "/repositories", "mode": "rw"}},
            labels={"provision.namespace": site.namespace},
        )  # fmt: skip
        _wait_for(port)
        targets[user] = (f"rest:http://127.0.0.1:{port}", str(credentials))
    return {
        "target": targets["nightly"][0],
        "credentials": targets["nightly"][1],
        "append_only": True,
        "prune_target": targets["pruner"][0],
        "prune_credentials": targets["pruner"][1],
    }


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib3.request("GET", f"http://127.0.0.1:{port}/", retries=False, timeout=5)
        except urllib3.exceptions.HTTPError:
            assert time.monotonic() < deadline, "the REST server does not answer"
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def target(site: Town, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The town with its backups on one kind of target."""
    kind = request.param
    settings = {"target": "backups"} if kind == "directory" else request.getfixturevalue(kind)
    site.write_inventory(backup={**settings, "keep": {"daily": 1, "weekly": 0, "monthly": 0, "yearly": 0}})
    yield settings
    site.write_inventory()


@pytest.mark.parametrize("target", ["directory", "sftp", "rest"], indirect=True)
def test_backup_restore_check_and_prune(site: Town, target: dict[str, Any], tmp_path: Path) -> None:
    """The same on each target, to which the inventory was changed; the escrow opens it, too."""
    hashes = []
    for value in ("one", "two"):
        site.sql(f"REPLACE INTO {_options(site)} (option_name, option_value) VALUES ('blogdescription', '{value}')")
        hashes.append(site.json("status", SITE)["content_sha256"])
        assert site.json("backup", SITE)[0]["exit_code"] == 0
    first, second = site.json("status", SITE, "--snapshots")
    assert hashes[0] != hashes[1]
    site.run("restore", SITE, "--snapshot", first["snapshot"], "--yes")
    assert site.sql(f"SELECT option_value FROM {_options(site)} WHERE option_name = 'blogdescription'") == "one\n"
    assert site.json("status", SITE)["content_sha256"] == hashes[0]
    assert site.get(SITE).status == 200
    assert site.json("backup", SITE, "--check")[0]["exit_code"] == 0

    if target.get("append_only"):
        _refuses_to_delete(site, target)
    assert site.json("backup", SITE, "--prune")[0]["outcome"] == "1 snapshots removed, 1 kept"
    assert [one["snapshot"] for one in site.json("status", SITE, "--snapshots")] == [second["snapshot"]]
    _escrow_opens(site, tmp_path)


def test_an_sftp_server_with_another_key_is_refused(
    site: Town, sftp: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Sshd(tmp_path_factory.mktemp("stranger"))
    try:
        site.write_inventory(backup={**sftp, "host_key": stranger.settings()["host_key"]})
        said = site.run("backup", SITE, code=1).stdout
    finally:
        stranger.kill()
        site.write_inventory()
    # restic may end before it has passed on what ssh said; the hint names the key all the same.
    assert "unable to open repository at sftp:" in said
    assert "its host key unchanged?" in said


def _options(site: Town) -> str:
    return f"{SITE}_{site.json('status', SITE)['generation']}.wp_options"


def _refuses_to_delete(site: Town, target: dict[str, Any]) -> None:
    """Prune with the credentials of the nightly backups: the server itself refuses."""
    nightly = {"prune_target": target["target"], "prune_credentials": target["credentials"]}
    keep = {"daily": 1, "weekly": 0, "monthly": 0, "yearly": 0}
    before = site.json("status", SITE, "--snapshots")
    site.write_inventory(backup={**target, **nightly, "keep": keep})
    assert "1 snapshots are still there" in site.run("backup", SITE, "--prune", code=1).stdout
    assert site.json("status", SITE, "--snapshots") == before
    site.write_inventory(backup={**target, "keep": keep})


def _escrow_opens(site: Town, folder: Path) -> None:
    escrow, elsewhere = str(folder / "escrow.yaml"), str(folder / "elsewhere" / "inventory.yaml")
    site.run("backup", "control-plane")
    site.run("backup", "--escrow", escrow)
    way = ("restore", "--control-plane", "--escrow", escrow, "--inventory", elsewhere, "--dry-run")
    assert site.json(*way)["sites"] == [SITE]
