"""The one-shots that this process waits for, so that a stop ends them instead of leaving them at work."""

import _thread
import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from provisioner.errors import Interrupted, ProvisionError

STOP_SECONDS = 10.0  # how long ending them may take

_taking_back: ContextVar[bool] = ContextVar("taking_back", default=False)
_at_work: dict[str, "OneShotUnderWay"] = {}  # by container


class OneShotUnderWay:
    """A one-shot from before its container is made until it is removed."""

    def __init__(self, container: str, end: Callable[[], None]) -> None:
        self.container = container
        self.taking_back = _taking_back.get()
        self.stopped = False  # by a signal
        self.over = False  # its container is gone, as far as that could be had
        self._end = end

    def end(self) -> None:
        """End its container, over a connection of its own."""
        with contextlib.suppress(ProvisionError):  # it is not there yet, or any more; or its host is away
            self._end()
        self.over = True

    def require_wanted(self) -> None:
        """Make sure that nobody stopped it.

        Raises:
            Interrupted: somebody did.

        """
        if self.stopped:
            raise Interrupted(f"{self.container} was stopped")


@contextlib.contextmanager
def waited_for(container: str, end: Callable[[], None]) -> Iterator[OneShotUnderWay]:
    """Have a stop end ``container``, by ``end``, for as long as a block runs."""
    one = _at_work[container] = OneShotUnderWay(container, end)
    try:
        yield one
    finally:
        _at_work.pop(container, None)


@contextlib.contextmanager
def taking_back() -> Iterator[None]:
    """Take something back in a block: a first stop does not end what works on that."""
    token = _taking_back.set(True)
    try:
        yield
    finally:
        _taking_back.reset(token)


def stop(*, everything: bool, wait: bool) -> None:
    """End the one-shots under way, those that take something back only with ``everything``. Signal handlers call it.

    Whoever waits for one of them gets `Interrupted`. With ``wait``, return when they are ended, within 10 s.
    """
    going = [one for one in list(_at_work.values()) if everything or not one.taking_back]
    for one in going:
        one.stopped = True
    # By threads of their own: the one that a signal interrupts may be in the middle of a call to the same engine. Not
    # by threading.Thread, whose lock that one may hold.
    for one in going:
        _thread.start_new_thread(one.end, ())
    deadline = time.monotonic() + STOP_SECONDS
    while wait and not all(one.over for one in going) and time.monotonic() < deadline:
        time.sleep(0.02)
