"""What the agent is asked: beside a site with that site's own rights and limits, or as the steward of the host's files.

There is nothing between the two. Whatever a site owns is read and written beside it; the steward makes, hands over and
removes whole directories of which every parent belongs to root (docs/security.md).
"""

from collections.abc import Sequence
from typing import TypeVar

from provisioner import records
from provisioner.adapters import mariadb, restic
from provisioner.agent import protocol
from provisioner.agent.protocol import HandOver, Request
from provisioner.model.container import Bind, Confinement
from provisioner.model.names import GenerationNames
from provisioner.model.tables import Generation
from provisioner.probes import host as host_probes
from provisioner.steps.site import SiteWork

A = TypeVar("A")
AGENT_MEMORY_MB = 1024  # at least: restic holds the index of a repository, which is not the site's to bound
AGENT_PROCESSES = 200
DATABASE = Bind("run/database", "/run/mysqld", read_only=True)


def ask(
    work: SiteWork, request: Request[A], binds: Sequence[Bind] = (), repository: restic.Repository | None = None
) -> A:
    """Have the agent do what ``request`` asks beside the operation's site; return its answer."""
    policy = work.installation.inventory.policy.site
    confinement = Confinement(
        uid=work.site.uid,
        memory_mb=max(policy.memory_mb, AGENT_MEMORY_MB),
        cpus=policy.cpus,
        processes=max(policy.processes, AGENT_PROCESSES),
    )
    worker = restic.Worker(
        work.host, work.installation.inventory, work.one_shot_prefix, work.operation_labels, repository, binds,
        confinement, _size(work), work.installation.relays,
    )  # fmt: skip
    if repository is not None and repository.name == work.slug:  # the subject is held: its dead locks may go
        return worker.call_held(request)
    return worker.call(request)


def _size(work: SiteWork) -> int:
    """Return about how many bytes the site has; at most, while nobody has counted them."""
    with work.installation.store.transaction() as session:
        last = records.last_snapshot(session, work.site.key)
    manifest = work.notes.get("manifest")
    counted = [last.total_bytes] if last else []
    counted += [manifest["content"]["bytes"] + manifest["database"].get("bytes", 0)] if manifest else []
    return max(counted) if counted else host_probes.space(work.host).used


def ask_steward(work: SiteWork, request: Request[A], binds: Sequence[Bind]) -> A:
    """Have the agent do what ``request`` asks as root, with nothing that a site owns; return its answer."""
    worker = restic.Worker(
        work.host, work.installation.inventory, work.one_shot_prefix, work.operation_labels, binds=binds
    )
    return worker.call(request)


def prepare_repository(work: SiteWork, repository: restic.Repository) -> None:
    """Make a repository unless it is there; no file of the site's is seen."""
    worker = restic.Worker(
        work.host, work.installation.inventory, work.one_shot_prefix, work.operation_labels, repository
    )
    worker.call_held(protocol.Initialize())


def directory(work: SiteWork, *, read_only: bool = True) -> Bind:
    """Return the site's directory as the agent sees it; the rights of its user say what can be read and written."""
    return Bind(work.names.site_directory, "/directory", read_only=read_only)


def inside(work: SiteWork, *generations: Generation, read_only: bool = True) -> list[Bind]:
    """Return what the agent needs to work on a site's generations and their databases.

    Those of ``generations`` whose images are older than readers get theirs first.
    """
    for generation in generations:
        require_reader(work, generation)
    return [DATABASE, directory(work, read_only=read_only)]


def require_reader(work: SiteWork, generation: Generation) -> None:
    """Make sure that a generation's database has a reader, and the site its directories for what we make beside it."""
    if work.host.protocol(generation.image) == protocol.FIRST:
        names = generation.names(work.installation.namespace, work.slug)
        mariadb.create_reader(work.host, names.database, hand_over(work, names, names.work_directories))


def hand_over(work: SiteWork, names: GenerationNames, directories: Sequence[str]) -> str:
    """Make directories for the site's own user, and the secret of a generation's reader; return the password's hash."""
    request = HandOver(
        uid=work.site.uid,
        directories=list(directories),
        secrets=names.reader_directory,
        database=names.database,
        user=names.reader,
    )
    return ask_steward(work, request, [Bind("", "/host")]).reader_hash
