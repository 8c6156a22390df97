"""`provision restore` beyond the plain case: another name, after an intrusion, hostile dumps."""

import json
import os

import pytest

from tests.support.inside import container
from tests.support.town import Town

SITE, COPY = "kayane", "kayane-essai"


@pytest.fixture(scope="module")
def site(town: Town) -> Town:
    """A town with a site whose database names its own address in every form."""
    town.create(SITE)
    old = f"{SITE}.assos.localhost:{town.port}"
    inner = f's:{len(old) + 8}:"https://{old}";'
    nested = f'a:1:{{s:1:"x";s:{len(inner)}:"{inner}";}}'
    escaped = json.dumps({"url": f"https://{old}/a"}).replace("/", "\\/")
    link = f'<a href="//{old}">é</a>'
    widget = f'a:1:{{s:7:"content";s:{len(link.encode())}:"{link}";}}'
    values = {
        "essai_nested": nested,
        "widget_custom_html": f'a:2:{{i:2;{widget}s:12:"_multiwidget";i:1;}}',
        "essai_json": escaped,
        "essai_percent": f"u=https%3A%2F%2F{old.replace(':', '%3A')}%2Fa",
        "essai_object": f'O:8:"Carnet_X":1:{{s:1:"u";s:{len(old) + 8}:"https://{old}";}}',
    }
    rows = ", ".join(f"('{name}', '{escape(value)}')" for name, value in values.items())
    town.sql(
        f"USE {SITE}_1; REPLACE INTO wp_options (option_name, option_value) VALUES {rows};"
        f"INSERT INTO wp_postmeta (post_id, meta_key, meta_value) VALUES (1, 'essai', '{escape(nested)}');"
        f"UPDATE wp_posts SET post_content = CONCAT(post_content, '<a href=\"https://{old}/x\">x</a>') WHERE ID = 1;"
    )
    assert town.json("backup", SITE)[0]["exit_code"] == 0
    return town


def escape(text: str) -> str:
    """Return a text as a literal of SQL holds it."""
    return text.replace("\\", "\\\\").replace("'", "''")


def option(town: Town, slug: str, name: str) -> str:
    """Return an option as the site's database holds it."""
    database = f"{slug.replace('-', '_')}_1"
    return town.sql(f"SELECT HEX(option_value) FROM {database}.wp_options WHERE option_name = '{name}'").strip()


def text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal).decode()


def test_another_name(site: Town) -> None:
    """D18: addresses stay valid wherever they stand; identifiers stay; nobody is invited; nothing is indexed."""
    mails = site.json("mail", "list")
    guids = site.sql(f"SELECT ID, guid FROM {SITE}_1.wp_posts ORDER BY ID")
    made = site.json("restore", SITE, "--as", COPY)
    assert made["slug"] == COPY
    page = site.get(COPY)
    assert page.status == 200
    assert "noindex" in page.data.decode()
    old, new = (f"{slug}.assos.localhost:{site.port}" for slug in (SITE, COPY))
    database = f"{COPY.replace('-', '_')}_1"
    assert site.sql(f"SELECT ID, guid FROM {database}.wp_posts ORDER BY ID") == guids
    for name in ("essai_nested", "widget_custom_html", "essai_object", "essai_json", "essai_percent"):
        found = text(option(site, COPY, name))
        assert old.replace(":", "%3A") not in found
        assert old not in found
        assert new in found or new.replace(":", "%3A") in found
    program = """<?php require '/srv/wordpress/wp-load.php';
        echo json_encode([get_option('siteurl'), get_option('essai_nested'), get_option('widget_custom_html'),
            json_decode(get_option('essai_json'), true), get_post_meta(1, 'essai', true)]);"""
    done = site.docker().containers.get(container(site, COPY)).exec_run(["php", "-r", program.removeprefix("<?php ")])
    assert done.exit_code == 0, done.output
    assert isinstance(done.output, bytes)
    url, nested, widget, decoded, meta = json.loads(done.output)
    assert url == f"https://{new}"
    assert nested == meta == {"x": f's:{len(new) + 8}:"https://{new}";'}
    assert widget["2"]["content"] == f'<a href="//{new}">é</a>'
    assert decoded == {"url": f"https://{new}/a"}
    status = site.json("status", COPY)
    assert status["state"] == "preparing"
    assert status["agreement"]["signed_on"] is None
    assert site.json("mail", "list") == mails
    assert site.get(SITE).status == 200
    assert site.is_well()


@pytest.mark.parametrize("slug", [SITE, "www", "Ünïcode", "-rf", "a" * 41])
def test_another_name_that_cannot_be(site: Town, slug: str) -> None:
    before = site.belongings()
    refused = site.run("restore", SITE, f"--as={slug}", code=2)
    assert "Traceback" not in refused.stderr
    assert site.belongings() == before


@pytest.mark.parametrize("options", [("--as", "x", "--after-intrusion"), ("--at", "2026-01-01", "--snapshot", "abc")])
def test_options_that_exclude_each_other(site: Town, options: tuple[str, ...]) -> None:
    refused = site.run("restore", SITE, *options, code=2)
    assert refused.stderr.count("\n") == 1


def test_after_an_intrusion(site: Town) -> None:
    """What the intruder left is told first and gone after; every way in is shut; going back works."""
    serving = site.json("status", SITE)["generation"]
    directory = site.data_root / "sites" / SITE
    content = directory / "generations" / str(serving) / "content"
    site.sql(
        f"USE {SITE}_{serving}; INSERT INTO wp_usermeta (user_id, meta_key, meta_value) VALUES "
        "(1, 'session_tokens', 'a:1:{s:64:\"" + "a" * 64 + "\";a:1:{s:10:\"expiration\";i:4102444800;}}'), "
        "(1, '_application_passwords', 'a:1:{i:0;a:1:{s:4:\"uuid\";s:4:\"u-u1\";}}');"
        "UPDATE wp_users SET user_activation_key = '1:x' WHERE ID = 1"
    )  # fmt: skip
    assert site.json("backup", SITE)[0]["exit_code"] == 0
    site.sql(f"DELETE FROM {SITE}_{serving}.wp_usermeta WHERE meta_key IN ('session_tokens', '_application_passwords')")
    (content / "plugins" / "shell.php").write_text("<?php // mine\n")
    theme = next(path for path in (content / "themes").rglob("functions.php"))
    theme.write_text(theme.read_text() + "// changed\n")
    salts = (directory / "secrets" / "site.json").read_text()
    planned = site.json("restore", SITE, "--after-intrusion", "--dry-run")
    assert planned["code"]["added"] == ["plugins/shell.php"]
    assert planned["code"]["changed"] == [str(theme.relative_to(content))]
    assert len(planned["revives"]["sessions"]) == len(planned["revives"]["application_passwords"]) == 1
    shown = site.run("restore", SITE, "--after-intrusion", code=1).stdout
    assert "plugins/shell.php" in shown
    assert (directory / "secrets" / "site.json").read_text() == salts

    answer = site.json("restore", SITE, "--after-intrusion")
    assert answer["code"] == planned["code"]
    fresh = json.loads((directory / "secrets" / "site.json").read_text())["salts"]
    assert len(set(fresh.values())) == len(json.loads(salts)["salts"]) == 8
    assert not set(fresh.values()) & set(json.loads(salts)["salts"].values())
    database = f"{SITE}_{answer['generation']}"
    left = site.sql(
        f"SELECT COUNT(*) FROM {database}.wp_usermeta WHERE meta_key IN ('session_tokens', '_application_passwords') "
        f"UNION ALL SELECT COUNT(*) FROM {database}.wp_users WHERE user_activation_key <> ''"
    )
    assert left.split() == ["0", "0"]
    assert not (directory / "generations" / str(answer["generation"]) / "content" / "plugins" / "shell.php").exists()
    assert site.get(SITE).status == 200
    assert site.is_well()


PHOTO = "2026/11/photo [1]*.jpg"


@pytest.fixture(scope="module")
def album(town: Town) -> Town:
    """A town with a site that has a photo with an awkward name, backed up."""
    town.create("album")
    path = town.data_root / "sites" / "album" / "media" / PHOTO
    path.parent.mkdir(parents=True)
    path.write_bytes(b"before")
    (path.parent / "other.jpg").write_bytes(b"other")
    assert town.json("backup", "album")[0]["exit_code"] == 0
    return town


def media(town: Town) -> dict[str, bytes]:
    """Return the media that the site shows, by their paths."""
    root = town.data_root / "sites" / "album" / "media"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def own(town: Town) -> None:
    """Give the media to the site's own user, with whose rights files are put back."""
    root = town.data_root / "sites" / "album" / "media"
    for path in root.rglob("*"):
        os.chown(path, root.stat().st_uid, root.stat().st_gid)


@pytest.mark.parametrize("then", ["well", "undo"])
@pytest.mark.parametrize("changed", ["deleted", "overwritten"])
def test_single_files_come_back(album: Town, changed: str, then: str) -> None:
    """Only what is named changes; undone, what was there is there again."""
    path = album.data_root / "sites" / "album" / "media" / PHOTO
    path.unlink(missing_ok=True)
    if changed == "overwritten":
        path.write_bytes(b"after")
    (path.parent / "other.jpg").write_bytes(b"newer")
    own(album)
    now = media(album)
    command = ("restore", "album", "--files", f"uploads/{PHOTO}", "--json")
    if then == "well":
        assert album.json(*command[:-1])["files"] == [f"uploads/{PHOTO}"]
    else:
        album.run(*command, code=-9, PROVISION_FAILPOINT="restore-files.place:after:kill")
        album.run(then, "album", *(["--yes"] if then == "undo" else []))
    assert media(album) == (now if then == "undo" else now | {PHOTO: b"before"})
    if then != "undo":
        assert path.stat().st_uid == (album.data_root / "sites" / "album" / "media").stat().st_uid
    assert album.is_well()


@pytest.mark.parametrize("path", ["../secrets/site.json", "/etc/passwd", "uploads/../../secrets", ""])
def test_a_path_that_leads_out_is_refused(album: Town, path: str) -> None:
    assert "is no path below wp-content" in album.run("restore", "album", "--files", path, code=2).stderr


def test_a_file_that_no_snapshot_has_is_told(album: Town) -> None:
    now = media(album)
    assert (
        "the snapshot has no uploads/none.jpg"
        in album.run("restore", "album", "--files", "uploads/none.jpg", code=1).stderr
    )
    assert media(album) == now


def test_the_database_alone_comes_back(album: Town) -> None:
    """Posts are those of the snapshot; media and code those that serve now."""
    path = album.data_root / "sites" / "album" / "media" / "2026" / "11" / "new.jpg"
    path.write_bytes(b"new")
    before = album.sql("SELECT post_title FROM album_1.wp_posts WHERE ID = 1")
    album.sql("UPDATE album_1.wp_posts SET post_title = 'Perdu'")
    number = album.json("restore", "album", "--database")["generation"]
    assert album.sql(f"SELECT post_title FROM album_{number}.wp_posts WHERE ID = 1") == before
    assert album.get("album", "/wp-content/uploads/2026/11/new.jpg").data == b"new"
    assert album.get("album").status == 200
    album.run("undo", "album", "--yes")
    assert album.sql("SELECT post_title FROM album_1.wp_posts WHERE ID = 1") == "Perdu\n"
    assert album.get("album").status == 200
    assert album.is_well()


def test_two_jobs_at_once_are_refused(album: Town) -> None:
    done = album.run("restore", "album", "--database", "--files", "uploads/x", code=2)
    assert "are different jobs" in done.stderr
