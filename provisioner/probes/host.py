"""Is a host ready, and does what runs on it agree with the records?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from provisioner import records
from provisioner.adapters import mariadb
from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import ProvisionError, Unavailable
from provisioner.installation import Installation
from provisioner.inventory import Host
from provisioner.journal import lock
from provisioner.journal.journal import local_time, unfinished, way_on
from provisioner.model.names import (
    LABEL_GENERATION,
    LABEL_SITE,
    READER,
    GenerationNames,
    HostNames,
)
from provisioner.model.tables import UNFINISHED, Generation, GenerationState, Operation, Release, Site

MIB = 1024 * 1024


def require_ready(installation: Installation, host: DockerHost, release: str) -> Release:
    """Make sure that an operation on ``host`` can begin at all; return the release that sites will run.

    Raises:
        Unavailable: engine, services, image or disk space are missing; says which, with figures.

    """
    with installation.store.transaction() as session:
        built = records.release(session, release, host.name)
    if built is None:
        raise Unavailable(f"host {host.name}: release {release} is not built", f"provision release build {release}")
    image = host.image(built.image)
    if image is None:
        raise Unavailable(
            f"host {host.name}: the image of release {release} ({built.image[:19]}) is missing",
            f"provision release build {release}",
        )
    made_for, architecture = image["Architecture"], host.version()["Arch"]
    if made_for != architecture:
        raise Unavailable(
            f"host {host.name}: the image of release {release} is for {made_for}, the host is {architecture}",
            f"provision release build {release} --refresh",
        )
    running = {name.lstrip("/") for c in host.containers() if c["State"] == "running" for name in c["Names"]}
    for service in HostNames(host.namespace).vital:
        if service not in running:
            raise Unavailable(f"host {host.name}: {service} does not run", "provision doctor --fix")
    for short in space(host).short_of(host.settings):
        raise Unavailable(
            f"host {host.name}: {short.free} {short.unit} free on {host.data_root}, "
            f"{short.wanted} {short.unit} are wanted",
            f"free some space, or lower {short.key} in inventory.yaml",
        )
    return built


def unknown_slugs(host: DockerHost, slugs: set[str]) -> list[str]:
    """Return which of ``slugs``, none of them on record, have containers on the host all the same."""
    return sorted({c["Labels"][LABEL_SITE] for c in host.containers() if LABEL_SITE in c["Labels"]} & slugs)


@dataclass(frozen=True)
class Short:
    """Something of which less is free than the inventory wants."""

    free: int
    wanted: int
    unit: str  # "MiB" or "inodes"
    key: str  # of a host in the inventory


@dataclass(frozen=True)
class Space:
    """What is free on the file system that holds a host's data root."""

    bytes: int
    used: int  # bytes
    inodes: int | None  # None: the file system makes them as it needs them

    def short_of(self, wanted: Host, times: int = 1) -> Iterator[Short]:
        """Yield that of which less is free than so many times what the inventory wants."""
        if self.bytes < times * wanted.free_disk_mb * MIB:
            yield Short(self.bytes // MIB, wanted.free_disk_mb, "MiB", "free_disk_mb")
        if self.inodes is not None and self.inodes < times * wanted.free_inodes:
            yield Short(self.inodes, wanted.free_inodes, "inodes", "free_inodes")


def space(host: DockerHost) -> Space:
    """Ask what is free on the file system that holds the data root.

    Raises:
        ProvisionError: it cannot be asked.

    """
    command = ["df", "--block-size=1", "--output=avail,used,iavail,itotal", "/edge"]
    said = host.execute(HostNames(host.namespace).edge, command).require_success(
        f"host {host.name}: asking for free disk space"
    )
    free, used, inodes, all_inodes = said.splitlines()[-1].split()
    return Space(int(free), int(used), int(inodes) if all_inodes not in ("0", "-") else None)


def free_disk(host: DockerHost) -> int:
    """Return the free bytes of the file system that holds the data root."""
    return space(host).bytes


def require_space(host: DockerHost, needed: int, what: str) -> int:
    """Make sure that ``needed`` bytes are free above what the inventory reserves; return how many are.

    Raises:
        Unavailable: they are not; says so with figures (D17).

    """
    free = free_disk(host) - host.settings.free_disk_mb * MIB
    if free < needed:
        raise Unavailable(
            f"{what} needs {needed // MIB} MiB on host {host.name}, "
            f"{max(free, 0) // MIB} MiB are free above free_disk_mb",
            "free some space on its data root",
        )
    return free


@dataclass(frozen=True)
class Finding:
    """Something that is not as the records say, and what mends it."""

    subject: str
    problem: str
    mend: str
    fixable: bool = True  # by `provision doctor --fix`


@dataclass(frozen=True)
class Orphan:
    """Something on a host that no record knows."""

    kind: str  # container, database, database user or directory
    name: str
    slug: str
    removable: bool

    @property
    def finding(self) -> Finding:
        """Return what to tell the operator."""
        if self.removable:
            return Finding(self.slug, f"{self.kind} {self.name} belongs to no record", "provision doctor --fix")
        return Finding(
            self.slug,
            f"{self.kind} {self.name} belongs to no record, nor does the journal know it: was the state lost?",
            "docs/needs-hand.md, the state is lost or old",
            fixable=False,
        )


@dataclass(frozen=True)
class Expected:
    """What the records say of one generation on a host."""

    site: Site
    generation: Generation
    names: GenerationNames
    busy: bool  # an operation is unfinished: what is missing or left over is its business

    @property
    def kept(self) -> bool:
        """Return whether another generation serves: this one rests until `provision undo` or its end."""
        return self.generation.state is GenerationState.KEPT


def expected(session: Session, host: DockerHost) -> list[Expected]:
    """Return every generation that the records place on ``host``."""
    query = select(Site, Generation).where(Generation.site_id == Site.id, Site.host == host.name)
    return [
        Expected(
            site,
            generation,
            generation.names(host.namespace, site.slug),
            unfinished(session, site.slug) is not None,
        )
        for site, generation in session.exec(query.order_by(Site.slug, Generation.number)).all()  # type: ignore[arg-type]
    ]


def dead_services(host: DockerHost, services: Sequence[str]) -> Iterator[Finding]:
    """Find services of the host, by their containers' names, that do not run."""
    for service in services:
        state = host.inspect(service)
        if state is None or not state["State"]["Running"]:
            yield Finding(f"host:{host.name}", f"{service} does not run", "provision doctor --fix")


def orphans(host: DockerHost, wanted: list[Expected], past: set[str]) -> Iterator[Orphan]:
    """Find containers, databases, users and directories that no record knows.

    ``past`` holds the slugs that the journal remembers. An orphan of another slug may be all that is
    left of a site whose record was lost with the state: it is shown, and never removed from here.
    """
    known = {(item.site.slug, str(item.generation.number)) for item in wanted}
    for container in host.containers():
        labels, name = container["Labels"], container["Names"][0].lstrip("/")
        if LABEL_SITE in labels and (labels[LABEL_SITE], labels.get(LABEL_GENERATION)) not in known:
            yield Orphan("container", name, labels[LABEL_SITE], labels[LABEL_SITE] in past)
    names = {name for item in wanted for name in (item.names.database, item.names.reader)}
    for kind, found in (("database", mariadb.databases(host)), ("database user", mariadb.users(host))):
        for name in sorted(found - names):
            slug = name.removesuffix(READER).rpartition("_")[0].replace("_", "-")
            yield Orphan(kind, name, slug, slug in past)
    for slug in sorted(_socket_directories(host) - {item.site.slug for item in wanted}):
        yield Orphan("directory", slug, slug, slug in past)


def missing(host: DockerHost, wanted: list[Expected]) -> Iterator[Finding]:
    """Find generations whose database or running container is not there."""
    databases = mariadb.databases(host)
    running = {c["Names"][0].lstrip("/") for c in host.containers() if c["State"] == "running"}
    for item in wanted:
        if item.busy:
            continue
        if item.names.database not in databases:
            yield Finding(
                item.site.slug,
                f"database {item.names.database} is missing",
                f"provision restore {item.site.slug}",
                fixable=False,
            )
            continue  # its container would not serve without
        if not item.kept and item.names.container not in running:
            yield Finding(item.site.slug, f"container {item.names.container} does not run", "provision doctor --fix")


def _socket_directories(host: DockerHost) -> set[str]:
    outcome = host.execute(HostNames(host.namespace).cron, ["ls", "-1", "/run/sites"])
    return set(outcome.require_success(f"host {host.name}: listing the sites' sockets").split())


def reachable(host: DockerHost) -> Finding | None:
    """Find an engine that does not answer now; unlike an operation, this does not wait for it."""
    try:
        host.require_answer()
    except ProvisionError as error:
        return Finding(f"host:{host.name}", error.message, error.hint, fixable=False)
    return None


def interrupted(session: Session, installation: Installation) -> Iterator[Finding]:
    """Find operations that are unfinished although nobody works on them."""
    for operation in session.exec(select(Operation).where(col(Operation.state).in_(UNFINISHED))).all():
        if not lock.is_held(installation.locks, operation.subject):
            what = operation.message or f"{operation.kind} of {local_time(operation)} was interrupted"
            yield Finding(operation.subject, what, way_on(operation), fixable=False)
