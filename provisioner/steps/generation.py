"""The life of a generation: reserved, filled, started, flipped to; and its one undo, `discard_generation`."""

import json

from sqlmodel import col, delete

from provisioner import clock, records
from provisioner.adapters import mariadb
from provisioner.errors import ProvisionError, Unavailable
from provisioner.model.container import Bind
from provisioner.model.names import LABEL_GENERATION, LABEL_OPERATION, LABEL_SITE, HostNames
from provisioner.model.tables import Agreement, Contact, Generation, GenerationState, Site
from provisioner.steps.site import SiteWork, edge_image

# Every line of these may be repeated.
_FLIP = """
set -eu
cd "/$1"
test -d "$2"
ln -sfn "$2" next
mv -T next current
sync .
"""
_REMOVE_GENERATION = """
set -eu
cd /host
if [ "$(readlink "$1/current" || true)" = "$2" ]; then rm -f "$1/current"; fi
rm -rf "./$1/$2" "./$3"
"""
_NO_DATABASE = "no database"  # noted when the server was down: its undo then has nothing to ask of it
_REMOVE_SITE = """
set -eu
cd /host
rm -rf "./$1" "./$2"
"""


def reserve_generation(work: SiteWork) -> None:
    """Record the generation before anything of it exists, with its image pinned by digest."""
    with work.installation.store.transaction() as session:
        release = records.release(session, work.site.release, work.site.host)
        if release is None:
            raise Unavailable(
                f"release {work.site.release} is not built on host {work.site.host}",
                "provision release build",
            )
        if records.find_generation(session, work.site.key, work.number) is None:
            session.add(
                Generation(
                    site_id=work.site.key,
                    number=work.number,
                    release=release.name,
                    image=release.image,
                    wordpress=release.wordpress,
                    php=release.php,
                    created_at=clock.now(),
                )
            )


def forget_site(work: SiteWork) -> None:
    """Remove what the site owns on its host, then its record: slug and host name are free again."""
    with work.installation.store.transaction() as session:
        if records.find_site(session, work.slug) is None:
            return  # an earlier run was cut off right after it
    names = work.names
    work.run_as_root(
        "forget",
        ["sh", "-c", _REMOVE_SITE, "forget", names.site_directory, names.socket_parent],
        [Bind("", "/host")],
        image=edge_image(work.host),
    ).require_success(f"{work.slug}: removing its directories")
    with work.installation.store.transaction() as session:
        for table in (Generation, Agreement, Contact):
            session.exec(delete(table).where(col(table.site_id) == work.site.key))
        session.exec(delete(Site).where(col(Site.id) == work.site.key))


def prepare_files(work: SiteWork) -> None:
    """Make the generation's directories, secrets and code, on the host; no secret leaves it."""
    generation, names = work.generation, work.names
    request = {
        "slug": work.slug,
        "n": work.number,
        "uid": work.site.uid,
        "database": names.database,
        "user": names.database,
        "host": work.netloc,
        "support": work.installation.inventory.council.mail,
    }
    said = work.run_as_root(
        "files",
        ["/srv/provision/prepare", json.dumps(request)],
        [Bind("", "/host")],
        image=generation.image,
    ).require_success(f"{work.slug}: preparing its files")
    work.middle()
    work.note("password_hash", json.loads(said)["password_hash"])


def create_database(work: SiteWork) -> None:
    """Create the generation's database and its user, with limits."""
    name = work.names.database
    try:
        mariadb.create_database(work.host, name)
    except mariadb.Down:
        work.note(_NO_DATABASE, True)
        raise
    if work.notes.get(_NO_DATABASE):
        work.note(_NO_DATABASE, False)
    work.middle()
    mariadb.create_user(work.host, name, work.notes["password_hash"], work.installation.inventory.policy.site)


def create_container(work: SiteWork) -> None:
    """Create the generation's container; it is started beside the installation, and nothing is routed to it yet."""
    work.host.ensure_created(work.service)


def flip(work: SiteWork) -> None:
    """Point the site's `current` to the generation: one rename, no reload."""
    names = work.names
    # In the cron container, which sees the sockets of all sites: a one-shot would take four times as long.
    work.host.execute(
        HostNames(names.namespace).cron, ["sh", "-c", _FLIP, "flip", names.socket_parent, str(work.number)], user="0"
    ).require_success(f"{work.slug}: flip")
    work.middle()
    with work.installation.store.transaction() as session:
        records.generation(session, work.site.key, work.number).state = GenerationState.SERVING


def discard_generation(work: SiteWork) -> None:
    """Remove everything that the generation may own: containers, database, user, directories.

    Driven by the record that `reserve_generation` made first; what does not exist is passed over.

    Raises:
        ProvisionError: something could not be removed; the rest was.

    """
    names = work.names
    failures = []
    for remove in (_remove_containers, _remove_database, _remove_directories):
        try:
            remove(work)
        except ProvisionError as error:
            failures.append(error.message)
    if failures:
        raise ProvisionError(f"generation {names.container}: {'; '.join(failures)}")


def _remove_containers(work: SiteWork) -> None:
    work.host.remove_labelled(**{LABEL_OPERATION: str(work.operation_id)})
    work.host.remove_labelled(**{LABEL_SITE: work.slug, LABEL_GENERATION: str(work.number)})


def _remove_database(work: SiteWork) -> None:
    if not work.notes.get(_NO_DATABASE):
        mariadb.drop(work.host, work.names.database)


def _remove_directories(work: SiteWork) -> None:
    names = work.names
    work.run_as_root(
        "discard",
        ["sh", "-c", _REMOVE_GENERATION, "discard", names.socket_parent, str(work.number), names.directory],
        [Bind("", "/host")],
        image=edge_image(work.host),
    ).require_success(f"{work.slug}: removing the generation's directories")
