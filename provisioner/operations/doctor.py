"""`provision doctor`: the hosts against the records, both ways, and `--fix` for what can be mended safely."""

from collections.abc import Callable, Iterator

from provisioner import eventlog, records
from provisioner.adapters import mariadb
from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import ProvisionError
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.model.container import FILE_CAPABILITIES, Bind, OneShot
from provisioner.model.names import CLOSED, HostNames
from provisioner.model.tables import GenerationState, SiteState
from provisioner.operations import alerts, init
from provisioner.probes import host as host_probes
from provisioner.probes import page
from provisioner.probes.host import Expected, Finding, Orphan
from provisioner.steps.closing import close_writes, open_writes
from provisioner.steps.generation import thaw
from provisioner.steps.routing import refresh_edge, rendered_edge
from provisioner.steps.site import SiteWork, edge_image, site_service


def examine(installation: Installation) -> list[Finding]:
    """Return what is not as the records say, on every host; a host that does not answer stops no other."""
    with installation.store.transaction() as session:
        found = list(host_probes.interrupted(session, installation))
    for settings in installation.inventory.hosts:
        found += _examine_host(installation, installation.host(settings.name))
    return found


def _examine_host(installation: Installation, host: DockerHost) -> list[Finding]:
    unreachable = host_probes.reachable(host)
    if unreachable is not None:
        return [unreachable]
    names = HostNames(host.namespace)
    dead = list(host_probes.dead_services(host, names.vital))
    if dead:
        return dead  # without them nothing else can be asked
    with installation.store.transaction() as session:
        wanted, past = host_probes.expected(session, host), records.past_subjects(session)
    looks: tuple[Callable[[], list[Finding]], ...] = (
        lambda: list(host_probes.dead_services(host, [names.recorder])),
        lambda: [orphan.finding for orphan in host_probes.orphans(host, wanted, past)],
        lambda: list(host_probes.missing(host, wanted)),
        lambda: _drifted(installation, host, wanted),
        lambda: _edge_drift(installation, host),
        lambda: _silent(installation, host, wanted),
        lambda: [
            Finding(item.site.slug, problem, "provision doctor --fix") for item, problem in _unlocked(host, wanted)
        ],
        lambda: [Finding(one.subject, one.what, one.command) for one in alerts.on_host(installation, host)],
        lambda: _unresolved(installation, wanted),
    )
    found: list[Finding] = []
    for look in looks:
        try:
            found += look()
        except ProvisionError as error:
            found.append(Finding(f"host:{host.name}", error.message, error.hint, fixable=False))
    return found


def fix(installation: Installation, findings: list[Finding]) -> list[Finding]:
    """Mend what can be mended safely, then examine again; return what is left.

    Nothing that a record knows is ever removed, nothing that the journal has never heard of, and nothing of
    a site on which an operation is unfinished.
    """
    for settings in installation.inventory.hosts:
        host = installation.host(settings.name)
        if host_probes.reachable(host) is not None:
            continue
        names = HostNames(host.namespace)
        if any(host_probes.dead_services(host, [*names.vital, names.recorder])):
            init.init(installation)
        with installation.store.transaction() as session:
            wanted, past = host_probes.expected(session, host), records.past_subjects(session)
            for finding in findings:
                eventlog.record(session, finding.subject, "doctor mends", problem=finding.problem)
        for orphan in host_probes.orphans(host, wanted, past):
            if orphan.removable:
                _remove(host, orphan)
        _restart(installation, host, wanted)
        _thaw_forgotten(installation, host)
        for item, _ in _unlocked(host, wanted):
            with lock.hold(installation.locks, item.site.slug) as free:
                if free:
                    work = _work(installation, item.site.slug, item.generation.number)
                    (close_writes if item.site.state is SiteState.CLOSING else open_writes)(work)
        refresh_edge(installation, host)
    return examine(installation)


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


def _restart(installation: Installation, host: DockerHost, wanted: list[Expected]) -> None:
    databases = mariadb.databases(host)
    for item in wanted:
        with lock.hold(installation.locks, item.site.slug) as free:
            if free and not item.busy and not item.kept and item.names.database in databases:
                policy = installation.inventory.policy.site
                host.ensure_service(site_service(host.namespace, item.site, item.generation, policy))


def _thaw_forgotten(installation: Installation, host: DockerHost) -> None:
    """Let sites write again that were left frozen with nothing under way."""
    for item in alerts.on_host(installation, host):
        with lock.hold(installation.locks, item.subject) as free:
            if free and item.alarm == alerts.FROZEN:
                with installation.store.transaction() as session:
                    site = records.site(session, item.subject)
                    serving = records.serving_generation(session, site.key)
                if serving is not None:
                    thaw(_work(installation, item.subject, serving.number), serving.number)


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
    return host.execute(item.names.container, ["test", "-f", f"/run/secrets/site/{CLOSED}"]).exit_code == 0


def _drifted(installation: Installation, host: DockerHost, wanted: list[Expected]) -> list[Finding]:
    policy = installation.inventory.policy.site
    return [
        Finding(
            item.site.slug,
            f"container {item.names.container} differs from its description",
            "provision doctor --fix",
        )
        for item in wanted
        if not item.busy and host.has_drifted(site_service(host.namespace, item.site, item.generation, policy))
    ]


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
    found = []
    for item in wanted:
        if item.busy or item.kept:
            continue
        problem = page.site_problem(host, item.site.host_name, installation.authority.root)
        if problem is not None:
            found.append(Finding(item.site.slug, problem, f"docker logs {item.names.container}", fixable=False))
    return found


def _unresolved(installation: Installation, wanted: list[Expected]) -> list[Finding]:
    from provisioner.adapters import dns

    return [
        Finding("dns", problem, "add the record, or wait for it", fixable=False)
        for problem in dns.warnings([], [item.site.host_name for item in wanted])
    ]
