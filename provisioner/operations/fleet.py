"""Each of these, some at a time: what fails is told and stops no other; after a stop nothing more is begun."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar

from provisioner.errors import Interrupted, ProvisionError
from provisioner.journal.journal import stop_requested, stoppable

NOT_BEGUN = "not begun: stopped before its turn"

S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome:
    """What became of one subject."""

    slug: str
    outcome: str
    exit_code: int = 0
    hint: str = ""

    @property
    def begun(self) -> bool:
        """Return whether its turn came; otherwise a stop came before."""
        return self.outcome != NOT_BEGUN

    @classmethod
    def failed(cls, slug: str, error: ProvisionError) -> Self:
        """Return the outcome of a subject whose work ended with ``error``."""
        return cls(slug, error.message, error.exit_code, error.hint)


def each(
    subjects: Sequence[S], act: Callable[[S], R], failed: Callable[[S, ProvisionError], R], at_a_time: int = 1
) -> list[R]:
    """Return what ``act`` makes of each subject, in their order, or what ``failed`` makes of its error.

    After Ctrl-C or SIGTERM what is under way stops where that is clean, and the others are not begun:
    their error is `Interrupted`, its message `NOT_BEGUN`.
    """

    def one(subject: S) -> R:
        try:
            if stop_requested.is_set():
                raise Interrupted(NOT_BEGUN)
            return act(subject)
        except ProvisionError as error:
            return failed(subject, error)

    with stoppable("fleet"), ThreadPoolExecutor(max_workers=at_a_time) as pool:
        return list(pool.map(one, subjects))
