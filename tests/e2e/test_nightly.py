"""The nightly run and the scheduler on real sites: what fails stops nothing else, what was missed is caught up."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provisioner.clock import PARIS
from tests.support.damage import corrupt
from tests.support.town import Town, free_port

DIED = -9
SITES = ("kayane", "regart")


@pytest.fixture(scope="module")
def night(town: Town) -> Town:
    """A town with two sites."""
    town.create(*SITES)
    return town


@pytest.fixture
def folder(night: Town) -> Iterator[Path]:
    """The folder of mails; the inventory is as at first afterwards."""
    yield night.state / "mail"
    night.write_inventory()


def noon(days: int, minutes: int = 0) -> str:
    """Return noon of a day to come, or some minutes later, for PROVISION_NOW."""
    day = datetime.now(PARIS) + timedelta(days=days)
    return f"{day:%Y-%m-%d}T12:{minutes:02}"


def rows(town: Town, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(town.state / "provision.db") as database:
        return database.execute(query).fetchall()


def operators(folder: Path, kind: str) -> list[str]:
    return sorted(path.read_text() for path in folder.glob(f"*-{kind}-*"))


def until(condition: Any, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def jobs(said: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = said["jobs"]
    return found


def run_json(town: Town, code: int, **environment: str) -> dict[str, Any]:
    """Run a night to its end, however many sites it has."""
    process = town.start("nightly", "--json", **environment)
    output, errors = process.communicate(timeout=1800)
    assert process.returncode == code, f"the night ended with {process.returncode}: {errors}\n{output}"
    said: dict[str, Any] = json.loads(output)
    return said


def test_a_killed_night_is_begun_again_and_does_what_is_left(night: Town) -> None:
    due = night.run("nightly", "--dry-run").stdout
    assert "backup: kayane, regart" in due
    night.run("nightly", code=DIED, PROVISION_FAILPOINT="nightly.backup:after:kill")
    assert rows(night, "SELECT outcome FROM run WHERE kind='nightly'") == [("",)]
    said = run_json(night, 0)
    assert said["outcome"] == "well"
    assert {one["subject"] for one in jobs(said)["drill"]} == set(SITES)
    assert all(one["outcome"] == "proven" for one in jobs(said)["drill"])
    assert not {one["subject"] for one in jobs(said)["backup"]} & set(SITES)  # they were saved before the kill
    assert rows(night, "SELECT outcome FROM run WHERE kind='nightly' ORDER BY id") == [("",), ("well",)]
    assert jobs(said)["space"][0]["figure"] > 0
    assert "dropped" in jobs(said)["logs"][0]["outcome"]


@contextmanager
def broken(town: Town, slug: str) -> Iterator[None]:
    """A site that has a damaged table, and whose container does not run."""
    site = town.docker().containers.get(f"{town.namespace}.site.{slug}.1")
    with corrupt(town, slug):
        site.stop(timeout=1)
        yield
    site.start()
    until(lambda: town.get(slug).status == 200)


@contextmanager
def target_down(town: Town, slug: str) -> Iterator[None]:
    """A site whose repository cannot be reached."""
    repository = town.folder / "backups" / slug
    hidden = repository.rename(repository.with_name("hidden"))
    repository.write_text("no repository")
    yield
    repository.unlink()
    hidden.rename(repository)


@contextmanager
def no_mail_server(town: Town) -> Iterator[None]:
    """An inventory that names a mail server where none answers."""
    server = {"host": "127.0.0.1", "port": free_port(), "security": "none"}
    town.write_inventory(mail={"sender": "associations@example.org", "server": server})
    yield
    town.write_inventory()


def test_one_broken_site_and_no_mail_server_stop_nothing_else(night: Town, folder: Path) -> None:
    """regart, its repository and the mail server are gone: kayane is saved, one summary says all, a mail waits."""
    later = noon(2)
    with no_mail_server(night):
        with broken(night, "regart"), target_down(night, "regart"):
            said = run_json(night, 3, PROVISION_NOW=later)
            again = night.run("nightly", code=3, PROVISION_NOW=later).stdout
        codes = {one["subject"]: one["exit_code"] for one in jobs(said)["backup"]}
        assert codes["kayane"] == 0
        assert codes["regart"] != 0
        assert jobs(said)["mail"][0]["exit_code"] == 3
        assert all(one["exit_code"] == 0 for one in jobs(said)["check"] if one["subject"] == "kayane")
        assert "need a person" in again.splitlines()[-1]
        assert "kayane" not in next(line for line in again.splitlines() if line.startswith("backup"))
        assert rows(night, "SELECT count(*) FROM mail WHERE kind='nightly' AND state='QUEUED'")[0][0] == 2
        waiting = [mail for mail in night.json("mail", "list") if mail["kind"] == "nightly"]
        told_to = {(mail["site"], mail["to"], mail["state"]) for mail in waiting}
        assert told_to == {("operators", "associations@example.org", "queued")}
        assert "operators: a mail (nightly) waits" in night.run("status").stdout
    night.run("mail", "retry")
    assert len(operators(folder, "nightly")) == 2


def told(folder: Path, about: str) -> list[str]:
    """Return the subjects of the mails to the operators about an incident, in the order in which they were posted."""
    subjects = [line for text in operators(folder, "incident") for line in text.splitlines() if "Subject:" in line]
    return [line.removeprefix("Subject: ").partition(":")[0] for line in subjects if line.endswith(about)]


def test_an_incident_is_told_once_when_it_begins_and_once_when_it_is_over(night: Town, folder: Path) -> None:
    """regart had no backup for 26 hours in both runs before: one mail. It has one now: another, and no more."""
    assert told(folder, "regart: backup") == ["critical"]
    assert told(folder, "regart: silent") == ["critical"]
    for minutes in (20, 30):
        night.run("nightly", PROVISION_NOW=noon(2, minutes))
        assert told(folder, "regart: backup") == ["critical", "over"]
        assert told(folder, "regart: silent") == ["critical", "over"]
    assert rows(night, "SELECT count(*) FROM incident WHERE ended_at IS NULL") == [(0,)]


def test_a_missing_night_is_seen_by_the_councils_own_monitoring(night: Town) -> None:
    """A dead scheduler cannot announce itself: status does, with nothing running."""
    assert "CRITICAL" in night.run("status", "--check", code=2, PROVISION_NOW=noon(5)).stdout
    assert "the last nightly run was on" in night.run("status", PROVISION_NOW=noon(5)).stdout


def test_one_scheduler_works_and_the_other_says_why_it_waits(night: Town) -> None:
    later = noon(5)
    ended = "SELECT count(*) FROM run WHERE kind='nightly' AND outcome IN ('well', 'failed')"
    count = rows(night, ended)[0][0]
    first = night.start("serve", PROVISION_NOW=later)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "scheduler: works\n"
        second = night.start("serve", PROVISION_NOW=later)
        assert second.stdout is not None
        waiting = second.stdout.readline()
        assert "waits" in waiting
        assert f"(process {first.pid})" in waiting
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=60) == 0
        until(lambda: rows(night, ended)[0][0] > count)
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=240) == 0
    assert rows(night, "SELECT outcome FROM run WHERE kind='scheduler' ORDER BY id DESC LIMIT 1") == [("stopped",)]
    assert rows(night, ended)[0][0] == count + 1  # three nights were missed, one run makes up for them


def test_a_frozen_site_with_nothing_under_way_is_told_and_thawed(night: Town) -> None:
    path = "/run/sites/kayane/1/frozen"
    uid = (night.data_root / "run/sites/kayane/1").stat().st_uid
    ticker = f"{night.namespace}.cron"
    subprocess.run(["docker", "exec", "-u", str(uid), ticker, "touch", path], check=True)
    assert "refuses writes (frozen)" in night.run("status").stdout
    night.run("doctor", "--fix", code=None)
    assert "refuses writes (frozen)" not in night.run("status").stdout


def test_a_certificate_near_its_end_is_told(night: Town) -> None:
    late = noon(387)
    said = night.run("status", PROVISION_NOW=late).stdout
    assert "the certificate of edge.assos.localhost ends on" in said


def test_the_jobs_are_listed(night: Town) -> None:
    assert {job["name"] for job in night.json("serve", "--jobs")} >= {"backup", "watch", "mail", "digest"}


@pytest.mark.acceptance
def test_a_night_of_twenty_sites(empty_town: Town) -> None:
    """One broken, one whose target is down, no mail server, and a night missed before: all else is done, told once."""
    twenty = [f"site{number:02}" for number in range(20)]
    ill, unreachable = twenty[7], twenty[13]
    town, folder = empty_town, empty_town.state / "mail"
    town.init()
    town.create(*twenty)
    assert run_json(town, 0)["outcome"] == "well"
    began = time.monotonic()
    with no_mail_server(town), broken(town, ill), target_down(town, unreachable):
        said = run_json(town, 3, PROVISION_NOW=noon(2))
        again = run_json(town, 3, PROVISION_NOW=noon(2, 10))
    print(f"both nights over 20 sites took {time.monotonic() - began:.0f} s")
    saved = {one["subject"]: one["exit_code"] == 0 for one in jobs(said)["backup"]}
    assert [slug for slug in twenty if not saved[slug]] == [ill, unreachable]
    assert {one["subject"] for one in jobs(again)["backup"]} & set(twenty) == {ill, unreachable}
    checked = {one["subject"] for one in jobs(said)["check"] if one["exit_code"] == 0}
    assert {slug for slug in twenty if slug not in (ill, unreachable)} <= checked
    assert jobs(said)["mail"][0]["exit_code"] == 3
    assert rows(town, "SELECT count(*) FROM mail WHERE kind='nightly'") == [(2,)]  # one summary of each run
    for minutes in (20, 30):
        assert run_json(town, 0, PROVISION_NOW=noon(2, minutes))["outcome"] == "well"
        for slug in (ill, unreachable):
            assert told(folder, f"{slug}: backup") == ["critical", "over"]
    assert {kind for (kind,) in rows(town, "SELECT subject FROM incident WHERE alarm='backup'")} == {ill, unreachable}
    assert rows(town, "SELECT count(*) FROM incident WHERE ended_at IS NULL") == [(0,)]
