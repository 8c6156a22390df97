"""Kept generations go when their days are over: container, database, code, and media that nothing else shows."""

from provisioner import clock, records
from provisioner.errors import ProvisionError
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.model.tables import Operation
from provisioner.operations import fleet
from provisioner.steps.generation import discard_generation, forget_generation
from provisioner.steps.site import SiteWork

KIND = "expire"

# What could not be removed is found again by its record, on the next night.
STEPS: tuple[Step[SiteWork], ...] = (
    Step("discard", discard_generation, undo=nothing_to_undo),
    Step("forget", forget_generation, undo=nothing_to_undo),
)


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    return SiteWork.of(installation, operation, int(operation.arguments["generation"]))


def due(installation: Installation) -> list[tuple[str, int]]:
    """Return slug and number of every generation that was kept for long enough."""
    with installation.store.transaction() as session:
        return [
            (site.slug, generation.number)
            for site in records.live_sites(session)
            for generation in records.kept_generations(session, site.key)
            if generation.kept_until and generation.kept_until <= clock.now()
        ]


def expire(installation: Installation, progress: Progress = no_progress) -> list[fleet.Outcome]:
    """Remove the generations that are due; return what became of each."""
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)

    def one(kept: tuple[str, int]) -> fleet.Outcome:
        slug, number = kept
        with journal.subject(slug):
            operation = journal.begin(slug, {"generation": number})
            journal.carry_out(operation, work_on(installation, operation))
        return fleet.Outcome(slug, f"generation {number} removed")

    def failed(kept: tuple[str, int], error: ProvisionError) -> fleet.Outcome:
        return fleet.Outcome(kept[0], error.message, error.exit_code, f"provision status {kept[0]}")

    return fleet.each(due(installation), one, failed)
