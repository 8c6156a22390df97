"""Backup, drill and restore of a real site: what comes back is what was there."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.full_site import FullSite
from tests.support.town import Town

SITE = "kayane"
RESTORE = "restic -r /r --no-cache --no-lock restore latest --target /tmp/out >/dev/null && ls /tmp/out/site"


@pytest.fixture(scope="module")
def site(town: Town) -> Town:
    """A town with a site that was backed up once."""
    town.create(SITE)
    town.run("backup", SITE)
    return town


def content_hash(town: Town) -> str:
    """Return the hash over the association's content."""
    return str(town.json("status", SITE)["content_sha256"])


def repository(town: Town) -> tuple[Path, dict[str, str]]:
    """Return the repository's directory, and the environment with which plain restic opens it."""
    from provisioner.keys import Keys

    return town.folder / "backups" / SITE, {"RESTIC_PASSWORD": Keys(town.state).repository(SITE)}


def test_a_backup_changes_nothing_and_leaves_no_dump(site: Town) -> None:
    before = content_hash(site)
    outcome = site.json("backup", SITE)[0]
    assert outcome["exit_code"] == 0
    assert outcome["files"] > 200
    assert content_hash(site) == before
    assert not list((site.data_root / "sites" / SITE / "backup").glob("*.sql"))


def test_a_drill_proves_the_newest_snapshot_and_leaves_nothing(site: Town) -> None:
    before, existing = content_hash(site), site.belongings()
    assert site.json("drill", SITE)[0]["outcome"] == "proven"
    assert site.belongings() == existing
    assert content_hash(site) == before
    events = [event["kind"] for event in site.json("log", SITE)]
    assert "drill proved a snapshot" in events


def test_a_restore_brings_back_what_was_deleted(site: Town) -> None:
    before = content_hash(site)
    site.run("backup", SITE)
    site.sql(
        f"DELETE FROM {SITE}_1.wp_posts; UPDATE {SITE}_1.wp_options SET option_value='x' WHERE option_name='blogname'"
    )
    assert content_hash(site) != before
    answer = site.json("restore", SITE)
    assert answer["generation"] == 2
    assert content_hash(site) == before
    assert site.get(SITE).status == 200
    assert site.is_well()


def test_plain_restic_opens_the_repository(site: Town) -> None:
    """The image's own restic, and nothing of ours around it, lists and restores a snapshot."""
    folder, key = repository(site)
    image = site.docker().images.list(name="provision/agent")[0].id or ""
    command = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "-e",
        "RESTIC_PASSWORD",
        "-v",
        f"{folder}:/r",
        "--entrypoint",
    ]
    listed = subprocess.run(
        [*command, "restic", image, "-r", "/r", "--no-cache", "--no-lock", "snapshots", "--json"],
        env={"PATH": "/usr/bin:/bin", **key}, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    newest = json.loads(listed)[-1]
    assert f"site:{SITE}" in newest["tags"]
    restored = subprocess.run(
        [*command, "sh", image, "-c", RESTORE],
        env={"PATH": "/usr/bin:/bin", **key}, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert restored == ["database.sql", "manifest.json", "wp-content"]


@pytest.mark.parametrize(
    ("media", "media_bytes", "database_mb"),
    [
        pytest.param(60, 50_000, 3, id="small"),
        pytest.param(2000, 512 * 1024, 100, id="large", marks=pytest.mark.acceptance),
    ],
)
def test_all_of_a_full_site_comes_back(site: Town, media: int, media_bytes: int, database_mb: int) -> None:
    """Backup, total destruction of the generation, restore: every file's hash and every table's checksum are equal."""
    full = FullSite(site, f"full-{media}", 500, media, media_bytes, database_mb)
    site.create(full.slug)
    full.fill()
    assert site.get(full.slug).status == 200
    before = site.json("status", full.slug)
    hashes, checksums = full.hashes(1, "media"), full.checksums(1)
    assert len(hashes) >= media
    taken = site.json("backup", full.slug)[0]
    assert taken["exit_code"] == 0, taken
    full.destroy()

    began = time.monotonic()
    restored = site.json("restore", full.slug)
    print(f"{full.slug}: backup {taken['seconds']:.1f} s, restore {time.monotonic() - began:.1f} s")
    assert site.get(full.slug).status == 200
    assert "<!-- carnet -->" in site.get(full.slug).data.decode()
    assert full.hashes(restored["generation"], f"media-{restored['generation']}") == hashes
    assert full.checksums(restored["generation"]) == checksums
    assert full.definers(restored["generation"]) == {f"{full.database(restored['generation'])}@localhost"}
    after = site.json("status", full.slug)
    for key in ("content_sha256", "administrators", "wordpress", "php", "image"):
        assert after[key] == before[key]
