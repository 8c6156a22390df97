"""The life of a generation: reserved, filled, started, flipped to; and its one undo, `discard_generation`."""

from datetime import timedelta

from sqlmodel import Session, col, delete, select

from provisioner import clock, records
from provisioner.adapters import mariadb
from provisioner.adapters.answers import answered
from provisioner.agent import wire
from provisioner.agent.protocol import Prepare
from provisioner.errors import ProvisionError, Unavailable
from provisioner.model.container import Bind
from provisioner.model.names import (
    FIRST_MEDIA,
    FROZEN,
    LABEL_GENERATION,
    LABEL_OPERATION,
    LABEL_SITE,
    RECORDER_UID,
    GenerationNames,
    HostNames,
)
from provisioner.model.tables import Agreement, Contact, Drill, Generation, GenerationState, Release, Site, Snapshot
from provisioner.steps.beside import require_reader
from provisioner.steps.closing import keep_closed, rights
from provisioner.steps.site import SiteWork, edge_image, require_spoken, site_service

# Every line of these may be repeated.
_FLIP = """
set -eu
cd "/$1"
test -d "$2"
ln -sfn "$2" next
mv -T next current
sync .
"""
_UNLINK = """
set -eu
cd "/$1" || exit 0
if [ "$(readlink current || true)" = "$2" ]; then rm -f current; sync .; fi
"""
# A set of media goes with the last generation that shows it ($5, unless it is empty).
_REMOVE_GENERATION = """
set -eu
cd /host
if [ "$(readlink "$1/current" || true)" = "$2" ]; then rm -f "$1/current"; fi
rm -rf "./$1/$2" "./$3"
rm -rf "./$4"
if [ -n "$5" ]; then rm -rf "./$5"; fi
"""
SERVED_BEFORE = "served before"  # the number of the generation that a flip takes the place of
_NO_DATABASE = "no database"  # noted when the server was down: its undo then has nothing to ask of it
_REMOVE_SITE = """
set -eu
cd /host
for directory; do rm -rf "./$directory"; done
"""
# The recorder's directory first: it is no affair of the site's image, which may be older than the recorder.
_PREPARE = """
set -eu
install -d -o "$2" -g "$2" -m 0755 "/host/$1"
exec /srv/provision/prepare "$3"
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
        record_generation(session, work.site, work.number, release, FIRST_MEDIA)


def record_generation(
    session: Session,
    site: Site,
    number: int,
    release: Release,
    media: str,
    state: GenerationState = GenerationState.BUILDING,
) -> None:
    """Record a generation, that it will run ``release`` and show ``media``, unless it is on record."""
    if records.find_generation(session, site.key, number) is None:
        session.add(
            Generation(
                site_id=site.key,
                number=number,
                state=state,
                release=release.name,
                image=release.image,
                wordpress=release.wordpress,
                php=release.php,
                media=media,
                created_at=clock.now(),
            )
        )


def forget_generation(work: SiteWork) -> None:
    """Remove the generation's record; what it owned is gone."""
    _forget(work, work.number)


def _forget(work: SiteWork, number: int) -> None:
    with work.installation.store.transaction() as session:
        mine = (col(Generation.site_id) == work.site.key, col(Generation.number) == number)
        session.exec(delete(Generation).where(*mine))


def forget_site(work: SiteWork) -> None:
    """Remove what the site owns on its host, then its record: slug and host name are free again."""
    with work.installation.store.transaction() as session:
        if records.find_site(session, work.slug) is None:
            return  # an earlier run was cut off right after it
    names = work.names
    work.run_as_root(
        "forget",
        [
            *("sh", "-c", _REMOVE_SITE, "forget"),
            *(names.site_directory, names.socket_parent, names.activity_directory, names.log_directory),
        ],
        [Bind("", "/host")],
        image=edge_image(work.host),
    ).require_success(f"{work.slug}: removing its directories")
    with work.installation.store.transaction() as session:
        for table in (Generation, Agreement, Contact, Snapshot, Drill):
            session.exec(delete(table).where(col(table.site_id) == work.site.key))
        session.exec(delete(Site).where(col(Site.id) == work.site.key))


def prepare_files(work: SiteWork) -> None:
    """Make the generation's directories, secrets and code, on the host; no secret leaves it."""
    generation, names = work.generation, work.names
    request = Prepare(
        slug=work.slug,
        n=work.number,
        uid=work.site.uid,
        database=names.database,
        user=names.database,
        host=work.netloc,
        support=work.installation.inventory.council.mail,
        media=generation.media,
        twin=generation.state is GenerationState.TWIN,
    )
    require_spoken(work.slug, work.host.protocol(generation.image))
    given = wire.written(request).decode()
    outcome = work.run_as_root(
        "files",
        ["sh", "-c", _PREPARE, "prepare", names.activity_directory, str(RECORDER_UID), given],
        [Bind("", "/host")],
        image=generation.image,
    )
    outcome.require_success(f"{work.slug}: preparing its files")
    prepared = answered(request, outcome.output)
    work.middle()
    work.note("password_hash", prepared.password_hash)
    work.note("reader_hash", prepared.reader_hash)


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
    if work.notes.get("reader_hash"):
        mariadb.create_reader(work.host, name, work.notes["reader_hash"])
    else:
        require_reader(work, work.generation)


def create_container(work: SiteWork) -> None:
    """Create the generation's container; it is started beside the installation, and nothing is routed to it yet."""
    work.host.ensure_created(work.service)


def flip(work: SiteWork) -> None:
    """Point the site's `current` to the generation: one rename, no reload. The one before it is kept."""
    if SERVED_BEFORE not in work.notes:
        with work.installation.store.transaction() as session:
            serving = records.serving_generation(session, work.site.key)
        work.note(SERVED_BEFORE, serving.number if serving else None)
    keep_closed(work)
    _move_current(work, _FLIP, work.number)
    work.middle()
    record_flip(work, work.notes[SERVED_BEFORE], work.number)


def flip_back(work: SiteWork) -> None:
    """Point `current` to the generation before, or to none, if the flip had begun."""
    if SERVED_BEFORE not in work.notes:
        return
    before = work.notes[SERVED_BEFORE]
    if before is None or not exists(work, before):
        _move_current(work, _UNLINK, work.number)
    else:
        wake_generation(work, before)
        _move_current(work, _FLIP, before)
    record_flip(work, work.number, before)


def _move_current(work: SiteWork, script: str, number: int) -> None:
    at_sockets(work, "flip", ["sh", "-c", script, "flip", work.names.socket_parent, str(number)])


def at_sockets(work: SiteWork, what: str, command: list[str], uid: int = 0) -> str:
    """Run a short command where the sockets of all sites are; return what it printed.

    That is the cron container: a one-shot would take four times as long. Root owns the site's directory there, and
    the site's own user those of its generations: without capabilities, each changes only its own.
    """
    cron = HostNames(work.installation.namespace).cron
    return work.host.execute(cron, command, user=str(uid)).require_success(f"{work.slug}: {what}")


def record_flip(work: SiteWork, leaving: int | None, arriving: int | None) -> None:
    """Record which generation serves; the site is of its release from now on."""
    until = clock.now() + timedelta(days=work.installation.inventory.policy.generation_days)
    with work.installation.store.transaction() as session:
        for number, state, kept_until in (
            (leaving, GenerationState.KEPT, until),
            (arriving, GenerationState.SERVING, None),
        ):
            row = records.find_generation(session, work.site.key, number) if number else None
            if row is not None:
                row.state, row.kept_until = state, kept_until
                if state is GenerationState.SERVING:
                    records.site(session, work.slug).release = row.release


def wake(work: SiteWork) -> None:
    """Start the container of the kept generation, which may write again."""
    wake_generation(work, work.number)


def rest(work: SiteWork) -> None:
    """Stop the generation's container, and let nothing write to its database: neither visitors nor events."""
    rest_generation(work, work.number)


def wake_generation(work: SiteWork, number: int) -> None:
    """Start the container of a generation that was kept; one that an upgrade left behind may write again."""
    with work.installation.store.transaction() as session:
        generation = records.generation(session, work.site.key, number)
    thaw(work, number)
    work.host.ensure_service(site_service(work.host, work.site, generation, work.installation.inventory.policy.site))


def thaw(work: SiteWork, number: int) -> None:
    """Let a generation write again, as before a freeze; that of a site in closing what logging in writes."""
    names = GenerationNames(work.installation.namespace, work.slug, number)
    mariadb.execute(work.host, "; ".join(rights(work, number)))
    at_sockets(work, "thaw", ["rm", "-rf", f"/{names.socket_directory}/{FROZEN}"], uid=work.site.uid)


def rest_previous(work: SiteWork) -> None:
    """Stop the generation that served before; it is kept for some days, and `provision undo` returns to it.

    On a host that was rebuilt there is nothing of it: then its record goes.
    """
    before = work.notes.get(SERVED_BEFORE)
    if before is None:
        return
    if exists(work, before):
        rest_generation(work, before)
    else:
        _forget(work, before)


def rest_generation(work: SiteWork, number: int) -> None:
    """Stop the container of a generation that does not serve, and let nothing write to its database any more."""
    names = GenerationNames(work.installation.namespace, work.slug, number)
    work.host.stop(names.container)
    if names.database in mariadb.databases(work.host):  # a site is restored because it was lost: nothing may be left
        mariadb.forbid_writes(work.host, names.database)


def exists(work: SiteWork, number: int) -> bool:
    """Return whether a generation of the site was made on its host as it is now: its socket has a directory."""
    names = GenerationNames(work.installation.namespace, work.slug, number)
    ticker = HostNames(work.installation.namespace).cron
    return work.host.execute(ticker, ["test", "-d", f"/{names.socket_directory}"]).exit_code == 0


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
        [
            "sh",
            "-c",
            _REMOVE_GENERATION,
            "discard",
            names.socket_parent,
            str(work.number),
            names.directory,
            names.fetched_directory,
            _media_of_its_own(work),
        ],
        [Bind("", "/host")],
        image=edge_image(work.host),
    ).require_success(f"{work.slug}: removing the generation's directories")


def _media_of_its_own(work: SiteWork) -> str:
    """Return the directory of the media that no other generation shows, or nothing."""
    with work.installation.store.transaction() as session:
        mine = records.find_generation(session, work.site.key, work.number)
        if mine is None:
            return ""
        others = select(Generation.id).where(
            Generation.site_id == mine.site_id, Generation.media == mine.media, Generation.number != mine.number
        )
        shared = session.exec(others).first() is not None
    return "" if shared else f"{work.names.site_directory}/{mine.media}"
