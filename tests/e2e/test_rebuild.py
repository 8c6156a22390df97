"""Everything is lost but the escrow and the repositories: the whole town comes back on an empty machine (D11)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.town import PROVISION, Town

SITES = ("kayane", "regart")


@pytest.fixture(scope="module")
def saved(town: Town) -> Town:
    """A town whose sites and control plane are in their repositories."""
    (town.folder / "login").write_text("a key of the mail server\n")
    town.write_inventory(
        mail={
            "sender": "associations@example.org",
            "folder": "state/mail",
            "server": {"host": "127.0.0.1", "port": 9, "security": "none", "password_file": "login"},
        }
    )
    town.create(*SITES)
    town.run("agreement", "sign", "kayane", "--on", "2026-01-01")
    return town


def test_the_control_plane_is_kept_last_and_apart_from_its_key(saved: Town) -> None:
    outcomes = saved.json("backup", "--all")
    assert [one["slug"] for one in outcomes] == [*SITES, "control-plane"]
    assert {one["exit_code"] for one in outcomes} == {0}
    assert saved.json("backup", "control-plane")[0]["snapshot"]
    listed = saved.json("status", "control-plane", "--snapshots")
    assert [one["recorded"] for one in listed] == [True, True]
    assert listed[-1]["files"] > 5
    for verb in ("--check", "--prune"):
        assert saved.json("backup", "control-plane", verb)[0]["exit_code"] == 0


def test_the_escrow_is_private_and_never_overwrites(saved: Town, tmp_path: Path) -> None:
    place = tmp_path / "escrow.yaml"
    assert "no escrow was written" in saved.run("status").stdout
    saved.run("backup", "--escrow", str(place))
    assert place.stat().st_mode & 0o777 == 0o600
    written = yaml.safe_load(place.read_text())
    assert written["key"] == (saved.state / "backup.key").read_text().strip()
    assert written["target"] == str(saved.folder / "backups")
    before = place.read_bytes()
    assert "File exists" in saved.run("backup", "--escrow", str(place), code=2).stderr
    assert place.read_bytes() == before
    assert saved.run("backup", "--escrow", "-").stdout == before.decode()
    assert "no escrow" not in saved.run("status").stdout


def test_a_control_plane_that_is_there_is_never_overwritten(saved: Town, tmp_path: Path) -> None:
    place = tmp_path / "escrow.yaml"
    saved.run("backup", "--escrow", str(place))
    state, records = saved.inventory.read_bytes(), saved.json("log")
    for way in ((), ("--dry-run",)):
        refused = saved.run("restore", "--control-plane", "--escrow", str(place), *way, code=2).stderr
        assert "provision.db exists: this machine has a control plane already" in refused
    elsewhere = tmp_path / "elsewhere" / "inventory.yaml"
    for change, code, words in (
        ("namespace: other", 1, f"the snapshot is of namespace '{saved.namespace}', not of 'other'"),
        (f"key: '{'0' * 64}'", 1, "was given the wrong key"),
        (f"target: {tmp_path / 'nowhere'}", 1, "found no repository"),
        ("key: short", 2, "escrow-changed.yaml:"),
    ):
        changed = place.with_name("escrow-changed.yaml")
        key = change.partition(":")[0]
        lines = [change if line.startswith(f"{key}:") else line for line in place.read_text().splitlines()]
        changed.write_text("\n".join(lines))
        said = saved.run(
            "restore", "--control-plane", "--escrow", str(changed), "--inventory", str(elsewhere), code=None
        )
        assert (said.returncode, words in said.stderr) == (code, True), said.stderr
    assert not elsewhere.parent.exists()
    assert (saved.inventory.read_bytes(), saved.json("log")) == (state, records)


def test_a_town_comes_back_from_escrow_and_repositories_alone(saved: Town, tmp_path: Path) -> None:
    saved.run("backup", "--all")
    saved.run("backup", "--escrow", str(tmp_path / "escrow.yaml"))
    before = {slug: saved.json("status", slug) for slug in SITES}
    root, secret = saved.root.read_bytes(), (saved.state / "secret.key").read_bytes()
    inventory = saved.inventory.read_bytes()
    escrow = str(tmp_path / "escrow.yaml")

    saved.remove()
    saved.inventory.unlink()
    shutil.rmtree(saved.state)
    (saved.folder / "login").unlink()

    planned = saved.json("restore", "--control-plane", "--escrow", escrow, "--dry-run")
    assert planned["sites"] == list(SITES)
    assert not saved.state.exists()
    said = saved.run("restore", "--control-plane", "--escrow", escrow).stdout.splitlines()
    assert saved.inventory.read_bytes() == inventory
    assert saved.root.read_bytes() == root
    assert (saved.state / "secret.key").read_bytes() == secret
    assert (saved.folder / "login").read_text() == "a key of the mail server\n"
    private = ("backup.key", "secret.key", "provision.db", "authority/root.key")
    assert {(saved.state / name).stat().st_mode & 0o777 for name in private} == {0o600}
    assert said[-3:] == [
        "    provision init",
        '    for site in kayane regart; do provision restore "$site" --yes; done',
        "    provision doctor",
    ]

    found = saved.run("init").stdout
    for slug in SITES:
        assert f"! {slug}: database {slug}_1 is missing  →  provision restore {slug}" in found
    saved.run("doctor", "--fix", code=3)  # nothing to mend there, and nothing that it breaks
    saved.run("status")
    undone = saved.run("restore", "kayane", "--yes", code=1, PROVISION_FAILPOINT="restore.verify:before:fail")
    assert undone.stderr.strip().endswith("undone"), undone.stderr  # though there is no generation to go back to
    path = f"{Path(PROVISION).parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", said[-2]], env=saved.environment(PATH=path), check=True, capture_output=True)
    for slug in SITES:
        after = saved.json("status", slug)
        assert saved.get(slug).status == 200
        for key in ("content_sha256", "administrators", "state", "agreement", "url", "wordpress", "last_backup"):
            assert after[key] == before[slug][key], key
    assert saved.is_well()
    assert {one["exit_code"] for one in saved.json("backup", "--all")} == {0}
    assert saved.json("drill", "kayane")[0]["outcome"] == "proven"
