"""Kit, mails and the edge's configuration: rendered without a gap, whatever an association is called."""

import json
import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import kit, render
from provisioner.associations import PROFILES
from provisioner.clock import now
from provisioner.french import in_full
from provisioner.inventory import Council, Legal, Policy
from provisioner.mail.messages import compose
from provisioner.model.tables import Contact, Site
from tests.support.texts import inventory_of

COUNCIL = Council(name="Commune", address="1 place", telephone="01 99 00 00 00", mail="asso@example.org")
INVENTORY = inventory_of(COUNCIL)
HOSTILE = "<script>alert(1)</script> & \"x\" 'y' {{7*7}} {page:accueil} [gallery] {% raw %}"


def site(name: str = "Kayane", profile: str = "general", **values: Any) -> Site:
    return Site(
        slug="kayane",
        host_name="kayane.assos.localhost",
        host="local",
        name=name,
        profile=profile,
        release="6.8",
        created_at=now(),
        **values,
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_renders_whole(profile: str) -> None:
    rendered = kit.rendered(site(profile=profile), INVENTORY, "https://kayane.assos.localhost")
    slugs = {page["slug"] for page in rendered["pages"]}
    for page in rendered["pages"]:
        assert page["parent"] is None or page["parent"] in slugs
        if page["role"] != "posts":
            check_blocks(page["content"])
    for markup in (rendered["navigation"], rendered["footer"], rendered["posts"][0]["content"]):
        check_blocks(markup)
    named = re.findall(r"\{(?:page|id):([a-z-]+)\}", json.dumps(rendered))
    assert set(named) <= slugs, "a link names a page that is none"
    assert rendered["posts"][0]["category"] in {category["slug"] for category in rendered["categories"]}
    assert kit.tagline(profile)


def check_blocks(markup: str) -> None:
    """Check that block comments are balanced and their attributes are JSON."""
    assert markup.strip()
    open_blocks: list[str] = []
    for closing, name, attributes, lone in re.findall(r"<!-- (/)?wp:(\S+) (\{.*?\} )?(/)?-->", markup):
        if attributes:
            json.loads(re.sub(r"\{id:[a-z-]+\}", "1", attributes))
        if closing:
            assert open_blocks.pop() == name
        elif not lone:
            open_blocks.append(name)
    assert open_blocks == []


class Tags(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    """H5: neither HTML, nor Jinja, nor our placeholders, nor a shortcode of WordPress."""
    hostile = kit.rendered(site(HOSTILE, seat=HOSTILE, telephone=HOSTILE), INVENTORY, "https://kayane.assos.localhost")
    plain = kit.rendered(site(seat="a", telephone="b"), INVENTORY, "https://kayane.assos.localhost")
    for page, ordinary in zip(hostile["pages"], plain["pages"], strict=True):
        seen, wanted = Tags(), Tags()
        seen.feed(page["content"])
        wanted.feed(ordinary["content"])
        assert seen.tags == wanted.tags
        assert "{page:accueil}" not in page["content"].replace('="{page:accueil}"', "")
        assert "[gallery]" not in page["content"]
    notice = Tags()
    notice.feed(next(page["content"] for page in hostile["pages"] if page["slug"] == "mentions-legales"))
    assert HOSTILE in notice.text


def test_the_legal_notice_says_what_the_law_asks() -> None:
    given = {"seat": "2 rue du Port", "telephone": "01 99 11 11 11", "publication_director": "La présidence"}
    rendered = kit.rendered(site(mail="kayane@example.org", rna="W751234567", **given), INVENTORY, "https://k.test")
    notice = Tags()
    notice.feed(next(page["content"] for page in rendered["pages"] if page["slug"] == "mentions-legales"))
    for text in (
        "Kayane",
        "kayane@example.org",
        "W751234567",
        *given.values(),
        "Commune",
        "1 place",
        "01 99 00 00 00",
        COUNCIL.mail,
    ):
        assert text in notice.text
    assert notice.text.count("À compléter") == 1, "only the authors of images, which no record knows, are missing"


def test_a_page_names_the_days_and_the_address_of_the_inventory() -> None:
    policy, legal = Policy(access_log_days=200, activity_log_days=400), Legal(notice_mail="signalements@example.org")
    changed = INVENTORY.model_copy(update={"policy": policy, "legal": legal})
    pages = {page["slug"]: page["content"] for page in kit.rendered(site(), changed, "https://k.test")["pages"]}
    assert "conservés 400\xa0jours au plus" in pages["donnees-personnelles"]
    assert "signalements@example.org" in pages["mentions-legales"]


def test_the_legal_notice_shows_what_is_missing() -> None:
    rendered = kit.rendered(site(), INVENTORY, "https://k.test")
    notice = next(page["content"] for page in rendered["pages"] if page["slug"] == "mentions-legales")
    assert notice.count("<mark>[À compléter") >= 4


def test_a_template_is_compiled_for_each_use_of_it(tmp_path: Path) -> None:
    """Compiled templates are kept on disk: one that was text once must still escape when it is a page or a report."""
    (tmp_path / "x.txt.j2").write_text("{{ value }}")
    value = "<b>\x1b[2J</b>"
    for html, report in ((False, False), (True, False), (False, True)):
        said = render._environment(tmp_path, html, report=report).get_template("x.txt.j2").render(value=value)
        assert ("<" in said, "\x1b" in said) == (not html, not report)


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (date(2028, 3, 1), "1er\xa0mars 2028"),
        (date(2026, 8, 31), "31\xa0août 2026"),
        (date(2031, 2, 2), "2\xa0février 2031"),
    ],
)
def test_dates_are_written_out(day: date, words: str) -> None:
    assert in_full(day) == words


def test_an_instant_is_a_day_in_paris() -> None:
    assert in_full(datetime(2028, 2, 29, 23, 30, tzinfo=UTC)) == "1er\xa0mars 2028"


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and text.strip()))
def test_an_invitation_keeps_the_name_as_it_is(name: str) -> None:
    message = compose(
        "invitation",
        site=site(name),
        council=COUNCIL,
        contact=Contact(site_id=1, name="P", mail="p@example.org", login="p", administrator=True),
        url="https://kayane.assos.localhost",
        link="https://kayane.assos.localhost/link",
        valid_until=date(2026, 12, 1),
    )
    assert name in message.subject or name.strip() in message.subject
    assert f"«\xa0{name}\xa0»" in message.body
    assert "https://kayane.assos.localhost/link\n" in message.body
    assert "1er\xa0décembre 2026" in message.body
