"""A stop ends what this process waits for; what takes something back goes on at the first one."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from provisioner.adapters import under_way
from provisioner.errors import Interrupted, ProvisionError


@pytest.fixture
def ended() -> list[str]:
    """The containers that were ended."""
    return []


def ending(ended: list[str], name: str) -> Callable[[], None]:
    return lambda: ended.append(name)


def test_a_first_stop_leaves_what_takes_something_back(ended: list[str]) -> None:
    with (
        under_way.waited_for("forward", ending(ended, "forward")) as forward,
        under_way.taking_back(),
        under_way.waited_for("back", ending(ended, "back")) as back,
    ):
        under_way.stop(everything=False, wait=True)
        assert ended == ["forward"]
        back.require_wanted()
        with pytest.raises(Interrupted):
            forward.require_wanted()
        under_way.stop(everything=True, wait=True)
        assert sorted(ended) == ["back", "forward", "forward"]
        with pytest.raises(Interrupted):
            back.require_wanted()


def test_what_is_over_is_not_ended(ended: list[str]) -> None:
    with under_way.waited_for("one", ending(ended, "one")) as one:
        pass
    under_way.stop(everything=True, wait=True)
    assert ended == []
    one.require_wanted()


def test_a_host_that_is_away_holds_up_no_stop(ended: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise ProvisionError("host main: the engine does not answer")

    monkeypatch.setattr(under_way, "STOP_SECONDS", 0.3)
    never = threading.Event()

    def hang() -> None:
        never.wait(5)

    with under_way.waited_for("away", away), under_way.waited_for("hangs", hang):
        began = time.monotonic()
        under_way.stop(everything=True, wait=True)
        assert time.monotonic() - began < 4
    never.set()


@pytest.fixture
def on_signal() -> Iterator[None]:
    """Stop everything on a signal, as the command line does."""
    before = signal.signal(signal.SIGUSR1, lambda *_: under_way.stop(everything=True, wait=True))
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_in_the_middle_of_beginning_threads_deadlocks_nobody(on_signal: None, ended: list[str]) -> None:
    """The thread that is interrupted may hold any of its own locks."""
    stopper = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    stopper.start()
    with under_way.waited_for("one", ending(ended, "one")) as one:
        deadline = time.monotonic() + 20
        while not one.stopped:
            threads = [threading.Thread(target=int) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert time.monotonic() < deadline
    stopper.join()
    assert ended[0] == "one"
