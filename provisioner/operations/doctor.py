"""`provision doctor`: the hosts against the records, both ways, and `--fix` for what can be mended safely."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from provisioner import eventlog, records
from provisioner.adapters import mariadb
from provisioner.adapters.docker_host import DockerHost
from provisioner.adapters.relays import ROLE
from provisioner.errors import ProvisionError, Unavailable
from provisioner.installation import Installation
from provisioner.inventory import SitePolicy
from provisioner.journal import lock
from provisioner.model.container import FILE_CAPABILITIES, Bind, OneShot
from provisioner.model.names import CLOSED, LABEL_ROLE, HostNames
from provisioner.model.tables import GenerationState, SiteState
from provisioner.operations import alerts, backup, init
from provisioner.operations.alerts import Attention
from provisioner.probes import host as host_probes
from provisioner.probes import page
from provisioner.probes.host import Expected, Finding, Orphan
from provisioner.steps.closing import close_writes, open_writes
from provisioner.steps.generation import thaw
from provisioner.steps.routing import refresh_edge, rendered_edge
from provisioner.steps.site import SiteWork, edge_image, site_service

LEFT_SECONDS = 3600  # after which nobody waits any more for a one-shot that ended


def examine(installation: Installation, slugs: Sequence[str] = ()) -> list[Finding]:
    """Return what is not as the records say, on every host; a host that does not answer stops no other.

    With ``slugs``, of these sites alone: what belongs to a host is looked at as far as they depend on it.

    Raises:
        BadInput: a slug names no site.

    """
    with installation.store.transaction() as session:
        on = {records.site(session, slug).host for slug in slugs}
        found = [one for one in host_probes.interrupted(session, installation) if not slugs or one.subject in slugs]
    for settings in installation.inventory.hosts:
        if not slugs or settings.name in on:
            found += _examine_host(installation, installation.host(settings.name), set(slugs))
    return found


def _examine_host(installation: Installation, host: DockerHost, slugs: set[str]) -> list[Finding]:
    unreachable = host_probes.reachable(host)
    if unreachable is not None:
        return [unreachable]
    names = HostNames(host.namespace)
    dead = list(host_probes.dead_services(host, names.vital))
    if dead:
        return dead  # without them nothing else can be asked
    wanted, past = _known(installation, host, slugs)
    looks: list[Callable[[], list[Finding]]] = [
        lambda: list(host_probes.missing(host, wanted)),
        lambda: _drifted(installation, host, wanted),
        lambda: _silent(installation, host, wanted),
        lambda: [
            Finding(item.site.slug, problem, "provision doctor --fix") for item, problem in _unlocked(host, wanted)
        ],
        lambda: [Finding(one.subject, one.what, one.command) for one in _alarms(installation, host, slugs)],
        lambda: _unresolved(installation, wanted),
    ]
    if not slugs:
        looks = [
            lambda: list(host_probes.dead_services(host, [names.recorder])),
            lambda: [orphan.finding for orphan in host_probes.orphans(host, wanted, past)],
            lambda: [
                Finding(
                    f"host:{host.name}", f"container {name} was left by a process that died", "provision doctor --fix"
                )
                for name, _ in _left_over(installation, host)
            ],
            lambda: _edge_drift(installation, host),
            *looks,
        ]
    found: list[Finding] = []
    for look in looks:
        try:
            found += look()
        except ProvisionError as error:
            found.append(Finding(f"host:{host.name}", error.message, error.hint, fixable=False))
    return found


def _left_over(installation: Installation, host: DockerHost) -> list[tuple[str, Callable[[], object]]]:
    """Return the containers for which nobody waits, and what removes each: one-shots, and the relay of a run."""
    found: list[tuple[str, Callable[[], object]]] = []
    found += [(name, partial(host.remove, name)) for name in host.left_over(LEFT_SECONDS)]
    relays = host.containers(**{LABEL_ROLE: ROLE})
    if not lock.is_held(installation.locks, backup.RELAY):  # asked last: a run that begins meanwhile keeps its own
        remove = partial(host.remove_labelled, **{LABEL_ROLE: ROLE})
        found += [(one["Names"][0].lstrip("/"), remove) for one in relays]
    return found


def _known(installation: Installation, host: DockerHost, slugs: set[str]) -> tuple[list[Expected], set[str]]:
    """Return what the records expect on ``host`` (of ``slugs``, if there are any), and whom the journal remembers."""
    with installation.store.transaction() as session:
        wanted, past = host_probes.expected(session, host), records.past_subjects(session)
    return [item for item in wanted if not slugs or item.site.slug in slugs], past


def _alarms(installation: Installation, host: DockerHost, slugs: set[str]) -> list[Attention]:
    return [one for one in alerts.on_host(installation, host) if not slugs or one.subject in slugs]


def fix(installation: Installation, findings: Sequence[Finding], slugs: Sequence[str] = ()) -> list[Finding]:
    """Mend what can be mended safely, then examine again; return what is left, and what could not be mended and why.

    Each thing is tried, whatever became of those before it. Nothing that a record knows is ever removed, nothing that
    the journal has never heard of, and nothing of a site on which an operation is unfinished.
    """
    with installation.store.transaction() as session:
        for finding in findings:
            eventlog.record(session, finding.subject, "doctor mends", problem=finding.problem)
    failed: list[Finding] = []
    for settings in installation.inventory.hosts:
        host = installation.host(settings.name)
        if host_probes.reachable(host) is None:
            for subject, mend in _mends(installation, host, set(slugs), failed):
                _try(subject, mend, failed)
    return [*examine(installation, slugs), *failed]


Mend = tuple[str, Callable[[], object]]  # whose it is, and what mends it


def _try(subject: str, mend: Callable[[], object], failed: list[Finding]) -> None:
    """Mend one thing; note in ``failed`` why it could not be done."""
    try:
        mend()
    except ProvisionError as error:
        failed.append(_unmended(subject, error))


def _unmended(subject: str, error: ProvisionError) -> Finding:
    return Finding(subject, f"it could not be mended: {error.message}", error.hint, fixable=False)


def _mends(installation: Installation, host: DockerHost, slugs: set[str], failed: list[Finding]) -> Iterator[Mend]:
    """Yield what there is to mend on ``host``, in the order in which one needs the other; what cannot be seen is noted.

    Each kind is looked for when its turn comes: what was mended before it is there then.
    """
    subject, names = f"host:{host.name}", HostNames(host.namespace)
    if not slugs and any(host_probes.dead_services(host, [*names.vital, names.recorder])):
        yield subject, lambda: init.init(installation)
    wanted, past = _known(installation, host, slugs)
    kinds: list[Callable[[], Sequence[Mend]]] = [
        lambda: _to_start(installation, host, wanted),
        lambda: _to_thaw(installation, host, slugs),
        lambda: _to_lock(installation, host, wanted),
    ]
    if not slugs:
        kinds = [
            lambda: [(subject, remove) for _, remove in _left_over(installation, host)],
            lambda: _to_remove(installation, host, wanted, past),
            *kinds,
        ]
    for kind in kinds:
        try:
            yield from kind()
        except ProvisionError as error:
            failed.append(_unmended(subject, error))
    if not slugs:
        yield subject, lambda: refresh_edge(installation, host)


def _held(installation: Installation, slug: str, mend: Callable[[], object]) -> Mend:
    """Return what mends a site, to be done if nobody works on it then."""

    def alone() -> None:
        with lock.hold(installation.locks, slug) as free:
            if free:
                mend()

    return slug, alone


def _to_remove(installation: Installation, host: DockerHost, wanted: list[Expected], past: set[str]) -> list[Mend]:
    return [
        _held(installation, orphan.slug, partial(_remove, host, orphan))
        for orphan in host_probes.orphans(host, wanted, past)
        if orphan.removable
    ]


def _remove(host: DockerHost, orphan: Orphan) -> None:
    if orphan.kind == "container":
        host.remove(orphan.name)
    elif orphan.kind == "directory":
        _remove_directory(host, orphan.name)
    else:
        mariadb.drop(host, orphan.name)


def _remove_directory(host: DockerHost, slug: str) -> None:
    host.run(
        OneShot(
            name=f"{host.namespace}.doctor.remove",
            image=edge_image(host),
            labels=host.role_labels("doctor"),
            command=["rm", "-rf", *(f"/host/{kind}/{slug}" for kind in ("run/sites", "run/activity", "sites"))],
            binds=[Bind("", "/host")],
            capabilities=FILE_CAPABILITIES,
        )
    ).require_success(f"host {host.name}: removing the directories of {slug}")


def _to_start(installation: Installation, host: DockerHost, wanted: list[Expected]) -> list[Mend]:
    databases, policy = mariadb.databases(host), installation.inventory.policy.site
    return [
        _held(
            installation,
            item.site.slug,
            partial(_start, host, item, policy),
        )
        for item in wanted
        if not item.busy and not item.kept and item.names.database in databases
    ]


def _start(host: DockerHost, item: Expected, policy: SitePolicy) -> None:
    host.ensure_service(site_service(host, item.site, item.generation, policy))


def _to_thaw(installation: Installation, host: DockerHost, slugs: set[str]) -> list[Mend]:
    """Return what lets sites write again that were left frozen with nothing under way."""
    frozen = [item.subject for item in _alarms(installation, host, slugs) if item.alarm == alerts.FROZEN]
    return [_held(installation, slug, partial(_thaw, installation, slug)) for slug in frozen]


def _thaw(installation: Installation, slug: str) -> None:
    with installation.store.transaction() as session:
        serving = records.serving_generation(session, records.site(session, slug).key)
    if serving is not None:
        thaw(_work(installation, slug, serving.number), serving.number)


def _to_lock(installation: Installation, host: DockerHost, wanted: list[Expected]) -> list[Mend]:
    """Return what gives sites the locks that their state calls for, or takes them away."""
    return [
        _held(
            installation,
            item.site.slug,
            partial(
                close_writes if item.site.state is SiteState.CLOSING else open_writes,
                _work(installation, item.site.slug, item.generation.number),
            ),
        )
        for item, _ in _unlocked(host, wanted)
    ]


def _work(installation: Installation, slug: str, number: int) -> SiteWork:
    return SiteWork(kind="doctor", operation_id=0, installation=installation, slug=slug, number=number)


def _unlocked(host: DockerHost, wanted: list[Expected]) -> Iterator[tuple[Expected, str]]:
    """Find sites in closing that take writes, and others that are locked as if they were."""
    locked = mariadb.closed(host)
    for item in wanted:
        closing, is_locked = item.site.state is SiteState.CLOSING, item.names.database in locked
        if item.busy or item.generation.state is not GenerationState.SERVING:
            continue
        if is_locked and not closing:
            yield item, "it refuses writes, though it is not in closing"
        elif closing and not (is_locked and _has_gate(host, item)):
            yield item, "it is in closing, and takes writes"


def _has_gate(host: DockerHost, item: Expected) -> bool:
    """Return whether the site's gate is closed; one that does not run, which is told by itself, takes no writes."""
    try:
        return host.execute(item.names.container, ["test", "-f", f"/run/secrets/site/{CLOSED}"]).exit_code == 0
    except Unavailable:
        raise
    except ProvisionError:
        return True


def _drifted(installation: Installation, host: DockerHost, wanted: list[Expected]) -> list[Finding]:
    policy = installation.inventory.policy.site
    return [finding for item in wanted if not item.busy for finding in _drift(host, item, policy)]


def _drift(host: DockerHost, item: Expected, policy: SitePolicy) -> list[Finding]:
    try:
        if not host.has_drifted(site_service(host, item.site, item.generation, policy)):
            return []
    except ProvisionError as error:  # such as an image that is gone
        return [Finding(item.site.slug, error.message, error.hint, fixable=False)]
    problem = f"container {item.names.container} differs from its description"
    return [Finding(item.site.slug, problem, "provision doctor --fix")]


def _edge_drift(installation: Installation, host: DockerHost) -> list[Finding]:
    from provisioner.adapters import edge

    revision, _ = rendered_edge(installation, host)
    serving = edge.serving_revision(host, installation.inventory, installation.authority.root)
    if serving == revision:
        return []
    name = HostNames(host.namespace).edge
    return [
        Finding(
            f"host:{host.name}",
            f"{name} serves another configuration than the records want",
            "provision doctor --fix",
        )
    ]


def _silent(installation: Installation, host: DockerHost, wanted: list[Expected]) -> list[Finding]:
    """Ask every site for its front page, some at a time: one that is slow holds up few others."""

    def ask(item: Expected) -> str | None:
        return page.site_problem(host, item.site.host_name, installation.authority.root)

    asked = [item for item in wanted if not (item.busy or item.kept)]
    with ThreadPoolExecutor(max_workers=alerts.AT_A_TIME) as pool:
        answers = list(zip(asked, pool.map(ask, asked), strict=True))
    return [
        Finding(item.site.slug, problem, f"docker logs {item.names.container}", fixable=False)
        for item, problem in answers
        if problem is not None
    ]


def _unresolved(installation: Installation, wanted: list[Expected]) -> list[Finding]:
    from provisioner.adapters import dns

    return [
        Finding("dns", problem, "add the record, or wait for it", fixable=False)
        for problem in dns.warnings([], [item.site.host_name for item in wanted])
    ]
