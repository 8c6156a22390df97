"""Mails as they look: each kind compared with its golden rendering, and what may stand in none of them.

After a change of wording: WRITE_GOLDEN=1 .venv/bin/pytest tests/unit/test_mails.py, and read the difference.
"""

import os
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from icalendar import Calendar

from provisioner.errors import BadInput
from provisioner.inventory import Council, Host, Inventory, MailServer
from provisioner.inventory import Mail as MailSettings
from provisioner.mail.messages import FOR_OPERATORS, Message, as_calendar, as_html, blocks, compose, envelope
from provisioner.model.tables import Contact, Incident, Mail, Site
from provisioner.operations.alerts import local
from tests.support.texts import EACH_PAIR, Pair
from tests.support.typography import faults

GOLDEN = Path(__file__).parent / "golden" / "mail"
COUNCIL = Council(
    name="Commune, de « test »", address="1 place de la Mairie", telephone="01 99 00 00 00", mail="aide@example.org"
)
HOSTILE = "<script>alert(1)</script> & \"x\" 'y' {{7*7}} {% raw %} - http://a.test?a=1&b=2"
WHEN = datetime(2028, 6, 30, 7, 0, tzinfo=UTC)
DEADLINE, TERM_END, NEXT_END, CAP_END = date(2028, 9, 30), date(2028, 12, 31), date(2031, 12, 31), date(2034, 12, 31)


def site(name: str) -> Site:
    return Site(
        slug="kayane", host_name="kayane.example.test", host="main", name=name, profile="general", release="6.8",
        created_at=WHEN,
    )  # fmt: skip


def people(name: str) -> list[Contact]:
    return [
        Contact(site_id=1, name=name, mail="presidence@example.org", login="presidence", administrator=True),
        Contact(site_id=1, name="Secrétariat", mail="secretariat@example.org", login="s", administrator=False),
    ]


def incident(name: str) -> Incident:
    return Incident(
        subject="kayane", alarm="silent", what=f"{name} is silent", command="provision doctor", critical=True,
        began_at=WHEN,
    )  # fmt: skip


def values(name: str) -> dict[str, dict[str, Any]]:
    """Return what each kind of mail is rendered with, for an association and a contact called ``name``."""
    url = "https://kayane.example.test"
    known = {"site": site(name), "council": COUNCIL}
    dates = {"start": date(2026, 1, 1), "term_years": 3, "term_end": TERM_END, "deadline": DEADLINE, "cap_end": CAP_END,
             "next_start": date(2029, 1, 1), "next_end": NEXT_END, "next_is_last": False}  # fmt: skip
    link = f"{url}/wp-login.php?action=rp&key=0123&login=presidence"
    closing = {"url": url, "closes_on": date(2029, 1, 1), "export_until": date(2029, 3, 1), "term_end": TERM_END}
    at_the_cap = {"closes_on": date(2035, 1, 1), "export_until": date(2035, 1, 30)}
    notice = {"given_on": date(2028, 7, 1), "given_by": "la présidence"}
    return {
        "invitation": {**known, "contact": people(name)[0], "url": url, "link": link, "valid_until": date(2026, 12, 1)},
        "choice": {**known, **dates, "day": DEADLINE},
        "notice": {**known, **dates, "day": DEADLINE},
        "renewed": {**known, **dates},
        "attestation": {**known, **dates},
        "attestation_last": {**known, **dates, "next_end": CAP_END, "next_is_last": True},
        "last_term": {**known, **dates, **at_the_cap, "day": CAP_END},
        "contacts": {**known, "contacts": people(name)},
        "administrator_alone": {**known, "contacts": people(name)},
        "upgraded": {**known, "contact": people(name)[0], "url": url, "wordpress": "7.1.3"},
        "notice_recorded": {**known, **closing, **notice, "day": TERM_END},
        "notice_by_council": {**known, **closing, **notice, "day": TERM_END},
        "notice_afterwards": {**known, **closing, **notice, "by_council": False, "day": closing["export_until"]},
        "notice_afterwards_council": {**known, **closing, **notice, "by_council": True, "day": closing["export_until"]},
        "termination_recorded": {**known, **closing, "first_day_without": date(2029, 1, 1), "day": TERM_END},
        "end_taken_back": {**known, "url": url, "terminated": False, "ends": None, "term_end": TERM_END},
        "end_taken_back_last": {**known, "url": url, "terminated": True, "ends": CAP_END, "term_end": CAP_END},
        "closing": {**known, **closing, "reason": "last_term", "day": closing["export_until"]},
        "closing_notice": {**known, **closing, "reason": "notice", "by_council": False, "day": closing["export_until"]},
        "closing_notice_by_council": {
            **known,
            **closing,
            "reason": "notice",
            "by_council": True,
            "day": closing["export_until"],
        },
        "closing_termination": {**known, **closing, "reason": "termination", "day": closing["export_until"]},
        "test": {"council": COUNCIL, "today": date(2028, 7, 1)},
        "incident": {"incident": incident(name), "local": local, "seen_at": WHEN},
        "nightly": {
            "namespace": "provision",
            "started": WHEN,
            "local": local,
            "parts": [("backup", 29, 30)],
            "failures": [("kayane", "backup", f"{name} failed", "provision backup kayane")],
        },
        "digest": {
            "namespace": "provision",
            "today": date(2028, 7, 3),
            "sites": 30,
            "nights": 7,
            "failed": 1,
            "waiting": 0,
            "attention": [incident(name)],
        },
    }


KINDS = sorted(values("Kayane"))
VARIANTS = {
    "attestation_last": "attestation",
    "closing_notice": "closing",
    "closing_notice_by_council": "closing",
    "closing_termination": "closing",
    "end_taken_back_last": "end_taken_back",
    "notice_afterwards_council": "notice_afterwards",
}


def rendered(kind: str, given: dict[str, Any]) -> Message:
    """Return the mail ``kind``, or a variant of one, from what it is given."""
    return compose(VARIANTS.get(kind, kind), **given)


def mail(kind: str, name: str = "Kayane") -> Mail:
    message = rendered(kind, values(name)[kind])
    return Mail(
        occasion=kind, message_id="<1@example.test>", kind=kind, subject=message.subject, body=message.body,
        day=message.day, day_says=message.day_says, created_at=WHEN, next_attempt_at=WHEN,
    )  # fmt: skip


def language(kind: str) -> str:
    return "en" if kind in FOR_OPERATORS else "fr"


def html(written: Mail) -> str:
    return as_html(written.subject, written.body, language(written.kind))


def inventory(**changes: Any) -> Inventory:
    return Inventory(
        council=COUNCIL,
        domain="example.test",
        hosts=[Host(name="main", data_root=Path("/srv/provision"))],
        mail=MailSettings(sender="site@example.org", **changes),
    )


def compare(name: str, text: str) -> None:
    """Compare ``text`` with its golden file."""
    path = GOLDEN / name
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_reads_as_agreed(kind: str) -> None:
    written = mail(kind)
    compare(f"{kind}.txt", f"{written.subject}\n\n{written.body}")
    compare(f"{kind}.html", html(written))
    calendar = as_calendar(written)
    assert (calendar is not None) == ("day" in values("Kayane")[kind])
    if calendar is not None:
        compare(f"{kind}.ics", calendar.replace("\r\n", "\n"))


def test_no_golden_file_is_left_over() -> None:
    assert {path.name.partition(".")[0] for path in GOLDEN.iterdir()} == set(KINDS)
    templates = {path.name.partition(".")[0] for path in Path("templates/mail").glob("*.txt.j2")} - {"layout"}
    assert templates == set(KINDS) - set(VARIANTS)


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_name_is_text_and_nothing_else(kind: str) -> None:
    """H5: element by element the page of an ordinary name, and the name as it is in both parts."""
    ordinary, hostile = mail(kind), mail(kind, HOSTILE)
    page, wanted = Page(html(hostile)), Page(html(ordinary))
    assert page.elements == wanted.elements
    assert page.attributes == wanted.attributes
    assert page.text.count(HOSTILE) == wanted.text.count("Kayane") + wanted.text.count("Présidence")
    assert hostile.body.count(HOSTILE) == ordinary.body.count("Kayane")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_loads_nothing_and_has_one_language(kind: str) -> None:
    page = Page(html(mail(kind)))
    assert {"html", "title", "main", "h1"} <= set(page.elements)
    assert not {"img", "link", "script", "iframe", "style", "form", "table"} & set(page.elements)
    assert [value for name, value in page.attributes if name == "lang"] == [language(kind)]
    assert not any("url(" in (value or "") for _, value in page.attributes)
    hrefs = [value for name, value in page.attributes if name == "href"]
    assert all(href in mail(kind).body.split("\n") for href in hrefs), "a link is shown as the text that it is"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("server", [None, MailServer(host="smtp.example.org")], ids=["folder", "server"])
def test_a_mail_survives_the_wire(kind: str, server: MailServer | None) -> None:
    """What a mail program reads is what was written, whatever the association is called."""
    written = mail(kind, f"Étoile « d'or » {HOSTILE}")
    sent = envelope(written, inventory(server=server), "presidence@example.org")
    read = message_from_bytes(sent.as_bytes(), policy=policy.default)
    assert isinstance(read, EmailMessage)
    assert read["Subject"] == written.subject
    assert read["From"].addresses[0].display_name == COUNCIL.name
    assert read["Reply-To"].addresses[0].addr_spec == COUNCIL.mail
    assert (read["Auto-Submitted"], read["Message-ID"]) == ("auto-generated", written.message_id)
    leaves = [part for part in read.walk() if not part.is_multipart()]
    parts = {part.get_content_type(): part.get_content().replace("\r\n", "\n") for part in leaves}
    assert parts["text/plain"] == written.body
    assert parts["text/html"] == html(written)
    assert ("text/calendar" in parts) == (written.day is not None)
    if written.day is not None:
        (event,) = Calendar.from_ical(parts["text/calendar"]).walk("VEVENT")
        assert event.decoded("dtstart") == written.day
        assert event["summary"] == written.day_says
    if server is not None:
        assert sent.as_bytes().isascii(), "a server need not know 8BITMIME"


@pytest.mark.parametrize("address", ["a@example.org\r\nBcc: b@example.org", "a@example.org\nX: y", "a@b@c.test", ""])
def test_an_address_that_would_forge_a_header_is_refused(address: str) -> None:
    """G7, also for what came into the records some other way."""
    with pytest.raises(ValueError, match=r"."):
        envelope(mail("choice"), inventory(), address)


@pytest.mark.parametrize("name", ["a\r\nBcc: b@example.org", "a\nb", "=?utf-8?q?a=0D=0ABcc=3A_b@example.org?="])
def test_a_subject_that_would_forge_a_header_is_refused(name: str) -> None:
    with pytest.raises((BadInput, ValueError)):
        envelope(mail("invitation", name), inventory(), "presidence@example.org")


def test_what_a_paragraph_is() -> None:
    found = blocks("a\nb\n\nhttps://a.test/?b\n\n- c\n- d\n\n\nhttps://a.test b\n")
    assert [(block.kind, block.lines) for block in found] == [
        ("text", ["a", "b"]),
        ("link", ["https://a.test/?b"]),
        ("list", ["c", "d"]),
        ("text", ["https://a.test b"]),
    ]


def test_a_mail_without_a_value_is_an_error() -> None:
    incomplete = values("Kayane")["choice"]
    del incomplete["deadline"]
    with pytest.raises(Exception, match="deadline"):
        compose("choice", **incomplete)


def test_no_date_is_cut_from_its_month() -> None:
    """Dates are written out; a first day is "1er"."""
    for kind in set(KINDS) - set(FOR_OPERATORS):
        assert not re.search(r"\d{4}-\d\d-\d\d|\d\d/\d\d", mail(kind).body)
    assert "1er\xa0mars 2029" in mail("closing").subject
    assert replace(compose("test", **values("Kayane")["test"]), kind="x").subject == "Message d’essai"


@EACH_PAIR
@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(FOR_OPERATORS)))
def test_a_mail_is_french(pair: Pair, kind: str) -> None:
    given = values("Kayane")[kind] | {"council": pair.council}
    if "site" in given:
        given |= {"site": pair.site}
    written = rendered(kind, given)
    for text in (written.subject, written.day_says, written.body):
        assert faults(re.sub(r"^- ", "", text, flags=re.MULTILINE), pair.names) == []
    assert written.body.startswith("Bonjour,\n")
    assert f"\n\nCordialement,\n\n{pair.council.name}\n" in written.body
    sentences = [line for line in written.body.split("\n") if pair.council.name in line and line != pair.council.name]
    assert all(f"{pair.council.in_sentence.the[1:]}" in line for line in sentences), "the name stands with its article"
