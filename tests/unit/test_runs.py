"""Whether a clock is believed: by the run before, or by what the kernel says of it."""

import ctypes
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import clock, runs

LAST = datetime(2028, 9, 1, 2, 0, tzinfo=UTC)
STATUS, UNSYNCHRONISED = slice(40, 44), 0x40  # of struct timex, on machines of 64 bits (linux/timex.h)


@pytest.mark.parametrize(
    ("later", "believed"),
    [
        (timedelta(0), True),
        (timedelta(days=1), True),
        (timedelta(minutes=-59), True),
        (timedelta(minutes=-61), False),
        (timedelta(days=8), True),  # a lost week
        (timedelta(days=10), True),
        (timedelta(days=10, minutes=1), False),
        (timedelta(days=-365), False),
        (timedelta(days=4000), False),
    ],
)
def test_what_fits_the_run_before(later: timedelta, believed: bool) -> None:
    assert runs.fits(LAST + later, LAST) is believed


@given(st.timedeltas(timedelta(days=11), timedelta(days=20000)))
def test_a_jump_and_its_way_back_need_nobody(jump: timedelta) -> None:
    """The last believed run stays the measure: what ran under the wrong clock is none."""
    assert not runs.fits(LAST + jump, LAST)
    assert not runs.fits(LAST - jump, LAST)
    assert runs.fits(LAST + timedelta(days=6), LAST)


def test_the_kernel_is_asked_of_its_own_clock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROVISION_NOW", raising=False)
    answer = ctypes.create_string_buffer(512)
    allowed = ctypes.CDLL(None).adjtimex(answer) != -1
    status = int.from_bytes(answer.raw[STATUS], "little")
    assert clock.is_kept() is (allowed and not status & UNSYNCHRONISED)
    monkeypatch.setenv("PROVISION_NOW", "2028-09-01T02:00")
    assert not clock.is_kept()
