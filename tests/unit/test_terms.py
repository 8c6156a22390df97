"""The agreement's dates: the vectors of CONTEXT.md, and rules over all dates against an independent oracle."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agreement.terms import (
    AgreementState,
    ChangeKind,
    EventKind,
    Milestones,
    events,
    last_day,
    notice_deadline,
    notice_on,
    planned_closing,
    state_at,
    state_on,
    term_on,
    terms,
)
from provisioner.clock import PARIS
from tests.support.dates import DAY, DAYS, NOTICE, later

VECTORS = [
    ("2026-01-01", ["2028-12-31", "2031-12-31", "2034-12-31"], ["2028-09-30", "2031-09-30"]),
    ("2025-03-01", ["2028-02-29", "2031-02-28", "2034-02-28"], ["2027-11-30", "2030-11-30"]),
    ("2024-02-29", ["2027-02-28", "2030-02-28", "2033-02-28"], ["2026-11-30", "2029-11-30"]),
    ("2026-09-15", ["2029-09-14", "2032-09-14", "2035-09-14"], ["2029-06-14", "2032-06-14"]),
]


def end_of_term(start: date, number: int) -> date:
    """Oracle of a term's end: the day before the first of its year that is not earlier in it than the start was."""
    day = date(start.year + 3 * number, 1, 1)
    while (day.month, day.day) < (start.month, start.day):
        day += DAY
    return day - DAY


@pytest.mark.parametrize(("start", "ends", "deadlines"), VECTORS)
def test_vectors_of_context(start: str, ends: list[str], deadlines: list[str]) -> None:
    periods = terms(date.fromisoformat(start), term_years=3, count=3, notice_months=3)
    assert [period.end.isoformat() for period in periods] == ends
    assert [period.notice_by.isoformat() for period in periods if period.notice_by] == deadlines
    assert periods[-1].notice_by is None


@given(DAYS, NOTICE)
def test_terms_and_deadlines_are_those_of_the_oracle(start: date, months: int) -> None:
    periods = terms(start, term_years=3, count=3, notice_months=months)
    assert [period.end for period in periods] == [end_of_term(start, number) for number in (1, 2, 3)]
    for period in periods[:2]:
        in_time = [day for day in (period.end - DAY * n for n in range(400)) if later(day, months) <= period.end]
        assert period.notice_by == max(in_time)


@given(DAYS, NOTICE)
def test_deadline_is_in_time_and_the_day_after_is_late(end: date, months: int) -> None:
    deadline = notice_deadline(end, months)
    assert later(deadline, months) <= end < later(deadline + DAY, months)


@given(DAYS, st.integers(1, 10), st.integers(1, 10), NOTICE)
def test_terms_follow_each_other_without_gap_up_to_the_cap(start: date, years: int, count: int, months: int) -> None:
    periods = terms(start, term_years=years, count=count, notice_months=months)
    assert len(periods) == count
    assert periods[0].start == start
    for earlier, following in pairwise(periods):
        assert following.start == earlier.end + DAY
    cap = periods[-1].end + DAY
    assert (cap.year, cap.month) in {(start.year + years * count, start.month), (start.year + years * count, 3)}


@given(DAYS, NOTICE, st.data())
def test_every_day_of_nine_years_has_the_one_state_that_the_rules_say(
    start: date, months: int, data: st.DataObject
) -> None:
    """Walk all days of an agreement's life; states come in their order, and change on their days."""
    periods = terms(start, term_years=3, count=3, notice_months=months)
    life = st.dates(start, periods[-1].end)
    signed = start - timedelta(days=data.draw(st.integers(0, 60)))
    notice = data.draw(st.none() | st.dates(start, periods[1].end))
    given_notice = notice_on(notice, periods) if notice else None
    milestones = Milestones(
        handed_over=signed - timedelta(days=10),
        signed=signed,
        notice=notice,
        notice_ends=given_notice.ends if given_notice else None,
        terminated=data.draw(st.none() | life),
    )
    last = last_day(milestones, periods)
    assert last <= periods[-1].end
    seen: list[tuple[date, AgreementState]] = []
    day = signed - timedelta(days=20)
    while day <= periods[-1].end + DAY * 2:
        state = state_on(day, milestones, periods)
        if not seen or seen[-1][1] is not state:
            seen.append((day, state))
        assert (state in ENDED) == (day > last and day >= signed)
        day += DAY
    expected = [
        (signed - timedelta(days=20), AgreementState.DRAFT),
        (signed - timedelta(days=10), AgreementState.AWAITING_SIGNATURE),
    ]
    running = {start: AgreementState.ACTIVE, periods[2].start: AgreementState.FINAL_TERM}
    if signed < start:
        running[signed] = AgreementState.TO_COME
    if notice and given_notice:
        running = {first: state for first, state in running.items() if first < notice}
        running |= {notice: AgreementState.NOTICE_GIVEN, given_notice.ends + DAY: AgreementState.EXPIRED}
    else:
        running[periods[2].end + DAY] = AgreementState.EXPIRED
    by_notice = given_notice.ends if given_notice else date.max
    if milestones.terminated and milestones.terminated <= by_notice:  # what comes first ends it
        running = {first: state for first, state in running.items() if first < milestones.terminated}
        running[milestones.terminated] = AgreementState.TERMINATED
    assert seen == expected + sorted(running.items())


ENDED = (AgreementState.EXPIRED, AgreementState.TERMINATED)


@given(DAYS, st.integers(0, 3))
def test_days_end_at_midnight_in_paris(start: date, boundary: int) -> None:
    """Also on the nights on which the clocks change, and whatever zone the instant is told in."""
    periods = terms(start, term_years=3, count=3, notice_months=3)
    first = [periods[0].start, periods[1].start, periods[2].start, periods[2].end + DAY][boundary]
    midnight = datetime.combine(first, time(), PARIS).astimezone(UTC)
    milestones = Milestones(signed=start)
    for moment, day in ((midnight - timedelta(microseconds=1), first - DAY), (midnight, first)):
        assert state_at(moment, milestones, periods) is state_on(day, milestones, periods)


@pytest.mark.parametrize("changes", ["2029-03-25", "2031-10-26"])
def test_a_day_of_23_or_25_hours_is_one_day(changes: str) -> None:
    """An agreement whose term ends on the day on which the clocks change."""
    end = date.fromisoformat(changes)
    periods = terms(end.replace(year=end.year - 9) + DAY, term_years=3, count=3, notice_months=3)
    assert periods[-1].end == end
    milestones = Milestones(signed=periods[0].start)
    moment = datetime.combine(end, time(), PARIS).astimezone(UTC)
    hours = 0
    while state_at(moment, milestones, periods) is AgreementState.FINAL_TERM:
        moment += timedelta(hours=1)
        hours += 1
    assert hours == (23 if end.month == 3 else 25)


@given(DAYS, NOTICE, st.data())
def test_notice_ends_the_term_in_which_it_is_given(start: date, months: int, data: st.DataObject) -> None:
    periods = terms(start, term_years=3, count=3, notice_months=months)
    day = data.draw(st.dates(start, periods[1].end))
    notice = notice_on(day, periods)
    assert notice is not None
    assert notice.term == (1 if day <= periods[0].end else 2) == term_on(day, periods)
    assert notice.ends == periods[notice.term - 1].end
    assert (notice.late_days == 0) == (later(day, months) <= notice.ends)
    assert notice_on(periods[2].start, periods) is None


@given(DAYS, NOTICE, st.integers(15, 365), st.data())
def test_a_site_closes_only_after_its_agreement_and_after_a_night_to_see_it_coming(
    start: date, months: int, days: int, data: st.DataObject
) -> None:
    """Against the states: planned exactly when nothing renews the agreement; never while it is in force."""
    periods = terms(start, term_years=3, count=3, notice_months=months)
    life = st.dates(start, periods[-1].end + DAY * 400)
    notice = data.draw(st.none() | st.dates(start, periods[1].end))
    given_notice = notice_on(notice, periods) if notice else None
    recorded = data.draw(st.none() | life)
    milestones = Milestones(
        signed=data.draw(st.none() | st.just(start)),
        notice=notice,
        notice_ends=given_notice.ends if given_notice else None,
        terminated=data.draw(st.none() | life),
        recorded=recorded,
    )
    day = data.draw(life)
    planned = planned_closing(day, milestones, periods, days)
    state = state_on(day, milestones, periods)
    if state in (AgreementState.FINAL_TERM, AgreementState.NOTICE_GIVEN, *ENDED):
        assert planned is not None
    if planned is None:
        assert state in (AgreementState.DRAFT, AgreementState.ACTIVE)
        return
    assert milestones.signed is not None
    assert state_on(planned.read_only, milestones, periods) in ENDED
    if recorded is not None and recorded > last_day(milestones, periods):  # put on record when it was over
        assert planned.read_only == recorded + timedelta(days=15)
    else:
        assert state_on(planned.read_only - DAY, milestones, periods) not in ENDED
    assert planned.archive == max(planned.read_only, day) + timedelta(days=days)
    assert planned.to_come == [(planned.read_only, ChangeKind.READ_ONLY), (planned.archive, ChangeKind.ARCHIVE)]
    # What a person did late gives no day less to export.
    late = planned.read_only + timedelta(days=data.draw(st.integers(0, 60)))
    done = planned_closing(late, replace(milestones, closed=late), periods, days)
    assert done is not None
    assert done.to_come == [(late + timedelta(days=days), ChangeKind.ARCHIVE)]
    assert (done.export_until - late).days == days - 1


@pytest.mark.parametrize(
    ("milestones", "day", "read_only"),
    [
        (Milestones(), "2035-09-15", None),
        (Milestones(signed=date(2026, 9, 1)), "2032-09-14", None),
        (Milestones(signed=date(2026, 9, 1)), "2032-09-15", "2035-09-15"),
        (
            Milestones(date(2026, 9, 1), date(2026, 9, 1), date(2029, 6, 14), date(2029, 9, 14)),
            "2029-06-14",
            "2029-09-15",
        ),
        (Milestones(signed=date(2026, 9, 1), terminated=date(2027, 2, 1)), "2027-01-10", "2027-02-01"),
        (
            Milestones(
                signed=date(2026, 9, 1),
                notice=date(2029, 6, 1),
                notice_ends=date(2029, 9, 14),
                recorded=date(2029, 9, 20),
            ),
            "2029-09-20",
            "2029-10-05",
        ),
    ],
    ids=["never signed", "renewed", "last term", "notice", "termination", "notice recorded afterwards"],
)
def test_what_is_planned_for_a_site(milestones: Milestones, day: str, read_only: str | None) -> None:
    periods = terms(date(2026, 9, 15), term_years=3, count=3, notice_months=3)
    planned = planned_closing(date.fromisoformat(day), milestones, periods, 30)
    assert (planned.read_only.isoformat() if planned else None) == read_only


def test_renewal_is_an_event_and_notice_stops_it() -> None:
    start = date(2026, 9, 15)
    periods = terms(start, term_years=3, count=3, notice_months=3)
    told = [(event.on.isoformat(), event.kind) for event in events(Milestones(signed=date(2026, 9, 1)), periods)]
    assert told == [
        ("2026-09-01", EventKind.SIGNED),
        ("2026-09-15", EventKind.BEGAN),
        ("2029-09-15", EventKind.RENEWED),
        ("2032-09-15", EventKind.RENEWED),
        ("2035-09-15", EventKind.EXPIRED),
    ]
    denounced = Milestones(signed=start, notice=date(2032, 6, 14), notice_ends=date(2032, 9, 14))
    assert [(event.kind, event.term) for event in events(denounced, periods)] == [
        (EventKind.SIGNED, 1),
        (EventKind.BEGAN, 1),
        (EventKind.RENEWED, 2),
        (EventKind.NOTICE, 2),
        (EventKind.EXPIRED, 2),
    ]
