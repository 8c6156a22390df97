"""Reminders: what each agreement calls for today, queued once and sent; part of the nightly run."""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from provisioner import clock, eventlog
from provisioner.errors import NeedsHand
from provisioner.installation import Installation
from provisioner.journal import failpoint
from provisioner.mail import agreements, outbox
from provisioner.mail.agreements import Due
from provisioner.model.tables import Contact, Site

FEW = 5  # so many associations are never too many
SHARE = 0.1  # of the fleet: more than that in one run is rather a wrong clock than a busy day (G5)


@dataclass(frozen=True)
class Reminded:
    """What a run queued, site by site, and what became of all that was due to leave."""

    queued: list[tuple[str, str]]  # slug, reminder
    delivery: outbox.Delivery


def remind(installation: Installation, at_most: int | None = None) -> Reminded:
    """Queue what every agreement calls for today and send what is due; each reminder once, however often this runs.

    ``at_most`` is how many associations may get one in this run, where an operator has looked and says so.

    Raises:
        NeedsHand: more than a tenth of the agreements, and more than five, would get one; nothing was queued or sent.

    """
    with installation.store.transaction() as session:
        fleet = agreements.in_force(session)
        wanted = agreements.due_today(session, installation.inventory, fleet)
        bound = at_most if at_most is not None else most(len(fleet))
        few = len(wanted) <= bound
        queued = _queue(session, installation, wanted) if few else []
        if not few:
            eventlog.record(session, "reminders", "reminders refused", wanted=len(wanted), of=len(fleet))
    if not few:
        raise NeedsHand(
            f"reminders: {len(wanted)} of {len(fleet)} associations would get one in one run, more than {bound}; "
            f"none was sent. It is {clock.today().isoformat()} here: is that true?",
            "set the clock right, or confirm that so many are meant",
        )
    failpoint.reach("remind", "queue", "after")
    return Reminded(queued, outbox.deliver_due(installation))


def most(fleet: int) -> int:
    """Return how many of a fleet may have something due in one run: more look like a wrong clock (G5)."""
    return max(FEW, int(fleet * SHARE))


def _queue(session: Session, installation: Installation, wanted: list[Due]) -> list[tuple[str, str]]:
    ids = [one.agreement.site_id for one in wanted]
    sites = {site.id: site for site in session.exec(select(Site).where(col(Site.id).in_(ids))).all()}
    people: dict[int, list[Contact]] = {site_id: [] for site_id in ids}
    for person in session.exec(select(Contact).where(col(Contact.site_id).in_(ids)).order_by(col(Contact.id))).all():
        people[person.site_id].append(person)
    queued = []
    for one in wanted:
        site, contacts = sites[one.agreement.site_id], people[one.agreement.site_id]
        message = agreements.message(installation.inventory, one, site, contacts)
        to = agreements.recipients(one.reminder, contacts)
        outbox.post_to_each(session, installation, one.matter, message, to)
        queued.append((site.slug, one.reminder.kind))
    return queued
