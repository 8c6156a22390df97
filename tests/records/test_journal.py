"""The journal, exhaustively, on cheap steps: every step, every place, every action, resumed and undone."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner.errors import Busy, Interrupted, NeedsHand, ProvisionError
from provisioner.journal import lock
from provisioner.journal.failpoint import InjectedFailure
from provisioner.journal.journal import Journal, stop_requested, unfinished
from provisioner.journal.step import Step, Work, nothing_to_undo
from provisioner.model.tables import Operation, OperationState, OperationStep, StepState
from provisioner.store import Store
from tests.support.state import make_state

DIED = -signal.SIGKILL


@dataclass(kw_only=True)
class FolderWork(Work):
    """Steps that only make and remove files."""

    folder: Path


def make(name: str) -> Callable[[FolderWork], None]:
    """Return a step's `do` that makes two files, with a failpoint between them."""

    def do(work: FolderWork) -> None:
        """Make two files."""
        (work.folder / f"{name}.1").touch()
        work.middle()
        (work.folder / f"{name}.2").touch()
        work.note(name, "made")

    return do


def remove_all(work: FolderWork) -> None:
    for path in work.folder.glob("*.[12]"):
        path.unlink()


STEPS: tuple[Step[FolderWork], ...] = (
    Step("first", make("first"), undo=remove_all),
    Step("second", make("second"), undo=remove_all),
    Step("look", nothing_to_undo, undo=nothing_to_undo),
    Step("third", make("third"), undo=remove_all),
)
ALL_FILES = {f"{name}.{n}" for name in ("first", "second", "third") for n in (1, 2)}


@dataclass
class Bench:
    """A store and a folder; each act runs in a child process, so that it may die."""

    folder: Path

    def journal(self, steps: tuple[Step[FolderWork], ...] = STEPS) -> Journal[FolderWork]:
        return Journal(Store(f"sqlite:///{self.folder / 'state.db'}"), self.folder / "locks", "test", steps)

    def begin_and_run(self) -> None:
        journal = self.journal()
        with journal.subject("site"):
            operation = journal.begin("site", {})
            journal.carry_out(operation, self.work(operation))

    def go_on(self, *, backwards: bool) -> None:
        journal = self.journal()
        with journal.subject("site"):
            operation = self.operation()
            journal.take_over(operation)
            act = journal.take_back if backwards or operation.state is OperationState.UNDOING else journal.carry_out
            act(operation, self.work(operation))

    def work(self, operation: Operation) -> FolderWork:
        return FolderWork(kind="test", operation_id=operation.key, folder=self.folder)

    def operation(self) -> Operation:
        with self.journal().store.transaction() as session:
            return session.get_one(Operation, 1)

    def steps(self) -> list[StepState]:
        with self.journal().store.transaction() as session:
            return [session.get_one(OperationStep, n + 1).state for n in range(len(STEPS))]

    def files(self) -> set[str]:
        return {path.name for path in self.folder.glob("*.[12]")}

    def in_child(self, act: Callable[[], None], failpoint: str = "") -> int:
        """Return the exit code of a child that runs ``act``, negative for a signal; 1 for our errors."""
        child = os.fork()
        if child == 0:
            os.environ["PROVISION_FAILPOINT"] = failpoint
            signal.signal(signal.SIGINT, lambda *_: stop_requested.set())
            signal.signal(signal.SIGTERM, lambda *_: stop_requested.set())
            try:
                act()
            except ProvisionError as error:
                os._exit(error.exit_code)
            except BaseException:
                os._exit(99)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    place = Bench(tmp_path)
    make_state(place.journal().store)
    yield place
    stop_requested.clear()


POINTS = [
    f"test.{step.name}:{place}"
    for step in STEPS
    for place in ("before", "middle", "after")
    if place != "middle" or step.name != "look"
]


@pytest.mark.parametrize("backwards", [False, True], ids=["resume", "undo"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_then_converges(bench: Bench, point: str, backwards: bool) -> None:
    assert bench.in_child(bench.begin_and_run, f"{point}:kill") == DIED
    assert bench.operation().state is OperationState.RUNNING
    assert not lock.is_held(bench.folder / "locks", "site"), "the kernel lets a dead holder's lock go"
    assert bench.in_child(lambda: bench.go_on(backwards=backwards)) == 0
    state, files = (OperationState.UNDONE, set()) if backwards else (OperationState.SUCCEEDED, ALL_FILES)
    assert (bench.operation().state, bench.files()) == (state, files)


@pytest.mark.parametrize("second", ["undo", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_again_while_recovering(bench: Bench, point: str, second: str) -> None:
    backwards = second == "undo"
    assert bench.in_child(bench.begin_and_run, f"{point}:kill") == DIED
    step = point.partition(":")[0]
    code = bench.in_child(lambda: bench.go_on(backwards=backwards), f"{step}:{second}:kill")
    assert code == DIED
    assert bench.in_child(lambda: bench.go_on(backwards=backwards)) == 0
    assert bench.files() == (set() if backwards else ALL_FILES)


@pytest.mark.parametrize("point", POINTS)
def test_a_failure_is_undone(bench: Bench, point: str) -> None:
    assert bench.in_child(bench.begin_and_run, f"{point}:fail") == ProvisionError.exit_code
    assert (bench.operation().state, bench.files()) == (OperationState.UNDONE, set())
    assert set(bench.steps()) <= {StepState.UNDONE, StepState.PLANNED}


@pytest.mark.parametrize("action", ["interrupt", "terminate"])
@pytest.mark.parametrize("point", POINTS)
def test_a_stop_lets_the_step_end_then_undoes(bench: Bench, point: str, action: str) -> None:
    """A2; what is asked to stop in its last step has nothing left to stop, and succeeds."""
    last = point.startswith("test.third:")
    code = bench.in_child(bench.begin_and_run, f"{point}:{action}")
    assert code == (0 if last else Interrupted.exit_code)
    wanted = (OperationState.SUCCEEDED, ALL_FILES) if last else (OperationState.UNDONE, set())
    assert (bench.operation().state, bench.files()) == wanted


@pytest.mark.parametrize("step", [step.name for step in STEPS])
def test_a_failing_undo_needs_a_hand_and_can_be_repeated(bench: Bench, step: str) -> None:
    assert bench.in_child(bench.begin_and_run, "test.third:after:kill") == DIED
    code = bench.in_child(lambda: bench.go_on(backwards=True), f"test.{step}:undo:fail")
    assert code == NeedsHand.exit_code
    assert bench.operation().state is OperationState.NEEDS_HAND
    assert bench.in_child(lambda: bench.go_on(backwards=True)) == 0
    assert bench.operation().state is OperationState.UNDONE
    assert bench.files() == set()


def test_other_undos_run_although_one_fails(bench: Bench) -> None:
    def refuse(work: FolderWork) -> None:
        raise InjectedFailure("no")

    steps: tuple[Step[FolderWork], ...] = (STEPS[0], Step("second", make("second"), undo=refuse), *STEPS[2:])
    journal = bench.journal(steps)
    with journal.subject("site"):
        operation = journal.begin("site", {})
        work = bench.work(operation)
        journal.carry_out(operation, work)
        with pytest.raises(NeedsHand, match="second: no"):
            journal.take_back(operation, work)
    assert bench.files() == set()


def test_an_unfinished_operation_refuses_another(bench: Bench) -> None:
    assert bench.in_child(bench.begin_and_run, "test.second:before:kill") == DIED
    journal = bench.journal()
    with journal.subject("site"), pytest.raises(Busy, match="is unfinished") as refusal:
        journal.begin("site", {})
    assert "provision resume site" in refusal.value.hint


def test_a_running_operation_names_its_holder(bench: Bench) -> None:
    journal = bench.journal()
    with journal.subject("site"):
        operation = journal.begin("site", {})
        with pytest.raises(Busy) as refusal, journal.subject("site"):
            pytest.fail("two held one subject")
    assert operation.holder in refusal.value.message
    assert f"process {os.getpid()}" in refusal.value.message


def test_a_journal_of_another_version_needs_a_hand(bench: Bench) -> None:
    """A11: neither skipped nor invented steps."""
    assert bench.in_child(bench.begin_and_run, "test.second:before:kill") == DIED
    other: tuple[Step[FolderWork], ...] = (STEPS[0], Step("new", make("new"), undo=remove_all), *STEPS[1:])
    operation = bench.operation()
    for act in (bench.journal(other).carry_out, bench.journal(other).take_back):
        with pytest.raises(NeedsHand, match="whose steps are others"):
            act(operation, bench.work(operation))
    assert bench.files() == {"first.1", "first.2"}


def test_notes_outlive_a_crash(bench: Bench) -> None:
    assert bench.in_child(bench.begin_and_run, "test.third:before:kill") == DIED
    work = bench.work(bench.operation())
    seen: dict[str, str] = {}

    def look(_work: FolderWork) -> None:
        """Look at the notes."""
        seen.update(_work.notes)

    steps: tuple[Step[FolderWork], ...] = (*STEPS[:3], Step("third", look, undo=remove_all))
    bench.journal(steps).carry_out(bench.operation(), work)
    assert seen == {"first": "made", "second": "made"}


def test_success_and_its_event_come_together(bench: Bench) -> None:
    bench.begin_and_run()
    with bench.journal().store.transaction() as session:
        assert unfinished(session, "site") is None
    assert bench.operation().state is OperationState.SUCCEEDED


def test_the_record_outlives_a_failed_undo(bench: Bench) -> None:
    """The first step's record tells the others what to undo: it goes last, and only when they are done."""
    marker, broken = bench.folder / "record", bench.folder / "broken"

    def record(_work: FolderWork) -> None:
        """Record."""
        marker.touch()

    def forget(_work: FolderWork) -> None:
        marker.unlink()

    def undo_unless_broken(_work: FolderWork) -> None:
        if broken.exists():
            raise InjectedFailure("no")

    steps: tuple[Step[FolderWork], ...] = (
        Step("record", record, undo=forget),
        Step("act", make("act"), undo=undo_unless_broken),
    )
    journal = bench.journal(steps)
    broken.touch()
    with journal.subject("site"):
        operation = journal.begin("site", {})
        journal.carry_out(operation, bench.work(operation))
        with pytest.raises(NeedsHand):
            journal.take_back(operation, bench.work(operation))
        assert marker.exists()
        broken.unlink()
        journal.take_back(operation, bench.work(operation))
    assert not marker.exists()
