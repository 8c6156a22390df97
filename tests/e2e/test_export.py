"""Exports: complete, without a secret, and opened by an ordinary WordPress that knows nothing of us."""

import csv
import hashlib
import json
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

from provisioner.keys import Keys
from tests.support.full_site import AWKWARD
from tests.support.inside import php
from tests.support.stock.hosting import Hosting
from tests.support.town import Town

PASSWORD = "une phrase de passe, longue"
NAMES = (*AWKWARD, "back\\slash.jpg", "carriage\rreturn.jpg")
# What an association makes: a post, a comment, a picture in a page, a menu, members, an open session, a reset key.
FILL = r"""
require '/srv/wordpress/wp-load.php';
require ABSPATH . 'wp-admin/includes/image.php';
wp_set_current_user(1);
$category = wp_insert_term('Sorties', 'category')['term_id'];
wp_insert_term('Lecture', 'post_tag');
$photo = imagecreatetruecolor(1400, 900);
$attachments = [];
foreach (['fete', 'atelier'] as $name) {
    imagefilledrectangle($photo, 10, 10, rand(20, 800), 500, rand(1, 1 << 23));
    ob_start();
    imagejpeg($photo);
    $file = wp_upload_bits("$name.jpg", null, ob_get_clean())['file'];
    $about = ['post_title' => $name, 'post_mime_type' => 'image/jpeg', 'post_status' => 'inherit'];
    $id = wp_insert_attachment($about, $file);
    wp_update_attachment_metadata($id, wp_generate_attachment_metadata($id, $file));
    $attachments[] = $id;
}
$posts = [];
foreach (range(1, 12) as $n) {
    $posts[] = wp_insert_post(['post_title' => "Sortie n° $n « à l’étang »", 'post_status' => 'publish',
        'post_category' => [$category], 'tags_input' => ['Lecture'], 'post_content' => '<!-- wp:image --><figure>'
        . wp_get_attachment_image($attachments[$n % 2], 'large') . "</figure><!-- /wp:image --><p>Récit n° $n "
        . "& suite\x0b, voir <a href=\"" . home_url('/contact/') . '">nous écrire</a> et '
        . '<a href="/agenda/#haut">l’agenda</a>.</p>']);
}
wp_insert_post(['post_title' => 'Brouillon', 'post_status' => 'draft', 'post_content' => 'À finir']);
wp_insert_comment(['comment_post_ID' => $posts[0], 'comment_author' => 'Visite',
    'comment_author_email' => 'v@example.org', 'comment_approved' => 1,
    'comment_content' => 'Bravo ]]> à toutes & tous']);
$menu = wp_create_nav_menu('Menu du bas');
wp_update_nav_menu_item($menu, 0, ['menu-item-title' => 'Nos sorties',
    'menu-item-url' => home_url('/actualites/'), 'menu-item-status' => 'publish']);
wp_set_password($given['password'], 1);
$member = wp_insert_user(['user_login' => 'redaction', 'user_pass' => $given['password'], 'role' => 'editor',
    'user_email' => 'redaction@example.org', 'display_name' => '=1+1']);
get_user_by('id', $member)->add_role('administrator');
$GLOBALS['wpdb']->insert($GLOBALS['wpdb']->posts, ['post_type' => 'spectacle', 'post_title' => 'D’une extension',
    'post_status' => 'publish', 'post_content' => 'Un type de contenu']);
echo json_encode(['reset' => get_password_reset_key(get_user_by('id', $member)),
    'session' => WP_Session_Tokens::get_instance(1)->create(time() + 86400), 'posts' => count($posts)]);
"""
ASSOCIATIONS = {
    "kayane": {"name": "Kayane", "profile": "education"},
    "regart": {"name": "Reg'art", "profile": "culture"},
}


class Export:
    """The export of one site, unpacked by Python's own zipfile."""

    def __init__(self, town: Town, slug: str, folder: Path) -> None:
        self.town, self.slug = town, slug
        town.create(slug, **ASSOCIATIONS[slug])
        self.keys = php(town, slug, FILL, password=PASSWORD)
        self.uploads = town.data_root / "sites" / slug / "media" / "2026"
        self.uploads.mkdir(exist_ok=True)
        for name in NAMES:
            (self.uploads / name).write_bytes(name.encode() * 7)
        (self.uploads / "link.jpg").symlink_to("/etc/passwd")
        self.before = town.json("status", slug)["content_sha256"]
        self.answer = town.json("export", slug)
        self.archive = Path(self.answer["file"])
        with zipfile.ZipFile(self.archive) as zipped:
            zipped.extractall(folder)
        (self.folder,) = folder.iterdir()

    def rows(self, query: str) -> list[list[str]]:
        """Return rows of the site's database."""
        lines = self.town.sql(f"USE {self.slug}_1; {query}").splitlines()
        return [line.split("\t") for line in lines]


@pytest.fixture(scope="module")
def exports(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Export]:
    """Return the export of a site, made when first asked for."""
    made: dict[str, Export] = {}

    def export(slug: str) -> Export:
        if slug not in made:
            made[slug] = Export(town, slug, tmp_path_factory.mktemp(slug))
        return made[slug]

    return export


@pytest.fixture(scope="module")
def kayane(exports: Callable[[str], Export]) -> Export:
    """The export that most tests look at."""
    return exports("kayane")


def test_it_says_what_it_wrote(kayane: Export) -> None:
    answer = kayane.answer
    assert re.fullmatch(r"kayane-\d{4}-\d\d-\d\d\.zip", kayane.archive.name)
    assert kayane.archive.parent == kayane.town.folder
    assert answer["sha256"] == hashlib.sha256(kayane.archive.read_bytes()).hexdigest()
    assert answer["bytes"] == kayane.archive.stat().st_size
    assert answer["files"] == sum(path.is_file() for path in kayane.folder.rglob("*")) - 1  # SHA256SUMS itself
    assert answer["links_left_out"] == 1
    assert kayane.archive.stat().st_mode & 0o777 == 0o600


def test_the_site_notices_nothing(kayane: Export) -> None:
    assert kayane.town.json("status", "kayane")["content_sha256"] == kayane.before
    assert not (kayane.town.data_root / "sites" / "kayane" / "export").exists()
    assert kayane.town.is_well()


def test_every_checksum_is_right(kayane: Export) -> None:
    done = subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=kayane.folder, check=False)
    assert done.returncode == 0
    listed = (kayane.folder / "SHA256SUMS").read_text().count("\n")
    assert listed == kayane.answer["files"]


def test_every_file_is_there_whatever_its_name(kayane: Export) -> None:
    exported = kayane.folder / "wp-content" / "uploads" / "2026"
    for name in NAMES:
        assert (exported / name).read_bytes() == (kayane.uploads / name).read_bytes()
    assert not (exported / "link.jpg").exists()
    directory = kayane.town.data_root / "sites" / "kayane"
    for root, prefix in ((directory / "media", "uploads"), (directory / "generations/1/content", "")):
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                there = kayane.folder / "wp-content" / prefix / path.relative_to(root)
                assert there.read_bytes() == path.read_bytes()
    with zipfile.ZipFile(kayane.archive) as zipped:
        assert all(entry.filename.isascii() or entry.flag_bits & 0x800 for entry in zipped.infolist())


def test_an_older_file_is_never_overwritten(kayane: Export) -> None:
    before = kayane.archive.read_bytes()
    refused = kayane.town.run("export", "kayane", code=2)
    assert str(kayane.archive) in refused.stderr
    assert kayane.archive.read_bytes() == before
    assert "no such folder" in kayane.town.run("export", "kayane", "--to", "/nowhere/a.zip", code=2).stderr
    assert "nobody" in kayane.town.run("export", "nobody", code=2).stderr


def test_a_dry_run_writes_nothing(kayane: Export, tmp_path: Path) -> None:
    plan = json.loads(kayane.town.run("export", "kayane", "--to", str(tmp_path), "--dry-run", "--json").stdout)
    assert plan["files"] > 200
    assert plan["needed_bytes"] > plan["content_bytes"]
    assert list(tmp_path.iterdir()) == []


def test_wordpress_own_export_is_whole(kayane: Export) -> None:
    """Counted against SQL, by a parser that knows nothing of WordPress."""
    tree = ElementTree.parse(kayane.folder / "wordpress.xml")  # noqa: S314  (made by the test's own site)
    wp = "{http://wordpress.org/export/1.2/}"
    items = list(tree.iter("item"))
    never = "'revision','oembed_cache','user_request','customize_changeset','wp_font_family','wp_font_face'"
    expected = {
        (row[0], row[1])
        for row in kayane.rows(
            f"SELECT ID, post_type FROM wp_posts WHERE post_status <> 'auto-draft' AND post_type NOT IN ({never})"
        )
    }
    found = {(item.findtext(f"{wp}post_id"), item.findtext(f"{wp}post_type")) for item in items}
    assert found == expected
    assert {"post", "page", "attachment", "nav_menu_item", "wp_navigation", "spectacle"} <= {kind for _, kind in found}
    comments = {comment.findtext(f"{wp}comment_id") for comment in tree.iter(f"{wp}comment")}
    assert comments == {row[0] for row in kayane.rows("SELECT comment_ID FROM wp_comments")}
    assert len(comments) >= 1
    terms: set[tuple[str | None, str | None]] = {
        ("category", one.findtext(f"{wp}category_nicename")) for one in tree.iter(f"{wp}category")
    }
    terms |= {("post_tag", one.findtext(f"{wp}tag_slug")) for one in tree.iter(f"{wp}tag")}
    terms |= {
        (one.findtext(f"{wp}term_taxonomy"), unquote(one.findtext(f"{wp}term_slug") or ""))
        for one in tree.iter(f"{wp}term")
    }
    terms |= {(one.get("domain"), one.get("nicename")) for one in tree.iter("category")}
    for taxonomy, slug in kayane.rows("SELECT taxonomy, slug FROM wp_term_taxonomy JOIN wp_terms USING (term_id)"):
        assert (taxonomy, unquote(slug)) in {(kind, unquote(name or "")) for kind, name in terms}
    texts = "".join(tree.getroot().itertext())
    assert "Bravo ]]> à toutes & tous" in texts
    assert "Récit n° 12 & suite, voir" in texts


def test_no_secret_travels(kayane: Export) -> None:
    directory = kayane.town.data_root / "sites" / "kayane"
    generation = json.loads((directory / "generations/1/secrets/generation.json").read_text())
    salts = json.loads((directory / "secrets/site.json").read_text())["salts"]
    sessions = re.findall(r'"([0-9a-f]{64})"', "".join(row[0] for row in kayane.rows(
        "SELECT meta_value FROM wp_usermeta WHERE meta_key = 'session_tokens'")))  # fmt: skip
    keys = [row[0].partition(":")[2] for row in kayane.rows("SELECT user_activation_key FROM wp_users") if row[0]]
    mails = "".join(path.read_text() for path in (kayane.town.state / "mail").rglob("*") if path.is_file())
    tokens = re.findall(r"key=3?D?([A-Za-z0-9]{20,})", mails.replace("=\n", ""))
    assert len(sessions) == 1
    assert len(keys) >= 2
    assert tokens
    secrets = [
        *salts.values(), generation["password"], Keys(kayane.town.state).repository("kayane"), *sessions, *keys,
        *tokens, kayane.keys["reset"], kayane.keys["session"],
    ]  # fmt: skip
    for path in kayane.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path
    assert "DEFINER=" not in (kayane.folder / "database.sql").read_text()


def test_the_administrators_are_listed(kayane: Export) -> None:
    with (kayane.folder / "administrateurs.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.reader(file, delimiter=";"))
    assert [row[0] for row in table[1:]] == ["presidence", "secretariat", "redaction"]
    assert table[3] == ["redaction", "'=1+1", "redaction@example.org"]  # no formula for a spreadsheet


def test_the_domain_is_explained(kayane: Export) -> None:
    text = (kayane.folder / "NOM-DE-DOMAINE.txt").read_text()
    assert "kayane.assos.localhost" in text
    assert "appartient à la collectivité" in text


def links(page: Path) -> Iterator[str]:
    """Yield every address in a page's markup."""
    text = page.read_text()
    for _name, value in re.findall(r"\s(href|src)=\"([^\"]*)\"", text):
        yield unescape(value)
    for value in re.findall(r"\ssrcset=\"([^\"]*)\"", text):
        yield from (part.split()[0] for part in unescape(value).split(", "))


def test_the_pages_open_from_a_disk(kayane: Export) -> None:
    """Every published page is there, and every address in it is a file beside it, or leads outside on purpose."""
    site = kayane.folder / "site"
    pages = list(site.rglob("index.html"))
    published = kayane.rows(
        "SELECT post_name FROM wp_posts WHERE post_status='publish' AND post_type IN ('post','page')"
    )
    front = kayane.rows(
        "SELECT post_name FROM wp_posts JOIN wp_options ON option_name='page_on_front' AND option_value=ID"
    )
    names = {page.parent.name for page in pages}
    assert {unquote(name) for (name,) in published} - {front[0][0]} <= names
    seen = set()
    for page in pages:
        for address in links(page):
            parts = urlsplit(address)
            if parts.scheme or not parts.path:
                assert not address.startswith(("//", "file:")), (page, address)
                continue
            target = (page.parent / unquote(parts.path)).resolve()
            assert target.is_file(), (page, address)
            assert target.is_relative_to(kayane.folder)
            seen.add(target.suffix)
    assert {".html", ".css", ".jpg"} <= seen
    story = next(page for page in pages if "Récit n° 3 " in page.read_text() and "sortie" in page.parent.name)
    assert "nous écrire</a>" in story.read_text()
    assert re.search(r'href="(\.\./)+agenda/index\.html#haut"', story.read_text())


def marked(pattern: str, page: str) -> list[str]:
    """Return what a page says there: a WordPress without French translations writes an apostrophe as another entity."""
    return [unescape(re.sub(r"<[^>]+>", "", found)) for found in re.findall(pattern, page)]


@pytest.mark.parametrize("slug", ["kayane", pytest.param("regart", marks=pytest.mark.acceptance)])
def test_an_ordinary_wordpress_opens_it(exports: Callable[[str], Export], slug: str) -> None:
    """Debian's WordPress, Apache and MariaDB, set up by following LISEZMOI.txt to the letter."""
    export = exports(slug)
    with Hosting(export.town, export.folder) as hosting:
        hosting.follow((export.folder / "LISEZMOI.txt").read_text())
        old, new = f"https://{slug}.assos.localhost:{export.town.port}", hosting.address
        for table in (
            "SELECT ID, post_title, post_type, post_status, post_name, post_parent, MD5(REPLACE(post_content, "
            f"'{old}', '{new}')) FROM wp_posts ORDER BY ID",
            "SELECT comment_ID, comment_author, comment_content FROM wp_comments ORDER BY comment_ID",
            "SELECT term_id, name, slug, taxonomy FROM wp_terms JOIN wp_term_taxonomy USING (term_id) ORDER BY term_id",
            "SELECT object_id, term_taxonomy_id FROM wp_term_relationships ORDER BY 1, 2",
            "SELECT ID, user_login, user_email, user_pass, display_name FROM wp_users ORDER BY ID",
            "SELECT user_id, meta_value FROM wp_usermeta WHERE meta_key = 'wp_capabilities' ORDER BY 1",
        ):
            assert hosting.rows(table) == export.rows(table)
        pages = [
            page.parent.relative_to(export.folder / "site") for page in (export.folder / "site").rglob("index.html")
        ]
        assert len(pages) > 20
        for page in pages:
            path = "/" if str(page) == "." else f"/{page}/"
            there, here = hosting.get(path), export.town.get(slug, path).data.decode()
            for mark in (
                r"<title>(.*?)</title>",
                r"<h\d[^>]*wp-block-post-title[^>]*>(.*?)</h\d>",
                r"navigation-item__label\">(.*?)</span>",
            ):
                assert marked(mark, there) == marked(mark, here), (path, mark)
            assert old not in there, path
        for (file,) in export.rows("SELECT meta_value FROM wp_postmeta WHERE meta_key = '_wp_attached_file'"):
            original = export.uploads.parent / file
            assert hosting.sha256(f"/wp-content/uploads/{file}") == hashlib.sha256(original.read_bytes()).hexdigest()
        users = hosting.log_in("presidence", PASSWORD, "/wp-admin/users.php")
        assert "redaction@example.org" in users
