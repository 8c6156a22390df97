"""`provision agreement list` and `preview`: what is due, as table, calendar or sheet; the aid's value."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlmodel import col, select

from provisioner import clock, records
from provisioner.agreement.reminders import Reminder, reminders
from provisioner.agreement.terms import (
    ONE_DAY,
    AgreementState,
    ChangeKind,
    Term,
    last_day,
    plus_months,
    state_on,
    term_on,
    terms,
)
from provisioner.errors import BadInput
from provisioner.french import NO_BREAK
from provisioner.installation import Installation
from provisioner.inventory import AgreementPolicy, AidPolicy
from provisioner.model.tables import GONE, Agreement, Site

YEARS = range(2000, 2101)  # of an agreement's first day
WORDS = {  # what an elected member or an adviser reads, in a calendar or a spreadsheet
    "sign": "convention à signer",
    "begins": "début de la convention",
    "notice_by": "dernier jour pour dénoncer la convention",
    "renewed": "reconduction de la convention",
    "expired": "convention arrivée à échéance",
    ChangeKind.READ_ONLY: "site en lecture seule",
    ChangeKind.ARCHIVE: "archivage du site",
}


STATE_WORDS = {
    AgreementState.DRAFT: "projet",
    AgreementState.AWAITING_SIGNATURE: "en attente de signature",
    AgreementState.TO_COME: "à venir",
    AgreementState.ACTIVE: "en cours",
    AgreementState.FINAL_TERM: "dernière période",
    AgreementState.EXPIRED: "arrivée à échéance",
    AgreementState.NOTICE_GIVEN: "dénoncée",
    AgreementState.TERMINATED: "résiliée",
}


@dataclass(frozen=True)
class Preview:
    """The dates of an agreement that need not exist."""

    start: date
    terms: list[Term]
    reminders: list[Reminder]


@dataclass(frozen=True)
class Due:
    """Something of an agreement that happens, or must be done, on a day."""

    on: date
    slug: str
    name: str
    state: str
    kind: str  # a key of WORDS
    term: int


@dataclass(frozen=True)
class Aid:
    """What the council gave one association in one year, in euros."""

    slug: str
    name: str
    months: int  # begun months of that year in which the site was online under a signature
    hosting: Decimal
    domain: Decimal
    support: Decimal
    total: Decimal


def preview(
    policy: AgreementPolicy, start: date, notice_months: int | None = None, *, alsace_moselle: bool = False
) -> Preview:
    """Return the dates of an agreement that would begin on ``start``.

    Raises:
        BadInput: it lies outside the years 2000 to 2100.

    """
    if start.year not in YEARS:
        raise BadInput(f"--start {start.isoformat()} lies outside the years {YEARS[0]} to {YEARS[-1]}")
    notice = policy.notice_months if notice_months is None else notice_months
    periods = terms(start, term_years=policy.term_years, count=policy.terms, notice_months=notice)
    return Preview(start, periods, reminders(periods, policy.reminders, start, alsace_moselle=alsace_moselle))


def due(installation: Installation, months: int) -> list[Due]:
    """Return what is due from today until ``months`` months later, and every agreement that is not signed; by day."""
    today = clock.today()
    until = plus_months(today, months)
    with installation.store.transaction() as session:
        found = [
            Due(on, slug, name, state, kind, term)
            for slug, name, agreement in session.exec(
                select(Site.slug, Site.name, Agreement).where(
                    Site.id == Agreement.site_id, records.of_record(), col(Site.state).not_in(GONE)
                )
            )
            for on, state, kind, term in (*_dates(agreement, today, until), *_changes(agreement, until))
        ]
    return sorted(found, key=lambda item: (item.on, item.slug))


def changes_due(installation: Installation) -> list[tuple[str, date, ChangeKind]]:
    """Return slug, day and kind of each site's next planned change whose day has come; those due longest first."""
    query = select(Site.slug, Agreement).where(
        Site.id == Agreement.site_id, records.of_record(), col(Site.state).not_in(GONE)
    )
    with installation.store.transaction() as session:
        closings = [(slug, records.closing_of(agreement)) for slug, agreement in session.exec(query)]
    following = [(slug, *closing.to_come[0]) for slug, closing in closings if closing is not None]
    return sorted((one for one in following if one[1] <= clock.today()), key=lambda one: (one[1], one[0]))


def statement(installation: Installation, year: int) -> list[Aid]:
    """Return the value of the aid in kind that each association was given in ``year``, so far as it is signed."""
    aid = installation.inventory.policy.aid
    query = select(Site, Agreement).where(Site.id == Agreement.site_id, col(Agreement.signed_on).is_not(None))
    with installation.store.transaction() as session:
        months: dict[str, set[int]] = defaultdict(set)
        sites = {}
        for site, agreement in session.exec(query.order_by(Site.slug)):
            sites[site.slug] = site
            months[site.slug] |= _months_in_force(agreement, year)
    return [
        _aid(aid, site, len(months[slug]), own_name=site.host_name != f"{slug}.{installation.inventory.domain}")
        for slug, site in sites.items()
        if months[slug]
    ]


def calendar(installation: Installation, items: Sequence[Due]) -> bytes:
    """Return ``items`` as an iCalendar file, one all-day event each; the same item keeps its identity."""
    from icalendar import Calendar, Event

    domain = installation.inventory.domain
    found = Calendar()
    found.add("prodid", "-//provision//conventions//FR")
    found.add("version", "2.0")
    found.add("x-wr-calname", "Conventions des associations")
    for item in items:
        event = Event()
        event.add("uid", f"{item.slug}-{item.kind}-{item.term}@{domain}")
        event.add("dtstamp", clock.now())
        event.add("dtstart", item.on)
        event.add("dtend", item.on + ONE_DAY)
        event.add("summary", f"{item.name}{NO_BREAK}: {WORDS[item.kind]}")
        event.add("transp", "TRANSPARENT")
        found.add_component(event)
    return bytes(found.to_ical())


def sheet_of_due(items: Sequence[Due]) -> bytes:
    """Return ``items`` as a spreadsheet."""
    rows = [
        (item.on.isoformat(), item.slug, item.name, STATE_WORDS[AgreementState(item.state)], WORDS[item.kind],
         str(item.term))
        for item in items
    ]  # fmt: skip
    return _sheet(("date", "site", "association", "état", "échéance", "période"), rows)


def sheet_of_aid(year: int, items: Sequence[Aid]) -> bytes:
    """Return the statement of a year as a spreadsheet."""
    rows = [
        (str(year), i.slug, i.name, str(i.months), *(_decimal(x) for x in (i.hosting, i.domain, i.support, i.total)))
        for i in items
    ]
    return _sheet(
        ("année", "site", "association", "mois", "hébergement (€)", "domaine (€)", "accompagnement (€)", "total (€)"),
        rows,
    )


def _dates(agreement: Agreement, today: date, until: date) -> Iterator[tuple[date, str, str, int]]:
    if agreement.signed_on is None:
        yield agreement.start, records.agreement_state(agreement).value, "sign", 1
        return
    milestones, periods = records.milestones(agreement), records.agreement_terms(agreement)
    last = last_day(milestones, periods)
    if last + ONE_DAY < today:
        return
    happens = [(last + ONE_DAY, "expired", term_on(last, periods))]
    if today < agreement.start <= last:
        happens.append((agreement.start, "begins", 1))
    for number, period in enumerate(periods, 1):
        if period.end < last and period.notice_by is not None:
            happens.append((period.end + ONE_DAY, "renewed", number + 1))
        if period.notice_by is not None and period.notice_by <= last and milestones.notice is None:
            happens.append((period.notice_by, "notice_by", number))
    for on, kind, number in happens:
        if today <= on <= until:
            yield on, state_on(today, milestones, periods).value, kind, number


def _changes(agreement: Agreement, until: date) -> Iterator[tuple[date, str, str, int]]:
    closing = records.closing_of(agreement)
    for on, kind in closing.to_come if closing else []:
        if on <= until:
            term = term_on(on, records.agreement_terms(agreement))
            yield on, records.agreement_state(agreement).value, kind.value, term


def _months_in_force(agreement: Agreement, year: int) -> set[int]:
    """Return the months of ``year`` in which the site was online under this agreement's signature, begun ones too."""
    signed = agreement.online_on or agreement.signed_on or agreement.start  # records of before have no online_on
    first = max(signed, date(year, 1, 1))
    last = min(last_day(records.milestones(agreement), records.agreement_terms(agreement)), date(year, 12, 31))
    return set(range(first.month, last.month + 1)) if first <= last else set()


def _aid(rates: AidPolicy, site: Site, months: int, *, own_name: bool) -> Aid:
    hosting, domain = rates.hosting_month * months, rates.domain_year if own_name else Decimal(0)
    parts = (hosting, domain, rates.support_year, hosting + domain + rates.support_year)
    return Aid(site.slug, site.name, months, *(amount.quantize(Decimal("0.01")) for amount in parts))


def _sheet(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Return CSV as a French spreadsheet program opens it by a double click: semicolons, UTF-8 with its mark."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", quoting=csv.QUOTE_ALL)
    writer.writerow(headings)
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8-sig")


def _harmless(cell: str) -> str:
    """Return a cell that no spreadsheet program takes for a formula (H5): an apostrophe makes it text."""
    return f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠", "|")) else cell


def _decimal(amount: Decimal) -> str:
    return f"{amount:.2f}".replace(".", ",")
