"""`provision undo` of what ended well: back to the generation that served before, for as long as it is kept."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from provisioner import clock, records
from provisioner.agent.protocol import Changes
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.model.tables import Generation, Operation
from provisioner.probes.manifest import revived
from provisioner.steps.content import probe_generation, probe_site
from provisioner.steps.generation import flip, flip_back, rest, rest_previous, wake
from provisioner.steps.site import SiteWork
from provisioner.steps.snapshot import compared, measured

KIND = "undo"

STEPS: tuple[Step[SiteWork], ...] = (
    Step("wake", wake, undo=rest),
    Step("probe", probe_generation, undo=nothing_to_undo),
    Step("flip", flip, undo=flip_back),
    Step("verify", probe_site, undo=nothing_to_undo),
    Step("rest", rest_previous, undo=nothing_to_undo),
)


@dataclass(frozen=True)
class Plan:
    """The way back: what would be lost of what was made since, and what would come back."""

    slug: str
    leaving: int  # numbers of generations
    arriving: int
    wordpress: str
    since: dict[str, Changes]  # posts, comments, users, media: made, changed, deleted
    revives: dict[str, list[str]]  # administrators, sessions and application passwords that were ended meanwhile


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    return SiteWork.of(installation, operation, int(operation.arguments["generation"]))


def plan(installation: Installation, slug: str) -> Plan:
    """Return where `undo` would lead, and what it would lose and revive.

    Raises:
        BadInput: no such site, or no generation of it is kept.

    """
    leaving, arriving = _generations(installation, slug)
    work = SiteWork(kind="look", operation_id=0, installation=installation, slug=slug, number=arriving.number)
    with ThreadPoolExecutor(3) as pool:
        mine = pool.submit(measured, work, arriving, [])
        theirs = pool.submit(measured, work.beside(leaving.number), leaving, [])
        since = pool.submit(compared, work, arriving, leaving)
    return Plan(
        slug, leaving.number, arriving.number, arriving.wordpress, since.result(),
        revived(mine.result().database, theirs.result().database),
    )  # fmt: skip


def undo(installation: Installation, slug: str, progress: Progress = no_progress) -> int:
    """Return to the generation that served before; return its number. What serves now is kept in its place.

    Raises:
        BadInput: as `plan`.
        Busy: somebody works on the site.
        ProvisionError: it failed and was undone; what served serves.

    """
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
    with journal.subject(slug):
        _, arriving = _generations(installation, slug)
        operation = journal.begin(slug, {"generation": arriving.number})
        journal.carry_out(operation, work_on(installation, operation))
    return arriving.number


def _generations(installation: Installation, slug: str) -> tuple[Generation, Generation]:
    """Return the generation that serves, and the one that was left last."""
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        serving = records.serving_generation(session, site.key)
        kept = records.kept_generations(session, site.key)
    usable = [one for one in kept if one.kept_until and one.kept_until > clock.now()]
    if serving is None or not usable:
        raise BadInput(
            f"{slug}: nothing is unfinished, and no earlier generation is kept",
            f"provision status {slug} --snapshots   (and provision restore)",
        )
    return serving, usable[-1]


def report(chosen: Plan) -> list[str]:
    """Return what a person must know before they say yes, a line each."""
    lines = []
    for kind, changes in chosen.since.items():
        for change, names in (("made", changes.made), ("changed", changes.changed), ("deleted", changes.deleted)):
            if names:
                lines.append(f"would lose: {len(names)} {kind} {change} since: {_some(names)}")
    lines += [
        f"would bring back: {kind.replace('_', ' ')}: {_some(names)}" for kind, names in chosen.revives.items() if names
    ]
    return lines


def _some(names: list[Any], most: int = 5) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(str(name) for name in names[:most]) + more
