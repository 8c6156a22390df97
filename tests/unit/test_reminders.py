"""Reminders: their days against the rules of CONTEXT.md, and what leaves after an outage (G4)."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agreement.reminders import Reminder, ReminderPolicy, WorkingDays, due, reminders
from provisioner.agreement.terms import Term, terms
from tests.support.dates import DAY, DAYS, NOTICE, later

FACTS = ("renewed", "attestation")


def easter(year: int) -> date:
    """Return Easter Sunday by the anonymous Gregorian computus, as an oracle."""
    a, (b, c) = year % 19, divmod(year, 100)
    (d, e), g = divmod(b, 4), (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (a + 11 * h) // 319
    r = (2 * e + 2 * i - k - h + m + 32) % 7
    month = (h - m + r + 90) // 25
    return date(year, month, (h - m + r + month + 19) % 32)


def working(day: date) -> bool:
    """Oracle of working days: metropolitan France, code du travail L3133-1."""
    fixed = {(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)}
    moving = {easter(day.year) + timedelta(days=days) for days in (1, 39, 50)}
    return day.weekday() < 5 and (day.month, day.day) not in fixed and day not in moving


def plan(start: date, months: int = 3) -> tuple[list[Term], list[Reminder]]:
    """Return the terms and reminders of an agreement under the default policy."""
    periods = terms(start, term_years=3, count=3, notice_months=months)
    return periods, reminders(periods, ReminderPolicy(), start)


def test_working_days_until_2110() -> None:
    """The library itself stops at 2100. (It has no Pentecost Monday from 2005 to 2007, when it was worked.)"""
    day = date(2008, 1, 1)
    while day.year <= 2110:
        assert WorkingDays().holds(day) == working(day), day
        day += DAY


def test_a_whole_agreement() -> None:
    """Kayane's nine years, each day looked up in a calendar."""
    _, planned = plan(date(2026, 9, 15))
    assert [(r.kind, r.on.isoformat()) for r in planned if r.term != 2] == [
        ("contacts_yearly", "2027-09-15"),
        ("contacts_yearly", "2028-09-15"),
        ("choice", "2029-03-14"),
        ("notice_31", "2029-05-14"),
        ("notice_7", "2029-06-07"),
        ("renewed", "2029-06-15"),
        ("attestation", "2029-09-17"),  # 15 September 2029 is a Saturday
        ("contacts_yearly", "2032-09-15"),
        ("contacts_yearly", "2033-09-15"),
        ("last_term_18", "2034-03-14"),
        ("last_term_12", "2034-09-14"),
        ("contacts_yearly", "2034-09-15"),
        ("last_term_6", "2035-03-14"),
        ("last_term_3", "2035-06-14"),
        ("last_term_1", "2035-08-14"),
        ("last_term_7d", "2035-09-07"),
    ]


@given(DAYS.filter(lambda day: day.year >= 2008), NOTICE)
def test_each_leaves_on_a_working_day_on_the_right_side(start: date, months: int) -> None:
    periods, planned = plan(start, months)
    assert planned == sorted(planned, key=lambda reminder: reminder.on)
    assert len({reminder.key for reminder in planned}) == len(planned)
    for reminder in planned:
        assert working(reminder.on)
        assert reminder.on <= reminder.valid_until
        assert reminder.asks == (reminder.kind not in FACTS)
        between = reminder.nominal - reminder.on if reminder.asks else reminder.on - reminder.nominal
        assert between >= timedelta(0)
        for number in range(1, between.days + 1):  # no nearer working day was passed over
            assert not working(reminder.on + DAY * number * (1 if reminder.asks else -1))
        period = periods[reminder.term - 1]
        if reminder.kind == "renewed":
            assert period.notice_by is not None
            assert reminder.on > period.notice_by
        if reminder.kind == "attestation":
            assert reminder.on > period.end
        if reminder.kind == "choice" or reminder.kind.startswith("notice"):
            assert period.notice_by is not None
            assert reminder.on <= period.notice_by


@given(DAYS, NOTICE)
def test_the_days_by_the_rule(start: date, months: int) -> None:
    """Counted from each term's own dates, by arithmetic of the test's own; nothing is missing, nothing too many."""
    periods, planned = plan(start, months)
    nominal = {(r.kind, r.term): r.nominal for r in planned if r.kind != "contacts_yearly"}
    for number, period in enumerate(periods[:2], 1):
        assert period.notice_by is not None
        assert nominal.pop(("notice_31", number)) == period.notice_by - timedelta(days=31)
        assert nominal.pop(("notice_7", number)) == period.notice_by - timedelta(days=7)
        assert nominal.pop(("attestation", number)) == period.end + DAY
        renewed = nominal.pop(("renewed", number), None)
        assert renewed == (period.notice_by + DAY if months else None)
        choice, first = nominal.pop(("choice", number)), period.notice_by - timedelta(days=31)
        if months < 5:  # six months before the end, unless the first notice reminder would come before that
            assert later(choice, 6) <= period.end <= later(choice, 6) + DAY * 3
        elif months > 5:
            assert choice == first - timedelta(days=31)
    for before in (18, 12, 6, 3, 1):
        day = nominal.pop((f"last_term_{before}", 3))
        assert later(day, before) <= periods[2].end <= later(day, before) + DAY * 3
    assert nominal.pop(("last_term_7d", 3)) == periods[2].end - timedelta(days=7)
    assert nominal == {}
    assert len([r for r in planned if r.kind == "contacts_yearly"]) == 8


@given(DAYS, NOTICE, st.integers(0, 3300), st.integers(0, 40))
def test_after_an_outage_the_newest_alone_leaves(start: date, months: int, day: int, outage: int) -> None:
    """Send day by day until an outage; then one mail leaves, the newest; run on, and none leaves twice."""
    _, planned = plan(start, months)
    sent: list[str] = []
    today = start
    for _ in range(day):
        sent += [reminder.key for reminder in due(planned, today, sent)]
        today += DAY
    assert len(set(sent)) == len(sent)
    missed = [reminder for reminder in planned if today <= reminder.on <= today + DAY * outage]
    today += DAY * outage
    leaving = due(planned, today, sent)
    assert len(leaving) <= 1
    about_agreement = [r for r in missed if r.kind != "contacts_yearly" and r.valid_until >= today]
    if (
        about_agreement
        and about_agreement[-1] == [r for r in planned if r.on <= today and r.kind != "contacts_yearly"][-1]
    ):
        assert leaving == about_agreement[-1:]
    sent += [reminder.key for reminder in leaving]
    assert not [r for r in due(planned, today, sent) if r.kind != "contacts_yearly"]


def test_without_an_outage_all_leave_once() -> None:
    _, planned = plan(date(2026, 9, 15))
    sent: list[str] = []
    today = date(2026, 9, 15)
    while today.year < 2036:
        sent += [reminder.key for reminder in due(planned, today, sent)]
        today += DAY
    assert sorted(sent) == sorted(reminder.key for reminder in planned)


def test_what_is_over_is_not_sent() -> None:
    """Nobody is told of a choice whose deadline has passed, nor of an attestation of last year."""
    periods, planned = plan(date(2026, 9, 15))
    deadline = periods[0].notice_by
    assert deadline is not None
    assert [r.kind for r in due(planned, deadline, ())] == ["notice_7"]
    assert due(planned, deadline + DAY, ())[0].kind == "renewed"
    assert due(planned, date(2031, 1, 2), ()) == []
    assert due(planned, date(2036, 1, 2), ()) == []


@given(DAYS, NOTICE, st.integers(1, 3))
def test_the_choice_is_explained_before_the_first_notice_reminder(start: date, months: int, years: int) -> None:
    """Whatever the notice period: on an earlier day, so that the newest-alone rule swallows neither."""
    periods = terms(start, term_years=years, count=3, notice_months=months)
    planned = reminders(periods, ReminderPolicy(), start)
    for number in (1, 2):
        of_term = [r for r in planned if r.term == number]
        choice = [r.on for r in of_term if r.kind == "choice"]
        notices = [r.on for r in of_term if r.kind.startswith("notice")]
        if years == 3:
            assert (len(choice), len(notices)) == (1, 2)
        if notices:
            assert choice[0] < min(notices)


def test_policy_moves_and_drops_reminders() -> None:
    start = date(2026, 9, 15)
    periods = terms(start, term_years=3, count=3, notice_months=3)
    policy = ReminderPolicy(notice_days=[60], choice_months=[], last_term_months=[], contacts_yearly=False)
    assert [reminder.kind for reminder in reminders(periods, policy, start)] == [
        *("notice_60", "renewed", "attestation") * 2,
        "last_term_7d",
    ]


@pytest.mark.parametrize("years", [1, 2])
def test_no_reminder_of_the_last_term_before_it_began(years: int) -> None:
    start = date(2026, 9, 15)
    periods = terms(start, term_years=years, count=2, notice_months=3)
    for reminder in reminders(periods, ReminderPolicy(), start):
        assert reminder.nominal >= periods[reminder.term - 1].start


def test_alsace_moselle_has_two_holidays_of_its_own() -> None:
    good_friday, second_day = date(2026, 4, 3), date(2028, 12, 26)
    assert [WorkingDays().holds(day) for day in (good_friday, second_day)] == [True, True]
    assert [WorkingDays(alsace_moselle=True).holds(day) for day in (good_friday, second_day)] == [False, False]
    start = date(2026, 3, 26)  # the notice deadline is 25 December 2028: renewed on the 26th, a Tuesday
    periods, _ = plan(start)
    planned = [reminders(periods, ReminderPolicy(), start, alsace_moselle=local) for local in (False, True)]
    days = [next(one.on for one in found if one.kind == "renewed") for found in planned]
    assert days == [second_day, date(2028, 12, 27)]
