"""`provision release`: what is built where. A build is repeatable and changes no site."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from provisioner import eventlog, records
from provisioner.adapters import images
from provisioner.errors import BadInput
from provisioner.installation import Installation
from provisioner.model.tables import Release
from provisioner.steps.host import build_release


@dataclass(frozen=True)
class ReleaseOnHost:
    """A release of the inventory, and what is built of it on one host."""

    name: str
    host: str
    default: bool
    candidate: bool
    wordpress: str
    php: str
    image: str
    built_at: datetime | None


def list_releases(installation: Installation) -> list[ReleaseOnHost]:
    """Return every release of the inventory on every host."""
    found = []
    with installation.store.transaction() as session:
        for name, source in installation.inventory.releases.items():
            for host in installation.inventory.hosts:
                built = records.release(session, name, host.name)
                found.append(_on_host(installation, name, host.name, source.candidate, built))
    return found


def build(
    installation: Installation, names: Sequence[str], refresh: bool, tell: images.Tell = images.silent
) -> list[ReleaseOnHost]:
    """Build ``names`` on every host; with ``refresh`` also what is there, from today's packages.

    Raises:
        BadInput: the inventory has no such release; nothing was built.
        ProvisionError: a build failed.

    """
    for name in names:
        if name not in installation.inventory.releases:
            known = ", ".join(installation.inventory.releases)
            raise BadInput(f"the inventory has no release {name!r}; it has {known}", "provision release list")
    found = []
    for name in names:
        candidate = installation.inventory.releases[name].candidate
        for settings in installation.inventory.hosts:
            host = installation.host(settings.name)
            row = build_release(installation, host, name, fresh=refresh, tell=tell)
            with installation.store.transaction() as session:
                eventlog.record(session, f"host:{host.name}", "release built", release=name, image=row.image)
            found.append(_on_host(installation, name, host.name, candidate, row))
    return found


def _on_host(installation: Installation, name: str, host: str, candidate: bool, built: Release | None) -> ReleaseOnHost:
    return ReleaseOnHost(
        name=name,
        host=host,
        default=name == installation.inventory.default_release,
        candidate=candidate,
        wordpress=built.wordpress if built else "",
        php=built.php if built else "",
        image=built.image if built else "",
        built_at=built.built_at if built else None,
    )
