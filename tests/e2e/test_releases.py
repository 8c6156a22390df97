"""Releases: built from Debian suites and from an archive on disk, cached by content, pinned by digest."""

import hashlib
import re
import subprocess

import pytest

from tests.support.town import Town

SUITES = {"6.1": ("bookworm", "8.2."), "7.1": ("forky", "8.")}


def test_what_is_built_is_not_built_again(town: Town) -> None:
    images = {image.id for image in town.docker().images.list()}
    first, second = (town.json("release", "build", "6.8")[0] for _ in range(2))
    assert first == second
    assert first["wordpress"].startswith("6.8.")
    assert {image.id for image in town.docker().images.list()} == images


def test_an_unknown_release_is_refused(town: Town) -> None:
    done = town.run("release", "build", "9.9", code=2)
    assert "no release '9.9'; it has 6.1, 6.8, 7.1" in done.stderr


def test_an_archive_with_another_hash_is_refused(empty_town: Town) -> None:
    (empty_town.folder / "wordpress.zip").write_bytes(b"not what was meant")
    release = {"suite": "trixie", "archive": "wordpress.zip", "sha256": "0" * 64}
    empty_town.write_inventory(releases={"6.8": {"suite": "trixie"}, "own": release})
    empty_town.init()
    done = empty_town.run("release", "build", "own", code=2)
    assert "its SHA-256 is" in done.stderr


@pytest.mark.acceptance
@pytest.mark.parametrize("release", SUITES)
def test_a_site_on_each_debian_release(empty_town: Town, release: str) -> None:
    suite, php = SUITES[release]
    source = {"suite": suite, "candidate": release == "7.1"}
    empty_town.write_inventory(releases={release: source}, default_release=release)
    empty_town.init()
    empty_town.create("kayane", profile="education")
    site = empty_town.json("status", "kayane")
    assert site["wordpress"].startswith(f"{release}.")
    assert site["php"].startswith(php)
    page = empty_town.get("kayane").data.decode()
    assert 'lang="fr-FR"' in page
    assert "Mentions légales" in page


@pytest.mark.acceptance
def test_a_release_from_an_archive_on_disk(town: Town, empty_town: Town) -> None:
    """WordPress' own core, taken out of the built image, packed as upstream packs it."""
    image = next(row["image"] for row in town.json("release", "list") if row["default"])
    archive = empty_town.folder / "wordpress.tar.gz"
    pack = "tar -C /srv -cz --exclude=wp-config.php --transform s,^content/,wordpress/wp-content/, wordpress content"
    with archive.open("wb") as file:
        subprocess.run(["docker", "run", "--rm", "--network", "none", image, *pack.split()], check=True, stdout=file)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    release = {"suite": "trixie", "archive": archive.name, "sha256": digest}
    empty_town.write_inventory(releases={"own": release}, default_release="own")
    empty_town.init()
    empty_town.create("kayane")
    assert empty_town.json("status", "kayane")["wordpress"].startswith("6.8.")


@pytest.mark.acceptance
def test_a_refresh_gives_a_new_digest_and_leaves_sites_alone(empty_town: Town) -> None:
    empty_town.init()
    empty_town.create("kayane")
    before = empty_town.json("status", "kayane")["image"]
    built = empty_town.json("release", "build", "6.8", "--refresh")[0]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", built["image"])
    assert built["image"] != before
    assert empty_town.json("status", "kayane")["image"] == before
    assert empty_town.get("kayane").status == 200
    empty_town.create("regart")
    assert empty_town.json("status", "regart")["image"] == built["image"]
