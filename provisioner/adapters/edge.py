"""The edge of a host: its configuration as one directory of rendered files, replaced as a whole.

A new directory is rendered, validated by nginx itself, synced to disk, and becomes ``current`` by
one rename; then nginx reloads, and the edge is asked from outside which directory it serves. When
that fails, ``current`` points back (F12).
"""

import hashlib
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from provisioner import render
from provisioner.adapters.docker_host import DockerHost
from provisioner.agent.sockets import Answer, ask
from provisioner.errors import ProvisionError
from provisioner.inventory import Inventory
from provisioner.model.container import FILE_CAPABILITIES, Bind, OneShot
from provisioner.model.names import LABEL_ROLE, HostNames

if TYPE_CHECKING:
    from provisioner.adapters.authority import Authority, Certificate

RELOAD_SECONDS = 10
ANSWER_SECONDS = 15  # from the connection to the last byte
LARGEST_PAGE = 8 << 20  # bytes
KEPT_REVISIONS = 5
_INSTALLING = "edge-install"
_POINT = 'set -eu; ln -sfn "conf/$1" /edge/next; mv -T /edge/next /edge/current; sync /edge'
# Reads the rendered files from /request; every line may be repeated after a crash.
_INSTALL = """
set -eu
if [ ! -d "/edge/conf/$1" ]; then
    rm -rf "/edge/conf/$1.new"
    mkdir -p "/edge/conf/$1.new"
    cp -r /request/. "/edge/conf/$1.new/"
    chmod -R go= "/edge/conf/$1.new/certificates"
    find "/edge/conf/$1.new" -exec sync {} +
    mv -T "/edge/conf/$1.new" "/edge/conf/$1"
fi
ln -sfn "conf/$1" /edge/next
nginx -q -t -c /edge/next/nginx.conf
mv -T /edge/next /edge/current
sync /edge
cd /edge/conf && ls -1t | grep -v -F -x "$1" | tail -n "+$2" | while read -r old; do rm -rf "./$old"; done
"""


@dataclass(frozen=True)
class Route:
    """A host name that is not under the council's domain, and the site that it leads to."""

    host_name: str
    slug: str
    certificate: "Certificate"


def routes(authority: "Authority", inventory: Inventory, names: Mapping[str, str]) -> list[Route]:
    """Return the routes that need a line of their own; SLUG.DOMAIN needs none, the wildcard covers it."""
    return [
        Route(host_name, slug, authority.certificate([host_name]))
        for slug, host_name in sorted(names.items())
        if host_name != f"{slug}.{inventory.domain}"
    ]


def render_files(
    inventory: Inventory, host: DockerHost, authority: "Authority", names: Mapping[str, str]
) -> tuple[str, dict[str, bytes]]:
    """Return the revision (a hash of all files) and the files of the edge's configuration directory.

    ``names`` maps each slug to its host name.
    """
    own = routes(authority, inventory, names)
    wildcard = authority.certificate([f"*.{inventory.domain}", inventory.domain])
    files = {
        "certificates/wildcard.pem": wildcard.chain,
        "certificates/wildcard.key": wildcard.key,
        "pages/unavailable.html": render.html("edge/unavailable.html.j2", council=inventory.council).encode(),
        "pages/unknown.html": render.html("edge/unknown.html.j2", council=inventory.council).encode(),
        "pages/throttled.html": render.html("edge/throttled.html.j2", council=inventory.council).encode(),
    }
    for route in own:
        files[f"certificates/{route.host_name}.pem"] = route.certificate.chain
        files[f"certificates/{route.host_name}.key"] = route.certificate.key
    values = {
        "inventory": inventory,
        "listen": host.settings.edge,
        "routes": own,
        "domain_pattern": inventory.domain.replace(".", "\\."),
    }
    revision = hashlib.sha256()
    for name, content in sorted({**files, **_configuration(values, "")}.items()):
        revision.update(name.encode() + hashlib.sha256(content).digest())
    short = revision.hexdigest()[:16]
    return short, {**files, **_configuration(values, short)}


def _configuration(values: Mapping[str, Any], revision: str) -> dict[str, bytes]:
    return {
        name: render.text(f"edge/{name}.j2", revision=revision, **values).encode()
        for name in ("nginx.conf", "site.conf", "pages.conf")
    }


def install(host: DockerHost, image: str, revision: str, files: Mapping[str, bytes]) -> None:
    """Put a configuration directory in place, valid and synced, and make it ``current``.

    Raises:
        ProvisionError: nginx refuses it; ``current`` still is what it was.

    """
    _work_on_files(host, image, [_INSTALL, "install", revision, str(KEPT_REVISIONS)], files)


def point_back(host: DockerHost, image: str, revision: str) -> None:
    """Make an earlier configuration directory ``current`` again, and reload."""
    _work_on_files(host, image, [_POINT, "point-back", revision], {})
    reload(host)


def _work_on_files(host: DockerHost, image: str, script: Sequence[str], files: Mapping[str, bytes]) -> None:
    """Run a script on the edge's directory, for who holds its lock, once what a dead process left is ended."""
    host.remove_labelled(**{LABEL_ROLE: _INSTALLING})
    host.run(
        OneShot(
            name=f"{host.namespace}.edge.install",
            image=image,
            labels=host.role_labels(_INSTALLING),
            command=["sh", "-c", *script],
            binds=[Bind("edge", "/edge"), Bind("edge/tmp", "/var/tmp/nginx")],  # noqa: S108  (the edge's own disk)
            network="host",  # nginx -t binds the addresses it is to listen on
            capabilities=[*FILE_CAPABILITIES, "NET_BIND_SERVICE", "SETUID", "SETGID"],
            files={f"request/{name}": content for name, content in files.items()},
        )
    ).require_success(f"host {host.name}: installing the edge's configuration")


def current_revision(host: DockerHost) -> str:
    """Return the revision that ``current`` points to."""
    link = host.execute(HostNames(host.namespace).edge, ["readlink", "/edge/current"])
    return link.require_success(f"host {host.name}: the edge's configuration").strip().removeprefix("conf/")


def reload(host: DockerHost) -> None:
    """Let the running edge take up ``current`` (by nginx itself: `docker kill -s HUP` would count as a stop)."""
    host.execute(
        HostNames(host.namespace).edge, ["nginx", "-c", "/edge/current/nginx.conf", "-s", "reload"]
    ).require_success(f"host {host.name}: reloading the edge")


def serving_revision(host: DockerHost, inventory: Inventory, root: Path) -> str:
    """Return the configuration revision that the edge serves now, asked over HTTPS from outside.

    Raises:
        ProvisionError: it does not answer.

    """
    return fetch(host, f"edge.{inventory.domain}", root, "/").headers.get("Edge-Revision", "")


def wait_for_revision(host: DockerHost, inventory: Inventory, root: Path, revision: str) -> None:
    """Wait until the edge serves ``revision``.

    Raises:
        ProvisionError: it did not within 10 s.

    """
    deadline = time.monotonic() + RELOAD_SECONDS
    seen = "nothing"
    while time.monotonic() < deadline:
        try:
            seen = serving_revision(host, inventory, root)
        except ProvisionError as error:
            seen = error.message
        if seen == revision:
            return
        time.sleep(0.05)
    said = host.last_words(HostNames(host.namespace).edge)
    raise ProvisionError(f"host {host.name}: the edge does not serve revision {revision}: {seen}; its log: {said}")


def certificate_end(host: DockerHost, host_name: str) -> datetime:
    """Return when the certificate ends that the edge shows for ``host_name``; whether it is trusted is not asked.

    Raises:
        OSError: no connection, or no handshake within 15 s.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = (host.settings.probe_address, host.settings.edge.https_port)
    with (
        socket.create_connection(place, timeout=ANSWER_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host_name) as encrypted,
    ):
        shown = encrypted.getpeercert(binary_form=True) or b""
    return x509.load_der_x509_certificate(shown).not_valid_after_utc


def fetch(host: DockerHost, host_name: str, root: Path, path: str = "/") -> Answer:
    """Ask the edge for a page over HTTPS as a visitor would, certificate checked, redirects not followed.

    Raises:
        ProvisionError: no connection, a certificate that does not hold, no whole answer within 15 s, or one of more
            than 8 MiB.

    """
    port = host.settings.edge.https_port
    netloc = host_name if port == 443 else f"{host_name}:{port}"
    until = time.monotonic() + ANSWER_SECONDS
    context = ssl.create_default_context(cafile=str(root))
    try:
        with (
            socket.create_connection((host.settings.probe_address, port), timeout=ANSWER_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host_name) as encrypted,
        ):
            left = max(until - time.monotonic(), 0.001)
            return ask(encrypted, "GET", path, {"Host": netloc}, most=LARGEST_PAGE, seconds=left)
    except OSError as error:
        raise ProvisionError(f"https://{netloc}{path}: {error}", "provision doctor") from None
