"""`provision upgrade`: to another release, to newer extensions; rehearsed, then switched to in a moment."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from provisioner import clock, eventlog, records
from provisioner.adapters import mariadb
from provisioner.adapters.mirror import Package, packages
from provisioner.agent.protocol import AskFacts
from provisioner.errors import BadInput, Interrupted, ProvisionError, Unavailable
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress, stoppable
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.mail import outbox
from provisioner.model.tables import Generation, Operation, Release, Site
from provisioner.operations import backup, fleet
from provisioner.probes import host as host_probes
from provisioner.steps.content import probe_site
from provisioner.steps.generation import create_database, discard_generation, rest_previous
from provisioner.steps.site import ANSWER_SECONDS, SiteWork
from provisioner.steps.upgrade import (
    HeldBack,
    build_twins,
    call_off_switch,
    discard_twins,
    dismantle_twins,
    forget_upgrade,
    prepare_upgrade,
    rehearse,
    reserve_upgrade,
    switch,
    tell_administrators,
    warm_up,
)

KIND = "upgrade"
CORE = "core"
MOST_FAILURES = 2  # after these the fleet stops (C9)
FREEZE_SECONDS = 2.0  # of a site with next to nothing in its database
COPIED_PER_SECOND = 40_000_000  # bytes of a database, checksums included

STEPS: tuple[Step[SiteWork], ...] = (
    Step("reserve", reserve_upgrade, undo=forget_upgrade),
    Step("twins", build_twins, undo=discard_twins),
    Step("rehearse", rehearse, undo=nothing_to_undo),
    Step("dismantle", dismantle_twins, undo=discard_twins),
    Step("files", prepare_upgrade, undo=discard_generation),
    Step("database", create_database, undo=discard_generation),
    Step("container", warm_up, undo=discard_generation),
    Step("switch", switch, undo=call_off_switch),
    Step("observe", probe_site, undo=nothing_to_undo),
    Step("rest", rest_previous, undo=nothing_to_undo),
    Step("tell", tell_administrators, undo=nothing_to_undo),
)


@dataclass(frozen=True)
class Plan:
    """What an upgrade of one site would do."""

    slug: str
    generation: int  # the one that serves
    wordpress: str
    to_wordpress: str
    release: dict[str, Any] = field(repr=False)  # name, image, wordpress, php of the new generation
    packages: list[Package]
    freeze_seconds: float  # predicted
    parts: list[str]  # "core" and the names of packages; empty: nothing to do


@dataclass(frozen=True)
class Outcome(fleet.Outcome):
    """What became of one site."""

    generation: int | None = None
    frozen_seconds: float | None = None
    differences: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    work = SiteWork.of(installation, operation, int(operation.arguments["generation"]))
    work.notes |= {key: operation.arguments[key] for key in ("from", "release", "packages", "freeze_seconds")}
    return work


def sites(installation: Installation, slugs: Sequence[str]) -> list[str]:
    """Return the sites that are meant: those named, or all.

    Raises:
        BadInput: a slug names no site.

    """
    with installation.store.transaction() as session:
        found = [records.site(session, slug) for slug in slugs] if slugs else records.live_sites(session)
    return [site.slug for site in found]


def plans(
    installation: Installation, slugs: Sequence[str], *, only: str | None = None, to: str = ""
) -> tuple[list[Plan], list[Outcome]]:
    """Return what would be done to each site, and those that are refused with the reason; see `plan`."""

    def one(slug: str) -> Plan | Outcome:
        return plan(installation, slug, core=only != "extensions", extensions=only != CORE, to=to)

    found = fleet.each(slugs, one, Outcome.failed)
    return [one for one in found if isinstance(one, Plan)], [one for one in found if isinstance(one, Outcome)]


def canaries(plans: Sequence[Plan], named: Sequence[str], *, wanted: bool) -> list[str]:
    """Return the sites that go before the others: those of ``named`` that have work.

    Where none of them has any and a canary is ``wanted`` all the same, it is the first site that has: a canary that
    has nothing to do proves nothing.
    """
    working = [chosen.slug for chosen in plans if chosen.parts]
    first = [slug for slug in named if slug in working]
    return first or (working[:1] if wanted else [])


def plan(installation: Installation, slug: str, *, core: bool, extensions: bool, to: str = "") -> Plan:
    """Return what would be done to ``slug``: to the release ``to``, or to the newest build of its own.

    Raises:
        BadInput: no such site, none that serves, or the release is older than its database (C10).
        Unavailable: the release is not built, the disk is too small, or the freeze would be too long.

    """
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        serving = records.serving_generation(session, site.key)
    if serving is None:
        raise BadInput(f"{slug}: its site is not finished", f"provision resume {slug}")
    work = SiteWork(kind="look", operation_id=0, installation=installation, slug=slug, number=serving.number)
    offered = _offered(installation, slug) if extensions else []
    facts = work.run_in_site(AskFacts([package.request for package in offered]), seconds=ANSWER_SECONDS)
    wanted = [package for package in _newest(offered) if package.slug in facts.outdated]
    release = _release(installation, site, to or site.release) if core else None
    if release is not None and release.db_version < facts.db_version:
        raise BadInput(
            f"{slug}: its database has version {facts.db_version}, release {release.name} "
            f"(WordPress {release.wordpress}) only {release.db_version}",
            "provision restore brings an older state back",
        )
    runs = release if release is not None else serving
    parts = [CORE] if release is not None and release.image != serving.image else []
    seconds = _require_room(installation, work, serving)
    return Plan(
        slug=slug,
        generation=serving.number,
        wordpress=serving.wordpress,
        to_wordpress=runs.wordpress,
        release={
            "name": release.name if release is not None else serving.release,
            "image": runs.image, "wordpress": runs.wordpress, "php": runs.php,
        },
        packages=wanted,
        freeze_seconds=seconds,
        parts=[*parts, *(package.name for package in wanted)],
    )  # fmt: skip


def _offered(installation: Installation, slug: str) -> list[Package]:
    """Return what the mirror has for this site by the council's policy: old enough, and not held."""
    policy = installation.inventory.policy.extensions
    if policy.mirror is None:
        return []
    held = policy.held.get(slug, [])
    if "*" in held:
        return []
    before = clock.now() - timedelta(days=policy.after_days)
    found = packages(installation.inventory.resolve(policy.mirror))
    return [package for package in found if package.since <= before and package.slug not in held]


def _newest(offered: Sequence[Package]) -> list[Package]:
    """Return the package of each extension that was put into the mirror last."""
    return list({(package.kind, package.slug): package for package in offered}.values())


def _release(installation: Installation, site: Site, name: str) -> Release:
    if name not in installation.inventory.releases:
        known = ", ".join(installation.inventory.releases)
        raise BadInput(f"the inventory has no release {name!r}; it has {known}", "provision release list")
    return host_probes.require_ready(installation, installation.host(site.host), name)


def _require_room(installation: Installation, work: SiteWork, serving: Generation) -> float:
    """Return the seconds that the freeze is likely to take.

    Raises:
        Unavailable: disk space or the longest freeze that the council wants do not suffice.

    """
    size = mariadb.size(work.host, serving.names(installation.namespace, work.slug).database)
    longest = installation.inventory.policy.upgrade.freeze_seconds
    seconds = round(FREEZE_SECONDS + size / COPIED_PER_SECOND, 1)
    if seconds > longest:
        raise Unavailable(
            f"{work.slug}: it would be frozen for about {seconds:.0f} s, at most {longest} s are wanted",
            "policy.upgrade.freeze_seconds in inventory.yaml",
        )
    host_probes.require_space(work.host, 4 * size, f"{work.slug}: the upgrade")  # two twins, a dump, the copy
    return seconds


def upgrade(
    installation: Installation,
    plans: Sequence[Plan],
    before: Sequence[str] = (),
    parallel: int = 1,
    progress: Progress = no_progress,
) -> Iterator[Outcome]:
    """Upgrade sites: those of ``before`` first, then the others, ``parallel`` at a time; yield what became of each.

    A canary that fails, or the second site that does, ends it (C9), as does a stop; what was not begun is told as
    well. Begun again, it goes on with those that are left.
    """
    todo = [chosen for chosen in plans if chosen.parts]
    yield from (
        Outcome(chosen.slug, "up to date", generation=chosen.generation) for chosen in plans if not chosen.parts
    )
    first = [chosen for chosen in todo if chosen.slug in before]
    others = [chosen for chosen in todo if chosen.slug not in before]
    waves = [wave for wave in (first, *_waves(others, parallel)) if wave]
    failures = 0
    with stoppable("fleet"):
        for place, wave in enumerate(waves):
            outcomes = fleet.each(
                wave,
                lambda chosen: _upgrade_one(installation, chosen, progress),
                lambda chosen, error: Outcome.failed(chosen.slug, error),
                parallel,
            )
            yield from outcomes
            failed = sum(outcome.exit_code not in (0, Interrupted.exit_code) for outcome in outcomes)
            failures += failed
            if failures >= MOST_FAILURES or (failed and wave is first):
                left = [chosen for later in waves[place + 1 :] for chosen in later]
                reason = f"not begun: {failures} of the sites before it failed"
                yield from (Outcome(chosen.slug, reason, ProvisionError.exit_code) for chosen in left)
                return


def _waves(plans: Sequence[Plan], size: int) -> list[list[Plan]]:
    return [list(plans[start : start + size]) for start in range(0, len(plans), size)]


def _upgrade_one(installation: Installation, chosen: Plan, progress: Progress) -> Outcome:
    """Back the site up, then upgrade it; parts that a rehearsal holds back stop no other."""
    try:
        backup.take(installation, chosen.slug, progress)
    except Interrupted:
        raise
    except ProvisionError as error:
        reason = f"{chosen.slug}: no fresh verified backup, so no upgrade: {error.message}"  # C1
        return Outcome(chosen.slug, reason, error.exit_code, error.hint)
    outcome = _upgrade_parts(installation, chosen, progress)
    outbox.deliver_due(installation)
    return outcome


def _upgrade_parts(installation: Installation, chosen: Plan, progress: Progress) -> Outcome:
    try:
        return _carry_out(installation, chosen, progress)
    except ProvisionError as error:
        found = error.__cause__
        if not isinstance(found, HeldBack):
            return Outcome.failed(chosen.slug, error)
    with installation.store.transaction() as session:
        eventlog.record(session, chosen.slug, "upgrade held back", parts=chosen.parts, differences=found.differences)
    if len(chosen.parts) == 1:
        return Outcome(
            chosen.slug, f"held back: {chosen.parts[0]}: {found.differences[0]}", ProvisionError.exit_code,
            found.hint, differences=found.differences, held=chosen.parts,
        )  # fmt: skip
    outcomes = [_upgrade_parts(installation, half, progress) for half in _halves(installation, chosen)]
    return _together(chosen, outcomes)


def _halves(installation: Installation, chosen: Plan) -> Iterator[Plan]:
    """Yield the two halves of a plan; each begins with what serves when its turn comes."""
    middle = (len(chosen.parts) + 1) // 2
    for names in (chosen.parts[:middle], chosen.parts[middle:]):
        with installation.store.transaction() as session:
            site = records.site(session, chosen.slug)
            serving = records.serving_generation(session, site.key)
        assert serving is not None  # noqa: S101  (a site that is upgraded always has one)
        core = CORE in names
        yield Plan(
            slug=chosen.slug,
            generation=serving.number,
            wordpress=serving.wordpress,
            to_wordpress=chosen.to_wordpress if core else serving.wordpress,
            release=chosen.release if core else _running(serving),
            packages=[package for package in chosen.packages if package.name in names],
            freeze_seconds=chosen.freeze_seconds,
            parts=names,
        )


def _running(serving: Generation) -> dict[str, Any]:
    return {
        "name": serving.release, "image": serving.image, "wordpress": serving.wordpress, "php": serving.php,
    }  # fmt: skip


def _together(chosen: Plan, outcomes: Sequence[Outcome]) -> Outcome:
    """Return one outcome of the two halves: some parts arrived, others were held back."""
    return Outcome(
        chosen.slug,
        "; ".join(outcome.outcome for outcome in outcomes),
        max(outcome.exit_code for outcome in outcomes),
        next((outcome.hint for outcome in outcomes if outcome.hint), ""),
        generation=next((o.generation for o in reversed(outcomes) if o.generation), None),
        frozen_seconds=max((o.frozen_seconds for o in outcomes if o.frozen_seconds), default=None),
        differences=[difference for outcome in outcomes for difference in outcome.differences],
        held=[part for outcome in outcomes for part in outcome.held],
    )


def _carry_out(installation: Installation, chosen: Plan, progress: Progress) -> Outcome:
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
    with journal.subject(chosen.slug):
        with installation.store.transaction() as session:
            site = records.site(session, chosen.slug)
            serving = records.serving_generation(session, site.key)
            if serving is None or serving.number != chosen.generation:
                raise BadInput(f"{chosen.slug}: another generation serves since this was planned", "run it again")
            number = records.next_generation(session, site.key)
        operation = journal.begin(
            chosen.slug,
            {
                "generation": number,
                "from": chosen.generation,
                "release": chosen.release,
                "packages": [{**asdict(p), "since": p.since.isoformat()} for p in chosen.packages],
                "freeze_seconds": _deadline(installation, chosen.freeze_seconds),
            },
        )
        work = work_on(installation, operation)
        journal.carry_out(operation, work)
    # A freeze that an earlier run of the operation saw to its end, it did not see the seconds of.
    frozen, held = work.notes.get("frozen_seconds"), work.notes["held"]
    with installation.store.transaction() as session:
        eventlog.record(
            session, chosen.slug, "upgraded", operation.id, parts=chosen.parts, frozen_seconds=frozen, held=held,
        )  # fmt: skip
    arrived = ", ".join(f"WordPress {chosen.to_wordpress}" if part == CORE else part for part in chosen.parts)
    return Outcome(chosen.slug, f"upgraded: {arrived}", generation=number, frozen_seconds=frozen, held=held)


def _deadline(installation: Installation, predicted: float) -> float:
    """Return the seconds after which a freeze ends by itself: ample on a busy machine, but no more than is wanted."""
    return min(float(installation.inventory.policy.upgrade.freeze_seconds), 3 * predicted + 20)
