"""`provision create`: from an association's description to its site over HTTPS."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.exc import IntegrityError

from provisioner import records
from provisioner.associations import AssociationSpec
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress, unfinished
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.mail import outbox
from provisioner.model.tables import Operation
from provisioner.operations import fleet
from provisioner.probes import host as host_probes
from provisioner.steps.content import install_wordpress, probe_generation, probe_site
from provisioner.steps.generation import (
    create_container,
    create_database,
    discard_generation,
    flip,
    flip_back,
    forget_site,
    prepare_files,
    reserve_generation,
)
from provisioner.steps.invitation import queue_invitations, withdraw_invitations
from provisioner.steps.routing import route_site, unroute_site
from provisioner.steps.site import SiteWork

KIND = "create"
FIRST = 1  # the number of a site's first generation

STEPS: tuple[Step[SiteWork], ...] = (
    Step("reserve", reserve_generation, undo=forget_site),
    Step("files", prepare_files, undo=discard_generation),
    Step("database", create_database, undo=discard_generation),
    Step("container", create_container, undo=discard_generation),
    Step("install", install_wordpress, undo=discard_generation),
    Step("probe", probe_generation, undo=nothing_to_undo),
    Step("route", route_site, undo=unroute_site),
    Step("flip", flip, undo=flip_back),
    Step("verify", probe_site, undo=nothing_to_undo),
    Step("invite", queue_invitations, undo=withdraw_invitations),
)


@dataclass(frozen=True)
class Created(fleet.Outcome):
    """What became of one association: "created", "unchanged", or why not."""

    url: str = ""


def work_on(installation: Installation, operation: Operation) -> SiteWork:
    """Return what the steps of a recorded operation need."""
    return SiteWork.of(installation, operation, FIRST)


def create(
    installation: Installation, specs: Sequence[AssociationSpec], progress: Progress = no_progress
) -> list[Created]:
    """Create a site for each association, some at a time; one that fails stops no other.

    An association that exists already with the same record is left as it is.

    Raises:
        BadInput: a slug or host name is taken by another association; nothing was changed.
        Unavailable: the host is not ready; nothing was changed.

    """
    new = check(installation, specs)
    outcomes = fleet.each(
        new,
        lambda spec: _create_one(installation, spec, progress),
        lambda spec, error: replace(Created.failed(spec.slug, error), url=_url(installation, spec)),
        installation.inventory.policy.parallel,
    )
    outbox.deliver_due(installation)
    made = {outcome.slug: outcome for outcome in outcomes}
    return [made.get(spec.slug) or Created(spec.slug, "unchanged", url=_url(installation, spec)) for spec in specs]


def check(installation: Installation, specs: Sequence[AssociationSpec]) -> list[AssociationSpec]:
    """Return the associations that are new, after every check that can be made before the first effect.

    Raises:
        BadInput, Unavailable: as `create`.

    """
    new = [spec for spec in specs if not _already_there(installation, spec)]
    _refuse_twins(installation, new)
    if new:
        host = installation.host(installation.inventory.hosts[0].name)
        release = host_probes.require_ready(installation, host, installation.inventory.default_release)
        with installation.store.transaction() as session:
            unrecorded = {spec.slug for spec in new if records.find_site(session, spec.slug) is None}
        strangers = host_probes.unknown_slugs(host, unrecorded) if unrecorded else []
        if strangers:
            raise BadInput(
                f"host {host.name} runs {', '.join(strangers)}, which no record knows: was the state lost?",
                "docs/needs-hand.md, the state is lost or old",
            )
        for spec in new:
            if spec.theme is not None and spec.theme not in release.themes:
                has = ", ".join(release.themes)
                raise BadInput(f"{spec.slug}: release {release.name} has no theme {spec.theme!r}; it has {has}")
    return new


def warnings(installation: Installation, specs: Iterable[AssociationSpec]) -> list[str]:
    """Return what should be better, but stops nothing: contacts, mail domains, the site's name."""
    from provisioner.adapters import dns

    found = [warning for spec in specs for warning in spec.warnings()]
    domains = {contact.mail.rpartition("@")[2] for spec in specs for contact in spec.contacts}
    names = {spec.host_name or f"{spec.slug}.{installation.inventory.domain}" for spec in specs}
    return found + dns.warnings(domains, names)


def _create_one(installation: Installation, spec: AssociationSpec, progress: Progress) -> Created:
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
    try:
        with journal.subject(spec.slug):
            operation = journal.begin(
                spec.slug,
                {},
                record=lambda session: records.record_association(session, installation.inventory, spec),
            )
            journal.carry_out(operation, work_on(installation, operation))
    except IntegrityError:
        raise BadInput(f"{spec.slug}: slug or host name was taken this very moment") from None
    return Created(spec.slug, "created", url=_url(installation, spec))


def _already_there(installation: Installation, spec: AssociationSpec) -> bool:
    with installation.store.transaction() as session:
        known = records.known(session, installation.inventory, spec)
        if known is None:
            return False
        if unfinished(session, spec.slug) is not None:
            return False  # beginning again says who works on it, or how to go on
    if known.same:
        return True
    if known.site.slug == spec.slug:
        raise BadInput(f"the slug {spec.slug!r} is taken by « {known.site.name} »", f"provision status {spec.slug}")
    raise BadInput(f"{spec.slug}: the host name {known.site.host_name!r} is taken by {known.site.slug!r}")


def _refuse_twins(installation: Installation, specs: Sequence[AssociationSpec]) -> None:
    domain = installation.inventory.domain
    owner: dict[str, str] = {}
    for spec in specs:
        name = spec.host_name or f"{spec.slug}.{domain}"
        if name == domain or (name.endswith(f".{domain}") and name != f"{spec.slug}.{domain}"):
            raise BadInput(f"{spec.slug}: {name!r} lies under {domain}, whose names are those of the slugs")
        if name in owner:
            raise BadInput(f"{spec.slug} and {owner[name]} have the same host name {name!r}")
        owner[name] = spec.slug


def _url(installation: Installation, spec: AssociationSpec) -> str:
    name = spec.host_name or f"{spec.slug}.{installation.inventory.domain}"
    return installation.url(name, installation.inventory.hosts[0].name)
