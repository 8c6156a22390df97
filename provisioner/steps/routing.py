"""How the edge finds a site: SLUG.DOMAIN by the wildcard, a name of its own by a line in the edge's configuration."""

from contextlib import AbstractContextManager

from provisioner import records
from provisioner.adapters import edge
from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import ProvisionError
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.steps.site import SiteWork, edge_image


def route_site(work: SiteWork) -> None:
    """Route the site's host name, with its certificate; under the council's domain the wildcard does it."""
    if _has_own_name(work):
        refresh_edge(work.installation, work.host)


def unroute_site(work: SiteWork) -> None:
    """Take the site's host name out of the edge's configuration."""
    if _has_own_name(work):
        refresh_edge(work.installation, work.host, without=work.slug)


def _has_own_name(work: SiteWork) -> bool:
    return work.site.host_name != f"{work.slug}.{work.installation.inventory.domain}"


def rendered_edge(installation: Installation, host: DockerHost, without: str = "") -> tuple[str, dict[str, bytes]]:
    """Return revision and files of the edge as the records want it now, except for the site ``without``."""
    with installation.store.transaction() as session:
        names = {
            site.slug: site.host_name
            for site in records.live_sites(session)
            if site.host == host.name and site.slug != without
        }
    return edge.render_files(installation.inventory, host, installation.authority, names)


def edge_held(installation: Installation, host: DockerHost) -> AbstractContextManager[None]:
    """Hold the configuration of a host's edge for a block, waiting for whoever changes it."""
    return lock.wait_for(installation.locks, f"edge-{host.name}")


def refresh_edge(installation: Installation, host: DockerHost, without: str = "") -> bool:
    """Make the edge serve what the records say; return whether anything had to change.

    One change at a time: operations on several sites may want it at once.

    Raises:
        ProvisionError: the new configuration does not serve; the old one does again.

    """
    root = installation.authority.root
    with edge_held(installation, host):
        revision, files = rendered_edge(installation, host, without)
        before = edge.current_revision(host)
        if before == revision:
            return False
        image = edge_image(host)
        edge.install(host, image, revision, files)
        try:
            edge.reload(host)
            edge.wait_for_revision(host, installation.inventory, root, revision)
        except ProvisionError:
            edge.point_back(host, image, before)
            raise
    return True
