"""`provision drill`: the newest snapshot restored for proof, into a generation that nobody sees and that goes again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from provisioner import clock, eventlog, records
from provisioner.errors import Interrupted, ProvisionError
from provisioner.installation import Installation
from provisioner.journal.journal import Progress, no_progress
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.model.tables import Drill
from provisioner.operations import fleet, restore
from provisioner.steps.generation import discard_generation, forget_generation
from provisioner.steps.site import SiteWork

KIND = "drill"
PER_NIGHT = 5  # sites at least that `--due` takes, as long as some are due


def record_evidence(work: SiteWork) -> None:
    """Record what the drill has proven: snapshot, counts, hashes compared, page seen."""
    manifest = work.notes["manifest"]
    evidence = {
        "rows": sum(manifest["database"]["rows"].values()),
        "tables": len(manifest["database"]["rows"]),
        "files": manifest["content"]["files"],
        "bytes": manifest["content"]["bytes"],
        "hashes": len(manifest["content"]["sample"]),
        "wordpress": manifest["wordpress"],
        "image": work.generation.image,
    }
    _record(work.installation, work.slug, work.notes["snapshot"], evidence, well=True)


def dismantle(work: SiteWork) -> None:
    """Remove the throw-away generation: its container, database, directories and record."""
    if discarded(work):
        return
    discard_generation(work)
    forget_generation(work)


def discarded(work: SiteWork) -> bool:
    """Return whether the generation's record is gone, and so all of it."""
    with work.installation.store.transaction() as session:
        return records.find_generation(session, work.site.key, work.number) is None


STEPS: tuple[Step[SiteWork], ...] = (
    *restore.FROM_SNAPSHOT,
    Step("record", record_evidence, undo=nothing_to_undo),
    Step("discard", dismantle, undo=dismantle),
)


@dataclass(frozen=True)
class Drilled(fleet.Outcome):
    """What became of one site's drill."""

    snapshot: str = ""


work_on = restore.work_on


def drill(installation: Installation, slugs: Sequence[str], progress: Progress = no_progress) -> list[Drilled]:
    """Prove the newest snapshot of each site, one after the other; one that fails stops no other.

    Raises:
        BadInput: a slug names no site; nothing was done.

    """
    return fleet.each(
        _known(installation, slugs), lambda slug: _drill_one(installation, slug, progress), Drilled.failed
    )


def plan(installation: Installation, slugs: Sequence[str]) -> list[Drilled]:
    """Return for each site whether `drill` would begin on it, and with which snapshot; nothing is changed.

    Raises:
        BadInput: as `drill`.

    """

    def look(slug: str) -> Drilled:
        return Drilled(slug, "would be proven", snapshot=restore.plan(installation, slug).snapshot)

    return fleet.each(_known(installation, slugs), look, Drilled.failed)


def _known(installation: Installation, slugs: Sequence[str]) -> list[str]:
    with installation.store.transaction() as session:
        return [records.site(session, slug).slug for slug in slugs]


def due(installation: Installation) -> list[str]:
    """Return the sites whose proof is due tonight, the longest unproven first.

    Due is a site that would otherwise pass the inventory's ``drill_days`` before all had their turn: each
    night takes its share of the sites, and whatever is late already.
    """
    days = installation.inventory.backup.drill_days
    late = clock.now() - timedelta(days=days)
    with installation.store.transaction() as session:
        proven = []
        for site in records.live_sites(session):
            if not records.snapshots(session, site.key):
                continue
            last = records.last_drill(session, site.key)
            proven.append((last.at if last else datetime.min.replace(tzinfo=UTC), site.slug))
    proven.sort()
    share = max(PER_NIGHT, -(-len(proven) // days))
    recent = clock.now() - timedelta(days=days / 2)
    return [slug for place, (at, slug) in enumerate(proven) if at <= late or (place < share and at <= recent)]


def _drill_one(installation: Installation, slug: str, progress: Progress) -> Drilled:
    snapshot = ""
    try:
        chosen = restore.plan(installation, slug)
        snapshot = chosen.snapshot
        restore.carry_out(installation, chosen, KIND, STEPS, progress)
    except ProvisionError as error:
        if snapshot and not isinstance(error, Interrupted):  # a drill that was stopped says nothing of the snapshot
            _record(installation, slug, snapshot, {"failed": error.message}, well=False)
        return Drilled(slug, error.message, error.exit_code, error.hint, snapshot)
    return Drilled(slug, "proven", snapshot=snapshot)


def _record(installation: Installation, slug: str, snapshot: str, evidence: dict[str, Any], *, well: bool) -> None:
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        session.add(Drill(site_id=site.key, snapshot=snapshot, at=clock.now(), well=well, evidence=evidence))
        kind = "drill proved a snapshot" if well else "drill failed"
        eventlog.record(session, slug, kind, snapshot=snapshot, **evidence)
