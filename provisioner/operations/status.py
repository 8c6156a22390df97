"""`provision status`: what needs a person first, then every site; or one site in detail, read from the site itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlmodel import Session, col, select

from provisioner import clock, records
from provisioner.adapters.answers import answered
from provisioner.adapters.docker_host import DockerHost
from provisioner.agent import wire
from provisioner.agent.protocol import Administrator, AskFacts, Facts
from provisioner.agreement.terms import ChangeKind, Closing, Term, last_day, plus_months
from provisioner.errors import ProvisionError
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.journal.journal import local_time, way_on
from provisioner.mail.outbox import OPERATORS
from provisioner.model.names import HostNames
from provisioner.model.tables import UNFINISHED, UNSENT, Agreement, Generation, Mail, MailState, Operation, Site
from provisioner.operations import alerts
from provisioner.operations.alerts import ENGINE, SERVICE, Attention
from provisioner.probes import host as host_probes
from provisioner.steps.site import ANSWER_SECONDS, SITE_PROGRAM, beside, require_spoken, site_service

SHOWN_MONTHS = 12  # a closing further ahead stands in `status SLUG` and `agreement list`
# Two lines; by one container, whose start takes as long as either.
_LOOK = """
timeout --kill-after=5 "$1" php "$0" facts && exec /srv/provision/content-sha256
code=$?
test "$code" -ne 124 || echo "its WordPress did not answer within $1 s" >&2
exit "$code"
"""


@dataclass(frozen=True)
class SiteLine:
    """One site, as the records have it."""

    slug: str
    name: str
    state: str
    agreement: str
    release: str
    behind: bool  # it runs an older build than its release has
    url: str


@dataclass(frozen=True)
class Overview:
    """All that `provision status` shows."""

    attention: list[Attention]
    sites: list[SiteLine]


@dataclass(frozen=True)
class AgreementDetails:
    """The agreement, with all its dates."""

    state: str
    start: date
    signed_on: date | None
    terms: Sequence[Term]
    notice_on: date | None
    terminated_on: date | None
    last_day: date


@dataclass(frozen=True)
class Past:
    """An agreement that another one followed."""

    start: date
    last_day: date
    signed_on: date | None


@dataclass(frozen=True)
class Planned:
    """What is to become of a site, unless it is taken back."""

    on: date
    kind: str


@dataclass(frozen=True)
class SiteDetails:
    """All that `provision status SLUG` shows. What could not be read from the site is None."""

    slug: str
    name: str
    state: str
    url: str
    profile: str
    wordpress: str | None
    php: str | None
    release: str
    image: str | None
    generation: int | None
    administrators: list[Administrator] | None
    content_sha256: str | None
    last_backup: datetime | None
    last_drill: datetime | None
    agreement: AgreementDetails
    past_agreements: list[Past]
    planned: list[Planned]
    problem: str | None


def overview(installation: Installation) -> Overview:
    """Return what needs a person, and every site."""
    with installation.store.transaction() as session:
        attention = [
            *_operations(session, installation),
            *_mails(session),
            *alerts.on_record(session, installation),
            *_agreements(session),
        ]
        sites = [
            SiteLine(
                slug=site.slug,
                name=site.name,
                state=site.state.value,
                agreement=_agreement(session, site).state,
                release=site.release,
                behind=_behind(session, site),
                url=installation.url(site.host_name, site.host),
            )
            for site in session.exec(select(Site).order_by(Site.slug)).all()
        ]
        serving = {
            site.slug: (site.host, generation)
            for site in records.live_sites(session)
            if (generation := records.serving_generation(session, site.key)) is not None
        }
    for settings in installation.inventory.hosts:
        here = {slug: generation for slug, (host, generation) in serving.items() if host == settings.name}
        attention[:0] = _on_host(installation, installation.host(settings.name), here)
    return Overview(attention, sites)


def details(installation: Installation, slug: str) -> SiteDetails:
    """Return one site in detail; versions, administrators and content are read from the site itself.

    Raises:
        BadInput: there is no such site.

    """
    with installation.store.transaction() as session:
        site = records.site(session, slug)
        generation = records.serving_generation(session, site.key)
        agreement = _agreement(session, site)
        *past, record = records.agreements(session, site.key)
        closing = records.closing_of(record)
        planned = [Planned(on, kind.value) for on, kind in closing.to_come] if closing else []
        backup, drill = records.last_snapshot(session, site.key), records.last_drill(session, site.key)
    facts: Facts | None = None
    content = problem = None
    if generation is not None:
        try:
            facts, content = _read(installation, site, generation)
        except ProvisionError as error:
            problem = error.message
    return SiteDetails(
        slug=slug,
        name=site.name,
        state=site.state.value,
        url=installation.url(site.host_name, site.host),
        profile=site.profile,
        wordpress=facts.wordpress if facts else None,
        php=facts.php if facts else None,
        release=site.release,
        image=generation.image if generation else None,
        generation=generation.number if generation else None,
        administrators=facts.administrators if facts else None,
        content_sha256=content,
        last_backup=backup.taken_at if backup else None,
        last_drill=drill.at if drill else None,
        agreement=agreement,
        past_agreements=[Past(one.start, _last_day(one), one.signed_on) for one in past],
        planned=planned,
        problem=problem,
    )


def _read(installation: Installation, site: Site, generation: Generation) -> tuple[Facts, str]:
    """Ask the site for its facts and its content's hash, in a one-shot that changes nothing."""
    host = installation.host(site.host)
    host.require_answer()
    require_spoken(site.slug, host.protocol(generation.image))
    service = site_service(host, site, generation, installation.inventory.policy.site)
    request = AskFacts([])
    command = ["sh", "-c", _LOOK, SITE_PROGRAM, str(ANSWER_SECONDS)]
    files = {"request.json": wire.written(request)}
    one_shot = beside(service, f"{service.name}.look", command, files, host.protocol(generation.image))
    outcome = host.run(replace(one_shot, labels={**service.labels, **host.role_labels("look")}))
    outcome.require_success(f"{site.slug}: looking at the site")
    facts, _, content = outcome.output.rstrip("\n").rpartition("\n")
    return answered(request, facts), content


def _agreement(session: Session, site: Site) -> AgreementDetails:
    record = records.agreement(session, site.key)
    return AgreementDetails(
        state=records.agreement_state(record).value,
        start=record.start,
        signed_on=record.signed_on,
        terms=records.agreement_terms(record),
        notice_on=record.notice_on,
        terminated_on=record.terminated_on,
        last_day=_last_day(record),
    )


def _last_day(record: Agreement) -> date:
    return last_day(records.milestones(record), records.agreement_terms(record))


def _behind(session: Session, site: Site) -> bool:
    serving = records.serving_generation(session, site.key)
    newest = records.release(session, site.release, site.host)
    return serving is not None and newest is not None and serving.image != newest.image


def _operations(session: Session, installation: Installation) -> Iterator[Attention]:
    for operation in session.exec(select(Operation).where(col(Operation.state).in_(UNFINISHED))).all():
        if lock.is_held(installation.locks, operation.subject):
            continue
        what = operation.message or f"{operation.kind} of {local_time(operation)} by {operation.holder} was interrupted"
        yield Attention(operation.subject, what, way_on(operation))


def _mails(session: Session) -> Iterator[Attention]:
    query = select(Mail, Site).select_from(Mail).join(Site, col(Mail.site_id) == Site.id, isouter=True)
    for mail, site in session.exec(query.where(col(Mail.state).in_(UNSENT))).all():
        fate = "was refused for good" if mail.state is MailState.DEAD else "waits"
        reason = mail.outcome or "nobody has tried to send it yet"
        yield Attention(
            site.slug if site else OPERATORS, f"a mail ({mail.kind}) {fate}: {reason}", "provision mail retry"
        )


def _agreements(session: Session) -> Iterator[Attention]:
    for site in records.live_sites(session):
        agreement = records.agreement(session, site.key)
        closing = records.closing_of(agreement)
        if agreement.signed_on is None:
            command = f"provision agreement sign {site.slug} --on DATE"
            yield Attention(site.slug, "its agreement is not signed yet", command, pressing=False)
        elif closing is not None and closing.to_come[0][0] <= plus_months(clock.today(), SHOWN_MONTHS):
            yield _closing(site, agreement, closing)


def _closing(site: Site, agreement: Agreement, closing: Closing) -> Attention:
    day, kind = closing.to_come[0]
    if kind is ChangeKind.READ_ONLY and day <= clock.today():
        what = f"its agreement is over, the site goes on; its closing is due since {day.isoformat()}"
        return Attention(site.slug, what, f"provision agreement close {site.slug}")
    planned = ", ".join(f"{kind.value.replace('_', '-')} on {on.isoformat()}" for on, kind in closing.to_come)
    ended = agreement.notice_on is not None or agreement.terminated_on is not None
    way_back = "end {} --cancel" if ended else "sign {} --on DATE"
    command = f"provision agreement {way_back.format(site.slug)}"
    return Attention(site.slug, f"planned: {planned}; to take it back", command, pressing=False)


def _on_host(installation: Installation, host: DockerHost, serving: dict[str, Generation]) -> list[Attention]:
    unreachable = host_probes.reachable(host)
    if unreachable is not None:
        return [Attention(unreachable.subject, unreachable.problem, unreachable.mend, critical=True, alarm=ENGINE)]
    running = {c["Names"][0].lstrip("/") for c in host.containers() if c["State"] == "running"}
    names = HostNames(host.namespace)
    wanted = dict.fromkeys((*names.vital, names.recorder), f"host:{host.name}")
    wanted |= {generation.names(host.namespace, slug).container: slug for slug, generation in serving.items()}
    dead = [
        Attention(subject, f"{container} does not run", "provision doctor --fix", critical=True, alarm=SERVICE)
        for container, subject in wanted.items()
        if container not in running
    ]
    if {names.cron, names.edge} - running:
        return dead  # they are what the rest is asked through
    return [*dead, *alerts.on_host(installation, host)]
