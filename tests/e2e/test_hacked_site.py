"""What a hacked site once got through the hosting's own hands: each trick that worked, and works no more (S1 to S12).

Each test plants by an attacker's means alone (tests/support/hostile_site.py), lets an operator do something ordinary,
and looks whether the attacker got anything. The whole of tricks and operations is in test_hostile_site.py.
"""

import itertools
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner.keys import Keys
from tests.support import hostile_site
from tests.support.derived import rebuild
from tests.support.hostile_site import CONTENT, HostileSite, plant
from tests.support.town import Town

NEIGHBOUR = "neighbour"
SECONDS = 60  # for a command on a small site, whatever the site does
MEMORY_MB, PROCESSES, CPUS = 384, 60, 1.0  # of a site, as the inventory has it by default


@dataclass(frozen=True)
class Beside:
    """A town with a neighbour that has something to lose."""

    town: Town
    canary: str
    outside: Path  # a file of the host that is none of the installation's

    def hacked(self, *tricks: str) -> HostileSite:
        """Return a site that was just hacked."""
        slug = f"hacked-{next(_numbers)}"
        self.town.create(slug)
        site = HostileSite(self.town, slug, NEIGHBOUR)
        plant(site, tricks) if tricks else None
        return site

    def neighbour_title(self) -> str:
        return self.town.sql(f"SELECT post_title FROM {NEIGHBOUR}_1.wp_posts WHERE post_name = 'adherer'").strip()


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def beside(town: Town) -> Iterator[Beside]:
    """A neighbour with an upload, and a file of the host that every user may read."""
    town.create(NEIGHBOUR)
    canary = f"canary-{secrets.token_hex(12)}"
    HostileSite(town, NEIGHBOUR, "").write("uploads/canary.txt", canary)
    outside = Path(f"/srv/canary-{town.namespace}")
    outside.mkdir()
    (outside / "file").write_text(canary)
    try:
        yield Beside(town, canary, outside / "file")
    finally:
        shutil.rmtree(outside)


def ends(town: Town, *arguments: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a command that must end in time, well or not, and say in one line what it met."""
    process = town.start(*arguments)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"{' '.join(arguments)} hangs: it did not end within {seconds:.0f} s") from None
    assert "Traceback" not in errors, errors[-2000:]
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


# S1: what the database's administrator reads


@pytest.mark.parametrize("command", [("backup",), ("export",)], ids="-".join)
def test_a_view_gets_nothing_by_being_read(beside: Beside, command: tuple[str, ...]) -> None:
    site = beside.hacked("functions_behind_names", "a_view_for_attachments")
    title = beside.neighbour_title()
    ends(beside.town, *command, site.slug)
    assert site.rows("SELECT what FROM loot") == []
    assert beside.neighbour_title() == title


# S2: what is mounted


def test_a_link_mounts_nothing_of_the_host(beside: Beside) -> None:
    site = beside.hacked("drop_ins", "links_at_mounted_places")
    hostile_site.want(site, [str(beside.outside), "/etc/machine-id"])
    ends(beside.town, "status", site.slug)
    heard = site.heard()
    assert heard  # the drop-ins ran in what looked at the site
    assert [one["read"] for one in heard if beside.canary in str(one["read"])] == []
    assert [one["host"] for one in heard if "host" in one] == []
    beside.town.docker().containers.get(site.container).restart(timeout=3)
    assert site.shell('cat "/srv/languages/plugins$1" "/srv/languages/themes$1"', str(beside.outside)).stdout == ""


# S3: names that are options


def test_a_table_named_as_an_option_is_a_table(beside: Beside) -> None:
    site = beside.hacked()
    site.must(f'mkdir -p "{CONTENT}/plugins/out"; chmod 777 "{CONTENT}/plugins/out"')
    written = "--result-file=/site/generations/1/content/plugins/out/x"
    hostile_site.tables(site, names := [*hostile_site.OPTIONS, written])
    rebuild(beside.town, "6.8")
    done = ends(beside.town, "upgrade", site.slug, "--yes", seconds=180)
    assert not (site.directory / "generations/1/content/plugins/out/x").exists()
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.number == 2
    found = {name for (name,) in site.rows("SELECT table_name FROM information_schema.tables")}
    assert set(names) <= found


# S6: programs beside the site


def test_what_runs_beside_a_site_has_the_sites_limits(beside: Beside) -> None:
    site = beside.hacked("drop_ins")
    ends(beside.town, "status", site.slug)
    ends(beside.town, "agreement", "sign", site.slug, "--on", "2026-01-02")
    heard = site.heard()
    assert heard
    for one in heard:
        what = f"{one['argv']}: { ({key: one[key] for key in ('pids', 'memory', 'quota', 'programs')}) }"
        assert one["pids"] == str(PROCESSES), what
        assert one["memory"] == str(MEMORY_MB << 20), what
        assert one["quota"].split()[0] not in ("max", "-1"), what
        assert one["programs"] == [], what
        assert not one["root"], what
        assert int(one["capabilities"], 16) == 0


# S8: what never ends


def test_a_fifo_among_plugins_holds_nobody(beside: Beside) -> None:
    site = beside.hacked()
    beside.town.run("backup", site.slug)
    plant(site, ["other_kinds_of_files"])
    ends(beside.town, "restore", site.slug, "--after-intrusion", "--dry-run")


def test_a_held_lock_holds_nobody(beside: Beside) -> None:
    site = beside.hacked("a_lock_that_is_held")
    # The server lets nobody wait for a lock longer than a minute (templates/images/database/mariadb.cnf).
    assert ends(beside.town, "backup", site.slug, seconds=240).returncode != 0


@pytest.mark.parametrize(
    "piece",
    ["<a b='", *(pytest.param(one, marks=pytest.mark.acceptance) for one in ("<script>", "<!--", "<style>url("))],
)
def test_markup_that_begins_and_never_ends_holds_nobody(beside: Beside, piece: str, tmp_path: Path) -> None:
    site = beside.hacked()
    text = piece.replace("'", "''")
    site.must_sql(
        f"UPDATE wp_posts SET post_content = REPEAT('{text}', {1_500_000 // len(piece)}) "
        "WHERE post_type = 'page' AND post_status = 'publish' LIMIT 1"
    )
    done = ends(beside.town, "export", site.slug, "--to", str(tmp_path))
    assert done.returncode == 0, done.stderr


# S10: disks, directories, sockets, cookies


def test_a_sparse_file_stays_sparse(beside: Beside) -> None:
    site = beside.hacked("sparse_files")
    beside.town.run("backup", site.slug)
    beside.town.run("restore", site.slug, "--yes")
    restored = (site.media / "sparse.bin").stat()
    assert site.number == 2
    assert restored.st_size == hostile_site.SPARSE_BYTES
    assert restored.st_blocks * 512 < 16 << 20


def test_a_racer_plants_nothing_where_root_writes(beside: Beside) -> None:
    """Files are restored one by one while their directory and a link to the site's secrets take turns."""
    site = beside.hacked()
    site.must('cd "$1/plugins"; mkdir -p swapped; echo x > swapped/planted', CONTENT)
    beside.town.run("backup", site.slug)
    site.must(
        'rm -rf "$1/plugins/swapped"; mkdir -p "$1/plugins/swapped"; ln -sfn /site/secrets "$1/plugins/out"', CONTENT
    )
    secrets_before = sorted(path.name for path in (site.directory / "secrets").iterdir())
    site.race(f"{CONTENT}/plugins/swapped", f"{CONTENT}/plugins/out")
    for place in ("/site/secrets", "/directory/secrets"):  # where one-shots saw it, and where they see it now
        site.must('ln -sfn "$2" "$1/plugins/out"', CONTENT, place)
        for _ in range(3):
            ends(beside.town, "restore", site.slug, "--files", "plugins/swapped")
            assert sorted(path.name for path in (site.directory / "secrets").iterdir()) == secrets_before
    site.end_races()


def test_a_socket_that_is_a_link_shows_no_neighbour(beside: Beside) -> None:
    site = beside.hacked()
    assert beside.town.get(NEIGHBOUR, "/wp-content/uploads/canary.txt").data.decode() == beside.canary
    for target in (f"../../{NEIGHBOUR}/current/http.sock", f"/run/sites/{NEIGHBOUR}/1/http.sock"):
        hostile_site.socket_to(site, target)
        answer = beside.town.get(site.slug, "/wp-content/uploads/canary.txt")
        assert beside.canary not in answer.data.decode(errors="replace")


def test_a_cookie_stays_with_its_site(beside: Beside) -> None:
    site = beside.hacked("hostile_pages")
    answer = beside.town.get(site.slug)
    cookies = answer.headers.getlist("Set-Cookie")
    assert len(cookies) >= 2
    assert [one for one in cookies if "domain" in one.lower()] == []
    assert answer.headers.getlist("X-Frame-Options") == ["SAMEORIGIN"]


# S12: what restic reads


def searched(town: Town, slug: str, words: list[str]) -> list[str]:
    """Return which of ``words`` stand in any snapshot of a site."""
    folder = town.folder / "backups" / slug
    image = town.docker().images.list(name="provision/agent")[0].id or ""
    script = """
    open="restic -r /r --no-cache --no-lock"
    for snapshot in $($open snapshots --json | grep -o '"short_id":"[0-9a-f]*' | cut -d'"' -f4)
    do $open restore "$snapshot" --sparse --target "/out/$snapshot" >/dev/null 2>&1; done
    test -d /out && grep -rhaoF -D skip -f /words /out | sort -u
    """
    listed = town.folder / "words"
    listed.write_text("\n".join(words) + "\n")
    command = [
        "docker", "run", "--rm", "--network", "none", "-e", "RESTIC_PASSWORD", "-v", f"{folder}:/r:ro",
        "-v", f"{listed}:/words:ro", "--entrypoint", "bash", image, "-c", script,
    ]  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", "RESTIC_PASSWORD": Keys(town.state).repository(slug)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()


@pytest.mark.parametrize("snapshots", [3, pytest.param(8, marks=pytest.mark.acceptance)])
def test_no_snapshot_holds_the_key_of_its_repository(beside: Beside, snapshots: int) -> None:
    site = beside.hacked("a_racer_among_uploads", "a_racer_among_plugins")
    for _ in range(snapshots):
        ends(beside.town, "backup", site.slug)
    site.end_races()
    found = searched(beside.town, site.slug, [Keys(beside.town.state).repository(site.slug), "wp_options"])
    assert "wp_options" in found  # it was looked for where there is something
    assert Keys(beside.town.state).repository(site.slug) not in found
