"""The agreement's dates: the vectors of CONTEXT.md, and rules over all dates against an independent oracle."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agreement.terms import AgreementState, notice_deadline, plus_months, state_on, terms

VECTORS = [
    ("2026-01-01", ["2028-12-31", "2031-12-31", "2034-12-31"], ["2028-09-30", "2031-09-30"]),
    ("2025-03-01", ["2028-02-29", "2031-02-28", "2034-02-28"], ["2027-11-30", "2030-11-30"]),
    ("2024-02-29", ["2027-02-28", "2030-02-28", "2033-02-28"], ["2026-11-30", "2029-11-30"]),
    ("2026-09-15", ["2029-09-14", "2032-09-14", "2035-09-14"], ["2029-06-14", "2032-06-14"]),
]
DAYS = st.dates(date(2000, 1, 1), date(2100, 12, 31))


@pytest.mark.parametrize(("start", "ends", "deadlines"), VECTORS)
def test_vectors_of_context(start: str, ends: list[str], deadlines: list[str]) -> None:
    periods = terms(date.fromisoformat(start), term_years=3, count=3, notice_months=3)
    assert [period.end.isoformat() for period in periods] == ends
    assert [period.notice_by.isoformat() for period in periods if period.notice_by] == deadlines
    assert periods[-1].notice_by is None


@given(DAYS, st.integers(0, 12))
def test_deadline_is_the_latest_day_in_time(end: date, months: int) -> None:
    """Brute force: walk back from the term's end, day by day, until a day is in time."""
    day = end
    while plus_months(day, months) > end:
        day -= timedelta(days=1)
    assert notice_deadline(end, months) == day


@given(DAYS, st.integers(1, 10), st.integers(1, 10), st.integers(0, 12))
def test_terms_follow_each_other_without_gap(start: date, years: int, count: int, months: int) -> None:
    periods = terms(start, term_years=years, count=count, notice_months=months)
    assert periods[0].start == start
    for earlier, later in pairwise(periods):
        assert later.start == earlier.end + timedelta(days=1)
    assert periods[-1].end.year - start.year <= years * count


@given(DAYS, st.integers(0, 4000))
def test_every_day_has_one_state(start: date, days: int) -> None:
    periods = terms(start, term_years=3, count=3, notice_months=3)
    day = start + timedelta(days=days)
    assert state_on(day, None, periods) is AgreementState.DRAFT
    state = state_on(day, start, periods)
    assert (state is AgreementState.EXPIRED) == (day > periods[2].end)
    assert (state is AgreementState.FINAL_TERM) == (periods[2].start <= day <= periods[2].end)
