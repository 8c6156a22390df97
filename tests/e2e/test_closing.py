"""A site whose agreement is over: closed by the night or by the operator, read and exported, and closed it stays."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3
import yaml

from provisioner import clock
from provisioner.installation import Installation
from provisioner.operations import nightly
from tests.support.doors import install
from tests.support.inside import php
from tests.support.town import Town

SLUG = "kayane"
ENDED = "2026-01-10T12:00"
TERMINATION = ("agreement", "end", SLUG, "--on", "2026-01-15", "--termination", "--reason", "dissoute")
PASSWORD = "un mot de passe de test"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# What the site's own user may do to its database, whatever runs in the site.
RIGHTS = """
$own = json_decode((string) file_get_contents('/run/secrets/generation/generation.json'), true);
mysqli_report(MYSQLI_REPORT_OFF);
$link = mysqli_init();
$link->real_connect('localhost', $own['user'], $own['password'], $own['database'], 0, '/run/mysqld/mysqld.sock');
$tried = [];
foreach ($given['statements'] as $statement) {
    $tried[] = $link->query($statement) ? 0 : $link->errno;
}
echo json_encode($tried);
"""
CONTENT = [
    "INSERT INTO wp_posts (post_title) VALUES ('x')",
    "UPDATE wp_options SET option_value = 'x' WHERE option_name = 'blogname'",
    "INSERT INTO wp_users (user_login) VALUES ('x')",
    "DELETE FROM wp_users",
    "CREATE TABLE x (id INT)",
    "DROP TABLE wp_comments",
]
SESSIONS = [
    "UPDATE wp_usermeta SET meta_value = meta_value",
    "UPDATE wp_users SET user_pass = user_pass",
]
DENIED = 1142


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town with one site on an older release, whose agreement was terminated and whose closing is due."""
    place = Town(tmp_path_factory.mktemp("town"), settings={"default_release": "6.1"})
    try:
        place.init()
        place.run("release", "build", "6.8")
        place.create(SLUG)
        install(place, SLUG)
        place.run("agreement", "sign", SLUG, "--on", "2026-01-02")
        place.run(*TERMINATION, PROVISION_NOW=ENDED)
        yield place
    finally:
        place.remove()


@pytest.fixture
def closed(town: Town) -> Town:
    """The town, its site in closing: by the night of the first test, or by hand where that is not run."""
    if town.json("status", SLUG)["state"] == "online":
        assert post(town, "/", {"note": "kept"}).status == 200
        town.run("agreement", "close", SLUG, "--yes")
    return town


def night(town: Town) -> list[nightly.Result]:
    """Do what the night does about planned changes; return what became of each."""
    installation = Installation.open(town.inventory)
    return [result for results in nightly.run(installation, "changes").jobs.values() for result in results]


def post(town: Town, path: str, fields: dict[str, str], **headers: str) -> urllib3.BaseHTTPResponse:
    body = urlencode(fields).encode()
    return town.request("POST", f"{SLUG}.assos.localhost", path, {**FORM, **headers}, body)


def log_in(town: Town) -> str:
    """Log in as an administrator, by the form; return the cookies."""
    number = town.json("status", SLUG)["generation"]
    town.sql(f"UPDATE kayane_{number}.wp_users SET user_pass = MD5('{PASSWORD}') WHERE user_login = 'presidence'")
    answer = post(
        town, "/wp-login.php", {"log": "presidence", "pwd": PASSWORD, "testcookie": "1"},
        Cookie="wordpress_test_cookie=WP%20Cookie%20check",
    )  # fmt: skip
    assert answer.status == 302, answer.data.decode()
    return "; ".join(line.partition(";")[0] for line in answer.headers.getlist("Set-Cookie"))


def tried(town: Town, statements: list[str]) -> list[int]:
    """Return the error, or 0, of each statement, tried as the site's own user."""
    found: list[int] = php(town, SLUG, RIGHTS, statements=statements)
    return found


def check_closed(town: Town) -> None:
    """Check that visitors read on, that nothing of the content can be written, and that a person can log in."""
    assert town.get(SLUG).status == 200
    assert post(town, "/", {"note": "refused"}).status == 403
    assert town.get(SLUG, "/?note=refused").status == 403
    details = town.json("status", SLUG)
    assert details["state"] == "closing"
    name = f"kayane_{details['generation']}"
    grants = town.sql(f"SHOW GRANTS FOR {name}@localhost").replace("\\\\", "").replace("\\", "")
    content = next(line for line in grants.splitlines() if f"`{name}`.*" in line)
    assert not {"ALL", "INSERT", "UPDATE", "DELETE", "DROP", "EVENT"} & set(content.replace(",", "").split()), grants
    assert "`wp_usermeta`" in grants
    log_in(town)
    assert town.is_well()


def test_the_night_proposes_and_closes_only_where_it_is_allowed(town: Town) -> None:
    due = next(item for item in town.json("status")["attention"] if "closing is due since 2026-01-15" in item["what"])
    assert (due["subject"], due["command"]) == (SLUG, "provision agreement close kayane")
    (proposed,) = night(town)
    assert (proposed.exit_code, proposed.hint) == (3, "provision agreement close kayane")
    assert town.json("status", SLUG)["state"] == "online"
    assert post(town, "/", {"note": "kept"}).status == 200
    content = yaml.safe_load(town.inventory.read_text())
    town.inventory.write_text(yaml.safe_dump({**content, "policy": {"nightly": {"changes": "read_only"}}}))
    (done,) = night(town)
    assert (done.exit_code, night(town)) == (0, [])
    assert "exports are offered until" in done.outcome
    details = town.json("status", SLUG)
    assert [item["kind"] for item in details["planned"]] == ["archive"]
    mails = [mail for mail in town.json("mail", "list") if mail["kind"] == "closing"]
    assert [mail["state"] for mail in mails] == ["sent", "sent"]


def test_a_closed_site_is_read_and_exported_and_takes_no_write(closed: Town) -> None:
    check_closed(closed)
    refused = post(closed, "/", {"note": "refused"}).data.decode()
    assert "Ce site est en lecture seule" in refused
    assert "Commune de test" in refused
    assert "associations@example.org" in refused
    program = closed.request("POST", f"{SLUG}.assos.localhost", "/wp-json/wp/v2/posts", {}, b"{}")
    assert (program.status, "lecture seule jusqu’au" in json.loads(program.data)["message"]) == (403, True)
    cookies = log_in(closed)
    dashboard = closed.get(SLUG, "/wp-admin/", Cookie=cookies)
    assert (dashboard.status, "le site est en lecture seule" in dashboard.data.decode()) == (200, True)
    export = closed.get(SLUG, "/wp-admin/export.php?download=true&content=all", Cookie=cookies)
    assert (export.status, "<wp:post_type><![CDATA[page]]>" in export.data.decode()) == (200, True), export.data[:3000]
    assert closed.get(SLUG, "/wp-admin/post-new.php", Cookie=cookies).status == 403
    assert post(closed, "/wp-admin/post.php", {"action": "editpost"}, Cookie=cookies).status == 403
    assert tried(closed, CONTENT) == [DENIED] * len(CONTENT)
    assert tried(closed, SESSIONS) == [0] * len(SESSIONS)
    # What the council does for the association goes on.
    closed.run("contact", "invite", SLUG, f"presidence.{SLUG}@example.org")
    closed.run("export", SLUG, "--to", str(closed.folder / "kayane.zip"))
    closed.run("backup", SLUG)


def test_closed_it_stays(closed: Town) -> None:
    """Through a drill, an upgrade and its way back, a restore, a restart; `doctor` puts back what was taken away."""
    closed.run("backup", SLUG)
    assert closed.json("drill", SLUG)[0]["outcome"] == "proven"
    upgraded: list[dict[str, Any]] = json.loads(closed.run("upgrade", SLUG, "--to", "6.8", "--json").stdout)
    assert upgraded[0]["exit_code"] == 0
    assert closed.json("status", SLUG)["wordpress"].startswith("6.8")
    check_closed(closed)
    closed.run("undo", SLUG, "--yes")
    assert closed.json("status", SLUG)["generation"] == 1
    check_closed(closed)
    closed.run("restore", SLUG, "--yes")
    check_closed(closed)
    number = closed.json("status", SLUG)["generation"]
    container = closed.docker().containers.get(f"{closed.namespace}.site.{SLUG}.{number}")
    container.restart()
    closed.sql(f"GRANT ALL PRIVILEGES ON `kayane\\_{number}`.* TO kayane_{number}@localhost")
    (closed.data_root / "sites" / SLUG / "secrets" / "closed.json").unlink()
    assert "it is in closing, and takes writes" in closed.run("doctor", code=3).stdout
    closed.run("doctor", "--fix")
    check_closed(closed)


def test_a_new_agreement_opens_it_as_it_was(closed: Town, tmp_path: Path) -> None:
    before = closed.json("status", SLUG)
    refusal = closed.run("agreement", "sign", SLUG, "--on", "2026-02-01", "--start", "2026-01-14", code=2).stderr
    assert "cannot begin before 2026-01-15" in refusal
    closed.run("agreement", "sign", SLUG, "--on", "2026-02-01")
    after = closed.json("status", SLUG)
    assert (after["state"], after["planned"]) == ("online", [])
    assert (after["agreement"]["state"], after["agreement"]["start"]) == ("active", "2026-02-01")
    assert after["past_agreements"] == [{"start": "2026-01-01", "last_day": "2026-01-14", "signed_on": "2026-01-02"}]
    assert after["content_sha256"] == before["content_sha256"]
    assert post(closed, "/", {"note": "kept again"}).status == 200
    number = after["generation"]
    assert closed.sql(f"SELECT note FROM kayane_{number}.wp_portes ORDER BY id").splitlines() == ["kept", "kept again"]
    assert closed.is_well()
    today = clock.today()  # on which both signatures were recorded, and the site was online under them
    statement = closed.json("agreement", "list", "--statement", str(today.year))
    assert [item["months"] for item in statement] == [13 - today.month]
