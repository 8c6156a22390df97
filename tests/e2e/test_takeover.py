"""An installation that an earlier version made, images included, goes on with this one: its old generations too."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.full_site import FullSite
from tests.support.town import CHECKOUT, Town, association

pytestmark = pytest.mark.acceptance  # it builds the images of two versions

# The last version whose images say nothing of a protocol, and whose one-shots were root.
BEFORE = "0e5d0a7adaa318f1d5b90cd561e9b8e3f8ae99aa"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it was, out of this repository's history."""
    archive = subprocess.run(
        ["git", "-C", str(CHECKOUT), "archive", BEFORE, "provisioner", "templates", "conventions"],
        check=True, capture_output=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, before: Path) -> Iterator[Town]:
    """A town that the earlier version made: two sites, a snapshot of each, and an operation of which it died."""
    place = Town(tmp_path_factory.mktemp("taken-over"))
    then: dict[str, Any] = {"PYTHONPATH": str(before)}
    try:
        place.run("init", **then)
        place.run("create", "--from", place.describe(*(association(slug) for slug in ("kayane", "regart"))), **then)
        site(place).fill()
        place.run("agreement", "sign", "kayane", "--on", "2026-01-01", **then)
        place.run("backup", "kayane", "regart", **then)
        killed: dict[str, Any] = {"PROVISION_FAILPOINT": "backup.snapshot:after:kill"}
        place.run("backup", "regart", code=-9, **then, **killed)
        yield place
    finally:
        place.remove()


def site(town: Town) -> FullSite:
    return FullSite(town, "kayane", posts=30, media=20, media_bytes=2000, database_mb=1)


def status(town: Town, slug: str = "kayane") -> dict[str, Any]:
    return dict(town.json("status", slug))


def test_an_installation_of_the_version_before_goes_on(town: Town) -> None:
    full = site(town)
    town.run("init")
    town.run("resume", "regart")  # its journal was begun by the version before
    assert status(town, "regart")["last_backup"]
    town.run("doctor", "--fix")
    first = status(town)
    made = full.checksums(1)
    assert first["problem"] is None
    assert first["generation"] == 1
    assert {line["slug"]: line["behind"] for line in town.json("status")["sites"]} == {"kayane": True, "regart": True}

    # Its generation is as old as its image; all the same it is saved, proven, exported, and restored from what was.
    town.run("backup", "kayane")
    town.run("drill", "kayane")
    town.run("export", "kayane", "--to", str(town.folder / "kayane.zip"))
    oldest = town.json("status", "kayane", "--snapshots")[0]["snapshot"]
    town.run("restore", "kayane", "--snapshot", oldest, "--yes")
    assert status(town)["content_sha256"] == first["content_sha256"]
    restored = status(town)["generation"]
    assert full.checksums(restored) == made
    town.run("undo", "kayane", "--yes")
    assert status(town)["generation"] == 1

    # How a fix in an image reaches a site that runs: the release's new build, and an upgrade.
    town.run("upgrade", "--all", "--yes")
    upgraded = status(town)
    assert upgraded["content_sha256"] == first["content_sha256"]
    assert full.checksums(upgraded["generation"]) == made
    assert not any(line["behind"] for line in town.json("status")["sites"])
    container = town.docker().containers.get(f"{town.namespace}.site.kayane.{upgraded['generation']}")
    assert not [mount for mount in container.attrs["Mounts"] if "/content/" in mount["Source"]]
    town.run("undo", "kayane", "--yes")
    assert status(town)["content_sha256"] == first["content_sha256"]
    assert town.is_well()
