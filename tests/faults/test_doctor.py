"""`doctor` on a town where much is wrong: each site is looked at and mended by itself, some at a time."""

import json
import shutil
import threading

import pytest

from tests.support.impostor import Impostor, page
from tests.support.town import Town

FIRST, SECOND, THIRD = "alpha", "beta", "gamma"  # doctor goes by the alphabet
SITES = (FIRST, SECOND, THIRD)


@pytest.fixture(scope="module")
def sites(town: Town) -> Town:
    """A town with three sites."""
    town.create(*SITES)
    return town


def running(town: Town) -> set[str]:
    """Return the sites whose container runs."""
    client = town.docker()
    names = {slug: f"{town.namespace}.site.{slug}.1" for slug in SITES}
    return {slug for slug, name in names.items() if client.containers.get(name).status == "running"}


def test_a_site_that_does_not_start_keeps_no_other_from_being_mended(sites: Town) -> None:
    for slug in SITES:
        sites.docker().containers.get(f"{sites.namespace}.site.{slug}.1").stop(timeout=3)
    sockets = sites.data_root / "run" / "sites" / FIRST
    aside = (sockets / "1").rename(sockets / "aside")
    try:
        found = json.loads(sites.run("doctor", "--fix", "--json", code=3).stdout)
        assert running(sites) == {SECOND, THIRD}
        assert {one["subject"] for one in found} == {FIRST}
        (unmended,) = [one["problem"] for one in found if one["problem"].startswith("it could not be mended: ")]
        assert "does not start" in unmended
    finally:
        shutil.rmtree(sockets / "1", ignore_errors=True)
        aside.rename(sockets / "1")
    sites.run("doctor", "--fix")
    assert running(sites) == set(SITES)


def test_doctor_looks_at_the_sites_that_it_is_told(sites: Town) -> None:
    """And mends no other."""
    for slug in (FIRST, SECOND):
        sites.docker().containers.get(f"{sites.namespace}.site.{slug}.1").stop(timeout=3)
    try:
        assert sites.run("doctor", THIRD).stdout == f"all is well: {THIRD} as the records say, over HTTPS too\n"
        found = json.loads(sites.run("doctor", SECOND, THIRD, "--json", code=3).stdout)
        assert {one["subject"] for one in found} == {SECOND}
        sites.run("doctor", SECOND, "--fix")
        assert running(sites) == {SECOND, THIRD}
        assert "no site is called 'none'" in sites.run("doctor", "none", code=2).stderr
    finally:
        sites.run("doctor", "--fix")


def test_doctor_asks_sites_side_by_side(sites: Town) -> None:
    """Two pages of which none comes before both are asked for."""
    both = threading.Barrier(2, timeout=10)

    def together(link: object, _head: bytes) -> None:
        both.wait()
        link.sendall(page())  # type: ignore[attr-defined]

    with Impostor(sites, FIRST, together), Impostor(sites, SECOND, together):
        sites.run("doctor", FIRST, SECOND)
