"""The one place where time is read, and the levers with which tests and judges move it."""

import ctypes
import os
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from provisioner.errors import BadInput

PARIS = ZoneInfo("Europe/Paris")  # days of an agreement end at 24:00 there (CONTEXT.md, exact rules)
_TIMEX_BYTES = 512  # struct timex has 208
_KEPT = range(5)  # TIME_OK to TIME_WAIT; 5 is TIME_ERROR: not synchronised; -1: not allowed to ask
LEVERS = ("PROVISION_FAILPOINT", "PROVISION_NOW")


def refuse_levers_outside_tests(namespace: str) -> None:
    """Refuse to run with a test lever set, unless the namespace says that this is a test.

    Raises:
        BadInput: a lever is set and the namespace does not start with ``test-``.

    """
    for lever in LEVERS:
        if os.environ.get(lever) and not namespace.startswith("test-"):
            raise BadInput(
                f"{lever} is set, but the namespace is {namespace!r}: levers work only where it starts with test-",
                f"unset {lever}",
            )


def now() -> datetime:
    """Return the present instant, in UTC."""
    pretended = os.environ.get("PROVISION_NOW")
    if pretended:
        moment = datetime.fromisoformat(pretended)
        return (moment if moment.tzinfo else moment.replace(tzinfo=PARIS)).astimezone(UTC)
    return datetime.now(UTC)


def is_kept() -> bool:
    """Return whether the kernel says that a time service keeps its clock; of a pretended clock it says nothing."""
    if os.environ.get("PROVISION_NOW"):
        return False
    ask = ctypes.CDLL(None).adjtimex  # all zeros: it changes nothing
    return int(ask(ctypes.create_string_buffer(_TIMEX_BYTES))) in _KEPT


def today() -> date:
    """Return the present day in Europe/Paris."""
    return now().astimezone(PARIS).date()


def slot(now: datetime, hour: int, weekday: int | None = None) -> datetime:
    """Return the newest moment, not after ``now``, at which the clock in Europe/Paris showed ``hour``.

    Each day has exactly one: of an hour that comes twice the first, of one that a night leaves out the next that is.
    """
    day = now.astimezone(PARIS).date() + timedelta(days=1)
    while True:
        moment = _hour_of(day, hour)
        if moment <= now and weekday in (None, day.weekday()):
            return moment
        day -= timedelta(days=1)


def _hour_of(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=PARIS).astimezone(UTC)
