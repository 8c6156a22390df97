"""Days and months for the agreements' rules, and an oracle of adding months."""

from datetime import date, timedelta

from hypothesis import strategies as st

DAYS = st.dates(date(2000, 1, 1), date(2100, 12, 31))
NOTICE = st.integers(0, 12)
DAY = timedelta(days=1)


def later(day: date, months: int) -> date:
    """Oracle of adding months: count them on one by one, then take the first day of the month that exists."""
    year, month = day.year, day.month
    for _ in range(months):
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    for number in range(day.day, 27, -1):
        try:
            return date(year, month, number)
        except ValueError:
            continue
    return date(year, month, day.day)
