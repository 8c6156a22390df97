"""Questions to the state that several operations ask, and the record of a new association."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, func, or_, select

from provisioner import clock
from provisioner.agreement.reminders import Reminder, ReminderPolicy, reminders
from provisioner.agreement.terms import (
    AgreementState,
    Closing,
    Milestones,
    Term,
    planned_closing,
    state_at,
    terms,
)
from provisioner.associations import AssociationSpec, ContactSpec
from provisioner.errors import BadInput
from provisioner.inventory import Inventory
from provisioner.model.tables import (
    GONE,
    UNFINISHED,
    Agreement,
    Contact,
    Drill,
    Generation,
    GenerationState,
    Operation,
    Release,
    Site,
    Snapshot,
)


def site(session: Session, slug: str) -> Site:
    """Return the site ``slug``.

    Raises:
        BadInput: there is none.

    """
    found = find_site(session, slug)
    if found is None:
        raise BadInput(f"no site is called {slug!r}", "provision status   (lists them)")
    return found


def find_site(session: Session, slug: str) -> Site | None:
    """Return the site ``slug``, if there is one."""
    return session.exec(select(Site).where(Site.slug == slug)).first()


def live_sites(session: Session) -> list[Site]:
    """Return every site that has a generation to serve, by slug."""
    return list(session.exec(select(Site).where(col(Site.state).not_in(GONE)).order_by(Site.slug)).all())


def contacts(session: Session, site_id: int) -> list[Contact]:
    """Return the contacts of a site, in the order in which they were given."""
    return list(session.exec(select(Contact).where(Contact.site_id == site_id).order_by(col(Contact.id))).all())


def administrators(session: Session, site_id: int) -> list[Contact]:
    """Return the contacts that administer the site."""
    return [contact for contact in contacts(session, site_id) if contact.administrator]


def agreements(session: Session, site_id: int) -> list[Agreement]:
    """Return the agreements of a site, one after the other; every site has one at least."""
    return list(session.exec(select(Agreement).where(Agreement.site_id == site_id).order_by(col(Agreement.id))).all())


def agreement(session: Session, site_id: int) -> Agreement:
    """Return the agreement of record of a site: the newest."""
    return agreements(session, site_id)[-1]


def of_record() -> ColumnElement[bool]:
    """Return the condition that an agreement is the one of record of its site."""
    return col(Agreement.id).in_(select(func.max(Agreement.id)).group_by(col(Agreement.site_id)))


def agreement_terms(record: Agreement) -> Sequence[Term]:
    """Return the terms of an agreement, by the policy that it was made under."""
    return _terms(record.start, record.term_years, record.terms, record.notice_months)


@lru_cache(maxsize=5000)  # agreements share their first days: ten thousand begin on some three thousand
def _terms(start: date, term_years: int, count: int, notice_months: int) -> tuple[Term, ...]:
    return tuple(terms(start, term_years=term_years, count=count, notice_months=notice_months))


def milestones(record: Agreement) -> Milestones:
    """Return what people did to an agreement."""
    return Milestones(
        handed_over=record.handed_over_on,
        signed=record.signed_on,
        notice=record.notice_on,
        notice_ends=record.notice_ends,
        terminated=record.terminated_on,
        recorded=record.recorded_on,
        closed=record.closed_on,
    )


def agreement_state(record: Agreement) -> AgreementState:
    """Return the state of an agreement at this instant."""
    return state_at(clock.now(), milestones(record), agreement_terms(record))


def agreement_reminders(record: Agreement, inventory: Inventory) -> list[Reminder]:
    """Return the reminders of a signed agreement, if nobody ends it: its own dates, the inventory's leads."""
    policy = inventory.policy.agreement.reminders.model_dump_json()
    return _reminders(
        record.start, record.term_years, record.terms, record.notice_months, policy, inventory.legal.alsace_moselle
    )


@lru_cache(maxsize=5000)
def _reminders(
    start: date, term_years: int, count: int, notice_months: int, policy: str, alsace_moselle: bool
) -> list[Reminder]:
    periods = _terms(start, term_years, count, notice_months)
    return reminders(periods, ReminderPolicy.model_validate_json(policy), start, alsace_moselle=alsace_moselle)


def closing_of(record: Agreement) -> Closing | None:
    """Return how the site of an agreement of record closes, as things stand today; None: it is not going to."""
    return planned_closing(clock.today(), milestones(record), agreement_terms(record), record.closing_days)


def find_generation(session: Session, site_id: int, number: int) -> Generation | None:
    """Return one generation of a site, if it is recorded."""
    return session.exec(select(Generation).where(Generation.site_id == site_id, Generation.number == number)).first()


def generation(session: Session, site_id: int, number: int) -> Generation:
    """Return one generation of a site.

    Raises:
        LookupError: it is not recorded, or not any more.

    """
    found = find_generation(session, site_id, number)
    if found is None:
        raise LookupError(f"site {site_id} has no generation {number}")
    return found


def serving_generation(session: Session, site_id: int) -> Generation | None:
    """Return the generation that the site's ``current`` points to, as recorded."""
    query = select(Generation).where(Generation.site_id == site_id, Generation.state == GenerationState.SERVING)
    return session.exec(query).first()


def generations(session: Session, site_id: int) -> list[Generation]:
    """Return every generation of a site that exists, oldest first."""
    query = select(Generation).where(Generation.site_id == site_id)
    return list(session.exec(query.order_by(col(Generation.number))).all())


def kept_generations(session: Session, site_id: int) -> list[Generation]:
    """Return the generations of a site that rest, the one that was left last at the end."""
    query = select(Generation).where(Generation.site_id == site_id, Generation.state == GenerationState.KEPT)
    return list(session.exec(query.order_by(col(Generation.kept_until), col(Generation.number))).all())


def next_generation(session: Session, site_id: int) -> int:
    """Return the number of the generation that a site gets next."""
    return max((generation.number for generation in generations(session, site_id)), default=0) + 1


def snapshots(session: Session, site_id: int) -> list[Snapshot]:
    """Return the snapshots of a site that we remember, oldest first."""
    query = select(Snapshot).where(Snapshot.site_id == site_id)
    return list(session.exec(query.order_by(col(Snapshot.taken_at), col(Snapshot.id))).all())


def last_snapshot(session: Session, site_id: int) -> Snapshot | None:
    """Return the newest snapshot of a site that we remember."""
    return max(snapshots(session, site_id), key=lambda snapshot: snapshot.taken_at, default=None)


def last_drill(session: Session, site_id: int) -> Drill | None:
    """Return the newest drill of a site that went well."""
    query = select(Drill).where(Drill.site_id == site_id, col(Drill.well).is_(True))
    return session.exec(query.order_by(col(Drill.at).desc(), col(Drill.id).desc())).first()


def past_operations(session: Session, kind: str, subject: str) -> list[Operation]:
    """Return the operations of one kind on one subject that are over, oldest first."""
    query = select(Operation).where(Operation.kind == kind, Operation.subject == subject)
    return list(session.exec(query.where(col(Operation.state).not_in(UNFINISHED)).order_by(col(Operation.id))).all())


def past_subjects(session: Session) -> set[str]:
    """Return every subject that the journal remembers an operation on."""
    return set(session.exec(select(Operation.subject).distinct()).all())


def release(session: Session, name: str, host: str) -> Release | None:
    """Return the release ``name`` as it was built on ``host``."""
    return session.exec(select(Release).where(Release.name == name, Release.host == host)).first()


@dataclass(frozen=True)
class Known:
    """What the state already knows of an association that is to be created."""

    site: Site
    same: bool


def known(session: Session, inventory: Inventory, spec: AssociationSpec) -> Known | None:
    """Return the site that has the slug or the host name of ``spec``, and whether its record is the same."""
    host_name = spec.host_name or f"{spec.slug}.{inventory.domain}"
    found = session.exec(select(Site).where(or_(Site.slug == spec.slug, Site.host_name == host_name))).first()
    if found is None:
        return None
    people = {(c.name, c.mail, c.administrator) for c in contacts(session, found.key)}
    wanted = {(c.name, c.mail, c.administrator) for c in spec.contacts}
    same = (
        found.slug == spec.slug
        and found.host_name == host_name
        and all(getattr(found, key) == getattr(spec, key) for key in OWN_KEYS)
        and people == wanted
        and spec.agreement_start in (None, *(one.start for one in agreements(session, found.key)))
    )
    return Known(found, same)


OWN_KEYS = (
    "name",
    "profile",
    "theme",
    "commune",
    "rna",
    "siret",
    "seat",
    "telephone",
    "mail",
    "publication_director",
)


def record_association(session: Session, inventory: Inventory, spec: AssociationSpec, release: str = "") -> None:
    """Write the association, its contacts and its draft agreement, all dates computed from its start.

    Its site runs ``release``, or the inventory's default.
    """
    record = Site(
        slug=spec.slug,
        host_name=spec.host_name or f"{spec.slug}.{inventory.domain}",
        host=inventory.hosts[0].name,
        release=release or inventory.default_release,
        created_at=clock.now(),
        **{key: getattr(spec, key) for key in OWN_KEYS},
    )
    session.add(record)
    session.flush()
    for contact, login in zip(spec.contacts, logins(spec.contacts), strict=True):
        session.add(Contact(site_id=record.key, login=login, **contact.model_dump()))
    session.add(new_agreement(inventory, record.key, spec.agreement_start or clock.today()))


def new_agreement(inventory: Inventory, site_id: int, start: date) -> Agreement:
    """Return an agreement to be, under the policy in force."""
    return Agreement(site_id=site_id, start=start, **inventory.policy.agreement.model_dump(exclude={"reminders"}))


def logins(people: tuple[ContactSpec, ...]) -> list[str]:
    """Return a distinct WordPress login for each person, made of their name.

    People log in with their mail address as well; the login shows in public addresses of author
    pages, which is why it is not the mail address.
    """
    found: list[str] = []
    for person in people:
        plain = unicodedata.normalize("NFKD", person.name).encode("ascii", "ignore").decode().lower()
        words = "".join(character if character.isalnum() else " " for character in plain).split()
        base = "-".join(words)[:40].strip("-") or "membre"
        if base.isdecimal():  # PHP takes "0" for nothing
            base = f"membre-{base}"
        login, number = base, 2
        while login in found:
            login, number = f"{base}-{number}", number + 1
        found.append(login)
    return found
