"""Terms, notice deadlines and states of an agreement. Source of every rule: CONTEXT.md, "exact rules"."""

import calendar
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

ONE_DAY = timedelta(days=1)


class AgreementState(StrEnum):
    """States of an agreement, as far as its own dates decide them."""

    DRAFT = "draft"
    ACTIVE = "active"
    FINAL_TERM = "final_term"
    EXPIRED = "expired"


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
    return date(year, month0 + 1, min(day.day, calendar.monthrange(year, month0 + 1)[1]))


def notice_deadline(term_end: date, months: int) -> date:
    """Return the latest day D such that D + ``months`` months is not after ``term_end``."""
    year, month0 = divmod(term_end.year * 12 + term_end.month - 1 - months, 12)
    length = calendar.monthrange(year, month0 + 1)[1]
    candidate = date(year, month0 + 1, length)
    # Within one month, D + months grows with D until it sticks at the target month's last day.
    while plus_months(candidate, months) > term_end:
        candidate -= ONE_DAY
    return candidate


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


def state_on(day: date, signed_on: date | None, periods: list[Term]) -> AgreementState:
    """Return the state on ``day`` of an agreement that nobody ended. Renewal is an event, not a state."""
    if signed_on is None:
        return AgreementState.DRAFT
    if day > periods[-1].end:
        return AgreementState.EXPIRED
    if day >= periods[-1].start:
        return AgreementState.FINAL_TERM
    return AgreementState.ACTIVE
