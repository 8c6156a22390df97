"""The journal: runs an operation's steps so that a crash at any point can be resumed or undone.

Before a step acts, "started" is committed; after it acted, "done", together with the next step's
"started". `resume` therefore repeats at most the one step that was under way, which is why every
step is idempotent.
"""

import getpass
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, NoReturn

from sqlmodel import Session, col, select

from provisioner import clock, eventlog
from provisioner.adapters.under_way import taking_back
from provisioner.errors import Busy, Interrupted, Irrevocable, NeedsHand, ProvisionError
from provisioner.journal import failpoint, lock
from provisioner.journal.step import Step, W
from provisioner.model.tables import UNFINISHED, Operation, OperationState, OperationStep, StepState
from provisioner.store import Store

stop_requested = threading.Event()  # set by the CLI on Ctrl-C and SIGTERM; looked at between steps

_under_way: set[str] = set()  # subjects and jobs that this process works on


def operations_running() -> bool:
    """Return whether this process is in the middle of an operation."""
    return bool(_under_way)


@contextmanager
def stoppable(what: str) -> Iterator[None]:
    """Let a signal ask this process to stop where that is clean, for as long as a block runs."""
    _under_way.add(what)
    try:
        yield
    finally:
        _under_way.discard(what)


Progress = Callable[[str, str, int, int], None]  # subject, step, position, number of steps


def no_progress(_subject: str, _step: str, _position: int, _count: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Journal(Generic[W]):
    """Runs the steps of one kind of operation."""

    store: Store
    locks: Path
    kind: str
    steps: Sequence[Step[W]]
    progress: Progress = no_progress

    @contextmanager
    def subject(self, subject: str) -> Iterator[None]:
        """Hold ``subject`` for a block, against every other process and thread.

        Raises:
            Busy: somebody works on it; says who, on what, since when.

        """
        with lock.hold(self.locks, subject) as free:
            if not free:
                raise Busy(*_holder(self.store, subject))
            with stoppable(subject):
                yield

    def begin(
        self,
        subject: str,
        arguments: dict[str, Any],
        record: Callable[[Session], None] = lambda _session: None,
    ) -> Operation:
        """Record a new operation and its plan, together with what ``record`` writes, in one transaction.

        Call it while holding the subject. The first step counts as started from here on, so that
        its undo takes back what ``record`` wrote.

        Raises:
            Busy: an earlier operation on the subject is unfinished.
            Interrupted: a person or the system has asked to stop; nothing was recorded.

        """
        if stop_requested.is_set():
            raise Interrupted(f"{subject}: {self.kind} not begun, because a stop was asked for")
        with self.store.transaction() as session:
            refuse_unfinished(session, subject)
            record(session)
            now = clock.now()
            operation = Operation(
                kind=self.kind,
                subject=subject,
                arguments=arguments,
                holder=holder(),
                program=version("provision"),
                started_at=now,
            )
            session.add(operation)
            session.flush()
            for position, step in enumerate(self.steps):
                state = StepState.STARTED if position == 0 else StepState.PLANNED
                session.add(
                    OperationStep(
                        operation_id=operation.key,
                        position=position,
                        name=step.name,
                        state=state,
                        changed_at=now,
                    )
                )
            eventlog.record(session, subject, f"{self.kind} started", operation.id)
        return operation

    def carry_out(self, operation: Operation, work: W) -> None:
        """Run the steps that are not done yet; when one fails, undo those that were started.

        Raises:
            ProvisionError: the operation was undone.
            Interrupted: so it was, because a person or the system asked to stop.
            NeedsHand: it could neither go on nor be undone.

        """
        rows = self._planned(operation)
        self._attach_notes(operation, work, rows)
        for position, (row, step) in enumerate(zip(rows, self.steps, strict=True)):
            if row.state is StepState.DONE:
                continue
            try:
                if stop_requested.is_set():
                    raise Interrupted(f"{operation.subject}: {self.kind} stopped before step {step.name}")
                self.progress(operation.subject, step.name, position, len(rows))
                work.step = step.name
                failpoint.reach(self.kind, step.name, "before")
                self._act(operation, work, step)
                failpoint.reach(self.kind, step.name, "after")
            except Exception as error:
                self._fail(operation, work, step, error)
            self._mark(operation, position, StepState.DONE)
        self.progress(operation.subject, "done", len(rows), len(rows))

    def _act(self, operation: Operation, work: W, step: Step[W]) -> None:
        try:
            step.do(work)
        except Interrupted:  # what it waited for was ended
            raise Interrupted(f"{operation.subject}: {self.kind} stopped in step {step.name}") from None

    def take_back(self, operation: Operation, work: W) -> None:
        """Undo every step that was started, newest first; a failing undo does not stop the others.

        Only the first step waits for all: it holds the record by which the others know what to undo.

        Raises:
            NeedsHand: some undo failed; says which and why. Or nothing can be taken back any more, and the
                operation is to be resumed.

        """
        with taking_back():
            self._take_back(operation, work)

    def _take_back(self, operation: Operation, work: W) -> None:
        rows = self._planned(operation)
        self._attach_notes(operation, work, rows)
        self._close(operation, OperationState.UNDOING, operation.message)
        failures: list[str] = []
        settled: set[Callable[[W], None]] = set()  # steps may share one undo, which then runs once
        for row, step in reversed(list(zip(rows, self.steps, strict=True))):
            if row.state in (StepState.PLANNED, StepState.UNDONE) or (failures and row.position == 0):
                continue
            work.step = step.name
            self.progress(operation.subject, f"undo {step.name}", row.position, len(rows))
            try:
                failpoint.reach(self.kind, step.name, "undo")
                if step.undo not in settled:
                    settled.add(step.undo)
                    step.undo(work)
            except Irrevocable as error:
                message = f"{operation.message or operation.subject}; {error.message}"
                self._close(operation, OperationState.RUNNING, message)
                raise NeedsHand(message, f"provision resume {operation.subject}") from None
            except Exception as error:  # the remaining undos must still run
                failures.append(f"{step.name}: {_words(error)}")
            else:
                self._mark(operation, row.position, StepState.UNDONE)
        if failures:
            reason = f"{operation.message}; " if operation.message else f"{operation.subject}: "
            message = f"{reason}could not undo {'; '.join(failures)}"
            self._close(operation, OperationState.NEEDS_HAND, message)
            raise NeedsHand(message, f"mend what it names, then: provision undo {operation.subject}")
        self._close(operation, OperationState.UNDONE, operation.message)

    def take_over(self, operation: Operation) -> None:
        """Make this process the holder of an operation whose holder is gone."""
        with self.store.transaction() as session:
            row = session.get_one(Operation, operation.id)
            row.holder = holder()
            if row.state is OperationState.NEEDS_HAND:
                row.state = OperationState.UNDOING  # what needed a hand failed to be undone
            eventlog.record(session, operation.subject, f"{operation.kind} taken over", operation.id)

    def _fail(self, operation: Operation, work: W, step: Step[W], error: Exception) -> NoReturn:
        reason = f"{operation.subject}: {self.kind} failed at {step.name}: {_words(error)}"
        operation.message = reason
        hint = error.hint if isinstance(error, ProvisionError) else ""
        self.take_back(operation, work)
        if isinstance(error, Interrupted):
            raise Interrupted(f"{error.message}; undone") from error
        raise ProvisionError(f"{reason}; undone", hint) from error

    def _planned(self, operation: Operation) -> list[OperationStep]:
        with self.store.transaction() as session:
            query = select(OperationStep).where(OperationStep.operation_id == operation.id)
            rows = list(session.exec(query.order_by(col(OperationStep.position))).all())
        if [row.name for row in rows] != [step.name for step in self.steps]:
            # A11: never skip or invent a step of a journal that another version wrote.
            writer = f"provision {operation.program}" if operation.program else "an earlier version of provision"
            raise NeedsHand(
                f"{operation.subject}: the journal of {operation.kind} was written by {writer}, whose steps are others",
                f"finish it with {writer}; docs/needs-hand.md says how",
            )
        return rows

    def _attach_notes(self, operation: Operation, work: W, rows: Sequence[OperationStep]) -> None:
        for row in rows:
            work.notes.update(row.notes)

        def write(key: str, value: Any) -> None:
            with self.store.transaction() as session:
                query = select(OperationStep).where(
                    OperationStep.operation_id == operation.id, OperationStep.name == work.step
                )
                row = session.exec(query).one()
                row.notes = {**row.notes, key: value}

        work.write_note = write

    def _mark(self, operation: Operation, position: int, state: StepState) -> None:
        """Record a step's state, and with "done" what follows from it: the next start, or the success."""
        with self.store.transaction() as session:
            query = select(OperationStep).where(OperationStep.operation_id == operation.id)
            rows = list(session.exec(query.order_by(col(OperationStep.position))).all())
            rows[position].state = state
            rows[position].changed_at = clock.now()
            if state is not StepState.DONE:
                return
            if position + 1 < len(rows):
                rows[position + 1].state = StepState.STARTED
            else:
                stored = session.get_one(Operation, operation.id)
                stored.state, stored.ended_at = OperationState.SUCCEEDED, clock.now()
                eventlog.record(session, operation.subject, f"{operation.kind} succeeded", operation.id)

    def _close(self, operation: Operation, state: OperationState, message: str) -> None:
        with self.store.transaction() as session:
            stored = session.get_one(Operation, operation.id)
            stored.state, stored.message = state, message
            if state not in (OperationState.UNDOING, OperationState.RUNNING):
                stored.ended_at = clock.now()
                kind = f"{operation.kind} {state.value.replace('_', ' ')}"
                eventlog.record(session, operation.subject, kind, operation.id, reason=message)


def holder() -> str:
    """Return who runs this process: user, machine and process id."""
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"


def local_time(operation: Operation) -> str:
    """Return when an operation began, in Europe/Paris."""
    return operation.started_at.astimezone(clock.PARIS).strftime("%Y-%m-%d %H:%M:%S")


def way_on(operation: Operation) -> str:
    """Return the command to paste for an operation that nobody works on."""
    if operation.state is OperationState.RUNNING:
        return f"provision resume {operation.subject}   or   provision undo {operation.subject}"
    return f"provision undo {operation.subject}"


def unfinished(session: Session, subject: str) -> Operation | None:
    """Return the operation on ``subject`` that has not ended well, if there is one."""
    return session.exec(
        select(Operation).where(Operation.subject == subject, col(Operation.state).in_(UNFINISHED))
    ).first()


def refuse_unfinished(session: Session, subject: str) -> None:
    """Refuse to go on where an earlier operation has not ended well: what it left would be taken for a result.

    Raises:
        Busy: there is one; says which, and the command that settles it.

    """
    earlier = unfinished(session, subject)
    if earlier is not None:
        raise Busy(
            f"{subject}: {earlier.kind} of {local_time(earlier)} by {earlier.holder} is unfinished", way_on(earlier)
        )


def _holder(store: Store, subject: str) -> tuple[str, str]:
    with store.transaction() as session:
        operation = unfinished(session, subject)
    if operation is None:
        return f"{subject}: another process is about to work on it", "try again in a moment"
    return (
        f"{subject}: {operation.kind} is running since {local_time(operation)} by {operation.holder}",
        "wait for it",
    )


def _words(error: Exception) -> str:
    return error.message if isinstance(error, ProvisionError) else f"{type(error).__name__}: {error}"
