"""`provision contact invite`: a new link for an administrator whose invitation expired or got lost."""

from provisioner import records
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.mail import outbox
from provisioner.model.tables import Operation
from provisioner.steps.invitation import queue_invitations, renew_link, withdraw_invitations
from provisioner.steps.site import SiteWork

KIND = "invite"

STEPS: tuple[Step[SiteWork], ...] = (
    Step("link", renew_link, undo=nothing_to_undo),  # an earlier link is gone; inviting again makes a new one
    Step("mail", queue_invitations, undo=withdraw_invitations),
)


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    work = SiteWork.of(installation, operation, int(operation.arguments["generation"]))
    work.notes["contact"] = operation.arguments["contact"]
    return work


def invite(installation: Installation, slug: str, mail: str, progress: Progress = no_progress) -> outbox.Delivery:
    """Give the administrator ``mail`` of ``slug`` a new single-use link and send it to them.

    Raises:
        BadInput: no such site, no finished site, or no administrator with that address.

    """
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        generation = records.serving_generation(session, site.key)
        people = {person.mail.lower(): person for person in records.administrators(session, site.key)}
    if generation is None:
        raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
    person = people.get(mail.lower())
    if person is None:
        raise BadInput(f"{slug}: no administrator has the address {mail!r}; there are {', '.join(sorted(people))}")
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
    with journal.subject(slug):
        operation = journal.begin(slug, {"contact": person.id, "generation": generation.number})
        journal.carry_out(operation, work_on(installation, operation))
    return outbox.deliver_due(installation)
