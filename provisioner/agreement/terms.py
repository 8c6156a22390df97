"""Terms, notice deadlines and states of an agreement. Source of every rule: CONTEXT.md, "exact rules"."""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from provisioner.clock import PARIS

ONE_DAY = timedelta(days=1)
WARNING_DAYS = 15  # before a site closes whose agreement had ended when that was put on record


class AgreementState(StrEnum):
    """States of an agreement (CONTEXT.md, states). Renewal is an event, not a state."""

    DRAFT = "draft"
    AWAITING_SIGNATURE = "awaiting_signature"
    TO_COME = "to_come"  # signed, and its first day has not come
    ACTIVE = "active"
    FINAL_TERM = "final_term"
    EXPIRED = "expired"
    NOTICE_GIVEN = "notice_given"
    TERMINATED = "terminated"


IN_FORCE = (AgreementState.ACTIVE, AgreementState.FINAL_TERM)  # reminders are for these: notice stops them


@dataclass(frozen=True)
class Term:
    """One period of the agreement. All three days are included in what they bound."""

    start: date
    end: date
    notice_by: date | None  # None for the last term: nothing renews, so there is nothing to stop


def anniversary(start: date, years: int) -> date:
    """Return the anniversary of ``start``; a 29 February that does not exist becomes 1 March."""
    try:
        return start.replace(year=start.year + years)
    except ValueError:
        return date(start.year + years, 3, 1)


def plus_months(day: date, months: int) -> date:
    """Return the same day of the month ``months`` later, or that month's last day when it does not exist."""
    year, month0 = divmod(day.year * 12 + day.month - 1 + months, 12)
    try:
        return day.replace(year=year, month=month0 + 1)
    except ValueError:
        return date(year, month0 + 1, _length(year, month0 + 1))


def notice_deadline(term_end: date, months: int) -> date:
    """Return the latest day D such that D + ``months`` months is not after ``term_end``."""
    year, month0 = divmod(term_end.year * 12 + term_end.month - 1 - months, 12)
    length = _length(year, month0 + 1)
    # Every day of D's month that does not exist in the term end's month is taken to that month's last day.
    ends_its_month = term_end.day == _length(term_end.year, term_end.month)
    return date(year, month0 + 1, length if ends_its_month else min(term_end.day, length))


def _length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def terms(start: date, *, term_years: int, count: int, notice_months: int) -> list[Term]:
    """Return the agreement's terms; anniversaries always count from the original ``start``."""
    found = []
    for number in range(1, count + 1):
        end = anniversary(start, term_years * number) - ONE_DAY
        found.append(
            Term(
                start=anniversary(start, term_years * (number - 1)),
                end=end,
                notice_by=notice_deadline(end, notice_months) if number < count else None,
            )
        )
    return found


@dataclass(frozen=True)
class Milestones:
    """What people did to an agreement, by day; the rest follows from its terms."""

    handed_over: date | None = None  # the document was made, to be signed
    signed: date | None = None
    notice: date | None = None
    notice_ends: date | None = None  # last day of the term that the notice keeps from being renewed
    terminated: date | None = None  # first day without agreement
    recorded: date | None = None  # when the last of these, or its taking back, was put on record
    closed: date | None = None  # the site is read-only since then


def state_on(day: date, milestones: Milestones, periods: Sequence[Term]) -> AgreementState:
    """Return the one state that an agreement has on ``day``, from 0:00 to 24:00 in Europe/Paris."""
    if milestones.signed is None or day < milestones.signed:
        handed_over = milestones.handed_over is not None and day >= milestones.handed_over
        return AgreementState.AWAITING_SIGNATURE if handed_over else AgreementState.DRAFT
    if day > last_day(milestones, periods):
        return AgreementState.TERMINATED if ends_by_termination(milestones, periods) else AgreementState.EXPIRED
    if milestones.notice is not None and day >= milestones.notice:
        return AgreementState.NOTICE_GIVEN
    if day < periods[0].start:
        return AgreementState.TO_COME
    return AgreementState.FINAL_TERM if day >= periods[-1].start else AgreementState.ACTIVE


def state_at(moment: datetime, milestones: Milestones, periods: Sequence[Term]) -> AgreementState:
    """Return the state at an instant: days end at 24:00 in Europe/Paris, also when the clocks change."""
    return state_on(moment.astimezone(PARIS).date(), milestones, periods)


def term_on(day: date, periods: Sequence[Term]) -> int:
    """Return the number, from 1, of the term that ``day`` lies in; of the first before it, of the last after it."""
    return max(1, sum(period.start <= day for period in periods))


def last_day(milestones: Milestones, periods: Sequence[Term]) -> date:
    """Return the last day of an agreement as things stand: by termination, by notice, or at the cap."""
    planned = milestones.notice_ends or periods[-1].end
    return min(planned, milestones.terminated - ONE_DAY) if milestones.terminated else planned


def ends_by_termination(milestones: Milestones, periods: Sequence[Term]) -> bool:
    """Return whether it is a termination that ends the agreement: an end by notice, or the cap, may come first."""
    return milestones.terminated is not None and milestones.terminated <= (milestones.notice_ends or periods[-1].end)


@dataclass(frozen=True)
class Notice:
    """What a notice given on some day does: it keeps term number ``term`` from being renewed."""

    term: int
    notice_by: date
    ends: date  # last day of the agreement then
    otherwise: date  # last day of the next term, if the notice does not count for this one
    late_days: int  # 0: in time


def notice_on(day: date, periods: Sequence[Term]) -> Notice | None:
    """Return what a notice on ``day`` does; None in the last term, which nothing renews."""
    number = term_on(day, periods)
    period = periods[number - 1]
    if period.notice_by is None:
        return None
    late = max(0, (day - period.notice_by).days)
    return Notice(number, period.notice_by, period.end, periods[number].end, late)


class ChangeKind(StrEnum):
    """What is planned for a site whose agreement ends."""

    READ_ONLY = "read_only"
    ARCHIVE = "archive"


@dataclass(frozen=True)
class Closing:
    """How a site is wound down after its agreement: read-only with exports offered, then archived."""

    read_only: date
    archive: date
    closed: bool = False  # the first of both is done

    @property
    def export_until(self) -> date:
        """Return the last day on which the site is read, and exports are offered."""
        return self.archive - ONE_DAY

    @property
    def to_come(self) -> list[tuple[date, ChangeKind]]:
        """Return what is not done yet, by day."""
        first = [] if self.closed else [(self.read_only, ChangeKind.READ_ONLY)]
        return [*first, (self.archive, ChangeKind.ARCHIVE)]


def planned_closing(day: date, milestones: Milestones, periods: Sequence[Term], days: int) -> Closing | None:
    """Return how the site closes, as things stand on ``day``; None as long as its agreement is going to be renewed.

    Read-only on the day after the agreement's last, whether by notice, by termination or because nothing renews the
    last term (CONTEXT.md: never switched off by surprise). Where the last day was over when the end was put on record,
    `WARNING_DAYS` after that, so that the association has time. It stays readable for ``days`` from when it really
    became so.
    """
    if milestones.closed is not None:
        return Closing(milestones.closed, milestones.closed + timedelta(days=days), closed=True)
    ends = milestones.notice_ends or milestones.terminated or day >= periods[-1].start
    if milestones.signed is None or not ends:
        return None
    last = last_day(milestones, periods)
    recorded = milestones.recorded or last
    read_only = recorded + timedelta(days=WARNING_DAYS) if recorded > last else last + ONE_DAY
    return Closing(read_only, max(read_only, day) + timedelta(days=days))


class EventKind(StrEnum):
    """What happens in the life of an agreement."""

    SIGNED = "signed"
    BEGAN = "began"
    RENEWED = "renewed"
    NOTICE = "notice"
    TERMINATED = "terminated"
    EXPIRED = "expired"


@dataclass(frozen=True)
class AgreementEvent:
    """One event, on the day on which it happens; ``term`` is the one that it opens, or happens in."""

    on: date
    kind: EventKind
    term: int


def events(milestones: Milestones, periods: Sequence[Term]) -> list[AgreementEvent]:
    """Return every event of a signed agreement, those to come included, as things stand; oldest first."""
    last = last_day(milestones, periods)
    begun = [(period.start, EventKind.RENEWED if n else EventKind.BEGAN) for n, period in enumerate(periods)]
    end = EventKind.TERMINATED if ends_by_termination(milestones, periods) else EventKind.EXPIRED
    found = [
        (milestones.signed, EventKind.SIGNED),
        *((day, kind) for day, kind in begun if day <= last),
        (milestones.notice, EventKind.NOTICE),
        (last + ONE_DAY, end),
    ]
    ordered = sorted(((day, kind) for day, kind in found if day is not None), key=lambda event: event[0])
    return [AgreementEvent(day, kind, term_on(min(day, last), periods)) for day, kind in ordered]
