"""Upgrades of real sites, between real releases, under readers and writers; what a rehearsal finds; the way back."""

import json
import os
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator

import pytest

from tests.support.breaking import BREAKING, FAULTS
from tests.support.catchers import Catcher
from tests.support.commands import Command
from tests.support.doors import Editor, SlowUpload, Traffic, add_plugin, install
from tests.support.full_site import OBJECTS, FullSite
from tests.support.town import Town

# Breaks where it is told to, under the PHP of release 6.8 alone.
QUICK = ("front", "cron", "shrunk")  # each is found by another probe: one rehearsal names them all
# Something planned long ahead: a rehearsal runs it all the same.
PLANNED = """<?php
/* Plugin Name: Casse */
add_action('init', function () {{
    if (!wp_next_scheduled('casse')) {{ wp_schedule_event(time() + 86400 * 30, 'daily', 'casse'); }}
}});
if (PHP_VERSION_ID >= 80400) {{ {fault} }}
"""
GOOD = """<?php
/* Plugin Name: Bonne extension
 * Version: {version} */
add_action('wp_footer', function () {{ echo '<!-- bonne {version} -->'; }});
"""


@pytest.fixture(scope="module")
def old_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town whose sites run release 6.1, with 6.8 built; plugins come from a mirror."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "mirror" / "plugins").mkdir(parents=True)
    settings = {
        "default_release": "6.1",
        "policy": {"extensions": {"mirror": "mirror", "after_days": 0}},
    }
    place = Town(folder, settings=settings)
    try:
        place.init()
        place.run("release", "build", "6.8")
        yield place
        assert place.is_well()  # each case asks of its own site only
    finally:
        place.remove()


def database(slug: str, number: int) -> str:
    return f"{slug.replace('-', '_')}_{number}"


def upgrade(town: Town, slug: str, *arguments: str, code: int = 0) -> dict[str, object]:
    """Upgrade one site; return what became of it."""
    outcome: dict[str, object] = json.loads(town.run("upgrade", slug, *arguments, "--json", code=code).stdout)[0]
    return outcome


def settled(town: Town, slug: str, before: dict[str, set[str]]) -> None:
    """Check that nothing of an upgrade that was undone is left."""
    assert town.belongings() == before
    volumes = town.docker().volumes.list(filters={"label": f"provision.namespace={town.namespace}"})
    assert volumes == []
    sockets = {path.name for path in (town.data_root / "run" / "sites" / slug).iterdir()}
    assert not [name for name in sockets if name.startswith("switch-")]
    assert town.is_well(slug)


def test_nobody_notices_an_upgrade(old_town: Town) -> None:
    """Reads never fail; a write is kept or refused visibly; triggers, views, routines and events work afterwards."""
    old_town.create("kayane", profile="education")
    install(old_town, "kayane")
    old_town.sql(f"USE {database('kayane', 1)}; {OBJECTS}")
    with Traffic(old_town, "kayane", Editor(old_town, "kayane"), pause=0.2) as traffic:
        slow = SlowUpload(old_town, "kayane", "slow")
        outcome = upgrade(old_town, "kayane", "--to", "6.8")
        status, body = slow.finish()
        number = outcome["generation"]
        assert isinstance(number, int)
        deadline = time.monotonic() + 30
        accepted = len(traffic.accepted)
        while len(traffic.accepted) < accepted + 10:  # the new generation takes writes
            assert time.monotonic() < deadline
            time.sleep(0.1)
    traffic.check(number)
    assert (status, body) == (200, "noted")
    assert "slow" in old_town.sql(f"SELECT note FROM {database('kayane', number)}.wp_portes").split()
    print(f"{traffic.reads} reads, {len(traffic.accepted)} writes, {len(traffic.refused)} refused, {outcome}")
    mails = [mail for mail in old_town.json("mail", "list") if mail["kind"] == "upgraded"]
    assert [mail["state"] for mail in mails] == ["sent", "sent"]
    facts = old_town.json("status", "kayane")
    assert facts["wordpress"].startswith("6.8.")
    assert facts["release"] == "6.8"
    full = FullSite(old_town, "kayane", 0, 0, 0, 0)
    assert full.definers(number) == {f"{database('kayane', number)}@localhost"}
    old_town.sql(
        f"USE {database('kayane', number)}; INSERT INTO wp_carnet (note) VALUES ('stamped');"
        "CALL wp_carnet_count(); SELECT wp_carnet_one(), COUNT(*) FROM wp_carnet_view;"
        "CREATE OR REPLACE EVENT wp_carnet_nightly ON SCHEDULE EVERY 1 SECOND DO "
        "INSERT INTO wp_carnet_old SELECT MAX(id) + 1, 'event' FROM wp_carnet_old;"
    )
    assert old_town.sql(f"SELECT note FROM {database('kayane', number)}.wp_carnet ORDER BY id DESC LIMIT 1") == (
        "stamped!\n"
    )
    told = len(old_town.json("log", "kayane", "--site"))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    old_town.request("POST", "kayane.assos.localhost", "/wp-login.php", form, b"log=presidence&pwd=faux")
    heard = old_town.json("log", "kayane", "--site")[told:]  # of the new generation, and of no twin
    assert [(one["event"], one["user"]) for one in heard] == [("login_failed", "presidence")]
    # Definitions of events are carried, and none ever runs.
    events = f"SELECT event_name FROM information_schema.events WHERE event_schema = '{database('kayane', number)}'"
    assert old_town.sql(f"{events}; SELECT @@event_scheduler").split() == ["wp_carnet_nightly", "OFF"]
    ran = f"SELECT COUNT(*) FROM {database('kayane', number)}.wp_carnet_old WHERE note = 'event'"
    assert old_town.sql(ran).strip() == "0"
    assert old_town.is_well()


def test_the_way_back_lists_what_it_costs(old_town: Town) -> None:
    """After the test above: what was written since is named before anything moves; the old generation writes again."""
    serving = int(old_town.json("status", "kayane")["generation"])
    name = database("kayane", serving)
    old_town.sql(
        f"USE {name}; UPDATE wp_posts SET post_content = 'autre', post_title = 'Changée' WHERE ID = "
        "(SELECT MIN(ID) FROM wp_posts WHERE post_type = 'page' AND post_status = 'publish');"
        "DELETE FROM wp_users WHERE user_login = 'secretariat';"
        "INSERT INTO wp_comments (comment_content, comment_author) VALUES ('Bravo', 'Visite');"
    )
    plan = old_town.json("undo", "kayane", "--dry-run")
    changed, made = plan["since"]["posts"]["changed"], plan["since"]["comments"]["made"]
    writers = {title for title in changed if title.startswith("editor-")}  # at work after the switch as well
    assert {title.rpartition("-")[0] for title in writers} == {"editor-form", "editor-rest", "editor-ajax"}
    assert set(changed) - writers == {"Changée"}
    assert [comment for comment in made if not comment.startswith("comment-")] == ["Bravo"]
    assert plan["since"]["users"]["deleted"] == ["secretariat"]
    assert plan["revives"]["administrators"] == ["secretariat"]
    old_town.run("undo", "kayane", "--yes")
    assert old_town.json("status", "kayane")["wordpress"].startswith("6.1.")
    with Traffic(old_town, "kayane", pause=0.1) as traffic:
        deadline = time.monotonic() + 30
        while traffic.reads < 30 or len(traffic.accepted) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    traffic.check(1)
    assert traffic.refused == []


@pytest.mark.parametrize("faults", [QUICK, *(pytest.param((name,), marks=pytest.mark.acceptance) for name in FAULTS)])
def test_a_rehearsal_finds_what_would_break(old_town: Town, faults: tuple[str, ...]) -> None:
    """C2, C3: the site that serves was never frozen, never changed."""
    slug = f"casse-{'-'.join(faults)}"
    old_town.create(slug)
    install(old_town, slug)
    for fault in faults:
        source = PLANNED if fault == "cron" else BREAKING
        add_plugin(old_town, slug, f"casse-{fault}", source.format(fault=FAULTS[fault][0]))
    assert old_town.get(slug).status == 200  # plans what is to run later
    content = old_town.json("status", slug)["content_sha256"]
    before = old_town.belongings()
    with Traffic(old_town, slug) as traffic:
        outcome = upgrade(old_town, slug, "--to", "6.8", code=1)
    traffic.check(1)
    assert traffic.refused == []
    differences = " ".join(map(str, outcome["differences"]))  # type: ignore[call-overload]
    assert [fault for fault in faults if FAULTS[fault][1] not in differences] == [], outcome
    assert outcome["held"] == ["core"]
    assert old_town.json("status", slug)["content_sha256"] == content
    settled(old_town, slug, before)


def package(town: Town, slug: str, version: str, source: str) -> None:
    """Put a version of a plugin into the mirror."""
    path = town.folder / "mirror" / "plugins" / f"{slug}-{version}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{slug}/{slug}.php", source)
    age = time.time() - 3600
    os.utime(path, (age, age))


def test_a_good_plugin_arrives_and_a_fatal_one_is_held_back(old_town: Town) -> None:
    old_town.create("regart", profile="culture")
    for slug in ("bonne", "mauvaise", "future"):
        add_plugin(old_town, "regart", slug, GOOD.format(version="1.0").replace("bonne", slug))
    package(old_town, "bonne", "1.1", GOOD.format(version="1.1"))
    package(old_town, "mauvaise", "2.0", "<?php\n/* Plugin Name: M\n * Version: 2.0 */\nune_fonction_disparue();\n")
    package(old_town, "future", "3.0", "<?php\n/* Plugin Name: F\n * Version: 3.0\n * Requires PHP: 99.0 */\n")
    package(old_town, "absente", "1.0", GOOD.format(version="1.0"))
    posts = old_town.sql(f"CHECKSUM TABLE {database('regart', 1)}.wp_posts").split()[1]
    outcome = upgrade(old_town, "regart", "--only", "extensions", code=1)
    assert "plugin mauvaise 2.0" in outcome["held"], outcome  # type: ignore[operator]
    number = int(str(old_town.json("status", "regart")["generation"]))
    assert number > 1
    page = old_town.get("regart").data.decode()
    assert "<!-- bonne 1.1 -->" in page
    assert "<!-- mauvaise 1.0 -->" in page
    assert "<!-- future 1.0 -->" in page  # C8: it needs a PHP that the site does not have
    assert old_town.sql(f"CHECKSUM TABLE {database('regart', number)}.wp_posts").split()[1] == posts
    assert not (old_town.data_root / "sites/regart/generations" / str(number) / "content/plugins/absente").exists()
    events = [event for event in old_town.json("log", "regart") if event["kind"] == "upgrade held back"]
    assert any("mauvaise" in " ".join(event["data"]["parts"]) for event in events)
    for path in (old_town.folder / "mirror" / "plugins").iterdir():
        path.unlink()


def test_what_cannot_be_upgraded_is_refused(old_town: Town) -> None:
    """Careless input."""
    old_town.create("refus")
    outcome = upgrade(old_town, "refus", "--to", "6.1")
    assert outcome["outcome"] == "up to date"
    assert "no release '9.9'" in str(upgrade(old_town, "refus", "--to", "9.9", code=2)["outcome"])
    assert "is not built" in str(upgrade(old_town, "refus", "--to", "7.1", code=5)["outcome"])
    assert "no site is called" in old_town.run("upgrade", "nobody", code=2).stderr
    assert "--all" in old_town.run("upgrade", code=2).stderr
    assert "canary" in old_town.run("upgrade", "refus", "--canary", "kayane", code=2).stderr


def test_without_a_fresh_backup_nothing_is_upgraded(old_town: Town) -> None:
    """C1."""
    old_town.create("nu")
    target = old_town.folder / "backups" / "nu"
    target.parent.mkdir(exist_ok=True)
    target.write_text("no directory")
    try:
        outcome = upgrade(old_town, "nu", "--to", "6.8", code=1)
        assert "no fresh verified backup" in str(outcome["outcome"])
        assert old_town.json("status", "nu")["wordpress"].startswith("6.1.")
    finally:
        target.unlink()


def test_a_fleet_stops_at_its_second_failure_and_goes_on_later(old_town: Town) -> None:
    """C9, with four sites of which two would break; what was upgraded goes back by `undo` alone."""
    slugs = ["flotte-a", "flotte-b", "flotte-c", "flotte-d"]
    old_town.create(*slugs)
    for slug in slugs[1:3]:
        add_plugin(old_town, slug, "casse", BREAKING.format(fault=FAULTS["front"][0]))
    done = old_town.run("upgrade", *slugs, "--to", "6.8", "--canary", "flotte-a", "--json", code=1)
    outcomes = {one["slug"]: one for one in json.loads(done.stdout)}
    assert outcomes["flotte-a"]["outcome"].startswith("upgraded")
    assert [bool(outcomes[slug]["differences"]) for slug in slugs[1:3]] == [True, True]
    assert outcomes["flotte-d"]["outcome"].startswith("not begun")
    again = json.loads(old_town.run("upgrade", "flotte-a", "flotte-d", "--to", "6.8", "--json").stdout)
    assert {one["slug"]: one["outcome"].split(":")[0] for one in again} == {
        "flotte-a": "up to date",
        "flotte-d": "upgraded",
    }
    refused = upgrade(old_town, "flotte-d", "--to", "6.1", code=2)  # C10
    assert "its database has version" in str(refused["outcome"])


# Mails, calls and plans for each second, on the front page and in its own plan; notes what came of it.
TALKATIVE = """<?php
/* Plugin Name: Bavarde */
function bavarde(string $when): void {
    $by_smtp = function ($mailer): void {
        $mailer->isSMTP();
        [$mailer->Host, $mailer->Port, $mailer->Timeout] = ['127.0.0.1', %(smtp)d, 2];
    };
    add_action('phpmailer_init', $by_smtp);
    $reached = (int) wp_mail('presidence@example.org', 'Bonjour', 'Bonjour');
    remove_action('phpmailer_init', $by_smtp);
    $call = curl_init('http://127.0.0.1:%(http)d/');
    curl_setopt_array($call, [CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 2]);
    $reached += (int) (curl_exec($call) !== false);
    $reached += (int) wp_mail('presidence@example.org', 'Bonjour', 'Bonjour');
    $GLOBALS['wpdb']->insert('wp_bavarde', ['moment' => $when, 'reached' => $reached]);
}
add_filter('wp_mail_from', fn () => 'site@example.org');
add_filter('cron_schedules', fn ($known) => $known + ['souvent' => ['interval' => 1, 'display' => 'Souvent']]);
add_action('init', function () {
    if (!wp_next_scheduled('bavarde')) { wp_schedule_event(time(), 'souvent', 'bavarde'); }
});
add_action('bavarde', fn () => bavarde('cron'));
add_action('template_redirect', function () { if (is_front_page()) { bavarde('page'); } });
"""


def spoken(town: Town, number: int, when: str) -> int:
    """Return how often the plugin tried to reach somebody; it never did."""
    asked = f"SELECT reached FROM {database('jumeaux', number)}.wp_bavarde WHERE moment = '{when}'"
    rows = town.sql(asked).splitlines()
    assert set(rows) <= {"0"}
    return len(rows)


def test_twins_call_nobody_and_run_no_cron(old_town: Town) -> None:
    """C7: seen while both of them live, after their rehearsal; the ticker makes a round meanwhile."""
    old_town.create("jumeaux")
    with Catcher(b"220 catcher ESMTP\r\n") as smtp, Catcher() as http:
        source = TALKATIVE % {"smtp": smtp.port, "http": http.port}
        add_plugin(old_town, "jumeaux", "bavarde", source)
        old_town.sql(f"CREATE TABLE {database('jumeaux', 1)}.wp_bavarde (moment VARCHAR(9), reached INT)")
        assert old_town.get("jumeaux").status == 200  # plans it
        at = "upgrade.dismantle:before:stop"
        command = Command(old_town, "upgrade", "jumeaux", "--to", "6.8", "--yes", PROVISION_FAILPOINT=at)
        command.wait_until_stopped(180)
        label = [f"provision.namespace={old_town.namespace}", "provision.role=twin"]
        seen = old_town.docker().containers.list(filters={"label": label})
        numbers = [int(twin.labels["provision.generation"]) for twin in seen]
        assert len(seen) == 2
        for twin, number in zip(seen, numbers, strict=True):
            assert twin.attrs["HostConfig"]["NetworkMode"] == "none"
            assert twin.attrs["HostConfig"]["RestartPolicy"]["Name"] == "no"
            assert "EVENT" not in old_town.sql(f"SHOW GRANTS FOR {database('jumeaux', number)}@localhost")
            assert twin.exec_run(["test", "-e", "/run/activity"]).exit_code == 1  # what happens there is nobody's doing
            assert twin.exec_run(["sh", "-c", "echo trace > /srv/wordpress/wp-content/uploads/trace"]).exit_code == 0
            assert spoken(old_town, number, "page") > 0
        assert not (old_town.data_root / "sites/jumeaux/media/trace").exists()
        assert os.readlink(old_town.data_root / "run/sites/jumeaux/current") == "1"
        rehearsed = [spoken(old_town, number, "cron") for number in numbers]
        assert min(rehearsed) > 0  # a rehearsal runs what is planned, and looks at what comes of it
        before = spoken(old_town, 1, "cron")
        round_of_the_ticker = ["docker", "exec", f"{old_town.namespace}.cron", "timeout", "10", "ticker"]
        subprocess.run(round_of_the_ticker, check=False, timeout=60)  # its rounds do not end
        assert spoken(old_town, 1, "cron") > before
        assert [spoken(old_town, number, "cron") for number in numbers] == rehearsed
        command.go_on()
        assert command.end().code == 0
        assert (smtp.caught, http.caught) == ([], [])
        deadline = time.monotonic() + 20
        for catcher in (smtp, http):  # they would have heard it
            socket.create_connection(("127.0.0.1", catcher.port), 5).close()
            while not catcher.caught:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert old_town.is_well()
