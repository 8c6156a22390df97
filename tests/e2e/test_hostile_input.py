"""Hostile and careless input: every row of hostile.yaml is refused without effect, or shown as it is (H1 to H6)."""

import os
import re
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from email import message_from_bytes, policy
from functools import cache
from html.parser import HTMLParser
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import yaml

from provisioner.cli.app import main
from provisioner.fields import visible
from tests.support.town import Town, association

COLUMNS = {"row", "why", "through", "given", "content", "then", "code", "says", "at"}
ROWS: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("hostile.yaml").read_text(encoding="utf-8"))
REFUSED = [row for row in ROWS if row["then"] == "refused"]
VERBATIM = [row for row in ROWS if row["then"] == "verbatim"]
SECONDS = 5.0  # for one refusal, whatever the input
LINE = 1100  # characters of a refusal at most, whatever the input
PLAIN = {  # what an association has where no row says anything else
    "name": "Association ordinaire",
    "seat": "1 rue Ordinaire",
    "telephone": "01 99 00 00 00",
    "publication_director": "Personne Ordinaire",
    "commune": "Ville",
}


def name_of(row: Mapping[str, Any]) -> str:
    return f"{row['row']}: {row['why']}"


def test_the_table_is_well_formed() -> None:
    assert len(REFUSED) > 150
    assert {kept.key for kept in KEPT} <= {"name", *SHOWN, "contacts.0.name"}
    assert {row["row"] for row in ROWS} == {"H1", "H2", "H3", "H4", "H5", "H6"}
    for row in ROWS:
        assert set(row) <= COLUMNS, name_of(row)
        assert ("given" in row) != ("content" in row), name_of(row)
        assert ("says" in row) == (row["then"] == "refused"), name_of(row)
    assert [name for name, count in Counter(map(name_of, ROWS)).items() if count > 1] == []


# What the table's words mean


def made(value: Any) -> Any:
    """Return a value of the table with its generated parts made."""
    match value:
        case {"repeat": part, "times": int(times)}:
            return part * times
        case {"join": [*parts]}:
            return "".join(made(part) for part in parts)
        case {"bytes": hexadecimal}:
            return bytes.fromhex(hexadecimal)
        case dict():
            return {key: made(part) for key, part in value.items()}
        case list():
            return [made(part) for part in value]
    return value


def word(value: Any) -> str:
    """Return a value as Python has it in sys.argv: bytes that are not UTF-8 become lone surrogates."""
    return os.fsdecode(made(value))


def changed(sound: Any, changes: Mapping[str, Any]) -> Any:
    """Return a copy of ``sound`` in which the dotted keys of ``changes`` have other values, or are absent."""
    copy = deepcopy(sound)
    for dotted, value in changes.items():
        *path, last = (int(part) if part.isdecimal() else part for part in dotted.split("."))
        place = copy
        for part in path:
            place = place[part]
        if value == {"absent": True}:
            del place[last]
        else:
            place[last] = made(value)
    return copy


def write(path: Path, row: Mapping[str, Any], sound: Any) -> Path:
    """Write the file of a row and return its path; some rows are about another kind of file."""
    match row.get("content"):
        case None:
            path.write_text(yaml.safe_dump(changed(sound, row["given"]), allow_unicode=True), encoding="utf-8")
        case {"place": "missing"}:
            pass
        case {"place": "directory"}:
            path.mkdir()
        case {"place": "endless"}:
            return Path("/dev/zero")
        case content:
            data = made(content)
            path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def command(row: Mapping[str, Any], town: Town, folder: Path) -> tuple[list[str], Path | None]:
    """Return the words behind `provision` that bring in a row, and the file that they name."""
    match row["through"]:
        case "argument":
            return [word(value) for value in row["given"]], None
        case "options":
            two = [f"{who} <{who}@example.org>" for who in ("presidence", "secretariat")]
            given = {"slug": "kayane", "name": "Kayane", "administrator": two, **row["given"]}
            slug = word(given.pop("slug"))
            pairs = [(key, one) for key, value in given.items() for one in (value if type(value) is list else [value])]
            return ["create", "--yes", *(f"--{key}={word(value)}" for key, value in pairs), "--", slug], None
        case "file":
            path = write(folder / "associations.yaml", row, association("kayane"))
            return ["create", "--yes", "--from", str(path)], path
        case "inventory":
            sound = {**yaml.safe_load(town.inventory.read_text(encoding="utf-8")), "state": str(town.state)}
            path = write(folder / "inventory.yaml", row, sound)
            return ["status", "--inventory", str(path)], path
    raise AssertionError(f"{name_of(row)}: through {row['through']}")


# Refused: one line, the right code, no effect


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str


def run_here(town: Town, words: list[str]) -> Ended:
    """Run `provision` in this process, by its own `main`: what it prints and returns is what an operator gets."""
    output, errors = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", ["provision", *words]),
        patch.dict(os.environ, town.environment()),
        redirect_stdout(output),
        redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Ended(cast("int", ended.value.code), output.getvalue(), errors.getvalue())


def counts(town: Town) -> dict[str, int]:
    """Return how many of each are on record, read beside `provision`."""
    with sqlite3.connect(f"file:{town.state / 'provision.db'}?mode=ro", uri=True) as database:
        tables = ("site", "contact", "agreement", "generation", "operation", "operationstep", "mail", "event")
        return {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def files(town: Town) -> set[Path]:
    """Return every file of the control plane."""
    return set(town.folder.rglob("*"))


@pytest.fixture(scope="module")
def signals() -> Iterator[None]:
    """Give the signals that `main` takes back at the end."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def untouched(town: Town, signals: None) -> Iterator[Town]:
    """The town; after the whole table its host has what it had before."""
    before = town.belongings()
    yield town
    assert town.belongings() == before


def assert_refused(row: Mapping[str, Any], ended: Ended, path: Path | None) -> None:
    """Check that a command ended with the code and the one line that the row asks for."""
    assert (ended.code, ended.output) == (row.get("code", 2), ""), ended.errors[-2000:]
    lines = ended.errors.splitlines()
    assert len(lines) == 1, ended.errors[-2000:]
    assert lines[0].startswith("provision: ")
    assert row["says"] in lines[0]
    assert len(lines[0]) < LINE + len(str(path))
    assert visible(lines[0]) == lines[0]
    if path is not None:
        place = f":{row.get('at', r'[0-9]+:[0-9]+')}"
        if "content" in row and "at" not in row:
            place = f"({place})?"  # a file that cannot be read as text has no line
        assert re.match(f"provision: {re.escape(str(path))}{place}: ", lines[0])


@pytest.mark.parametrize("row", REFUSED, ids=name_of)
def test_it_is_refused_with_one_line_and_without_effect(
    row: dict[str, Any], untouched: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(untouched.folder)
    words, path = command(row, untouched, tmp_path)
    before = counts(untouched), files(untouched)
    started = time.monotonic()
    ended = run_here(untouched, words)
    assert time.monotonic() - started < SECONDS
    assert_refused(row, ended, path)
    assert (counts(untouched), files(untouched)) == before


FIRST_OF_EACH = [next(rows) for _, rows in groupby(sorted(REFUSED, key=lambda r: r["through"]), lambda r: r["through"])]
NOT_UTF8 = [row for row in REFUSED if row["through"] in ("argument", "options") and "not UTF-8" in row["says"]]


@pytest.mark.parametrize("row", [*FIRST_OF_EACH, *NOT_UTF8], ids=name_of)
def test_a_process_of_its_own_says_the_same(
    row: dict[str, Any], untouched: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Town, "forks", False)
    words, path = command(row, untouched, tmp_path)
    done = untouched.run(*words, code=None)
    assert_refused(row, Ended(done.returncode, done.stdout, done.stderr), path)


# Verbatim: stored, and shown as it is


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
        assert mail["Subject"] == f"Le site de votre association {name} est prêt"
        text = mail.get_body(("plain",))
        assert text is not None
        assert f"« {name} »" in re.sub(r"\s", " ", text.get_content())
        assert len(mail.keys()) == len(mails[0].keys())


def test_no_text_is_in_the_name_of_a_resource(market: Town) -> None:
    ours = {"containers": f"{market.namespace}.site.{{}}.1", "databases": "{}_1", "users": "{}_1"}
    found = market.belongings()
    for kind, pattern in ours.items():
        slugs = [slug if kind == "containers" else slug.replace("-", "_") for slug in SLUGS]
        assert {name for name in found[kind] if re.search("hostile|ordinary", name)} == set(map(pattern.format, slugs))
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
