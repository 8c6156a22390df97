"""What people may do to an agreement: each act follows the rules, or is refused with a sentence. Pure.

Source: CONTEXT.md, "exact rules". The operations record what these functions allow, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from provisioner.agreement.terms import (
    IN_FORCE,
    ONE_DAY,
    AgreementState,
    Milestones,
    Notice,
    Term,
    last_day,
    notice_on,
    planned_closing,
    plus_months,
    state_on,
)
from provisioner.errors import BadInput

GAP_MONTHS = 6  # at most between an agreement's last day and the first of the one that follows it


class Giver(StrEnum):
    """The party that gives notice."""

    ASSOCIATION = "association"
    COUNCIL = "council"


class Late(StrEnum):
    """What a person decided about a late notice; the third way, that it is withdrawn, leaves nothing to record."""

    COUNTS = "counts"  # for this term all the same
    NEXT_TERM = "next_term"


@dataclass(frozen=True)
class Standing:
    """An agreement of record as an act meets it on a day."""

    slug: str
    today: date
    milestones: Milestones
    periods: Sequence[Term]

    @property
    def state(self) -> AgreementState:
        """Return the agreement's state today."""
        return state_on(self.today, self.milestones, self.periods)

    @property
    def last_day(self) -> date:
        """Return the agreement's last day, as things stand."""
        return last_day(self.milestones, self.periods)

    @property
    def status(self) -> str:
        """Return the command that shows it."""
        return f"provision status {self.slug}"


@dataclass(frozen=True)
class Accepted:
    """A notice that counts, and the last day of the agreement by it."""

    ends: date
    late_days: int  # 0: in time
    is_over: bool  # the last day has passed already: it was in time, and is put on record after the term


def check_first_signature(meets: Standing, on: date, start: date | None) -> None:
    """Check that a site's first agreement can be signed.

    Raises:
        BadInput: a day in the future, another first day than the agreement's own, or an agreement that is over already.

    """
    _refuse_future(meets, on, "a signature")
    if start is not None:
        first = meets.periods[0].start
        raise BadInput(f"{meets.slug}: its first agreement begins on {first}: leave out --start")
    _refuse_over(meets, meets.periods[0].start, meets.periods[-1].end)


def following_start(meets: Standing, on: date, start: date | None, *, retroactive: bool = False) -> date:
    """Return the first day of a new agreement, signed ``on`` that day: ``start``, or the earliest that is meant.

    Raises:
        BadInput: the agreement before is going on; a signature in the future, or before the one of the agreement
            before; a first day before that agreement's end, more than six months after it, or, unless confirmed by
            ``retroactive``, before the signature.

    """
    _refuse_future(meets, on, "a signature")
    signed = meets.milestones.signed
    if signed is None:
        raise BadInput(f"{meets.slug}: its first agreement is not signed: none follows it yet", meets.status)
    if planned_closing(meets.today, meets.milestones, meets.periods, 1) is None:
        raise BadInput(f"{meets.slug}: the agreement was signed on {signed} already", meets.status)
    if on < signed:
        raise BadInput(
            f"{meets.slug}: {on} lies before {signed}, when the agreement before was signed: "
            "a new one is signed later than the one that it follows"
        )
    earliest, latest = meets.last_day + ONE_DAY, plus_months(meets.last_day + ONE_DAY, GAP_MONTHS)
    begins = start or max(earliest, on)
    if begins < earliest:
        raise BadInput(f"{meets.slug}: a new agreement cannot begin before {earliest}: the one before ends then")
    if begins > latest:
        raise BadInput(
            f"{meets.slug}: a new agreement cannot begin on {begins}: it follows the one before within {GAP_MONTHS} "
            f"months, on {latest} at the latest",
            f"provision agreement sign {meets.slug} --on {on} --start {min(latest, max(earliest, on))}"
            + (" --retroactive" if on > latest else ""),
        )
    if begins < on and not retroactive:
        raise BadInput(
            f"{meets.slug}: the agreement would begin on {begins}, before its signature on {on}: retroactively",
            "the same command with --retroactive, if both parties mean that",
        )
    return begins


def check_not_over(meets: Standing, start: date, end: date) -> None:
    """Check that a new agreement, from ``start`` to ``end`` at the longest, is not over before it is recorded.

    Raises:
        BadInput: it is.

    """
    _refuse_over(meets, start, end)


def give_notice(meets: Standing, on: date, decided: Late | None = None) -> Accepted:
    """Return what a notice received ``on`` that day does.

    Raises:
        BadInput: nothing is in force, or ends by a notice or a termination already; a day in the future or before the
            signature; the last term; a late notice that nobody has decided about, or one in time that is decided about
            as if it were late.

    """
    slug, signed = meets.slug, meets.milestones.signed
    if signed is None or meets.state not in (AgreementState.TO_COME, *IN_FORCE):
        raise BadInput(f"{slug}: its agreement is {meets.state}: there is nothing to give notice of", meets.status)
    if meets.milestones.terminated is not None:
        raise BadInput(
            f"{slug}: its agreement is terminated, its last day is {meets.last_day}: no notice changes that",
            meets.status,
        )
    _refuse_future(meets, on, "a notice")
    if on < signed:
        raise BadInput(f"{slug}: {on} lies before the signature of {signed}")
    notice = notice_on(on, meets.periods)
    if notice is None:
        raise BadInput(
            f"{slug}: the last term ends on {meets.periods[-1].end} by itself, nothing renews it",
            f"to end it earlier: provision agreement end {slug} --on DATE --termination --reason TEXT",
        )
    ends = _end_by(meets, on, notice, decided)
    return Accepted(ends, notice.late_days, ends < meets.today)


def _end_by(meets: Standing, on: date, notice: Notice, decided: Late | None) -> date:
    if not notice.late_days:
        if decided is Late.NEXT_TERM:
            raise BadInput(
                f"{meets.slug}: notice on {on} is in time, it counts for the term that ends on {notice.ends}",
                "leave out --next-term",
            )
        return notice.ends
    if decided is None:
        raise BadInput(
            f"{meets.slug}: notice on {on} is {notice.late_days} days late, the last day was {notice.notice_by}: "
            f"the agreement goes on until {notice.otherwise}, unless you decide that it ends on {notice.ends}",
            f"it counts all the same: --accept-late; it counts for {notice.otherwise}: --next-term; "
            "it is withdrawn: nothing to record",
        )
    return notice.ends if decided is Late.COUNTS else notice.otherwise


def check_termination(meets: Standing, on: date) -> None:
    """Check that ``on`` can be the first day without the agreement.

    Raises:
        BadInput: nothing to terminate: not signed, over, or terminated already; a day that is not later than today, or
            before the agreement begins, or after its last day.

    """
    slug = meets.slug
    if meets.milestones.signed is None:
        raise BadInput(f"{slug}: its agreement is not signed: there is nothing to terminate", meets.status)
    if meets.last_day < meets.today:
        raise BadInput(f"{slug}: its agreement ended on {meets.last_day}: there is nothing to terminate", meets.status)
    if meets.milestones.terminated is not None:
        raise BadInput(
            f"{slug}: its agreement was terminated with effect from {meets.milestones.terminated} already",
            f"provision agreement end {slug} --cancel   (takes that back)",
        )
    if on <= meets.today:
        raise BadInput(
            f"{slug}: a termination ends what is to come: its first day without agreement is "
            f"{meets.today + ONE_DAY} at the earliest, not {on}"
        )
    if on < meets.periods[0].start:
        raise BadInput(f"{slug}: its agreement begins on {meets.periods[0].start} only: name that day, or a later one")
    if on > meets.last_day:
        raise BadInput(
            f"{slug}: its agreement ends on {meets.last_day} in any case: a termination takes effect on that day "
            f"at the latest, not on {on}"
        )


def to_take_back(meets: Standing) -> tuple[str, ...]:
    """Return which of the milestones are taken back: the termination, or else the notice.

    Raises:
        BadInput: there is none, or the agreement is over: then only a new one helps.

    """
    again = f"a new agreement: provision agreement sign {meets.slug} --on DATE"
    signed = meets.milestones.signed is not None
    if meets.milestones.terminated is None and meets.milestones.notice is None:
        raise BadInput(f"{meets.slug}: neither notice nor termination is on record", again if signed else meets.status)
    if meets.last_day < meets.today:
        raise BadInput(
            f"{meets.slug}: its agreement ended on {meets.last_day}: nothing can be taken back any more", again
        )
    return ("terminated_on",) if meets.milestones.terminated is not None else ("notice_on", "notice_ends")


def _refuse_future(meets: Standing, on: date, what: str) -> None:
    if on > meets.today:
        raise BadInput(f"{meets.slug}: {on} lies in the future; {what} is recorded when it is given")


def _refuse_over(meets: Standing, start: date, end: date) -> None:
    if end < meets.today:
        raise BadInput(f"{meets.slug}: an agreement from {start} on was over on {end}: nothing of it is left to sign")
