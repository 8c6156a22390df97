"""Hostile input that is text: every such row of hostile.yaml is stored, and shown as it is (H1 to H6)."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from provisioner.fields import visible
from tests.support.hostile import VERBATIM, changed, made
from tests.support.town import Town, association

PLAIN = {  # what an association has where no row says anything else
    "name": "Association ordinaire",
    "seat": "1 rue Ordinaire",
    "telephone": "01 99 00 00 00",
    "publication_director": "Personne Ordinaire",
    "commune": "Ville",
}


@dataclass(frozen=True)
class Kept:
    """A text that must be kept, and the site whose association has it at ``key``."""

    row: str
    why: str
    slug: str
    key: str
    text: str


def spread(rows: list[dict[str, Any]]) -> list[Kept]:
    """Give each row a site: the first of each key share one, so do the second, and so on."""
    used: Counter[str] = Counter()
    kept = []
    for row in rows:
        ((key, value),) = row["given"].items()
        used[key] += 1
        kept.append(Kept(row["row"], row["why"], f"hostile-{used[key]}", key, made(value)))
    return kept


KEPT = spread(VERBATIM)
NAMES = [kept for kept in KEPT if kept.key == "name"]
SHOWN = {  # on which page, behind which words
    "seat": ("/mentions-legales/", "Siège : "),
    "telephone": ("/mentions-legales/", "Téléphone : "),
    "publication_director": ("/mentions-legales/", ""),
    "commune": ("/contact/", "Commune : "),
}
FACTS = [kept for kept in KEPT if kept.key in SHOWN]
CONTACTS = [kept for kept in KEPT if kept.key == "contacts.0.name"]
SLUGS = ["ordinary", *sorted({kept.slug for kept in KEPT})]


def kept_name(kept: Kept) -> str:
    return f"{kept.row}: {kept.why}"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town of its own in which one command created an ordinary site and all the hostile ones."""
    place = Town(tmp_path_factory.mktemp("market"))
    try:
        place.init()
        specs = []
        for slug in SLUGS:
            changes = {kept.key: kept.text for kept in KEPT if kept.slug == slug}
            specs.append(changed(association(slug, **PLAIN), changes))
        place.run("create", "--from", place.describe(*specs))
        yield place
    finally:
        place.remove()


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the texts in them."""

    VOID = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[tuple[str, str]] = []  # the element's first class, or its tag; and all the text in it
        self._open: list[tuple[str, str, list[str]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(sorted(name for name, _ in attributes))))
        if tag not in self.VOID:
            label = (dict(attributes).get("class") or tag).split()
            self._open.append((tag, label[0] if label else tag, []))

    def handle_data(self, data: str) -> None:
        for _, _, parts in self._open:
            parts.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self._open and any(one == tag for one, _, _ in self._open):
            name, label, parts = self._open.pop()
            self.texts.append((label, "".join(parts)))
            if name == tag:
                return

    def text_of(self, label: str) -> set[str]:
        """Return the texts of the elements with this class or tag."""
        return {typed(text) for one, text in self.texts if one == label}


def typed(text: str) -> str:
    """Return text as it was typed: WordPress sets quotation marks, dashes and ellipses as a printer does."""
    for pattern, plain in (("[‘’′]", "'"), ("[“”″«»]", '"'), ("…", "..."), ("×", "x"), ("[-–—]+", "-"), (r"\s+", " ")):
        text = re.sub(pattern, plain, text)
    return text.strip()


Pages = Callable[[str, str], Page]


@pytest.fixture(scope="module")
def pages(market: Town) -> Pages:
    """Return a function that fetches a page of a site, once."""

    @cache
    def fetch(slug: str, path: str) -> Page:
        answer = market.get(slug, path)
        assert answer.status == 200
        return Page(answer.data.decode())

    return fetch


def stored(town: Town, kept: Kept) -> str:
    """Return what the state has, read beside `provision`."""
    of_contact = kept.key == "contacts.0.name"
    table, column = ("contact JOIN site ON site.id = site_id", "contact.name") if of_contact else ("site", kept.key)
    query = f"SELECT {column} FROM {table} WHERE slug = ?"
    with sqlite3.connect(f"file:{town.state / 'provision.db'}?mode=ro", uri=True) as database:
        return str(database.execute(query, [kept.slug]).fetchone()[0])


@pytest.fixture(scope="module")
def listed(market: Town) -> dict[str, str]:
    """Return the name of each site as `provision status` has it."""
    return {site["slug"]: site["name"] for site in market.json("status")["sites"]}


def test_every_text_is_looked_for() -> None:
    assert {kept.key for kept in KEPT} <= {"name", *SHOWN, "contacts.0.name"}


@pytest.mark.parametrize("kept", NAMES, ids=kept_name)
def test_a_name_is_shown_as_it_is(kept: Kept, market: Town, listed: dict[str, str], pages: Pages) -> None:
    assert stored(market, kept) == kept.text
    assert listed[kept.slug] == kept.text
    logins = market.sql(f"SELECT user_login FROM {kept.slug.replace('-', '_')}_1.wp_users").split("\n")[:-1]
    assert len(logins) == 2
    assert all(re.fullmatch(r"[a-z0-9-]+", login) for login in logins)
    front, legal = pages(kept.slug, "/"), pages(kept.slug, "/mentions-legales/")
    assert [title for title in front.text_of("title") if title.startswith(f"{typed(kept.text)} - ")]
    assert front.text_of("wp-block-site-title") == {typed(kept.text)}
    assert typed(f"Nom : {kept.text}") in legal.text_of("li")


@pytest.mark.parametrize("kept", FACTS, ids=kept_name)
def test_what_is_published_of_an_association_is_shown_as_it_is(kept: Kept, market: Town, pages: Pages) -> None:
    assert stored(market, kept) == kept.text
    path, label = SHOWN[kept.key]
    page = pages(kept.slug, path)
    assert typed(label + kept.text) in page.text_of("li") | page.text_of("p")


@pytest.mark.parametrize("kept", CONTACTS, ids=kept_name)
def test_the_name_of_a_contact_is_stored_as_it_is(kept: Kept, market: Town) -> None:
    assert stored(market, kept) == kept.text


@pytest.mark.parametrize("path", ["/", "/mentions-legales/", "/contact/"])
@pytest.mark.parametrize("slug", SLUGS[1:])
def test_no_text_becomes_markup(slug: str, path: str, pages: Pages) -> None:
    """Element by element the page is that of an ordinary association: no tag, attribute or shortcode came in."""
    assert pages(slug, path).elements == pages("ordinary", path).elements


def test_an_invitation_names_the_association_as_it_is(market: Town) -> None:
    names = {kept.slug: kept.text for kept in NAMES}
    mails = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in market.state.glob("mail/*.eml")]
    assert len(mails) == 2 * len(SLUGS)
    for mail in mails:
        name = names.get(re.findall(r"\.(\S+)@", mail["To"])[0], PLAIN["name"])
        assert mail["Subject"] == f"Le site de votre association «\xa0{name}\xa0» est prêt"
        text = mail.get_body(("plain",))
        assert text is not None
        assert f"« {name} »" in re.sub(r"\s", " ", text.get_content())
        assert len(mail.keys()) == len(mails[0].keys())


def test_no_text_is_in_the_name_of_a_resource(market: Town) -> None:
    ours = {
        "containers": [f"{market.namespace}.site.{{}}.1"],
        "databases": ["{}_1"],
        "users": ["{}_1", "{}_1_reader"],
    }
    found = market.belongings()
    for kind, patterns in ours.items():
        slugs = [slug if kind == "containers" else slug.replace("-", "_") for slug in SLUGS]
        wanted = {pattern.format(slug) for pattern in patterns for slug in slugs}
        assert {name for name in found[kind] if re.search("hostile|ordinary", name)} == wanted
    assert found["directories"] == {
        f"{folder}/{slug}" for folder in ("run/sites", "run/activity", "sites") for slug in SLUGS
    }
    assert all(re.fullmatch(r"[A-Za-z0-9._/-]+", name) for names in found.values() for name in names)
    assert not list(market.folder.rglob("pwned"))


def test_status_has_one_line_per_site_and_hides_no_character(market: Town) -> None:
    lines = market.run("status").stdout.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.split()[:2] == ["site", "name"])
    rows = [line for line in lines[heading + 2 :] if line.strip()]
    assert [row.split()[0] for row in rows] == sorted(SLUGS)
    assert [line for line in lines if visible(line) != line] == []
    for kept in NAMES:
        row = next(row for row in rows if row.split()[0] == kept.slug)
        assert visible(kept.text) in row
