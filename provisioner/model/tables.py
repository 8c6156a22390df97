"""The tables of the control plane's state.

People's names and addresses stand in `Contact` alone; events, mails and operations name them by
id, so that an erasure leaves the chain of events whole.
"""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Dialect, Index, TypeDecorator, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from provisioner.model.names import FIRST_MEDIA, SITE_UID_BASE, GenerationNames


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, stored in UTC and always given back with its zone (SQLite keeps none)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC."""
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return value.replace(tzinfo=UTC) if value else None


class SiteState(StrEnum):
    """States of a site (CONTEXT.md, site states)."""

    PREPARING = "preparing"
    ONLINE = "online"
    SUSPENDED = "suspended"
    CLOSING = "closing"
    ARCHIVED = "archived"
    DELETED = "deleted"


GONE = (SiteState.ARCHIVED, SiteState.DELETED)  # nothing of it serves


class GenerationState(StrEnum):
    """What a generation is to its site."""

    BUILDING = "building"
    SERVING = "serving"
    KEPT = "kept"
    TWIN = "twin"  # for a rehearsal: never routed to, and gone when its operation ends


class OperationState(StrEnum):
    """End states are `succeeded`, `undone` and `needs_hand`; the others say what is under way."""

    RUNNING = "running"
    UNDOING = "undoing"
    SUCCEEDED = "succeeded"
    UNDONE = "undone"
    NEEDS_HAND = "needs_hand"


UNFINISHED = (OperationState.RUNNING, OperationState.UNDOING, OperationState.NEEDS_HAND)


class StepState(StrEnum):
    """How far one step of an operation has come."""

    PLANNED = "planned"
    STARTED = "started"
    DONE = "done"
    UNDONE = "undone"


class MailState(StrEnum):
    """`queued` will be tried again; `dead` needs a person; `withdrawn` had become untrue before it left."""

    QUEUED = "queued"
    SENT = "sent"
    DEAD = "dead"
    WITHDRAWN = "withdrawn"


UNSENT = (MailState.QUEUED, MailState.DEAD)


class Site(SQLModel, table=True):
    """An association's site. Slug and host name stay taken for ever, also by a retired site."""

    __table_args__ = ({"sqlite_autoincrement": True},)  # a site's user id on its host is never given again

    id: int | None = Field(default=None, primary_key=True)
    slug: str = Field(unique=True)
    host_name: str = Field(unique=True)
    host: str
    state: SiteState = SiteState.PREPARING
    name: str
    profile: str
    release: str
    theme: str | None = None
    commune: str | None = None
    rna: str | None = None
    siret: str | None = None
    seat: str | None = None
    telephone: str | None = None
    mail: str | None = None
    publication_director: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)

    @property
    def key(self) -> int:
        """Return the id of a stored site."""
        if self.id is None:
            raise ValueError("this site is not stored yet")
        return self.id

    @property
    def uid(self) -> int:
        """Return the user id that the site's processes and files have on its host."""
        return SITE_UID_BASE + self.key


class Contact(SQLModel, table=True):
    """A member of an association whom the council may write to."""

    __table_args__ = (UniqueConstraint("site_id", "mail"),)

    id: int | None = Field(default=None, primary_key=True)
    site_id: int = Field(foreign_key="site.id", index=True)
    name: str
    mail: str
    login: str
    administrator: bool


class Generation(SQLModel, table=True):
    """What runs: image, database, code and socket of a site, as one unit; ``media`` names the set that it shows."""

    __table_args__ = (UniqueConstraint("site_id", "number"),)

    id: int | None = Field(default=None, primary_key=True)
    site_id: int = Field(foreign_key="site.id", index=True)
    number: int
    state: GenerationState = GenerationState.BUILDING
    release: str
    image: str
    wordpress: str
    php: str
    media: str = FIRST_MEDIA
    created_at: datetime = Field(sa_type=UtcDateTime)
    kept_until: datetime | None = Field(default=None, sa_type=UtcDateTime)

    def names(self, namespace: str, slug: str) -> GenerationNames:
        """Return the names of what this generation of the site ``slug`` owns."""
        return GenerationNames(namespace, slug, self.number)


class Snapshot(SQLModel, table=True):
    """A snapshot that was verified when it was taken; the repository itself is the truth, this is our memory of it."""

    __table_args__ = (UniqueConstraint("site_id", "snapshot"),)

    id: int | None = Field(default=None, primary_key=True)
    site_id: int = Field(foreign_key="site.id", index=True)
    snapshot: str  # restic's own id
    taken_at: datetime = Field(sa_type=UtcDateTime)
    generation: int
    new_bytes: int  # added to the repository, compressed
    total_bytes: int
    files: int
    seconds: float


class Drill(SQLModel, table=True):
    """The evidence of one drill: a snapshot restored, probed and compared."""

    id: int | None = Field(default=None, primary_key=True)
    site_id: int = Field(foreign_key="site.id", index=True)
    snapshot: str
    at: datetime = Field(sa_type=UtcDateTime)
    well: bool
    evidence: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Release(SQLModel, table=True):
    """A release as it was built on a host: versions read from the image itself, digest pinned."""

    __table_args__ = (UniqueConstraint("name", "host"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str
    host: str
    image: str
    wordpress: str
    php: str
    db_version: int = 0
    themes: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    content_key: str
    built_at: datetime = Field(sa_type=UtcDateTime)


class Agreement(SQLModel, table=True):
    """An agreement of a site, with the policy that was in force when it was made; the newest is the one of record."""

    id: int | None = Field(default=None, primary_key=True)
    site_id: int = Field(foreign_key="site.id", index=True)
    start: date
    term_years: int
    terms: int
    notice_months: int
    closing_days: int
    handed_over_on: date | None = None  # the document was made, to be signed
    signed_on: date | None = None
    notice_on: date | None = None
    notice_ends: date | None = None  # last day of the term that the notice keeps from being renewed
    notice_giver: str | None = None  # the party that gave it: association or council
    notice_from: str | None = None  # the person who did; both are kept when the notice is taken back
    terminated_on: date | None = None  # first day without agreement
    termination_reason: str | None = None
    recorded_on: date | None = None  # when one of these was last changed: no closing before the day after
    closed_on: date | None = None  # its site is read-only since then
    online_on: date | None = None  # its site was online under this signature from then on


class Operation(SQLModel, table=True):
    """One run of a recipe on one subject: a site's slug, or ``host:NAME``."""

    __table_args__ = (
        Index(
            "one_unfinished_operation_per_subject",
            "subject",
            unique=True,
            sqlite_where=text("state IN ('RUNNING', 'UNDOING', 'NEEDS_HAND')"),
            postgresql_where=text("state IN ('RUNNING', 'UNDOING', 'NEEDS_HAND')"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    kind: str
    subject: str = Field(index=True)
    arguments: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: OperationState = OperationState.RUNNING
    holder: str
    program: str = ""  # version of provision that began it; empty where that version did not record it
    started_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    message: str = ""

    @property
    def key(self) -> int:
        """Return the id of a stored operation."""
        if self.id is None:
            raise ValueError("this operation is not stored yet")
        return self.id


class OperationStep(SQLModel, table=True):
    """One step of an operation, as planned when it began."""

    __table_args__ = (UniqueConstraint("operation_id", "position"),)

    id: int | None = Field(default=None, primary_key=True)
    operation_id: int = Field(foreign_key="operation.id", index=True)
    position: int
    name: str
    state: StepState = StepState.PLANNED
    notes: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    changed_at: datetime = Field(sa_type=UtcDateTime)


class Mail(SQLModel, table=True):
    """A mail that must leave: inserted with the change it speaks of. ``occasion`` makes it unique.

    ``matter`` is what it says to an association as a whole, the same for each contact who gets it; it is empty
    for what concerns one person alone. ``day`` goes into the recipient's calendar, as ``day_says``.
    """

    id: int | None = Field(default=None, primary_key=True)
    occasion: str = Field(unique=True)
    message_id: str = Field(unique=True)
    kind: str
    site_id: int | None = Field(default=None, foreign_key="site.id", index=True)
    contact_id: int | None = Field(default=None, foreign_key="contact.id")
    state: MailState = MailState.QUEUED
    subject: str
    body: str
    matter: str = Field(default="", index=True)
    day: date | None = None
    day_says: str = ""
    created_at: datetime = Field(sa_type=UtcDateTime)
    attempts: int = 0
    tried_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    next_attempt_at: datetime = Field(sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    outcome: str = ""


class Run(SQLModel, table=True):
    """One run of the night, or of another job that comes again: by it, what was missed is caught up and seen."""

    id: int | None = Field(default=None, primary_key=True)
    kind: str = Field(index=True)
    holder: str
    started_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)  # None: under way, or killed
    outcome: str = ""  # well, failed or stopped
    summary: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    believed: bool = True  # the clock fitted the runs before it, or somebody confirmed it


class Incident(SQLModel, table=True):
    """Something that is wrong, from when it was first seen until it was seen to be over; one mail each."""

    __table_args__ = (
        Index(
            "one_open_incident_per_subject_and_alarm",
            "subject",
            "alarm",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    subject: str
    alarm: str
    level: int = 0  # higher is worse; getting worse is told as well
    what: str
    command: str
    critical: bool
    began_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Event(SQLModel, table=True):
    """What happened, for ever: appended, never changed."""

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    subject: str = Field(index=True)
    kind: str
    operation_id: int | None = Field(default=None, index=True)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
