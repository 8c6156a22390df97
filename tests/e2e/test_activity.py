"""The log of each site's log-ins and publications, and the edge's access log: kept out of every site's reach.

The intruder has the site's own user and a shell in the site's own container, as in test_isolation.
"""

import base64
import gzip
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3
import yaml

from provisioner.errors import ProvisionError
from provisioner.installation import Installation
from provisioner.operations import logs
from tests.support.inside import container, php, shell
from tests.support.town import Town

PASSWORD = "un mot de passe de test"
DAY_BYTES = 1 << 20
TELL = """
$door = stream_socket_client('udg:///run/activity/in.sock');
foreach ($given['lines'] as $line) { fwrite($door, $line); }
echo 'true';
"""
FLOOD = """
$door = stream_socket_client('udg:///run/activity/in.sock');
$end = microtime(true) + $given['seconds'];
for ($n = 0; microtime(true) < $end; $n++) { fwrite($door, $given['line']); }
echo $n;
"""


@pytest.fixture(scope="module")
def watched(town: Town) -> Town:
    """A town with two sites, whose administrators have a password."""
    town.create("kayane", "regart")
    for slug in ("kayane", "regart"):
        php(
            town,
            slug,
            'require "/srv/wordpress/wp-load.php"; wp_set_password($given["password"], 1); echo "true";',
            password=PASSWORD,
        )
    return town


def told(town: Town, slug: str) -> list[dict[str, str]]:
    """Return all that a site told."""
    entries: list[dict[str, str]] = town.json("log", slug, "--site", "-n", "1000000")
    return entries


def raw(town: Town, slug: str) -> Path:
    """Return today's file of a site."""
    return town.data_root / "logs/sites" / slug / f"activity-{datetime.now(UTC):%Y-%m-%d}.jsonl"


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def send(town: Town, slug: str, method: str, path: str, body: Any = None, **headers: str) -> urllib3.BaseHTTPResponse:
    """Send a form, or JSON to the REST API as the site's first administrator."""
    if path.startswith("/wp-json"):
        headers["Content-Type"] = "application/json"
        return town.request(method, f"{slug}.assos.localhost", path, headers, json.dumps(body or {}).encode())
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return town.request(method, f"{slug}.assos.localhost", path, headers, urlencode(body or {}).encode())


def log_in(town: Town, slug: str, name: str = "presidence", password: str = PASSWORD) -> urllib3.BaseHTTPResponse:
    """Log in by the form, as a person does."""
    form = {"log": name, "pwd": password, "testcookie": "1"}
    return send(town, slug, "POST", "/wp-login.php", form, Cookie="wordpress_test_cookie=WP%20Cookie%20check")


def test_what_people_do_is_recorded_and_what_they_write_is_not(watched: Town) -> None:
    made = told(watched, "kayane")  # while it was created, by nobody of the association
    assert ("user_created", "", "secretariat") in [(one["event"], one["user"], one["object"]) for one in made]
    before = len(made)
    assert log_in(watched, "kayane", password="faux").status == 200
    assert log_in(watched, "kayane", name=PASSWORD).status == 200  # typed where the name belongs
    answer = log_in(watched, "kayane")
    assert answer.status == 302
    cookies = "; ".join(value.partition(";")[0] for value in answer.headers.getlist("Set-Cookie"))
    profile = watched.get("kayane", "/wp-admin/profile.php", Cookie=cookies).data.decode()
    nonce = re.search(r"action=logout&#038;_wpnonce=(\w+)", profile) or re.search(
        r"action=logout&amp;_wpnonce=(\w+)", profile
    )
    assert nonce, profile[:500]
    assert watched.get("kayane", f"/wp-login.php?action=logout&_wpnonce={nonce[1]}", Cookie=cookies).status == 302
    key = php(
        watched,
        "kayane",
        'require "/srv/wordpress/wp-load.php";'
        'echo json_encode(WP_Application_Passwords::create_new_application_password(1, ["name" => "Agenda"])[0]);',
    )
    basic = {"Authorization": "Basic " + base64.b64encode(f"presidence:{key}".encode()).decode()}
    (watched.data_root / "sites/kayane/generations/1/content/plugins/essai.php").write_text(
        "<?php /* Plugin Name: Essai */"
    )

    def ask(method: str, path: str, **body: Any) -> Any:
        answer = send(watched, "kayane", method, f"/wp-json/wp/v2/{path}", body, **basic)
        assert answer.status in (200, 201), answer.data.decode()
        return json.loads(answer.data)

    post = ask("POST", "posts", title="Un titre confidentiel", content="Un texte confidentiel", status="publish")["id"]
    ask("POST", f"posts/{post}", status="draft")
    ask("DELETE", f"posts/{post}?force=true")
    person = {"username": "tresorerie", "email": "t@example.org", "password": PASSWORD, "roles": ["author"]}
    user = ask("POST", "users", **person)["id"]
    ask("POST", f"users/{user}", roles=["editor"])
    ask("DELETE", f"users/{user}?force=true&reassign=1")
    for status in ("active", "inactive"):
        ask("POST", "plugins/essai", status=status)

    seen = told(watched, "kayane")[before:]
    events = [(one["event"], one["user"], one["object"]) for one in seen]
    wanted = [
        ("login_failed", "presidence", ""),
        ("login_failed", "", "no such account"),
        ("login", "presidence", ""),
        ("logout", "presidence", ""),
        ("application_password_created", "", "presidence: Agenda"),
        ("application_password_used", "presidence", "Agenda"),
        ("published", "presidence", f"post {post}"),
        ("unpublished", "presidence", f"post {post}"),
        ("deleted", "presidence", f"post {post}"),
        ("user_created", "presidence", "tresorerie"),
        ("role_changed", "presidence", "tresorerie: author"),
        ("role_changed", "presidence", "tresorerie: editor"),
        ("user_deleted", "presidence", "tresorerie"),
        ("plugin_activated", "presidence", "essai.php"),
        ("plugin_deactivated", "presidence", "essai.php"),
    ]
    places = [events.index(one) for one in wanted]
    assert places == sorted(places), events
    now = datetime.now(UTC)
    assert all(abs(now - datetime.fromisoformat(one["at"])) < timedelta(minutes=10) for one in seen)
    written = raw(watched, "kayane").read_text()
    assert PASSWORD not in written
    assert key not in written
    assert "confidentiel" not in written
    assert "presidence  published  post" in watched.run("log", "kayane", "--site").stdout


def test_an_intruder_can_neither_read_nor_alter_nor_forge(watched: Town) -> None:
    """Each refusal stands beside what works: telling."""
    neighbour = raw(watched, "regart").read_bytes()
    before = raw(watched, "kayane").read_bytes()
    running = watched.docker().containers.get(f"{watched.namespace}.recorder").attrs["State"]["StartedAt"]
    attempts = """
    cd /run/activity
    echo x > x; rm -f in.sock; mv in.sock y; ln -s /etc/passwd z; chmod 0777 .; cat in.sock; umount /run/activity
    ls -A
    """
    assert shell(watched, "kayane", attempts).stdout.split() == ["in.sock"]
    found = shell(watched, "kayane", "find / -name 'activity-*' -o -name '*.jsonl' 2>/dev/null; ls -A /run/activity/..")
    assert "activity-20" not in found.stdout
    assert "jsonl" not in found.stdout
    forged = {"event": "login", "user": "presidence", "object": "../regart", "site": "regart", "at": "2020-01-01"}
    escape = {"event": "published", "user": "\x1b[2J\u202e\n" + "u" * 500, "object": ["no", "text"]}
    nothing: list[Any] = [{"event": "x" * 41}, {"event": "../x"}, {"event": 1}, [], 7, None, {"user": "presidence"}]
    lines = [*map(json.dumps, [forged, escape, *nothing]), "[" * 4000, "no json", "", '{"event":"' + "x" * 6000]
    assert php(watched, "kayane", TELL, lines=lines) is True
    until(lambda: len(raw(watched, "kayane").read_bytes().splitlines()) >= len(before.splitlines()) + 2)
    assert php(watched, "kayane", TELL, lines=['{"event":"still_heard"}']) is True
    until(lambda: told(watched, "kayane")[-1]["event"] == "still_heard")
    after = raw(watched, "kayane").read_bytes()
    assert after.startswith(before)
    first, second, last = (json.loads(line) for line in after[len(before) :].splitlines())
    assert (first["event"], first["user"], first["object"]) == ("login", "presidence", "../regart")
    assert first["at"][:10] == f"{datetime.now(UTC):%Y-%m-%d}"
    assert (second["event"], second["user"], second["object"]) == ("published", "[2J" + "u" * 57, "")
    assert last["event"] == "still_heard"
    assert raw(watched, "regart").read_bytes() == neighbour
    assert watched.docker().containers.get(f"{watched.namespace}.recorder").attrs["State"]["StartedAt"] == running
    # Other users of the host stay out as well; the recorder finds the sites' doors by its group.
    for path, others in ((watched.data_root / "logs", 0o077), (watched.data_root / "run/activity", 0o027)):
        assert path.stat().st_mode & others == 0


def test_the_recorder_dies_and_the_sites_go_on(watched: Town) -> None:
    recorder = watched.docker().containers.get(f"{watched.namespace}.recorder")
    before = recorder.attrs["State"]["StartedAt"]
    os.kill(recorder.attrs["State"]["Pid"], signal.SIGKILL)
    assert log_in(watched, "regart").status == 302

    def lives_again() -> bool:
        recorder.reload()
        state = recorder.attrs["State"]
        return bool(state["Running"] and state["StartedAt"] != before)

    until(lives_again)
    count = len(told(watched, "regart"))
    until(lambda: log_in(watched, "regart").status == 302 and len(told(watched, "regart")) > count)

    recorder.stop(timeout=5)
    assert log_in(watched, "regart").status == 302
    assert told(watched, "regart")[-1]["event"] == "login"  # what was recorded can be read
    assert f"{recorder.name} does not run" in watched.run("doctor", code=3).stdout
    assert f"{recorder.name} does not run" in watched.run("status").stdout
    watched.run("status", "--check", code=2)
    assert watched.run("doctor", "--fix").stdout.startswith("all is well")
    recorder.reload()
    assert recorder.attrs["State"]["Running"]


def test_a_site_from_before_the_recorder_is_heard_after_an_init(watched: Town) -> None:
    """Its container and the edge's are made anew, as doctor asks, with the directories that init made."""
    client = watched.docker()
    sites = (container(watched, slug) for slug in ("kayane", "regart"))
    for name in (f"{watched.namespace}.recorder", f"{watched.namespace}.edge", *sites):
        client.containers.get(name).remove(force=True)
    subprocess.run(["rm", "-r", watched.data_root / "run/activity", watched.data_root / "logs/edge"], check=True)
    watched.init()
    assert watched.run("doctor", "--fix").stdout.startswith("all is well")
    count = len(told(watched, "regart"))
    assert log_in(watched, "regart").status == 302
    until(lambda: [one["event"] for one in told(watched, "regart")[count:]] == ["login"])


def test_visits_are_logged_by_day_and_without_keys(watched: Town) -> None:
    assert watched.get("regart", "/wp-login.php?action=rp&key=UneCleSecrete&login=x").status in (200, 302)
    watched.get("regart", "/" + "a" * 3000)
    assert watched.get("nobody", "/").status == 404
    path = watched.data_root / "logs/edge" / f"access-{datetime.now(UTC):%Y-%m-%d}.log"
    until(lambda: " nobody.assos.localhost " in path.read_text())
    lines = path.read_text().splitlines()
    assert any(
        re.match(r'127\.0\.0\.1 regart\.assos\.localhost \[[^]]+\] "GET /wp-login\.php" \d+ ', one) for one in lines
    )
    assert "UneCleSecrete" not in path.read_text()
    assert max(map(len, lines)) < 700
    assert path.parent.stat().st_mode & 0o077 == 0


def day_file(folder: Path, kind: str, day: date, text: str) -> Path:
    """Write a log of a past day as it lay there since."""
    path = folder / f"{kind}-{day}.{'jsonl' if kind == 'activity' else 'log'}"
    path.write_text(text)
    written = datetime(day.year, day.month, day.day, 23, tzinfo=UTC).timestamp()
    os.utime(path, (written, written))
    return path


def days(folder: Path, kind: str) -> set[date]:
    found = (re.fullmatch(rf"{kind}-([0-9-]{{10}})\.\w+(\.gz)?", path.name) for path in folder.iterdir())
    return {date.fromisoformat(one[1]) for one in found if one}


def test_logs_are_kept_as_long_as_the_policy_says(watched: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock some days ahead: 400 days of both logs lie there, of a site that tells nothing any more as well."""
    today = datetime.now(UTC).date()
    site, edge = watched.data_root / "logs/sites/ancienne", watched.data_root / "logs/edge"
    site.mkdir()
    for back in range(1, 401):
        day = today - timedelta(days=back)
        entry = {"at": f"{day}T12:00:00Z", "event": "login", "user": "presidence", "object": ""}
        day_file(site, "activity", day, json.dumps(entry) + "\n")
        day_file(edge, "access", day, "a visit\n")
    written_now = days(edge, "access") - {today - timedelta(days=back) for back in range(1, 401)}

    def tidy(ahead: int, inventory: Path = watched.inventory) -> str:
        monkeypatch.setenv("PROVISION_NOW", f"{today + timedelta(days=ahead)}T12:00")
        return logs.tidy(Installation.open(inventory), "local").outcome

    assert tidy(10).startswith("800 compressed, 90 dropped, ")
    kept = {today - timedelta(days=back) for back in range(1, 356)}
    assert days(site, "activity") == kept
    assert days(edge, "access") - written_now == kept
    assert {path.suffix for path in site.iterdir()} == {".gz"}
    assert raw(watched, "kayane").exists()  # today's is never touched, whatever the clock says

    # Killed between the rename and the removal: nothing is doubled. Lines that came late: behind the others.
    yesterday = today - timedelta(days=1)
    packed = edge / f"access-{yesterday}.log.gz"
    day_file(edge, "access", yesterday, "a visit\n")
    (edge / f"access-{yesterday - timedelta(days=1)}.log.gz.new").write_bytes(b"half")
    assert tidy(10).startswith("1 compressed, 0 dropped, ")
    assert gzip.decompress(packed.read_bytes()) == b"a visit\n"
    late = day_file(edge, "access", yesterday, "a late visit\n")
    os.utime(late, (late.stat().st_mtime + 60,) * 2)
    tidy(10)
    assert gzip.decompress(packed.read_bytes()) == b"a visit\na late visit\n"
    assert not list(edge.glob("*.new"))

    # A clock that jumped drops nothing.
    with pytest.raises(ProvisionError, match="is the clock right"):
        tidy(4000)
    assert days(site, "activity") == kept

    # The council may keep visits for six months.
    half = watched.folder / "half.yaml"
    settings = yaml.safe_load(watched.inventory.read_text())
    half.write_text(yaml.safe_dump(settings | {"policy": {"access_log_days": 180}}))
    tidy(10, half)
    assert days(site, "activity") == kept
    assert min(days(edge, "access")) == today - timedelta(days=170)


def test_what_is_compressed_is_read_as_well(watched: Town) -> None:
    today = datetime.now(UTC).date()
    folder = raw(watched, "regart").parent
    day = today - timedelta(days=3)
    entry = {"at": f"{day}T12:00:00Z", "event": "login", "user": "ancienne", "object": ""}
    day_file(folder, "activity", day, json.dumps(entry) + '\n{"cut by a power fail')
    logs.tidy(Installation.open(watched.inventory), "local")
    assert [path.name for path in folder.glob("*.gz")] == [f"activity-{day}.jsonl.gz"]
    entries = told(watched, "regart")
    assert entries[0]["user"] == "ancienne"
    assert len(watched.json("log", "regart", "--site", "-n", "2")) == 2
    assert "no site is called" in watched.run("log", "nobody", "--site", code=2).stderr
    assert "name it" in watched.run("log", "--site", code=2).stderr


def test_a_flood_is_bounded_and_costs_the_neighbours_nothing(watched: Town) -> None:
    """Failed log-ins, which strangers can cause, hide nothing else; then the site itself goes wild."""
    path = raw(watched, "kayane")

    def flood(event: str, seconds: int) -> subprocess.Popen[str]:
        line = json.dumps({"event": event, "user": "u" * 60, "object": "o" * 200})
        given = base64.b64encode(json.dumps({"line": line, "seconds": seconds}).encode()).decode()
        program = f"<?php $given = json_decode(base64_decode('{given}'), true); {FLOOD}"
        return subprocess.Popen(
            ["docker", "exec", container(watched, "kayane"), "php", "-r", program.removeprefix("<?php ")],
            stdout=subprocess.PIPE,
            text=True,
        )

    def ended(process: subprocess.Popen[str]) -> int:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return int(output)

    assert ended(flood("login_failed", 5)) * 300 > DAY_BYTES // 2
    assert DAY_BYTES // 2 - 1000 < path.stat().st_size < DAY_BYTES // 2 + 1000
    count = len(told(watched, "kayane"))
    assert log_in(watched, "kayane").status == 302
    until(lambda: len(told(watched, "kayane")) > count)
    full, login = told(watched, "kayane")[-2:]
    assert (full["event"], full["object"]) == ("day_full", "login_failed")
    assert (login["event"], login["user"]) == ("login", "presidence")

    def beside() -> int:
        return raw(watched, "regart").read_text().count('"login"')

    process, before = flood("published", 12), beside()
    for number in range(1, 4):
        assert log_in(watched, "regart").status == 302
        until(lambda wanted=before + number: beside() == wanted)  # type: ignore[misc]
    assert process.poll() is None, "the flood ended too early"
    ended(process)
    assert DAY_BYTES - 1000 < path.stat().st_size < DAY_BYTES + 1000
    assert told(watched, "kayane")[-1]["event"] == "day_full"
    assert log_in(watched, "kayane").status == 302  # the site itself goes on


@pytest.mark.acceptance
def test_a_log_that_was_dropped_is_let_go_of(watched: Town) -> None:
    path = watched.data_root / "logs/edge" / f"access-{datetime.now(UTC):%Y-%m-%d}.log"
    path.unlink()
    until(lambda: watched.get("regart").status == 200 and path.exists(), 90)
