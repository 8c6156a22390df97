"""The chain of events: what happened to which subject. People are named by id."""

from typing import Any

from sqlmodel import Session, col, select

from provisioner import clock
from provisioner.model.tables import Event


def record(session: Session, subject: str, kind: str, operation_id: int | None = None, **data: Any) -> None:
    """Append an event, in the transaction of the change that it speaks of."""
    session.add(Event(at=clock.now(), subject=subject, kind=kind, operation_id=operation_id, data=data))


def last(session: Session, subject: str | None, count: int) -> list[Event]:
    """Return the ``count`` newest events, oldest first; of one subject, or of all."""
    query = select(Event).order_by(col(Event.id).desc()).limit(count)
    if subject is not None:
        query = query.where(Event.subject == subject)
    return list(reversed(session.exec(query).all()))


def all_of(session: Session, subject: str, kind: str) -> list[Event]:
    """Return every event of one kind on ``subject``, oldest first."""
    query = select(Event).where(Event.subject == subject, Event.kind == kind)
    return list(session.exec(query.order_by(col(Event.id))).all())


def newest(session: Session, subject: str, kind: str) -> Event | None:
    """Return the newest event of one kind on ``subject``, if there is one."""
    query = select(Event).where(Event.subject == subject, Event.kind == kind)
    return session.exec(query.order_by(col(Event.id).desc())).first()
