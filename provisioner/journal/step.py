"""What an operation is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from provisioner.journal import failpoint

W = TypeVar("W", bound="Work")


@dataclass
class Work:
    """What every step can rely on: its operation, and notes that outlive a crash."""

    kind: str
    operation_id: int
    step: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    write_note: Callable[[str, Any], None] = lambda _key, _value: None

    def note(self, key: str, value: Any) -> None:
        """Record ``value`` before going on, so that a later undo or resume knows it."""
        self.write_note(key, value)
        self.notes[key] = value

    def end_leftovers(self) -> None:
        """End what a process that died left at work for this operation: a step that is repeated must be alone."""

    def middle(self) -> None:
        """Mark a place in the middle of a step where it may fail or die."""
        failpoint.reach(self.kind, self.step, "middle")


@dataclass(frozen=True)
class Step(Generic[W]):
    """One step: ``do`` is idempotent, ``undo`` too. The first line of ``do``'s docstring explains it."""

    name: str
    do: Callable[[W], None]
    undo: Callable[[W], None]

    @property
    def explanation(self) -> str:
        """Return what the step does, in one line."""
        return (self.do.__doc__ or "").strip().splitlines()[0]


def nothing_to_undo(_work: Work) -> None:
    """Undo of a step that left nothing behind."""
