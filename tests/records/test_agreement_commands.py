"""Agreements through the command line: notice, termination, what is due, the aid's value, the document."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from icalendar import Calendar
from pypdf import PdfReader
from sqlmodel import col, select

from provisioner import records
from provisioner.errors import BadInput
from provisioner.model.tables import Mail, SiteState
from provisioner.operations.agreement import check_signature
from tests.support.registry import Registry
from tests.support.texts import COUNCILS
from tests.support.town import CHECKOUT, association
from tests.support.typography import faults, visible

NOTICE = ("agreement", "end", "kayane", "--notice", "--by", "Présidence de Kayane", "--on")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Kayane's agreement, signed."""
    place = Registry(tmp_path)
    place.sign("kayane", "2026-09-01")
    return place


def test_notice_in_time_ends_the_term_and_plans_the_closing(registry: Registry) -> None:
    day = "2029-06-14T23:59"  # the last minute of the last day
    assert "would be notice_given" in registry.run(*NOTICE, "2029-06-14", "--dry-run", now=day)
    assert registry.agreement(day)["state"] == "active"
    assert "its last day is 2029-09-14" in registry.run(*NOTICE, "2029-06-14", now=day)
    found = registry.agreement(day)
    assert (found["state"], found["notice_on"], found["last_day"]) == ("notice_given", "2029-06-14", "2029-09-14")
    assert found["planned"] == [("2029-09-15", "read_only"), ("2029-10-15", "archive")]
    assert registry.agreement("2029-09-14T23:59")["state"] == "notice_given"
    assert registry.agreement("2029-09-15T00:00")["state"] == "expired"
    assert "notice_given" in registry.run(*NOTICE, "2029-06-14", now=day, code=2)
    assert "active again" in registry.run("agreement", "end", "kayane", "--cancel", now=day)
    assert registry.agreement(day)["planned"] == []
    assert registry.agreement("2029-09-15T00:00")["state"] == "active"


def test_late_notice_is_for_a_person_to_decide(registry: Registry) -> None:
    refusal = registry.run(*NOTICE, "2029-06-15", now="2029-06-15T08:00", code=2)
    for part in ("1 days late", "2029-06-14", "until 2032-09-14", "--accept-late"):
        assert part in refusal
    registry.run(*NOTICE, "2029-06-15", "--accept-late", now="2029-06-15T08:00")
    assert registry.agreement("2029-06-15T08:00")["last_day"] == "2029-09-14"


@pytest.mark.parametrize(
    ("arguments", "now", "words"),
    [
        (["--on", "2033-01-02", "--notice", "--by", "x"], "2033-01-02T12:00", "nothing renews it"),
        (["--on", "2029-01-02", "--notice", "--by", "x"], "2028-01-01T12:00", "in the future"),
        (["--on", "2026-08-01", "--notice", "--by", "x"], "2026-11-25T12:00", "before the signature"),
        (["--on", "2027-01-02", "--notice"], "2028-01-01T12:00", "--by"),
        (["--on", "2027-01-02", "--notice", "--by", "a\nb"], "2028-01-01T12:00", "line break"),
        (["--on", "2027-01-02", "--termination"], "2028-01-01T12:00", "--reason"),
        (["--on", "2027-01-02", "--termination", "--reason", "x", "--by", "y"], "2028-01-01T12:00", "--by"),
        (["--on", "2027-01-02"], "2028-01-01T12:00", "--notice"),
        (["--notice", "--by", "x"], "2028-01-01T12:00", "--on"),
        (["--cancel"], "2028-01-01T12:00", "neither notice nor termination"),
        (["--cancel", "--notice"], "2028-01-01T12:00", "one of"),
    ],
)
def test_what_makes_no_sense_is_refused(registry: Registry, arguments: list[str], now: str, words: str) -> None:
    before = registry.agreement(now)
    errors = registry.run("agreement", "end", "kayane", *arguments, now=now, code=2)
    assert words in errors
    assert len(errors.splitlines()) == 1
    assert registry.agreement(now) == before


def test_termination_takes_effect_on_its_day_and_can_be_taken_back(registry: Registry) -> None:
    command = ("agreement", "end", "kayane", "--on", "2027-02-01", "--termination", "--reason", "dissoute")
    registry.run(*command, now="2027-01-10T12:00")
    assert registry.agreement("2027-01-31T23:59")["state"] == "active"
    found = registry.agreement("2027-02-01T00:00")
    assert (found["state"], found["last_day"]) == ("terminated", "2027-01-31")
    assert found["planned"] == [("2027-02-01", "read_only"), ("2027-03-03", "archive")]
    assert "already" in registry.run(*command, now="2027-01-10T12:00", code=2)
    registry.run("agreement", "end", "kayane", "--cancel", now="2027-01-11T12:00")
    assert registry.agreement("2027-02-01T00:00")["state"] == "active"


@pytest.mark.parametrize(
    ("on", "now", "words"),
    [
        ("2037-01-01", "2026-11-25T12:00", "its agreement ends on 2035-09-14 in any case"),
        ("2035-09-15", "2026-11-25T12:00", "its agreement ends on 2035-09-14 in any case"),
        ("2026-11-25", "2026-11-25T12:00", "2026-11-26 at the earliest"),
        ("2026-10-01", "2026-11-25T12:00", "2026-11-26 at the earliest"),
        ("2026-09-14", "2026-09-10T12:00", "begins on 2026-09-15 only"),
        ("2035-10-01", "2035-09-15T12:00", "ended on 2035-09-14"),
    ],
)
def test_a_termination_has_a_day_to_come_within_the_agreement(
    registry: Registry, on: str, now: str, words: str
) -> None:
    before = registry.agreement(now)
    command = ("agreement", "end", "kayane", "--on", on, "--termination", "--reason", "dissoute")
    assert words in registry.run(*command, now=now, code=2)
    assert registry.agreement(now) == before
    assert registry.json("mail", "list", now=now) == []


def test_a_termination_never_undoes_an_end_by_notice(registry: Registry) -> None:
    registry.run(*NOTICE, "2029-06-01", now="2029-06-01T12:00")
    command = ("agreement", "end", "kayane", "--termination", "--reason", "dissoute", "--on")
    refusal = registry.run(*command, "2029-09-15", now="2029-07-01T12:00", code=2)
    assert "its agreement ends on 2029-09-14 in any case" in refusal
    registry.run(*command, "2029-08-01", now="2029-07-01T12:00")
    assert registry.agreement("2029-08-01T00:00")["state"] == "terminated"
    registry.run("agreement", "end", "kayane", "--cancel", now="2029-07-02T12:00")
    assert registry.agreement("2029-07-02T12:00")["last_day"] == "2029-09-14"


def told(registry: Registry, now: str) -> list[tuple[str, str]]:
    """Return kind and state of every mail."""
    return [(mail["kind"], mail["state"]) for mail in registry.json("mail", "list", now=now)]


def bodies(registry: Registry) -> list[str]:
    """Return the text of every mail as it reads, oldest first: whether lines may break at a space does not matter."""
    with registry.installation.store.transaction() as session:
        mails = session.exec(select(Mail).order_by(col(Mail.id))).all()
    return [f"{mail.subject}\n{mail.body}".replace("\u00a0", " ").replace("\u202f", " ") for mail in mails]


def test_a_termination_is_confirmed_to_every_contact_before_anything_closes(registry: Registry) -> None:
    now = "2027-01-10T12:00"
    folder = registry.installation.mail_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()  # a file where the folder should be: no mail can leave
    command = ("agreement", "end", "kayane", "--on", "2027-01-11", "--termination", "--reason", "dissoute")
    registry.run(*command, now=now)
    assert told(registry, now) == [("termination_recorded", "queued")] * 2
    assert "résiliée à compter du 11 janvier 2027" in bodies(registry)[0]
    registry.serve("kayane")
    close = ("agreement", "close", "kayane", "--dry-run")
    assert "no site closes before its contacts were told" in registry.run(*close, now="2027-01-12T12:00", code=2)
    folder.unlink()
    registry.run("mail", "retry", now="2027-01-12T12:00")
    assert told(registry, now) == [("termination_recorded", "sent")] * 2
    assert "would be read-only" in registry.run(*close, now="2027-01-12T12:00")


def test_a_notice_has_a_giver_and_the_mail_says_who(registry: Registry) -> None:
    now = "2029-06-01T12:00"
    council = ("agreement", "end", "kayane", "--notice", "--from", "council", "--by", "le maire", "--on", "2029-06-01")
    assert "by notice from the council" in registry.run(*council, now=now)
    assert "Commune de test (le maire) a dénoncé la convention" in bodies(registry)[0]
    assert "votre association « Kayane » nous a fait savoir" not in bodies(registry)[0]
    registry.run("agreement", "end", "kayane", "--cancel", now=now)
    assert "by notice from the association" in registry.run(*NOTICE, "2029-06-01", now=now)
    assert "(Présidence de Kayane) nous a fait savoir qu’elle" in bodies(registry)[-1]
    assert told(registry, now) == [
        (kind, "sent") for kind in ("notice_by_council", "end_taken_back", "notice_recorded") for _ in range(2)
    ]
    with registry.installation.store.transaction() as session:
        agreement = records.agreement(session, records.site(session, "kayane").key)
        assert (agreement.notice_giver, agreement.notice_from) == ("association", "Présidence de Kayane")
    assert "Présidence" not in registry.run("log", now=now)


def test_after_the_last_day_nothing_is_taken_back(registry: Registry) -> None:
    registry.run(*NOTICE, "2029-06-14", now="2029-06-14T12:00")
    cancel = ("agreement", "end", "kayane", "--cancel")
    for now in ("2029-09-15T00:00", "2032-01-01T12:00"):
        refusal = registry.run(*cancel, now=now, code=2)
        assert "ended on 2029-09-14" in refusal
        assert "agreement sign kayane" in refusal
        assert registry.agreement(now)["state"] == "expired"
    registry.run(*cancel, now="2029-09-14T23:59")


def test_a_notice_that_is_recorded_after_the_term_is_confirmed_and_leaves_time(registry: Registry) -> None:
    now = "2029-10-01T12:00"
    refusal = registry.run(*NOTICE, "2029-06-14", now=now, code=2)
    for part in ("was over on 2029-09-14", "read-only on 2029-10-16", "--yes"):
        assert part in refusal
    assert registry.agreement(now)["state"] == "active"
    assert "expired" in registry.run(*NOTICE, "2029-06-14", "--dry-run", now=now)
    registry.run(*NOTICE, "2029-06-14", "--yes", now=now)
    found = registry.agreement(now)
    assert (found["state"], found["last_day"]) == ("expired", "2029-09-14")
    assert found["planned"] == [("2029-10-16", "read_only"), ("2029-11-15", "archive")]
    assert told(registry, now) == [("notice_afterwards", "sent")] * 2
    (body, _) = bodies(registry)
    assert "la convention a déjà pris fin, le 14 septembre 2029" in body
    assert "rien ne change" not in body


def test_a_late_notice_counts_for_this_term_or_the_next_or_is_withdrawn(registry: Registry) -> None:
    now = "2029-07-01T12:00"
    refusal = registry.run(*NOTICE, "2029-07-01", now=now, code=2)
    for part in ("--accept-late", "it counts for 2032-09-14: --next-term", "withdrawn: nothing to record"):
        assert part in refusal
    assert "in time" in registry.run(*NOTICE, "2029-06-14", "--next-term", now=now, code=2)
    assert "one term" in registry.run(*NOTICE, "2029-07-01", "--next-term", "--accept-late", now=now, code=2)
    registry.run(*NOTICE, "2029-07-01", "--next-term", now=now)
    found = registry.agreement(now)
    assert (found["state"], found["last_day"], found["planned"][0]) == (
        "notice_given",
        "2032-09-14",
        ("2032-09-15", "read_only"),
    )
    assert "prendra donc fin le 14 septembre 2032" in bodies(registry)[0]
    assert registry.agreement("2029-09-15T12:00")["state"] == "notice_given"


def new_agreement(registry: Registry, now: str, **values: Any) -> dict[str, Any]:
    """Return what `agreement sign` would record of a new agreement of Kayane."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVISION_NOW", now)
        on, start = date.fromisoformat(values.pop("on")), values.pop("start", None)
        first_day = date.fromisoformat(start) if start else None
        return check_signature(registry.installation, "kayane", on, None, first_day, **values)


@pytest.mark.parametrize(
    ("now", "values", "words"),
    [
        ("2029-08-01T12:00", {"on": "2029-08-01", "start": "2039-09-15"}, "on 2030-03-15 at the latest"),
        ("2029-08-01T12:00", {"on": "2029-08-01", "start": "2030-03-16"}, "on 2030-03-15 at the latest"),
        ("2029-08-01T12:00", {"on": "2029-08-01", "start": "2029-09-14"}, "cannot begin before 2029-09-15"),
        ("2029-08-01T12:00", {"on": "2026-08-31"}, "when the agreement before was signed"),
        ("2029-08-01T12:00", {"on": "2029-08-02"}, "in the future"),
        ("2029-10-01T12:00", {"on": "2029-10-01", "start": "2029-09-15"}, "retroactively"),
        ("2030-06-01T12:00", {"on": "2030-06-01"}, "--start 2030-03-15 --retroactive"),
        ("2040-06-01T12:00", {"on": "2029-10-01", "retroactive": True}, "was over on 2038-09-30"),
    ],
)
def test_a_new_agreement_follows_the_one_before(
    registry: Registry, now: str, values: dict[str, Any], words: str
) -> None:
    registry.serve("kayane")
    registry.run(*NOTICE, "2029-06-14", now="2029-06-14T12:00")
    with pytest.raises(BadInput) as refused:
        new_agreement(registry, now, **values)
    assert words in f"{refused.value.message} {refused.value.hint}"


def test_the_days_of_a_new_agreement(registry: Registry) -> None:
    registry.serve("kayane")
    with pytest.raises(BadInput, match="signed on 2026-09-01 already"):
        new_agreement(registry, "2029-08-01T12:00", on="2029-08-01")
    registry.run(*NOTICE, "2029-06-14", now="2029-06-14T12:00")
    for now, values, begins in (
        ("2029-08-01T12:00", {"on": "2029-08-01"}, "2029-09-15"),
        ("2029-08-01T12:00", {"on": "2029-08-01", "start": "2030-03-15"}, "2030-03-15"),
        ("2029-10-01T12:00", {"on": "2029-10-01"}, "2029-10-01"),
        ("2029-10-01T12:00", {"on": "2029-10-01", "start": "2029-09-15", "retroactive": True}, "2029-09-15"),
    ):
        assert new_agreement(registry, now, **values)["start"] == begins


def test_signed_and_not_begun_is_said(registry: Registry) -> None:
    assert registry.agreement("2026-09-14T23:59")["state"] == "to_come"
    assert registry.agreement("2026-09-15T00:00")["state"] == "active"
    items = registry.json("agreement", "list", "--months", "1", now="2026-09-10T12:00")
    assert [(item["on"], item["kind"], item["state"]) for item in items] == [("2026-09-15", "begins", "to_come")]
    sheet = registry.town.folder / "due.csv"
    registry.run("agreement", "list", "--months", "1", "--csv", str(sheet), now="2026-09-10T12:00")
    assert "à venir" in sheet.read_text("utf-8-sig")


def test_the_aid_counts_from_when_the_site_was_online_under_a_signature(registry: Registry) -> None:
    with registry.installation.store.transaction() as session:
        agreement = records.agreement(session, records.site(session, "kayane").key)
        agreement.start, agreement.signed_on, agreement.online_on = (
            date(2026, 1, 1),
            date(2026, 6, 20),
            date(2026, 7, 2),
        )
        agreement.terminated_on = date(2026, 10, 1)
    assert [item["months"] for item in registry.json("agreement", "list", "--statement", "2026")] == [3]
    with registry.installation.store.transaction() as session:
        following = records.new_agreement(registry.installation.inventory, agreement.site_id, date(2026, 10, 1))
        following.signed_on, following.online_on = date(2026, 9, 1), date(2026, 11, 2)
        session.add(following)
    assert [item["months"] for item in registry.json("agreement", "list", "--statement", "2026")] == [5]


def test_the_end_of_nine_years_is_planned_from_the_last_term_on_and_waits_for_a_person(registry: Registry) -> None:
    closing = [("2035-09-15", "read_only"), ("2035-10-15", "archive")]
    assert registry.agreement("2032-09-14T23:59")["planned"] == []
    assert registry.agreement("2032-09-15T00:00")["planned"] == closing
    for now, what, command, pressing in (
        ("2034-09-14T12:00", None, "", False),  # a year ahead, nobody need think of it
        ("2034-09-15T12:00", "planned: read-only on 2035-09-15", "agreement sign kayane --on DATE", False),
        ("2035-09-15T00:00", "due since 2035-09-15", "agreement close kayane", True),
    ):
        lines = [
            item
            for item in registry.json("status", now=now)["attention"]
            if "read-only" in item["what"] or "due since" in item["what"]
        ]
        assert [what in item["what"] and command in item["command"] for item in lines] == ([True] if what else [])
        assert not lines or lines[0]["pressing"] is pressing
    assert [i["kind"] for i in registry.json("agreement", "list", "--months", "1", now="2035-09-01T12:00")] == [
        "expired",
        "read_only",
    ]


def test_a_site_is_not_closed_before_its_day(registry: Registry) -> None:
    with registry.installation.store.transaction() as session:
        records.site(session, "kayane").state = SiteState.ONLINE
    close = ("agreement", "close", "kayane", "--dry-run")
    assert "no closing is planned" in registry.run(*close, now="2029-06-14T12:00", code=2)
    registry.run(*NOTICE, "2029-06-14", now="2029-06-14T12:00")
    assert "planned for 2029-09-15, not before" in registry.run(*close, now="2029-09-14T23:59", code=2)
    assert "its site is not finished" in registry.run(*close, now="2029-09-15T00:00", code=2)


def test_a_notice_is_confirmed_unless_it_was_taken_back_meanwhile(registry: Registry) -> None:
    now = "2029-06-14T12:00"
    folder = registry.installation.mail_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()  # a file where the folder should be: no mail can leave
    registry.run(*NOTICE, "2029-06-14", now=now)
    registry.run("agreement", "end", "kayane", "--cancel", now=now)
    folder.unlink()
    registry.run("mail", "retry", now=now)
    assert told(registry, now) == [("notice_recorded", "withdrawn")] * 2
    registry.run(*NOTICE, "2029-06-14", now=now)
    assert told(registry, now)[2:] == [("notice_recorded", "sent")] * 2


def test_the_policy_of_its_making_stays_with_an_agreement(registry: Registry) -> None:
    before = registry.agreement("2026-11-25T12:00")["terms"]
    registry.town.write_inventory(policy={"agreement": {"notice_months": 6, "term_years": 2, "terms": 2}})
    assert registry.agreement("2026-11-25T12:00")["terms"] == before
    assert len(registry.json("agreement", "preview", "--start", "2026-09-15")["terms"]) == 2


def test_preview_needs_no_installation(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.town.inventory.rename(tmp_path / "elsewhere.yaml")
    town = registry.town
    done = town.run("agreement", "preview", "--start", "2024-02-29", "--json", PROVISION_INVENTORY="")
    found = yaml.safe_load(done.stdout)
    assert list(found) == ["start", "terms", "reminders"]
    assert [term["end"] for term in found["terms"]] == ["2027-02-28", "2030-02-28", "2033-02-28"]
    assert found["terms"][1] == {"start": "2027-03-01", "end": "2030-02-28", "notice_by": "2029-11-30"}
    assert {"kind": "renewed", "term": 1, "on": "2026-12-01"}.items() <= found["reminders"][5].items()
    for start in ("1999-12-31", "2101-01-01", "2026-02-30"):
        town.run("agreement", "preview", "--start", start, code=2, PROVISION_INVENTORY="")


HOSTILE = '=HYPERLINK("http://example.org";"x")<b>{{ 7*7 }}'


@pytest.fixture
def two(tmp_path: Path) -> Registry:
    """Kayane, signed, with a name of its own; and one with a hostile name, not signed."""
    place = Registry(
        tmp_path,
        association("kayane", agreement_start="2026-09-15", host_name="kayane.example.test"),
        association("hostile", name=HOSTILE, agreement_start="2026-01-01"),
        policy={"aid": {"hosting_month": 8, "domain_year": 12.5, "support_year": 0}},
    )
    place.sign("kayane", "2026-09-01")
    return place


def test_list_shows_what_is_due_as_table_calendar_and_spreadsheet(two: Registry) -> None:
    now = "2029-06-01T12:00"
    items = two.json("agreement", "list", "--months", "4", now=now)
    assert [(item["on"], item["slug"], item["kind"], item["term"]) for item in items] == [
        ("2026-01-01", "hostile", "sign", 1),
        ("2029-06-14", "kayane", "notice_by", 1),
        ("2029-09-15", "kayane", "renewed", 2),
    ]
    assert [i["kind"] for i in two.json("agreement", "list", "--months", "0", now=now)] == ["sign"]
    ics, sheet = two.town.folder / "due.ics", two.town.folder / "due.csv"
    two.run("agreement", "list", "--months", "4", "--ics", str(ics), "--csv", str(sheet), now=now)
    events = Calendar.from_ical(ics.read_bytes()).walk("VEVENT")
    assert [event.decoded("dtstart") for event in events] == [date(2026, 1, 1), date(2029, 6, 14), date(2029, 9, 15)]
    assert str(events[0]["summary"]).startswith(HOSTILE)
    assert str(events[2]["summary"]) == "Kayane\xa0: reconduction de la convention"
    again = two.json("agreement", "list", "--months", "400", now="2029-08-01T12:00")
    assert again[-1]["kind"] == "expired"
    rows = list(csv.reader(io.StringIO(sheet.read_text("utf-8-sig")), delimiter=";"))
    assert rows[1][:4] == ["2026-01-01", "hostile", f"'{HOSTILE}", "projet"]
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)


def test_list_shows_a_planned_closing(registry: Registry) -> None:
    registry.run(*NOTICE, "2029-06-14", now="2029-06-14T12:00")
    items = registry.json("agreement", "list", "--months", "12", now="2029-06-14T12:00")
    assert [(item["on"], item["kind"], item["state"]) for item in items] == [
        ("2029-09-15", "expired", "notice_given"),
        ("2029-09-15", "read_only", "notice_given"),
        ("2029-10-15", "archive", "notice_given"),
    ]


@pytest.mark.parametrize(("year", "months"), [(2025, None), (2026, 4), (2027, 12), (2035, 9), (2036, None)])
def test_statement_of_a_year(two: Registry, year: int, months: int | None) -> None:
    found = two.json("agreement", "list", "--statement", str(year))
    if months is None:
        assert found == []
    else:
        assert [(item["slug"], item["months"], item["total"]) for item in found] == [
            ("kayane", months, f"{8 * months + 12.5:.2f}")
        ]


def demonstration(slug: str) -> dict[str, Any]:
    """Return an association of the demonstration."""
    found: dict[str, Any] = yaml.safe_load((CHECKOUT / f"conventions/associations/{slug}.yaml").read_text())
    return found


DATES = {
    "kayane": ("15 septembre 2026", "14 septembre 2029", "14 septembre 2035", "14 juin 2029"),
    "regart": ("1er janvier 2026", "31 décembre 2028", "31 décembre 2034", "30 septembre 2031"),
}
ARTICLES = (
    "Entre les soussignées",
    "Objet et nature",
    "Durée et reconduction",
    "Dénonciation",
    "Obligations de la collectivité",
    "Obligations de l’association",
    "Contrat d’engagement républicain",
    "Responsabilité éditoriale et rôle d’hébergeur",
    "Propriété des contenus",
    "Données personnelles",
    "Responsabilité, assurance et caractère personnel",
    "Réversibilité",
    "Suspension",
    "Résiliation",
    "Valeur de l’aide en nature",
    "Modification, échanges et litiges",
)


@pytest.mark.parametrize("slug", ["kayane", "regart"])
def test_the_document_is_one_to_sign(tmp_path: Path, slug: str) -> None:
    registry = Registry(tmp_path, demonstration(slug))
    assert registry.agreement("2026-11-25T12:00", slug)["state"] == "draft"
    made = registry.json("agreement", "document", slug)
    reader = PdfReader(made["file"])
    assert 5 <= len(reader.pages) <= 8
    text = " ".join("\n".join(page.extract_text() for page in reader.pages).split())
    for words in (*DATES[slug], *ARTICLES, "pour une nouvelle période de trois ans, dans la limite de neuf ans"):
        assert words in text, words
    assert demonstration(slug)["name"] in text
    assert "[À compléter : adresse du siège]" in text
    root: dict[str, Any] = {**reader.root_object}
    assert root["/Lang"] == "fr"
    assert root["/MarkInfo"] == {"/Marked": True}
    assert root["/StructTreeRoot"]
    assert fonts(reader)
    check_accessible(reader, ARTICLES)
    assert registry.agreement("2026-11-25T12:00", slug)["state"] == "awaiting_signature"
    assert made["sha256"] in registry.run("log", slug)


@pytest.mark.parametrize("slug", ["kayane", "regart"])
def test_the_example_is_made_from_the_template_of_today(tmp_path: Path, slug: str) -> None:
    """`make examples` was run after the template changed."""
    registry = Registry(tmp_path, demonstration(slug))
    example = yaml.safe_load((CHECKOUT / "inventory.yaml").read_text(encoding="utf-8"))
    edge = example["hosts"][0]["edge"]
    registry.town.write_inventory(
        council=example["council"],
        hosts=[{"name": "local", "data_root": str(registry.town.data_root), "edge": edge}],
    )
    today = visible(registry.run("agreement", "document", slug, "--html"))
    reader = PdfReader(CHECKOUT / f"docs/agreements/{slug}.pdf")
    shown = letters("\n".join(page.extract_text() for page in reader.pages))
    assert [line for line in today.split("\n")[1:] if letters(line)[:60] not in shown] == []  # the first is the title
    assert len(reader.pages) <= 8
    check_accessible(reader, ARTICLES)


def letters(text: str) -> str:
    """Return the letters and figures of a text: lines and their spaces differ between a page and its PDF."""
    return "".join(character for character in text if character.isalnum())


def check_accessible(reader: PdfReader, articles: Sequence[str]) -> None:
    """Check what PDF/UA-1 asks and a program can see (ISO 14289-1; the clause stands beside each)."""
    root: Any = reader.root_object
    xmp = root["/Metadata"].get_object().get_data().decode()
    assert re.search(r'pdfuaid:part(>|=")1', xmp)  # 5
    assert bool(root["/ViewerPreferences"]["/DisplayDocTitle"])  # 7.1
    assert reader.metadata is not None
    assert str(reader.metadata.title).startswith("Convention de mise à disposition d’un site internet – ")
    elements = list(walk(root["/StructTreeRoot"]))
    kinds = Counter(str(element["/S"]) for element in elements)
    assert set(kinds) <= STANDARD, "7.1: only standard structure types"
    assert kinds["/H1"] == 1
    assert [int(kind[2]) for element in elements if (kind := str(element["/S"]))[:2] == "/H"][:2] == [1, 2]  # 7.4
    assert kinds["/Table"] == kinds["/Caption"] + 1, "each table but that of the signatures says what it holds"
    heads = {str(element["/ID"]) for element in elements if element["/S"] == "/TH"}
    for cell in (element for element in elements if element["/S"] == "/TD"):  # 7.5: each is read with what heads it
        assert {str(head) for head in cell["/A"]["/Headers"]} & heads
    assert all("/Alt" in element for element in elements if element["/S"] in ("/Figure", "/Formula"))  # 7.3
    assert all(str(page["/Tabs"]) == "/S" for page in reader.pages if "/Annots" in page)  # 7.18.3
    assert all(page["/StructParents"] is not None for page in reader.pages)
    assert bookmarks(reader.outline) >= {*articles}
    assert not any(key in root for key in ("/OpenAction", "/AA", "/AcroForm"))


STANDARD = {
    *(
        "/Document",
        "/Sect",
        "/Div",
        "/P",
        "/H1",
        "/H2",
        "/H3",
        "/L",
        "/LI",
        "/Lbl",
        "/LBody",
        "/Span",
        "/Strong",
        "/Em",
    ),
    *("/Table", "/Caption", "/THead", "/TBody", "/TR", "/TH", "/TD", "/NonStruct", "/Part", "/Art", "/Link", "/Title"),
}


def walk(element: Any) -> Iterator[Any]:
    """Go through the structure of a document, in the order in which it is read out."""
    children = element.get("/K", [])
    for child in children if isinstance(children, list) else [children]:
        found = child.get_object()
        if isinstance(found, dict) and "/S" in found:
            yield found
            yield from walk(found)


def bookmarks(outline: Any) -> set[str]:
    """Return the titles of all bookmarks, without the numbers of articles."""
    return {
        title
        for item in outline
        for title in (bookmarks(item) if isinstance(item, list) else {re.sub(r"^\d+\s*", "", str(item.title))})
    }


LEGAL = {
    "deliberation": "la délibération n° 2026-12 du 3 mars 2026",
    "hosting_place": "Rives (France)",
    "subprocessors": ["Hébergeur d'Aval (France), sauvegardes"],
    "data_protection_officer": "dpd@example.org",
    "notice_mail": "signalements@example.org",
}


@pytest.mark.parametrize("article", COUNCILS)
def test_the_document_is_french_for_any_council_and_any_association(tmp_path: Path, article: str) -> None:
    """Typography as in every text, and « À compléter » only where nobody told us (acceptance 3)."""
    council = COUNCILS[article].model_dump(exclude_none=True)
    known = {"publication_director": "La présidence", "seat": "4 rue du Stade", "rna": "W751234567"}
    registry = Registry(
        tmp_path,
        association("kayane"),
        association("regart", name="Reg'art", host_name="regart.example.test"),
        association("club", name="Allez, le club !", **known),
        council={**council, "representative": "La présidence"},
        legal=LEGAL,
    )
    names = [
        *council.values(),
        *known.values(),
        *LEGAL["subprocessors"],
        LEGAL["deliberation"],
        "Reg'art",
        "Allez, le club !",
    ]
    for slug, missing in (("kayane", 5), ("regart", 5), ("club", 2)):
        page = registry.run("agreement", "document", slug, "--html")
        assert faults(visible(page), names) == []
        assert page.count("[À compléter") == missing, "place and date, and what is not on record"
        assert COUNCILS[article].in_sentence.the.replace("'", "’") in page.replace("&#39;", "’")


def test_the_document_under_the_law_of_alsace_moselle(tmp_path: Path) -> None:
    registry = Registry(tmp_path, association("kayane"), legal={"alsace_moselle": True})
    page = visible(registry.run("agreement", "document", "kayane", "--html"))
    assert "articles\xa021 à 79-III du code civil local" in page
    assert "registre des associations du tribunal judiciaire" in page
    assert "régie par la loi" not in page
    assert faults(page) == []


def fonts(reader: PdfReader) -> set[str]:
    """Return the names of all fonts, after having looked that each is embedded."""
    found = set()
    for page in reader.pages:
        resources: Any = page["/Resources"]
        for font in resources["/Font"].values():
            descendant = font.get_object()["/DescendantFonts"][0].get_object()
            descriptor = descendant["/FontDescriptor"].get_object()
            assert {"/FontFile", "/FontFile2", "/FontFile3"} & set(descriptor)
            found.add(str(descriptor["/FontName"]))
    return found


def test_the_council_has_a_template_of_its_own(two: Registry) -> None:
    """What an association is called never becomes markup; a fault is told with its place; a look changes nothing."""
    page = two.run("agreement", "document", "hostile", "--html")
    assert "&lt;b&gt;{{ 7*7 }}" in page
    assert HOSTILE not in page
    assert two.agreement("2026-11-25T12:00", "hostile")["state"] == "draft"
    own = two.town.folder / "conventions" / "convention.html.j2"
    own.parent.mkdir()
    own.write_text("<p>{{ association.name }}, jusqu’au {{ in_full(terms[-1].end) }}</p>\n")
    assert two.run("agreement", "document", "kayane", "--html") == "<p>Kayane, jusqu’au 14\xa0septembre 2035</p>\n"
    own.write_text("<p>\n{{ nobody.name }}</p>\n")
    assert "convention.html.j2:2: " in two.run("agreement", "document", "kayane", "--html", code=2)
    own.write_text("<p>\n\n{% if %}</p>\n")
    assert "convention.html.j2:3: " in two.run("agreement", "document", "kayane", code=2)
    assert not (own.parent / "kayane").exists()


def test_a_document_that_was_made_is_kept_whatever_became_of_its_template(two: Registry) -> None:
    made = two.json("agreement", "document", "kayane")
    first = Path(made["file"])
    handed_over = first.read_bytes()
    said = two.run("agreement", "document", "kayane")
    assert "kept as it was made" in said
    assert "newer template" not in said
    own = two.town.folder / "conventions" / "convention.html.j2"
    template = (CHECKOUT / "conventions/convention.html.j2").read_text(encoding="utf-8")
    own.write_text(template.replace("huit jours", "quinze jours"), encoding="utf-8")
    said = two.run("agreement", "document", "kayane")
    assert "a newer template exists" in said
    assert "provision agreement document kayane --again" in said
    kept = two.json("agreement", "document", "kayane")
    assert (kept["file"], kept["sha256"], kept["newer_template"]) == (str(first), made["sha256"], True)
    assert first.read_bytes() == handed_over
    copy = two.town.folder / "copy.pdf"
    two.run("agreement", "document", "kayane", "--to", str(copy))
    assert copy.read_bytes() == handed_over
    again = two.json("agreement", "document", "kayane", "--again")
    assert Path(again["file"]).name == "convention_2.pdf"
    assert (again["kept"], again["newer_template"]) == (False, False)
    assert first.read_bytes() == handed_over
    assert "quinze jours" in " ".join(page.extract_text() for page in PdfReader(again["file"]).pages)
    assert two.json("agreement", "document", "kayane")["file"] == again["file"]
    assert "exists, and is another document" in two.run("agreement", "document", "kayane", "--to", str(copy), code=2)
    assert copy.read_bytes() == handed_over
    follows = two.json("agreement", "document", "kayane", "--start", "2035-09-15")
    assert (Path(follows["file"]).name, follows["kept"]) == ("convention-2035-09-15.pdf", False)
    assert "leave out" in two.run("agreement", "document", "kayane", "--html", "--again", code=2)


def test_a_document_made_before_templates_were_recorded_is_kept(two: Registry) -> None:
    file = two.town.folder / "conventions" / "kayane" / "convention.pdf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"%PDF of an earlier version")
    kept = two.json("agreement", "document", "kayane")
    assert (kept["kept"], kept["newer_template"]) == (True, True)
    assert file.read_bytes() == b"%PDF of an earlier version"


def test_the_document_of_an_agreement_to_follow(registry: Registry) -> None:
    page = " ".join(registry.run("agreement", "document", "kayane", "--start", "2035-09-15", "--html").split())
    assert "15 septembre 2035" in page
    assert "14 septembre 2044" in page
    assert registry.agreement("2026-11-25T12:00")["start"] == "2026-09-15"


def test_a_template_cannot_fetch_anything(two: Registry) -> None:
    """Neither from the network nor from this machine's files."""
    own = two.town.folder / "conventions" / "convention.html.j2"
    own.parent.mkdir()
    secret = two.town.folder / "secret.txt"
    secret.write_text("the secret")
    own.write_text(
        "<html lang=fr><title>x</title><style>body{font-family:'Linux Libertine O'}</style>"
        f"<body>Bonjour<a rel=attachment href='file://{secret}'>x</a><img alt=x src='file:///etc/hostname'></body></html>"
    )
    made = two.json("agreement", "document", "kayane", "--to", str(two.town.folder / "x.pdf"))
    reader = PdfReader(made["file"])
    assert dict(reader.attachments) == {}
    assert "Bonjour" in reader.pages[0].extract_text()
