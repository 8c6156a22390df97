"""The scheduler: asks the records every few seconds what is due, and does it.

What was done stands in the table of runs alone: APScheduler only wakes us, and forgets everything when it ends.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlmodel import col, select

from provisioner import clock
from provisioner.errors import Busy, ProvisionError
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.journal.journal import stop_requested, stoppable
from provisioner.model.tables import Run
from provisioner.operations import nightly
from provisioner.operations.nightly import JOBS, NIGHT, STOPPED

SCHEDULER = "scheduler"
TRIES = 3  # of a run that is killed each time
AHEAD = timedelta(hours=1)  # a run that seems to be of the future by more than this is of a wrong clock
LOOK_SECONDS = 5  # between two looks at what is due
PAUSE_SECONDS = 0.5
JUMP_SECONDS = 5  # by which the wall clock must part from the monotonic one to have been set

Tell = Callable[[str], None]


def kinds() -> list[str]:
    """Return the kinds of run that a scheduler begins: the night, and each job with a rhythm of its own."""
    return [NIGHT, *(job.name for job in JOBS if job.minutes or job.weekday is not None)]


def wanted_since(hour: int, now: datetime) -> dict[str, datetime]:
    """Return, by kind of run, from when on there should be one."""
    wanted = {NIGHT: clock.slot(now, hour)}
    wanted |= {job.name: now - timedelta(minutes=job.minutes) for job in JOBS if job.minutes}
    return wanted | {job.name: clock.slot(now, hour, job.weekday) for job in JOBS if job.weekday is not None}


def is_due(since: datetime, runs: Sequence[Run], now: datetime) -> bool:
    """Return whether none of ``runs`` has done since ``since`` what was to be done then.

    Ended is ended, well or not; a stopped run does not count, a killed one is tried thrice. A run of the future was
    dated by a wrong clock and does not count either, so that no jump of the clock keeps the nights away.
    """
    counting = [run for run in runs if since <= run.started_at <= now + AHEAD and run.outcome != STOPPED]
    return not any(run.outcome for run in counting) and len(counting) < TRIES


def due_now(installation: Installation) -> Iterator[str]:
    """Yield the kinds of run that are due by the records, a missed one as well, and however many were missed once."""
    now = clock.now()
    for kind, since in wanted_since(installation.inventory.policy.nightly.hour, now).items():
        with installation.store.transaction() as session:
            runs = session.exec(select(Run).where(Run.kind == kind, col(Run.started_at) >= since)).all()
        if is_due(since, runs, now):
            yield kind


def serve(installation: Installation, tell: Tell) -> None:
    """Do what is due until asked to stop; where another scheduler works on this state, wait for its end.

    Raises:
        Unavailable: the state cannot be read or written.

    """
    told = False
    with stoppable(SCHEDULER):
        while not stop_requested.is_set():
            with lock.hold(installation.locks, SCHEDULER) as free:
                if free:
                    row_id = nightly.begin(installation, SCHEDULER)
                    tell("scheduler: works")
                    _wake_until_stopped(installation, tell)
                    _end(installation, row_id)
                    tell("scheduler: stopped")
                    return
            if not told:
                tell(f"scheduler: waits, {nightly.at_it(installation, SCHEDULER)}")
                told = True
            time.sleep(PAUSE_SECONDS)


def _end(installation: Installation, row_id: int) -> None:
    with installation.store.transaction() as session:
        row = session.get_one(Run, row_id)
        row.ended_at, row.outcome = clock.now(), STOPPED


def _wake_until_stopped(installation: Installation, tell: Tell) -> None:
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    # A look that falls into a run under way is skipped by max_instances, which APScheduler would warn of every time.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    scheduler = BackgroundScheduler(
        timezone=UTC,
        executors={"default": ThreadPoolExecutor(len(kinds()))},  # a long night holds up no other kind
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    for kind in kinds():
        first = datetime.now(UTC)  # the machine's own clock: what is due is asked of the records
        scheduler.add_job(_look, "interval", (installation, kind, tell), seconds=LOOK_SECONDS, next_run_time=first)
    scheduler.start()
    try:
        ahead = time.time() - time.monotonic()
        while not stop_requested.is_set():
            time.sleep(PAUSE_SECONDS)  # never Event.wait: a signal's handler that sets the event could deadlock in it
            if abs(time.time() - time.monotonic() - ahead) > JUMP_SECONDS:
                ahead = time.time() - time.monotonic()
                for job in scheduler.get_jobs():  # set back, the clock would make it sleep until then
                    job.modify(next_run_time=datetime.now(UTC))
    finally:
        scheduler.shutdown(wait=True)


def _look(installation: Installation, kind: str, tell: Tell) -> None:
    """Begin a run of ``kind`` if one is due; whatever happens, the next look comes."""
    try:
        if stop_requested.is_set() or kind not in due_now(installation):
            return
        summary = nightly.run(installation, kind)
    except Busy:
        return  # a person runs it just now
    except ProvisionError as error:
        tell(f"{kind}: {error.message}")
    except Exception as error:  # a fault of ours in one look must not end the scheduler
        tell(f"{kind}: {type(error).__name__}: {error}")
    else:
        if kind == NIGHT or summary.failures:
            what = "; ".join(f"{one.subject}: {one.outcome}" for _, one in summary.failures)
            tell(f"{kind}: {summary.outcome}" + (f": {what}" if what else ""))
