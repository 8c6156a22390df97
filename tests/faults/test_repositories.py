"""What goes wrong with repositories: codes, locks, clocks, rot, a bad night; no good snapshot is ever touched."""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provisioner.keys import Keys
from tests.support.commands import Command
from tests.support.damage import corrupt
from tests.support.town import CHECKOUT, Town

SITE, BROKEN, FULL, AWAY = "kayane", "broken", "full", "away"
# The real restic, but its exit code is what a file says for one of its verbs: in the repository's directory, or beside
# the database server's socket where the repository is behind a relay.
RESTIC = """#!/bin/sh
/usr/bin/restic "$@"
code=$?
for place in /repository /run/mysqld; do
    if read -r verb pretended 2>/dev/null <"$place/pretended-restic"; then
        case " $* " in *" $verb "*) exit "$pretended" ;; esac
    fi
done
exit "$code"
"""
# The real mariadb-dump, but a file beside the server's socket may name what filters its output.
DUMP = """#!/bin/sh
[ -e /run/mysqld/pretend ] || exec /usr/bin/mariadb-dump "$@"
/usr/bin/mariadb-dump "$@" | sh /run/mysqld/pretend
"""
# Leaves the lock of a process that died.
DIE_LOCKED = """
restic prune >/dev/null 2>&1 & pid=$!
locked() { ls /repository/locks | grep -v -e -tmp- | grep -q .; }  # written whole, under the name that counts
until locked; do kill -0 $pid; sleep 0.02; done
kill -9 $pid; wait $pid || true
locked
"""


@pytest.fixture(scope="module")
def night(town: Town) -> Town:
    """A town whose sites were backed up."""
    town.create(SITE, BROKEN, FULL, AWAY)
    assert {one["exit_code"] for one in town.json("backup", "--all")} == {0}
    return town


def repository(town: Town, slug: str = SITE) -> Path:
    """Return the directory of a repository."""
    return town.folder / "backups" / slug


def in_repository(town: Town, script: str, hostname: str = "test", slug: str = SITE) -> str:
    """Run a script beside `provision`, with restic set up for a repository."""
    image = town.docker().images.list(name="provision/agent")[0].id or ""
    command = ["docker", "run", "--rm", "--network", "none", "--hostname", hostname, "-e", "RESTIC_PASSWORD"]
    command += ["-e", "RESTIC_REPOSITORY=/repository", "-v", f"{repository(town, slug)}:/repository"]
    return subprocess.run(
        [*command, "--entrypoint", "sh", image, "-ec", script],
        env={**os.environ, "RESTIC_PASSWORD": Keys(town.state).repository(slug)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def snapshots(town: Town, slug: str = SITE) -> list[str]:
    """Return the ids of the snapshots that a repository holds."""
    return [one["snapshot"] for one in town.json("status", slug, "--snapshots")]


def taken(town: Town) -> int:
    """Return how many snapshots of the site are on record as taken."""
    return [event["kind"] for event in town.json("log", SITE, "-n", "10000")].count("snapshot taken")


def failed(town: Town, *arguments: str, code: int = 1, **environment: str) -> dict[str, Any]:
    """Run a command that fails for one site; return what it says of it."""
    outcome = json.loads(town.run(*arguments, "--json", code=code, **environment).stdout)[0]
    assert outcome["exit_code"] == code
    return dict(outcome)


@pytest.fixture(scope="module")
def pretending(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this very program with an image whose restic and mariadb-dump may pretend."""
    copy = tmp_path_factory.mktemp("program")
    for folder in ("provisioner", "templates", "conventions"):
        shutil.copytree(CHECKOUT / folder, copy / folder)
    image = copy / "templates" / "images" / "agent"
    for name, script in (("restic", RESTIC), ("mariadb-dump", DUMP)):
        (image / name).write_text(script)
        (image / name).chmod(0o755)
    with (image / "Dockerfile").open("a") as file:
        file.write("COPY restic mariadb-dump /usr/local/bin/\n")
    return copy


# A stand-in for restic, for the agent alone: it takes a snapshot, ends with a code from a file, notes what it is told.
STAND_IN = """#!/bin/sh
echo "$*" >>/tmp/told
case " $* " in *" backup "*)
    echo '{"message_type": "summary", "snapshot_id": "feed"}'
    echo "a reason" >&2
    exit "$(cat /tmp/code)" ;;
esac
"""
# Runs in the agent's image: for each code, what became of a backup, and which snapshot was withdrawn.
EACH_CODE = """
import json, sys
from pathlib import Path
from provisioner.agent import snapshot
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Access
from provisioner.agent.repository import Repository

repository = Repository(Access(address="/repository", key="key", credentials={}))
mark = snapshot.Mark(site="kayane", namespace="test", operation=1, time="2026-01-01 00:00:00", append_only=False)
found = {}
for code in range(256):
    Path("/tmp/code").write_text(str(code))
    Path("/tmp/told").unlink(missing_ok=True)
    try:
        said = snapshot.read_into(repository, mark, Path("/site")).summary["snapshot_id"]
        ended = 0
    except Fault as fault:
        said, ended = str(fault), fault.exit_code
    withdrawn = "forget feed" in Path("/tmp/told").read_text()
    found[code] = [ended, said, withdrawn]
print(json.dumps(found))
"""


def test_no_exit_code_but_0_is_a_success_to_the_agent(night: Town, tmp_path: Path) -> None:
    """D4: whatever restic ends with, it is told, and what it may have taken is withdrawn."""
    for name, script in (("restic", STAND_IN), ("each_code.py", EACH_CODE)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    command = ["docker", "run", "--rm", "--network", "none", "-v", f"{tmp_path}:/stand-in:ro"]
    command += ["-v", f"{CHECKOUT}/provisioner/agent:/srv/provision/provisioner/agent:ro"]
    command += ["-e", "PATH=/stand-in:/usr/bin:/bin", "-e", "PYTHONPATH=/srv/provision", "--entrypoint", "python3"]
    image = night.docker().images.list(name="provision/agent")[0].id or ""
    done = subprocess.run([*command, image, "/stand-in/each_code.py"], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found.pop("0") == [0, "feed", False]
    assert len(found) == 255
    for code, (ended, said, withdrawn) in found.items():
        assert (ended, withdrawn) == (int(code), True)
        assert f"(exit code {code}): a reason" in said


@pytest.mark.parametrize(
    ("verb", "code", "arguments"), [("backup", 3, ()), ("check", 1, ("--check",)), ("prune", 3, ("--prune", "--yes"))]
)
def test_no_exit_code_but_0_is_a_success(
    night: Town, pretending: Path, verb: str, code: int, arguments: tuple[str, ...]
) -> None:
    """D4: what restic ends with is told, nothing is recorded, and the snapshots are those of before.

    This restic took its snapshot before it ended so, as the real one does that could not read every file (3).
    """
    recorded, known = taken(night), snapshots(night)
    with ending(night, verb, code):
        outcome = failed(night, "backup", SITE, *arguments, PYTHONPATH=str(pretending))
    assert f"(exit code {code})" in outcome["outcome"]
    assert taken(night) == recorded
    left = snapshots(night)
    assert left[-1] == known[-1]
    assert verb == "prune" or left == known


@contextmanager
def ending(town: Town, verb: str, code: int) -> Iterator[None]:
    """Have the restic that may pretend end with a code of our choice."""
    places = [folder / "pretended-restic" for folder in (repository(town), town.data_root / "run" / "database")]
    for place in places:
        place.write_text(f"{verb} {code}\n")
    try:
        yield
    finally:
        for place in places:
            place.unlink()


def test_a_snapshot_that_does_not_count_is_passed_over(night: Town, pretending: Path) -> None:
    """D4 where the target takes additions only: what could not be withdrawn is neither restored nor kept instead."""
    night.run("backup", SITE)
    known = snapshots(night)
    keep = {"daily": 1, "weekly": 0, "monthly": 0, "yearly": 0}
    night.write_inventory(backup={"append_only": True, "prune_target": "backups", "keep": keep})
    try:
        with ending(night, "backup", 3):
            failed(night, "backup", SITE, PYTHONPATH=str(pretending))
        listed = night.json("status", SITE, "--snapshots")
        assert [one["snapshot"] for one in listed if not one["void"]] == known
        assert [one["void"] for one in listed] == [False] * len(known) + [True] * 3
        assert night.json("restore", SITE, "--dry-run")["snapshot"] == known[-1]
        assert night.json("drill", SITE)[0]["snapshot"] == known[-1]
        night.run("backup", SITE, "--prune", "--yes")
        assert snapshots(night)[-1] == known[-1]
    finally:
        night.write_inventory()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exec head -n -1", "the dump lacks its completion line"),
        ("exec grep -v 'blogname'", "table wp_options has"),
        ("head -c 100000; exit 1", "mariadb-dump ended with exit code 1"),
    ],
)
def test_a_dump_that_lacks_something_is_no_snapshot(night: Town, pretending: Path, script: str, words: str) -> None:
    """D1: not all of the database is in what mariadb-dump wrote, though it ends with 0 or dies in the middle."""
    recorded, known = taken(night), snapshots(night)
    pretend = night.data_root / "run" / "database" / "pretend"
    pretend.write_text(script)
    try:
        assert words in failed(night, "backup", SITE, PYTHONPATH=str(pretending))["outcome"]
    finally:
        pretend.unlink()
    assert (taken(night), snapshots(night)) == (recorded, known)


def test_a_repository_that_is_gone_is_told_and_not_made_anew(night: Town) -> None:
    place = repository(night)
    aside = place.rename(place.with_name("aside"))
    try:
        outcome = failed(night, "backup", SITE)
        assert "(exit code 10)" in outcome["outcome"]
        assert "a repository is gone" in outcome["hint"]
        assert not (place / "config").exists()
    finally:
        shutil.rmtree(place)
        aside.rename(place)
    night.run("backup", SITE)


def test_a_wrong_key_is_told(night: Town) -> None:
    file = night.state / "backup.key"
    key = file.read_text()
    file.write_text("0" * 64)
    try:
        outcome = failed(night, "backup", SITE)
    finally:
        file.write_text(key)
    assert "(exit code 12)" in outcome["outcome"]
    assert "a repository does not open" in outcome["hint"]


def test_a_lost_key_is_never_replaced_by_a_new_one(night: Town) -> None:
    file = night.state / "backup.key"
    aside = file.rename(file.with_name("aside.key"))
    try:
        refused = night.run("init", code=1).stderr
        assert f"{file} is missing, and there are backups that nothing else opens" in refused
        assert not file.exists()
        assert "backup.key is missing" in night.run("backup", "--escrow", "-", code=5).stderr
    finally:
        aside.rename(file)
    assert night.get(SITE).status == 200


@pytest.mark.parametrize("arguments", [(), ("--check",), ("--prune", "--yes")])
def test_the_lock_of_a_dead_process_is_removed(night: Town, arguments: tuple[str, ...]) -> None:
    in_repository(night, DIE_LOCKED, hostname=_ours(night))
    night.run("backup", SITE, *arguments)
    assert not list((repository(night) / "locks").iterdir())


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_the_lock_of_a_stranger_stays(night: Town, arguments: tuple[str, ...]) -> None:
    """D5: another machine may be alive; whoever reads is not kept from it."""
    in_repository(night, DIE_LOCKED, hostname="elsewhere")
    try:
        outcome = failed(night, "backup", SITE, *arguments)
        assert "locked by elsewhere" in outcome["outcome"]
        assert "who may be alive" in outcome["outcome"]
        assert len(list((repository(night) / "locks").iterdir())) == 1
        assert snapshots(night)
        night.run("restore", SITE, "--dry-run")
    finally:
        in_repository(night, "restic unlock --remove-all")


def test_the_lock_of_a_process_that_runs_stays(night: Town) -> None:
    in_repository(night, DIE_LOCKED, hostname=_ours(night))
    image = night.docker().images.list(name="provision/agent")[0]
    alive = night.docker().containers.run(
        image,
        ["sleep", "600"],
        entrypoint=[],
        detach=True,
        network_mode="none",
        hostname=_ours(night),
        labels={"provision.namespace": night.namespace},
    )
    try:
        assert "who may be alive" in failed(night, "backup", SITE, "--check")["outcome"]
    finally:
        alive.remove(force=True)
    night.run("backup", SITE, "--check")


def _ours(town: Town) -> str:
    identity = hashlib.sha256(town.docker().info()["ID"].encode()).hexdigest()[:8]
    return f"{identity}-{town.namespace}-op-1-{SITE}-take"


def test_a_prune_that_is_killed_is_done_by_the_next(night: Town) -> None:
    """D6: the repository stays sound, and what counts is in it."""
    night.write_inventory(backup={"keep": {"daily": 1, "weekly": 0, "monthly": 0, "yearly": 0}})
    film = night.data_root / "sites" / SITE / "media" / "film.bin"
    try:
        for _ in range(2):
            film.write_bytes(os.urandom(40_000_000))
            night.run("backup", SITE)
        newest = snapshots(night)[-1]
        place = repository(night)
        before = {path.name for path in (place / "data").rglob("*") if path.is_file()}
        known = len(list((place / "snapshots").iterdir()))
        command = Command(night, "backup", SITE, "--prune", "--yes")
        while len(list((place / "snapshots").iterdir())) == known or not list((place / "locks").iterdir()):
            assert command.running, "it was over before it could be killed"
            time.sleep(0.01)
        (prune,) = night.docker().containers.list(filters={"name": f"{night.namespace}.backup.{SITE}.prune"})
        prune.kill()
        assert command.end().code == 1
        assert "of the data read" in night.json("backup", SITE, "--check")[0]["outcome"]
        night.run("backup", SITE, "--prune", "--yes")
    finally:
        night.write_inventory()
        film.unlink()
    assert snapshots(night) == [newest]
    assert before - {path.name for path in (place / "data").rglob("*") if path.is_file()}
    assert not list((place / "locks").iterdir())
    assert night.json("drill", SITE)[0]["outcome"] == "proven"


def test_pruning_by_a_wrong_clock_is_refused(night: Town) -> None:
    """D7: a removal of many, or one by a clock that is behind the snapshots, is refused; --yes does the former."""
    tags = f"site:{SITE},namespace:{night.namespace}"
    in_repository(
        night,
        f"for hour in 1 2 3 4 5 6 7; do restic backup -q /etc/hostname --host {SITE} --tag {tags} "
        '--time "2026-01-01 0$hour:00:00"; done',
    )
    night.run("backup", SITE)
    before = snapshots(night)
    assert "is of the future" in failed(night, "backup", SITE, "--prune", PROVISION_NOW="2020-01-01T00:00")["outcome"]
    refused = failed(night, "backup", SITE, "--prune")
    assert "more than 5 at once" in refused["outcome"]
    assert refused["hint"].endswith(f"provision backup {SITE} --prune --yes")
    assert snapshots(night) == before
    night.run("backup", SITE, "--prune", "--yes")
    after = snapshots(night)
    assert len(after) <= len(before) - 6
    assert after[-1] == before[-1]


def test_a_missed_night_and_a_missing_proof_alarm(night: Town) -> None:
    """D9: critical from 26 hours without a backup on, a warning from 35 days without a drill that went well on."""
    night.run("backup", "--all")
    night.run("backup", "--escrow", "-")

    def later(**span: float) -> tuple[int, str, list[dict[str, Any]]]:
        moment = (datetime.now(UTC) + timedelta(**span)).isoformat()
        check = night.run("status", "--check", code=None, PROVISION_NOW=moment)
        found = json.loads(night.run("status", "--json", PROVISION_NOW=moment).stdout)["attention"]
        return check.returncode, check.stdout, [one for one in found if one["pressing"]]

    assert later(hours=25) == (0, "PROVISION OK - 4 sites, 0 critical, 0 warnings\n", [])
    code, line, found = later(hours=27)
    assert code == 2
    assert line.startswith("PROVISION CRITICAL - 4 sites, 6 critical")
    assert {one["subject"] for one in found} == {SITE, BROKEN, FULL, AWAY, "control-plane", "nightly"}
    assert f"provision backup {SITE}" in [one["command"] for one in found]

    night.run("drill", SITE)
    proven = datetime.fromisoformat(night.json("status", SITE)["last_drill"])
    assert timedelta(0) <= datetime.now(UTC) - proven < timedelta(minutes=10)
    unproven = {one["subject"] for one in later(days=36)[2] if one["command"].startswith("provision drill")}
    assert unproven == {SITE, BROKEN, FULL, AWAY}
    night.run("drill", SITE, PROVISION_NOW=(datetime.now(UTC) + timedelta(days=20)).isoformat())
    unproven = {one["subject"] for one in later(days=36)[2] if one["command"].startswith("provision drill")}
    assert unproven == {BROKEN, FULL, AWAY}


def test_bit_rot_is_found_and_told_until_it_is_mended(night: Town) -> None:
    """D10: one byte of a pack; the night on which its part is read finds it, and status alarms until it is mended."""
    pack = max((repository(night, BROKEN) / "data").glob("*/*"), key=lambda path: path.stat().st_size)
    content = pack.read_bytes()
    pack.chmod(0o600)
    middle = len(content) // 2
    bucket = bytes.fromhex(pack.name)[0] % 30  # restic's own rule for --read-data-subset=N/30
    today = datetime.now(UTC)
    day = next(day for n in range(30) if (day := today + timedelta(days=n)).date().toordinal() % 30 == bucket)
    noon = day.replace(hour=12).isoformat()
    night.run("backup", BROKEN, "--check", PROVISION_NOW=noon)
    pack.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        assert "restic check failed" in failed(night, "backup", BROKEN, "--check", PROVISION_NOW=noon)["outcome"]
        damaged = [one for one in night.json("status")["attention"] if "found damaged" in one["what"]]
        assert [(one["subject"], one["critical"]) for one in damaged] == [(BROKEN, True)]
    finally:
        pack.write_bytes(content)
    night.run("backup", BROKEN, "--check")  # on any other day: what was bad is read first
    assert "found damaged" not in night.run("status").stdout


def test_a_snapshot_of_another_site_is_refused(night: Town) -> None:
    """D12: neither by its id, which this repository does not hold, nor when it lies in this repository."""
    other = snapshots(night, AWAY)[-1]
    refused = night.run("restore", SITE, "--snapshot", other, code=2).stderr
    assert "there is no snapshot" in refused
    tags = f"site:{SITE},namespace:{night.namespace}"
    in_repository(
        night,
        f'restic dump latest /site/manifest.json | sed \'s/"site": "{SITE}"/"site": "{AWAY}"/\' '
        f">/site/manifest.json; restic backup -q /site --host x --tag {tags}",
    )
    try:
        assert f"is of site '{AWAY}', not of '{SITE}'" in night.run("restore", SITE, "--yes", code=2).stderr
        assert night.run("drill", SITE, code=2)
    finally:
        in_repository(night, "restic forget -q --host x latest")
    assert night.get(SITE).status == 200


# What is missing in a snapshot that is otherwise like any other, and what the comparison says of it.
LACKING = {
    "a table's rows": ("sed -i '/^INSERT INTO `wp_posts`/,/;$/d' site/database.sql", "rows of wp_posts: 0 instead of"),
    "all rows": ("sed -i '/^INSERT INTO/,/;$/d' site/database.sql", "rows of wp_"),
    "a view": ("sed -i 's/wp_seen/wp_other/g' site/database.sql", "views: ['wp_other'] instead of ['wp_seen']"),
    "the uploads": ("rm -r site/wp-content/uploads", "files: "),
    "a file": ("rm site/wp-content/themes/twentytwentyfive/style.css", "files: "),
    "a byte": ("printf x >>site/wp-content/themes/twentytwentyfive/style.css", "bytes: "),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_what_a_snapshot_lacks_fails_its_drill(night: Town, lacking: str) -> None:
    """D13: "restored", but not what the manifest says: no proof, and nothing of it stays."""
    script, words = LACKING[lacking]
    night.sql(f"CREATE OR REPLACE VIEW {SITE}_1.wp_seen AS SELECT ID FROM {SITE}_1.wp_posts")
    (night.data_root / "sites" / SITE / "media" / "photo.jpg").write_bytes(b"photo")
    night.run("backup", SITE)
    before, proven = night.belongings(), night.json("status", SITE)["last_drill"]
    in_repository(
        night,
        f"mkdir /tmp/out; restic restore -q latest --target /tmp/out; cd /tmp/out; {script}; "
        f"mv site/* /site; restic backup -q /site --host x --tag site:{SITE},namespace:{night.namespace}",
    )
    try:
        said = failed(night, "drill", SITE)["outcome"]
    finally:
        in_repository(night, "restic forget -q --host x latest")
    assert "what was restored is not the snapshot" in said
    assert words in said
    assert night.belongings() == before
    assert night.json("status", SITE)["last_drill"] == proven


def test_a_night_on_which_much_goes_wrong(night: Town) -> None:
    """D3, D16: one site is corrupt, one repository full, one target unreachable: the others are saved, all is told."""
    before = {slug: snapshots(night, slug) for slug in (SITE, BROKEN, FULL, AWAY)}
    with corrupt(night, BROKEN), full(night), unreachable(night):
        said = night.run("backup", "--all", code=1)
        answer = json.loads(night.run("backup", "--all", "--json", code=1).stdout)
    assert "Traceback" not in said.stdout
    assert 'File "' not in said.stdout
    assert said.stdout.splitlines()[-1] == f"2 of 5 well; failed: {AWAY}, {BROKEN}, {FULL}"
    outcomes = {one["slug"]: one for one in answer}
    assert {slug for slug, one in outcomes.items() if one["exit_code"] == 0} == {SITE, "control-plane"}
    assert "wp_broken" in outcomes[BROKEN]["outcome"]
    assert "no space left" in outcomes[FULL]["outcome"]
    assert str(repository(night, AWAY)) in outcomes[AWAY]["outcome"]
    after = {slug: snapshots(night, slug) for slug in before}
    assert len(after[SITE]) == len(before[SITE]) + 2
    assert {slug: after[slug] for slug in (BROKEN, FULL, AWAY)} == {slug: before[slug] for slug in (BROKEN, FULL, AWAY)}
    assert not [one for one in night.json("status")["attention"] if "interrupted" in one["what"]]
    for slug in before:
        assert night.get(slug).status == 200
    assert {one["exit_code"] for one in night.json("backup", "--all")} == {0}


@contextmanager
def full(town: Town) -> Iterator[None]:
    """Put a repository on a file system without space."""
    place = repository(town, FULL)
    size = sum(path.stat().st_blocks * 512 for path in place.rglob("*"))
    aside = place.rename(place.with_name("full-aside"))
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size + 64 * 1024}", "none", str(place)], check=True)
    try:
        shutil.copytree(aside, place, dirs_exist_ok=True)
        with (place / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 4096)
            except OSError:
                pass
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()
        aside.rename(place)


@contextmanager
def unreachable(town: Town) -> Iterator[None]:
    """Put a file where the directory of a repository was."""
    place = repository(town, AWAY)
    aside = place.rename(place.with_name("away-aside"))
    place.write_text("not a directory\n")
    try:
        yield
    finally:
        place.unlink()
        aside.rename(place)
