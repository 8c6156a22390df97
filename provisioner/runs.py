"""Whether the clock fits the sequence of our own runs: what acts by the calendar alone asks this first.

A clock that is wrong by years would remind every association and close every site in one night (FAULTS G5). The order
in which runs were recorded cannot be wrong, so each is compared with the last one at which the clock was believed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from provisioner import clock
from provisioner.model.tables import Run, Site

BACK = timedelta(hours=1)  # more than that is no correction of a time service
LONGEST_PAUSE = timedelta(days=10)  # a machine that was off for a week, and the days around it


@dataclass(frozen=True)
class Doubt:
    """The clock jumped: it does not fit the last run at which it was believed."""

    now: datetime
    last: datetime

    @property
    def words(self) -> str:
        """Return what is doubtful."""
        here, last = (moment.astimezone(clock.PARIS).date() for moment in (self.now, self.last))
        return f"the clock jumped, or nothing ran for long: it is {here} here, and the last run that fits was on {last}"


def fits(now: datetime, last: datetime) -> bool:
    """Return whether a clock that shows ``now`` fits a run on which it showed ``last``."""
    return last - BACK <= now <= last + LONGEST_PAUSE


def doubt(session: Session) -> Doubt | None:
    """Return why the clock is not believed now; None: it fits the last runs, or a time service keeps it.

    Before the first run it is compared with when the newest site was recorded.
    """
    last = session.exec(select(Run.started_at).where(col(Run.believed)).order_by(col(Run.id).desc())).first()
    if last is None:
        last = session.exec(select(Site.created_at).order_by(col(Site.id).desc())).first()
    if last is None or fits(clock.now(), last) or clock.is_kept():
        return None
    return Doubt(clock.now(), last)
