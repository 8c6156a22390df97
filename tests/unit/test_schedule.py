"""What is due, by the records of runs alone: every night once, whatever the clock does."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from provisioner.clock import PARIS, slot
from provisioner.model.tables import Run
from provisioner.operations.alerts import days_until_full
from provisioner.operations.serve import TRIES, is_due

YEARS = datetime.fromisoformat("2025-01-01"), datetime.fromisoformat("2031-01-01")  # hypothesis wants them naive
moments = st.datetimes(*YEARS, timezones=st.just(UTC))
hours = st.integers(0, 23)


def ended(at: datetime, outcome: str = "well") -> Run:
    return Run(kind="nightly", holder="x", started_at=at, outcome=outcome)


@given(moments, hours)
def test_every_moment_belongs_to_the_night_before_it(now: datetime, hour: int) -> None:
    since = slot(now, hour)
    assert since <= now < since + timedelta(hours=25, minutes=1)
    shown = since.astimezone(PARIS)
    assert shown.hour == hour or (hour == 2 and shown.hour == 3)  # the hour that the night in March leaves out


@given(st.dates(date(2025, 1, 1), date(2031, 1, 1)), hours)
def test_a_day_has_one_night_also_when_the_clock_changes(day: date, hour: int) -> None:
    start = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=PARIS).astimezone(UTC)
    end = (start + timedelta(hours=36)).astimezone(PARIS).replace(hour=0, minute=0).astimezone(UTC)
    begins, now = set(), start
    while now < end:
        if (found := slot(now, hour)) >= start:
            begins.add(found)
        now += timedelta(minutes=10)
    assert len(begins) == 1


@given(st.lists(st.integers(-400 * 24 * 60, 400 * 24 * 60), min_size=1, max_size=30), moments, hours)
def test_a_night_is_done_once_and_no_jump_of_the_clock_keeps_it_away(
    jumps: list[int], now: datetime, hour: int
) -> None:
    runs: list[Run] = []
    for minutes in jumps:
        now = min(
            max(now + timedelta(minutes=minutes), datetime(2000, 1, 1, tzinfo=UTC)), datetime(2090, 1, 1, tzinfo=UTC)
        )
        since = slot(now, hour)
        if is_due(since, runs, now):
            runs.append(ended(now))
        assert not is_due(since, runs, now)
        assert any(since <= run.started_at <= now + timedelta(hours=1) for run in runs)


def test_many_missed_nights_are_one_run() -> None:
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    runs = [ended(now - timedelta(days=9))]
    assert is_due(slot(now, 2), runs, now)
    assert not is_due(slot(now, 2), [*runs, ended(now)], now)


def test_a_killed_run_is_tried_thrice_and_a_stopped_one_is_not_counted() -> None:
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    since = slot(now, 2)
    assert is_due(since, [ended(now, "")] * (TRIES - 1), now)
    assert not is_due(since, [ended(now, "")] * TRIES, now)
    assert is_due(since, [ended(now, "stopped")] * 9, now)


def test_space_that_shrinks_is_foretold_and_space_that_grows_is_not() -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    shrinking = [(now - timedelta(days=back), 10_000 + 1_000 * back) for back in (4, 3, 2, 1, 0)]
    assert days_until_full(shrinking, now) == 10
    assert days_until_full([(at, 20_000 - free) for at, free in shrinking], now) is None
    assert days_until_full(shrinking[-2:], now) is None
