"""`provision restore SLUG --as NEW`: a snapshot becomes another site under its own name; the first is left alone."""

from provisioner import records
from provisioner.associations import AssociationSpec, from_options
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.journal.journal import Journal, Progress, no_progress
from provisioner.journal.step import Step, nothing_to_undo
from provisioner.operations import create, restore
from provisioner.steps.content import conceal, probe_generation, probe_site
from provisioner.steps.generation import (
    create_database,
    discard_generation,
    flip,
    flip_back,
    forget_site,
    prepare_files,
)
from provisioner.steps.routing import route_site, unroute_site
from provisioner.steps.site import SiteWork
from provisioner.steps.snapshot import (
    compare_with_manifest,
    fetch_snapshot,
    load_dump,
    readdress,
    reserve_from_snapshot,
    start_container,
)

KIND = "copy"

STEPS: tuple[Step[SiteWork], ...] = (
    Step("reserve", reserve_from_snapshot, undo=forget_site),
    Step("files", prepare_files, undo=discard_generation),
    Step("fetch", fetch_snapshot, undo=discard_generation),
    Step("database", create_database, undo=discard_generation),
    Step("load", load_dump, undo=discard_generation),
    Step("compare", compare_with_manifest, undo=nothing_to_undo),
    Step("readdress", readdress, undo=discard_generation),
    Step("conceal", conceal, undo=discard_generation),
    Step("start", start_container, undo=discard_generation),
    Step("probe", probe_generation, undo=nothing_to_undo),
    Step("route", route_site, undo=unroute_site),
    Step("flip", flip, undo=flip_back),
    Step("verify", probe_site, undo=nothing_to_undo),
)

work_on = restore.work_on


def check(installation: Installation, chosen: restore.Plan, slug: str) -> AssociationSpec:
    """Return the record of the new site, that of the snapshot's own under the name ``slug``.

    Its agreement is a draft of today, and nobody is invited: accounts and passwords are the snapshot's.

    Raises:
        BadInput: ``slug`` is no slug, reserved, or taken, also by a retired site.
        Unavailable: the host is not ready.

    """
    with installation.store.transaction() as session:
        if records.find_site(session, slug) is not None:
            raise BadInput(f"the slug {slug!r} is taken", f"provision status {slug}")
        site = records.site(session, chosen.slug)
        people = records.contacts(session, site.key)
    spec = from_options(
        {
            "slug": slug,
            "contacts": [{"name": one.name, "mail": one.mail, "administrator": one.administrator} for one in people],
            **{key: getattr(site, key) for key in records.OWN_KEYS},
        }
    )
    create.check(installation, [spec])
    return spec


def copy_site(
    installation: Installation, chosen: restore.Plan, spec: AssociationSpec, progress: Progress = no_progress
) -> str:
    """Make the site ``spec`` of the snapshot of ``chosen``; return its address. It is not indexed.

    Raises:
        Busy: somebody works on it.
        ProvisionError: it failed and was undone; slug and host name are free again.

    """
    journal = Journal(installation.store, installation.locks, KIND, STEPS, progress)
    with journal.subject(spec.slug):
        operation = journal.begin(
            spec.slug,
            {"generation": create.FIRST, "snapshot": chosen.snapshot, "manifest": chosen.manifest},
            record=lambda session: records.record_association(
                session, installation.inventory, spec, chosen.manifest["release"]
            ),
        )
        work = work_on(installation, operation)
        journal.carry_out(operation, work)
    return work.url
