"""`provision agreement sign`: the signature on record, and the site online."""

from datetime import date

from provisioner import clock, records
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress
from provisioner.journal.step import Step
from provisioner.model.tables import Operation
from provisioner.steps.agreement import record_signature, withdraw_signature
from provisioner.steps.content import conceal, publish
from provisioner.steps.site import SiteWork

KIND = "sign"

STEPS: tuple[Step[SiteWork], ...] = (
    Step("publish", publish, undo=conceal),
    Step("record", record_signature, undo=withdraw_signature),
)


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    work = SiteWork.of(installation, operation, int(operation.arguments["generation"]))
    work.notes["signed_on"] = operation.arguments["signed_on"]
    return work


def sign(installation: Installation, slug: str, on: date, progress: Progress = no_progress) -> None:
    """Record that the agreement of ``slug`` was signed ``on`` that day; its site goes online.

    Raises:
        BadInput: no such site, no site to publish, or signed already.

    """
    generation = check(installation, slug, on)
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
    with journal.subject(slug):
        operation = journal.begin(slug, {"signed_on": on.isoformat(), "generation": generation})
        journal.carry_out(operation, work_on(installation, operation))


def check(installation: Installation, slug: str, on: date) -> int:
    """Return the number of the generation that would be published.

    Raises:
        BadInput: as `sign`.

    """
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        agreement = records.agreement(session, site.key)
        generation = records.serving_generation(session, site.key)
    if agreement.signed_on is not None:
        raise BadInput(f"{slug}: the agreement was signed on {agreement.signed_on.isoformat()} already")
    if generation is None:
        raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
    if on > clock.today():
        raise BadInput(f"{slug}: {on.isoformat()} lies in the future; a signature is recorded when it is given")
    return generation.number
