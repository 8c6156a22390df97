"""Which reminders an agreement calls for, and on which working day each leaves. Source: CONTEXT.md, "exact rules".

Kinds, each at most once per term: ``choice``; ``notice_31``, ``notice_7`` (days before the notice deadline);
``renewed``; ``attestation``; ``last_term_18``, ``…_12``, ``…_6``, ``…_3``, ``…_1`` (months before the end),
``last_term_7d`` (days before it); and once a year ``contacts_yearly``. The figures are those of the `ReminderPolicy`.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from operator import attrgetter
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from provisioner.agreement.terms import ONE_DAY, Term, anniversary, plus_months

CONTACTS = "contacts_yearly"
AHEAD_DAYS = 31  # of the first notice reminder, where the choice would not come before it by its own day
STALE_MONTHS = 3  # what was to be said once, of something that is over, is not said later than that
Days = Annotated[int, Field(ge=1, le=365)]
Months = Annotated[int, Field(ge=1, le=36)]


class ReminderPolicy(BaseModel):
    """When reminders leave, before and after a term's end and its notice deadline; an empty list means none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choice_months: list[Months] = Field(
        [6], max_length=1, description="Months before the end of a term that can be renewed: the choice explained."
    )
    notice_days: list[Days] = Field([31, 7], description="Days before the notice deadline.")
    renewed_days: list[Days] = Field([1], max_length=1, description="Days after the notice deadline: it is renewed.")
    attestation_days: list[Days] = Field([1], max_length=1, description="Days after the term's end: the attestation.")
    last_term_months: list[Months] = Field([18, 12, 6, 3, 1], description="Months before the end of the last term.")
    last_term_days: list[Days] = Field([7], description="Days before the end of the last term.")
    contacts_yearly: bool = Field(True, description="On each anniversary of the start: are the contacts still right?")


@dataclass(frozen=True, slots=True)
class Reminder:
    """One mail that an agreement calls for."""

    kind: str
    term: int
    on: date  # the working day on which it leaves
    asks: bool  # True: asks for action, so it leaves before its day; False: states a fact, so never before it is true
    valid_until: date  # the last day on which sending it still makes sense
    nominal: date  # the day by the rule, before weekends and holidays are looked at

    @property
    def key(self) -> str:
        """Return what tells this reminder from every other of the same agreement, whatever its day becomes."""
        return f"{self.kind} {self.nominal.year if self.kind == CONTACTS else self.term}"


def reminders(
    periods: Sequence[Term], policy: ReminderPolicy, start: date, *, alsace_moselle: bool = False
) -> list[Reminder]:
    """Return all reminders of an agreement that nobody ends, in the order in which they leave.

    What would leave before its own term, or after the day until which it makes sense, is left out. The choice is
    explained before the first notice reminder: earlier than its own day where the notice period calls for it.
    In ``alsace_moselle``, Good Friday and 26 December are public holidays too.
    """
    days = WorkingDays(alsace_moselle)
    found = [one for number, period in enumerate(periods, 1) for one in _of_term(number, period, policy, days)]
    if policy.contacts_yearly:
        found += _of_contacts(periods, start, days)
    return sorted(found, key=attrgetter("on", "nominal"))


def due(of_one_site: Sequence[Reminder], today: date, sent: Collection[str]) -> list[Reminder]:
    """Return what is to be sent ``today``: one reminder at most, given the keys of those that were ``sent``.

    Of several that were missed, the newest alone leaves (G4); the question about the contacts, which replaces no other
    and is replaced by none, leaves at the next run.
    """
    begun = [reminder for reminder in of_one_site if reminder.on <= today]
    for about_contacts in (False, True):
        newest = next((r for r in reversed(begun) if (r.kind == CONTACTS) is about_contacts), None)
        if newest is not None and today <= newest.valid_until and newest.key not in sent:
            return [newest]
    return []


@dataclass(frozen=True, slots=True)
class WorkingDays:
    """The days that are neither Saturday, Sunday nor a public holiday of metropolitan France, or of Alsace-Moselle."""

    alsace_moselle: bool = False

    def holds(self, day: date) -> bool:
        """Return whether ``day`` is a working day."""
        return day.weekday() < 5 and day not in _public_holidays(day.year, self.alsace_moselle)

    def before(self, day: date) -> date:
        """Return ``day``, or the last working day before it."""
        while not self.holds(day):
            day -= ONE_DAY
        return day

    def after(self, day: date) -> date:
        """Return ``day``, or the first working day after it."""
        while not self.holds(day):
            day += ONE_DAY
        return day


def _of_term(number: int, period: Term, policy: ReminderPolicy, working: WorkingDays) -> Iterator[Reminder]:
    by, end = period.notice_by, period.end

    def make(kind: str, nominal: date, asks: bool, valid_until: date) -> Iterator[Reminder]:
        on = working.before(nominal) if asks else working.after(nominal)
        if period.start <= nominal and on <= valid_until:
            yield Reminder(kind, number, on, asks, valid_until, nominal)

    if by is None:
        for months in policy.last_term_months:
            yield from make(f"last_term_{months}", plus_months(end, -months), True, end)
        for days in policy.last_term_days:
            yield from make(f"last_term_{days}d", end - timedelta(days=days), True, end)
        return
    notices = [one for days in policy.notice_days for one in make(f"notice_{days}", by - timedelta(days), True, by)]
    first = min(notices, key=attrgetter("on"), default=None)
    for months in policy.choice_months:
        nominal = plus_months(end, -months)
        if first is not None and working.before(nominal) >= first.on:
            nominal = max(first.nominal - timedelta(AHEAD_DAYS), period.start)
        choice = list(make("choice", nominal, True, by))
        notices = [one for one in notices if not choice or one.on > choice[0].on]
        yield from choice
    yield from notices
    for days in policy.renewed_days:
        yield from make("renewed", by + timedelta(days=days), False, end)
    for days in policy.attestation_days:
        nominal = end + timedelta(days=days)
        yield from make("attestation", nominal, False, plus_months(nominal, STALE_MONTHS))


def _of_contacts(periods: Sequence[Term], start: date, working: WorkingDays) -> Iterator[Reminder]:
    day, year = anniversary(start, 1), 1
    for number, period in enumerate(periods, 1):
        while day <= period.end:
            on = working.before(day)
            yield Reminder(CONTACTS, number, on, True, plus_months(day, STALE_MONTHS), day)
            year += 1
            day = anniversary(start, year)


@cache
def _public_holidays(year: int, alsace_moselle: bool) -> frozenset[date]:
    """Return the public holidays of metropolitan France, by its law of today also for years far ahead."""
    from holidays.countries.france import France

    class _AnyYear(France):
        end_year = date.max.year  # the library stops at 2100; its rules, Easter included, do not

    return frozenset(_AnyYear(years=year, subdiv="57" if alsace_moselle else None))  # type: ignore[no-untyped-call]
