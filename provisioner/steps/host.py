"""What a host runs once for all its sites: database, edge, cron ticker, recorder."""

from dataclasses import dataclass, field
from functools import cached_property

from sqlmodel import select

from provisioner import clock, records
from provisioner.adapters import edge, images, mariadb
from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import ProvisionError, Unavailable
from provisioner.installation import Installation
from provisioner.journal.step import Work
from provisioner.model.container import FILE_CAPABILITIES, Bind, OneShot, Service
from provisioner.model.names import ACTIVITY_DOORS, EDGE_LOGS, LABEL_OPERATION, RECORDER_UID, SITE_LOGS, HostNames
from provisioner.model.tables import Release, Site, Snapshot
from provisioner.steps.routing import edge_held, refresh_edge, rendered_edge

DATABASE_UID = 20100  # of the user in the image; below every site's user id
EDGE_UID = 20101

_DIRECTORIES = """
set -eu
mkdir -p /host/database/data /host/edge/conf /host/edge/tmp /host/run/database /host/run/sites /host/sites
mkdir -p /host/run/activity /host/logs/sites /host/logs/edge
chown "$1:$1" /host/database/data /host/run/database
chmod 0700 /host/database/data
chmod 0711 /host/sites
chown "$2:$2" /host/edge/tmp /host/logs/edge
chown "$3:$3" /host/logs/sites
chmod 0700 /host/logs /host/logs/sites /host/logs/edge
# Root's, like all in which something is mounted: the recorder finds the sites' doors, and makes none.
chown "0:$3" /host/run/activity
chmod 0750 /host/run/activity
chmod 0755 /host /host/run /host/run/database /host/run/sites /host/edge
# Sites that are older than the recorder: their containers are made anew with this mounted.
recorder=$3; shift 3
for slug; do install -d -o "$recorder" -g "$recorder" -m 0755 "/host/run/activity/$slug"; done
"""
_REMOVE_EVERYTHING = "set -eu; cd /host; rm -rf ./database ./edge ./run ./sites ./logs"


@dataclass(kw_only=True)
class HostWork(Work):
    """An operation on one host."""

    installation: Installation
    name: str
    tell: images.Tell = field(default=images.silent)

    @cached_property
    def host(self) -> DockerHost:
        """Return the host."""
        return self.installation.host(self.name)

    @property
    def container(self) -> HostNames:
        """Return the names of the host's own containers."""
        return HostNames(self.installation.namespace)

    def image(self, name: str) -> str:
        """Return the digest of the image ``database``, ``edge`` or ``agent``."""
        return images.ensure_service_image(self.host, self.installation.inventory, name, tell=self.tell)

    def run_as_root(self, name: str, script: str, *arguments: str) -> str:
        """Run a script on the data root, which is made if it is not there; return what it printed."""
        return self.host.run(
            OneShot(
                name=f"{self.installation.namespace}.op.{self.operation_id}.{name}",
                image=self.image("edge"),
                labels={**self.host.held_labels(f"host:{self.name}"), LABEL_OPERATION: str(self.operation_id)},
                command=["sh", "-c", script, name, *arguments],
                binds=[Bind("", "/host")],
                capabilities=FILE_CAPABILITIES,
            )
        ).require_success(f"host {self.name}: {name}")

    def end_leftovers(self) -> None:
        """End the one-shots that a process which died left at work for this operation."""
        self.host.remove_labelled(**{LABEL_OPERATION: str(self.operation_id)})

    def ensure_service(self, service: Service) -> None:
        """Make sure that ``service`` runs, recording first whether it is this operation that brings it."""
        key = f"brought {service.name}"
        if key not in self.notes:
            self.note(key, self.host.inspect(service.name) is None)
        self.host.ensure_service(service)

    def remove_if_brought(self, container: str) -> None:
        """Remove ``container`` if this operation brought it."""
        if self.notes.get(f"brought {container}"):
            self.host.remove(container)


def make_authority(work: HostWork) -> None:
    """Make the local certificate authority and the installation's keys, unless they exist."""
    work.installation.authority.ensure(work.installation.inventory.council.name)
    keys = work.installation.keys
    with work.installation.store.transaction() as session:
        in_use = session.exec(select(Snapshot.id)).first() is not None
    if in_use and not keys.backups.exists():
        raise Unavailable(
            f"{keys.backups} is missing, and there are backups that nothing else opens",
            "docs/needs-hand.md, a repository does not open",
        )
    keys.ensure()


def build_images(work: HostWork) -> None:
    """Build the images of database, edge, backup and default release, as far as their content is new."""
    for name in ("database", "edge", "agent"):
        work.image(name)
    build_release(work.installation, work.host, work.installation.inventory.default_release, tell=work.tell)


def build_release(
    installation: Installation,
    host: DockerHost,
    name: str,
    *,
    fresh: bool = False,
    tell: images.Tell = images.silent,
) -> Release:
    """Build a release where needed and record its digest and versions."""
    built = images.ensure_release(host, installation.inventory, name, fresh=fresh, tell=tell)
    with installation.store.transaction() as session:
        query = select(Release).where(Release.name == name, Release.host == host.name)
        row = session.exec(query).first()
        if row is not None and (row.image, row.content_key) == (built.image, built.content_key):
            return row
        if row is not None:
            session.delete(row)
            session.flush()
        row = Release(
            name=name,
            host=host.name,
            image=built.image,
            wordpress=built.wordpress,
            php=built.php,
            db_version=built.db_version,
            themes=built.themes,
            content_key=built.content_key,
            built_at=clock.now(),
        )
        session.add(row)
    return row


def make_directories(work: HostWork) -> None:
    """Make the data root's directories on the host."""
    if "first" not in work.notes:
        work.note("first", work.run_as_root("look", "ls -A /host").strip() == "")
    with work.installation.store.transaction() as session:
        slugs = [site.slug for site in records.live_sites(session) if site.host == work.name]
    owners = (str(uid) for uid in (DATABASE_UID, EDGE_UID, RECORDER_UID))
    work.run_as_root("directories", _DIRECTORIES, *owners, *slugs)


def remove_directories(work: HostWork) -> None:
    """Empty the data root, if this operation found it empty and no site was recorded there since."""
    with work.installation.store.transaction() as session:
        sites = session.exec(select(Site.id).where(Site.host == work.name)).first()
    if work.notes.get("first") and sites is None:
        work.run_as_root("empty", _REMOVE_EVERYTHING)


def database_service(work: HostWork) -> Service:
    """Return the database server's container: no network, reached by its socket only."""
    return Service(
        name=work.container.database,
        image=work.image("database"),
        labels=work.host.role_labels("database"),
        binds=[Bind("database/data", "/var/lib/mysql"), Bind("run/database", "/run/mysqld")],
        tmpfs={"/tmp": "size=256m,mode=1777"},  # noqa: S108  (inside the container)
    )


def start_database(work: HostWork) -> None:
    """Start the database server and wait until it answers."""
    work.ensure_service(database_service(work))
    work.middle()
    mariadb.wait_until_ready(work.host)


def stop_database(work: HostWork) -> None:
    """Remove the database server's container if this operation brought it; its data stay."""
    work.remove_if_brought(work.container.database)


def edge_service(work: HostWork) -> Service:
    """Return the edge's container: on the host's network, so it sees client addresses and publishes no ports."""
    return Service(
        name=work.container.edge,
        image=work.image("edge"),
        labels=work.host.role_labels("edge"),
        binds=[
            Bind("edge", "/edge", read_only=True),
            Bind("run/sites", "/run/sites", read_only=True),
            Bind("edge/tmp", "/var/tmp/nginx"),  # noqa: S108  (the edge's own disk)
            Bind(EDGE_LOGS, "/logs"),
        ],
        network="host",
        capabilities=["NET_BIND_SERVICE", "SETUID", "SETGID"],
        tmpfs={"/run": "size=1m,mode=0755"},
    )


def start_edge(work: HostWork) -> None:
    """Install the edge's configuration, start the edge and ask it over HTTPS."""
    settings = work.installation
    if work.host.inspect(work.container.edge) is None:  # without a configuration it would not even start
        with edge_held(settings, work.host):
            edge.install(work.host, work.image("edge"), *rendered_edge(settings, work.host))
    work.middle()
    work.ensure_service(edge_service(work))
    refresh_edge(settings, work.host)
    revision, _ = rendered_edge(settings, work.host)
    edge.wait_for_revision(work.host, settings.inventory, settings.authority.root, revision)


def stop_edge(work: HostWork) -> None:
    """Remove the edge's container if this operation brought it."""
    work.remove_if_brought(work.container.edge)


def cron_service(work: HostWork) -> Service:
    """Return the cron ticker's container: it calls each site's `current` socket once a minute.

    The ticker's user can write nothing there; root, for the length of a flip, can.
    """
    return Service(
        name=work.container.cron,
        image=work.image("edge"),
        labels=work.host.role_labels("cron"),
        binds=[Bind("run/sites", "/run/sites")],
        command=["/usr/local/bin/ticker"],
        user=f"{EDGE_UID}:{EDGE_UID}",
    )


def is_ready(work: HostWork) -> bool:
    """Return whether everything here is as the steps would make it, so that there is nothing to do."""
    names = work.container
    settings = work.installation
    if not settings.has_secrets or any(work.host.inspect(name) is None for name in (*names.vital, names.recorder)):
        return False  # before anything is asked that might build an image
    with settings.store.transaction() as session:
        release = records.release(session, settings.inventory.default_release, work.name)
    built = images.release_key(settings.inventory, settings.inventory.default_release)
    if release is None or release.content_key != built or work.host.image(release.image) is None:
        return False
    services = (database_service(work), edge_service(work), cron_service(work), recorder_service(work))
    if not all(work.host.runs(service) for service in services):
        return False
    revision, _ = rendered_edge(settings, work.host)
    try:
        return edge.serving_revision(work.host, settings.inventory, settings.authority.root) == revision
    except ProvisionError:
        return False


def start_cron(work: HostWork) -> None:
    """Start the cron ticker."""
    work.ensure_service(cron_service(work))


def stop_cron(work: HostWork) -> None:
    """Remove the cron ticker's container if this operation brought it."""
    work.remove_if_brought(work.container.cron)


def recorder_service(work: HostWork) -> Service:
    """Return the container that writes down what sites tell of their log-ins and publications."""
    return Service(
        name=work.container.recorder,
        image=work.image("agent"),
        labels=work.host.role_labels("recorder"),
        binds=[Bind(ACTIVITY_DOORS, "/run/activity"), Bind(SITE_LOGS, "/logs")],
        command=["record"],
        user=f"{RECORDER_UID}:{RECORDER_UID}",
        memory_mb=64,
        cpus=0.5,
        processes=10,
    )


def start_recorder(work: HostWork) -> None:
    """Start the recorder; sites go on where there is none."""
    work.ensure_service(recorder_service(work))


def stop_recorder(work: HostWork) -> None:
    """Remove the recorder's container if this operation brought it."""
    work.remove_if_brought(work.container.recorder)
