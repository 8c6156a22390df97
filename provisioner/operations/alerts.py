"""What should be there and is not: a night, an answer, space, a valid certificate.

One mail when an incident begins, one when it is over, none in between.
"""

import ssl
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from provisioner import clock, escrow, eventlog, records, runs
from provisioner.adapters import edge
from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import ProvisionError
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.journal.journal import unfinished
from provisioner.keys import CONTROL_PLANE
from provisioner.mail import agreements, outbox
from provisioner.mail.messages import compose
from provisioner.model.names import HostNames
from provisioner.model.tables import Incident, Run, Site
from provisioner.operations.backup import unsound
from provisioner.probes import host as host_probes
from provisioner.probes import page
from provisioner.steps.snapshot import TAKEN

BACKUP_HOURS = 26  # a nightly backup, and two hours for a night that takes longer (D9)
PROOF_DAYS = 35  # as a drill is due within 30 days, five nights for one that fails
NIGHT_HOURS = 26  # a night, and two hours for one that takes longer
FULL_DAYS = 14
KNOWN_DAYS = 2  # over fewer days no line is drawn through the free space
FULL_TIMES = 2  # of what an operation wants to be free: the alarm comes before the first refusal
CERTIFICATE_DAYS = (21, 14, 7)  # each is told (F13)
ADMINISTRATORS = 2  # CONTEXT.md: so that the site survives one person leaving
ASK_AGAIN_SECONDS = 5.0  # one lost packet is no incident
AT_A_TIME = 8

NIGHT, SILENT, FROZEN, CERTIFICATE, DISK, FULL, ENGINE, SERVICE, CLOCK = (
    "night", "silent", "frozen", "certificate", "disk", "full", "engine", "service", "clock",
)  # fmt: skip
_BLINDING = {ENGINE, SERVICE, SILENT}  # while one of these lasts, nobody sees whether the others are over
_UNSEEN = {FROZEN, CERTIFICATE, FULL}

_FROZEN = 'for f in /run/sites/*/current/frozen; do if [ -e "$f" ]; then echo "$f"; fi; done'


@dataclass(frozen=True)
class Attention:
    """Something that a person should do, and the command to paste."""

    subject: str
    what: str
    command: str
    critical: bool = False
    pressing: bool = True  # False for what may wait: the monitoring does not count it
    alarm: str = ""  # kind of incident that it is; none: it is shown, and nobody gets a mail
    level: int = 0  # an incident that rises to a higher one is told again


def on_record(session: Session, installation: Installation) -> Iterator[Attention]:
    """Find what the records say is missing: backups, proofs, a nightly run, space to come, administrators, answers.

    And a clock that is not believed, which holds reminders back.
    """
    sites = records.live_sites(session)
    yield from _clock(session, installation)
    if sites:
        yield from _night(session, installation, min(site.created_at for site in sites))
    yield from _unsaved(session)
    for settings in installation.inventory.hosts:
        yield from _disk(session, settings.name)
    for site in sites:
        people = len(records.administrators(session, site.key))
        if people < ADMINISTRATORS:
            what = f"{people or 'no'} administrator only: a site should survive one person leaving"
            yield Attention(site.slug, what, f"ask the association, then: provision status {site.slug}",
                            alarm="administrators")  # fmt: skip
    for row in session.exec(select(Incident).where(Incident.alarm == SILENT, col(Incident.ended_at).is_(None))):
        yield Attention(row.subject, row.what, row.command, row.critical, alarm=SILENT)


def _clock(session: Session, installation: Installation) -> Iterator[Attention]:
    doubt = runs.doubt(session)
    if doubt:
        by = agreements.settle_by(session, installation.inventory, doubt)
        until = f"; to be settled by {by}" if by else ""
        what = f"{doubt.words}; reminders and closings wait{until}"
        yield Attention("clock", what, "set it right; if it is right: provision mail confirm", True, alarm=CLOCK)


def _unsaved(session: Session) -> Iterator[Attention]:
    """Find what was not backed up last night, what is not proven, and an escrow that nobody wrote."""
    sites = [site for site in records.live_sites(session) if records.serving_generation(session, site.key)]
    since = {site.slug: (site.created_at, records.last_snapshot(session, site.key)) for site in sites}
    for slug, (created, snapshot) in since.items():
        yield from _missed(slug, created, snapshot.taken_at if snapshot else None)
    if sites:
        kept = eventlog.newest(session, CONTROL_PLANE, TAKEN)
        yield from _missed(CONTROL_PLANE, min(site.created_at for site in sites), kept.at if kept else None)
    for name in [*since, CONTROL_PLANE]:
        if bad := unsound(session, name):
            what = f"its repository was found damaged on {local(bad.at)}: {bad.data['reason']}"
            yield Attention(
                name,
                what,
                f"docs/backup.md, damaged; then: provision backup {name} --check",
                critical=True,
                alarm="repository",
            )
    for site in sites:
        drill = records.last_drill(session, site.key)
        if clock.now() - (drill.at if drill else site.created_at) > timedelta(days=PROOF_DAYS):
            what = f"the last drill that went well was on {local(drill.at)}" if drill else "its backup was never proven"
            yield Attention(site.slug, what, f"provision drill {site.slug}", alarm="drill")
    if any(snapshot for _, snapshot in since.values()) and not eventlog.newest(session, CONTROL_PLANE, escrow.WRITTEN):
        what = "the key of all backups lies on this machine alone: no escrow was written"
        yield Attention(CONTROL_PLANE, what, "provision backup --escrow FILE", pressing=False)


def _missed(subject: str, created: datetime, taken: datetime | None) -> Iterator[Attention]:
    if clock.now() - (taken or created) > timedelta(hours=BACKUP_HOURS):
        what = f"its last backup is of {local(taken)}" if taken else "it was never backed up"
        yield Attention(subject, what, f"provision backup {subject}", critical=True, alarm="backup")


def _night(session: Session, installation: Installation, first_site: datetime) -> Iterator[Attention]:
    outcomes = ["well", "failed"] + ([""] if lock.is_held(installation.locks, "nightly") else [])  # one is under way
    query = select(Run).where(Run.kind == "nightly", col(Run.outcome).in_(outcomes))
    last = session.exec(query.order_by(col(Run.started_at).desc())).first()
    since = last.started_at if last else first_site
    if clock.now() - since > timedelta(hours=NIGHT_HOURS):
        what = f"the last nightly run was on {local(since)}" if last else "there was no nightly run yet"
        yield Attention("nightly", what, "is provision serve running? at once: provision nightly", True, alarm=NIGHT)


def _disk(session: Session, host: str) -> Iterator[Attention]:
    query = select(Run).where(Run.kind == "nightly", Run.started_at > clock.now() - timedelta(days=FULL_DAYS))
    points = [
        (run.started_at, int(run.summary["free"][host]))
        for run in session.exec(query.order_by(col(Run.started_at)))
        if host in run.summary.get("free", {})
    ]
    days = days_until_full(points, clock.now())
    if days is not None and days < FULL_DAYS:
        what = f"its data root will be full in {max(days, 0):.0f} days, at the pace of the last nights"
        yield Attention(f"host:{host}", what, "docs/operator.md, the disk is full", days < FULL_DAYS / 2, alarm=DISK)


def days_until_full(points: Sequence[tuple[datetime, int]], now: datetime) -> float | None:
    """Return the days until no byte is free, by the straight line through ``points`` (when, free bytes).

    None: the space does not shrink, or fewer than three points or two days are known.
    """
    if len(points) < 3 or points[-1][0] - points[0][0] < timedelta(days=KNOWN_DAYS):
        return None
    days = [(at - now) / timedelta(days=1) for at, _ in points]
    slope, free_now = statistics.linear_regression(days, [free for _, free in points])
    return free_now / -slope if slope < 0 else None


def on_host(installation: Installation, host: DockerHost) -> Iterator[Attention]:
    """Find a file system that is nearly full, sites left frozen with nothing under way, certificates near their end.

    The host answers, and its edge and its ticker run.
    """
    yield from _full(host)
    with installation.store.transaction() as session:
        sites = {site.slug: site for site in records.live_sites(session) if site.host == host.name}
        busy = {slug for slug in sites if unfinished(session, slug)}
    listed = host.execute(HostNames(host.namespace).cron, ["sh", "-c", _FROZEN])
    for path in listed.output.splitlines():
        slug = path.split("/")[3]
        if slug in sites and slug not in busy and not lock.is_held(installation.locks, slug):
            what = "it refuses writes (frozen), and nothing is under way that would end this"
            yield Attention(slug, what, "provision doctor --fix", critical=True, alarm=FROZEN)
    wildcard = f"edge.{installation.inventory.domain}"
    own = {s.host_name: s.slug for s in sites.values() if not s.host_name.endswith(f".{installation.inventory.domain}")}
    for name, subject in {wildcard: f"host:{host.name}", **own}.items():
        yield from _certificate(host, name, subject)


def _full(host: DockerHost) -> Iterator[Attention]:
    subject, place = f"host:{host.name}", "docs/operator.md, the disk is full"
    try:
        for short in host_probes.space(host).short_of(host.settings, FULL_TIMES):
            what = (
                f"{short.free} {short.unit} are free on {host.data_root}, no operation begins below {short.wanted} "
                f"({short.key})"
            )
            yield Attention(subject, what, place, critical=True, alarm=FULL)
    except ProvisionError as error:
        yield Attention(subject, error.message, place, critical=True, alarm=FULL)


def _certificate(host: DockerHost, name: str, subject: str) -> Iterator[Attention]:
    try:
        ends = edge.certificate_end(host, name)
    except (OSError, ssl.SSLError):  # an edge that does not answer is told of by itself
        return
    days = (ends - clock.now()) / timedelta(days=1)
    level = sum(days < bound for bound in CERTIFICATE_DAYS)
    if level:
        what = f"the certificate of {name} ends on {local(ends)}, in {days:.0f} days"
        critical = level == len(CERTIFICATE_DAYS)
        yield Attention(subject, what, "provision doctor --fix", critical, alarm=CERTIFICATE, level=level)


def silent(installation: Installation) -> list[Attention]:
    """Ask every site that nobody works on for its front page over HTTPS, twice before it counts as silent."""
    with installation.store.transaction() as session:
        sites = [site for site in records.live_sites(session) if records.serving_generation(session, site.key)]

    def ask(site: Site) -> str | None:
        if lock.is_held(installation.locks, site.slug):
            return None
        return page.site_problem(installation.host(site.host), site.host_name, installation.authority.root)

    with ThreadPoolExecutor(max_workers=AT_A_TIME) as pool:
        suspects = [site for site, problem in zip(sites, pool.map(ask, sites), strict=True) if problem]
        if suspects:
            time.sleep(ASK_AGAIN_SECONDS)
        answers = list(zip(suspects, pool.map(ask, suspects), strict=True))
    return [
        Attention(site.slug, f"its page does not come: {problem}", "provision doctor", critical=True, alarm=SILENT)
        for site, problem in answers
        if problem
    ]


def keep_incidents(installation: Installation, seen: Sequence[Attention]) -> list[Incident]:
    """Begin an incident for each alarm that has none, end those that are over; post one mail for each of both.

    Return the incidents that began, got worse or ended.
    """
    alarms = {(item.subject, item.alarm): item for item in seen if item.alarm}
    blind = any(alarm in _BLINDING for _, alarm in alarms)
    changed = []
    with installation.store.transaction() as session:
        rows = session.exec(select(Incident).where(col(Incident.ended_at).is_(None))).all()
        known = {(row.subject, row.alarm): row for row in rows}
        for key, item in alarms.items():
            row = known.get(key)
            if row is not None and row.level >= item.level:
                row.what = item.what
                continue
            if row is None:
                row = Incident(subject=item.subject, alarm=item.alarm, what="", command="", critical=False,
                               began_at=clock.now())  # fmt: skip
                session.add(row)
            row.level, row.what, row.command, row.critical = item.level, item.what, item.command, item.critical
            changed.append(row)
        for key, row in known.items():
            if key not in alarms and not (blind and row.alarm in _UNSEEN):
                row.ended_at = clock.now()
                changed.append(row)
        session.flush()
        for row in changed:
            fate = "ends" if row.ended_at else f"begins {row.level}"
            message = compose("incident", incident=row, local=local, seen_at=clock.now())
            outbox.post_to_operators(session, installation, f"incident {row.id} {fate}", message)
    return changed


def local(moment: datetime) -> str:
    """Return a moment in Europe/Paris, as the operator's clock shows it."""
    return f"{moment.astimezone(clock.PARIS):%Y-%m-%d %H:%M}"
