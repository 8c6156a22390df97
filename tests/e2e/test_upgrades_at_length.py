"""Upgrades as a council has them: the whole path of releases, a fleet; run by hand. How long they take: tests/bench."""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.breaking import BREAKING, FAULTS
from tests.support.doors import Editor, Reader, Traffic, add_plugin, install
from tests.support.full_site import FullSite
from tests.support.town import Town, association

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3600)]
FLEET = [f"flotte-{number:02}" for number in range(1, 21)]
CANARY, CULPRITS = FLEET[0], (FLEET[6], FLEET[13])
PARALLEL = 2


@pytest.fixture(scope="module")
def long_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town whose sites run release 6.1, with 6.8 and 7.1 built."""
    place = Town(tmp_path_factory.mktemp("long"), settings={"default_release": "6.1"})
    try:
        at_length(place, "init")
        for release in ("6.8", "7.1"):
            at_length(place, "release", "build", release)
        yield place
    finally:
        place.remove()


def at_length(town: Town, *arguments: str, code: int = 0) -> str:
    """Run a command that may take longer than those of other tests; return what it printed."""
    process = town.start(*arguments)
    try:
        output, errors = process.communicate(timeout=3000)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, f"{errors}\n{output}"
    return output


def upgrade(town: Town, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """Upgrade sites; return what became of each."""
    return list(json.loads(at_length(town, "upgrade", *arguments, "--json", code=code)))


def test_the_whole_path_under_readers_and_writers(long_town: Town) -> None:
    """Acceptance 1: 6.1 (PHP 8.2), 6.8 (PHP 8.4), 7.1; by every door, a real log-in among them."""
    long_town.create("kayane", profile="education")
    FullSite(long_town, "kayane", posts=500, media=60, media_bytes=20_000, database_mb=10).fill()
    install(long_town, "kayane")
    editor = Editor(long_town, "kayane")
    for release in ("6.8", "7.1"):
        with Traffic(long_town, "kayane", editor) as traffic:
            (outcome,) = upgrade(long_town, "kayane", "--to", release)
            accepted, deadline = len(traffic.accepted), time.monotonic() + 60
            while len(traffic.accepted) < accepted + 20:  # the new generation takes writes
                assert time.monotonic() < deadline
                time.sleep(0.1)
        traffic.check(outcome["generation"])
        doors = {door for door, *_ in traffic.refused}
        assert {"form", "rest", "ajax", "comment", *editor.doors} <= doors
        facts = long_town.json("status", "kayane")
        assert facts["wordpress"].startswith(f"{release}.")
        print(
            f"\n{facts['wordpress']}, PHP {facts['php']}: frozen for {outcome['frozen_seconds']} s "
            f"(writers refused for {traffic.refused_for:.1f} s); {traffic.reads} reads, 0 failed; "
            f"{len(traffic.accepted)} writes accepted and kept, {len(traffic.refused)} refused by {len(doors)} doors"
        )
    assert long_town.is_well()


def test_a_fleet_of_twenty(long_town: Town) -> None:
    """Acceptance 4, C9: canary, waves, stop at the second failure, report; the others later, and no read fails."""
    at_length(long_town, "create", "--from", long_town.describe(*(association(slug) for slug in FLEET)))
    for slug in CULPRITS:
        add_plugin(long_town, slug, "casse", BREAKING.format(fault=FAULTS["front"][0]))
    with Reader([f"{slug} /?nocache={{}}" for slug in FLEET], lambda page: long_town.get(*page.split(" "))) as reader:
        began = time.monotonic()
        options = ("--to", "6.8", "--parallel", str(PARALLEL))
        first = {one["slug"]: one for one in upgrade(long_town, *FLEET, *options, "--canary", CANARY, code=1)}
        failed = [slug for slug in FLEET if first[slug]["differences"]]
        left = [slug for slug in FLEET if first[slug]["outcome"].startswith("not begun")]
        done = [slug for slug in FLEET if first[slug]["outcome"].startswith("upgraded")]
        assert failed == list(CULPRITS)
        assert all("/: status 500" in first[slug]["outcome"] for slug in CULPRITS)
        assert done[0] == CANARY
        assert left == FLEET[-len(left) :]
        assert len(done) + len(failed) + len(left) == len(FLEET)
        rest = [slug for slug in FLEET if slug not in CULPRITS]
        second = {one["slug"]: one["outcome"] for one in upgrade(long_town, *rest, *options)}
        took = time.monotonic() - began
    assert [slug for slug in rest if second[slug] == "up to date"] == done
    assert [slug for slug in rest if second[slug].startswith("upgraded")] == left
    assert reader.failed == []
    versions = {slug: long_town.json("status", slug)["wordpress"][:3] for slug in FLEET}
    assert versions == {slug: "6.1" if slug in CULPRITS else "6.8" for slug in FLEET}
    print(
        f"\n{len(rest)} of {len(FLEET)} sites upgraded, {len(failed)} held back in {took:.0f} s, {PARALLEL} at a time: "
        f"{took / len(FLEET):.1f} s per site; stopped after {len(done) + len(failed)}; {reader.reads} reads, 0 failed"
    )
    assert long_town.is_well()
