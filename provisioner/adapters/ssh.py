"""A Docker engine behind SSH, with the host's key pinned in the inventory.

docker-py's own SSH transport trusts ~/.ssh/known_hosts; here only the pinned key counts, and a
changed key is refused (A8).
"""

import base64
import socket
import urllib.parse
from typing import Any

import docker
import paramiko
import requests
from docker.transport.sshconn import SSHHTTPAdapter
from requests import PreparedRequest, Response

from provisioner import named_files
from provisioner.errors import BadInput, Unavailable
from provisioner.inventory import Host

CONNECT_SECONDS = 10
KEEPALIVE_SECONDS = 15
SILENT_SECONDS = 30  # a peer that acknowledges nothing for so long is gone (TCP alone would try for 15 minutes)


class _PinnedAdapter(SSHHTTPAdapter):
    """docker-py's transport with our host key, time limits, and faults told as connection errors."""

    def __init__(self, host: Host, timeout: int) -> None:
        self._host = host
        self._patience = min(timeout, CONNECT_SECONDS)
        super().__init__(host.engine, timeout=timeout)

    def _create_paramiko_client(self, base_url: str) -> None:
        address = urllib.parse.urlparse(base_url)
        port = address.port or 22
        self.ssh_client = paramiko.SSHClient()
        name = address.hostname if port == 22 else f"[{address.hostname}]:{port}"
        key = _public_key(self._host)
        self.ssh_client.get_host_keys().add(str(name), key.get_name(), key)
        self.ssh_client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self.ssh_params = {
            "hostname": address.hostname,
            "port": port,
            "username": address.username,
            "key_filename": str(self._host.key_file) if self._host.key_file else None,
            "look_for_keys": self._host.key_file is None,
            "timeout": self._patience,
            "banner_timeout": self._patience,
            "auth_timeout": self._patience,
            "channel_timeout": self._patience,
        }

    def _connect(self) -> None:
        super()._connect()  # type: ignore[misc]
        transport = self.ssh_client.get_transport() if self.ssh_client else None
        if transport is not None:
            transport.set_keepalive(KEEPALIVE_SECONDS)
            wire: Any = transport.sock
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_SECONDS * 1000)

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        try:
            return super().send(request, *args, **options)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise requests.ConnectionError(error, request=request) from error


def connect(host: Host, timeout: int) -> docker.APIClient:
    """Return a client of the engine behind ``host.engine``; calls time out after ``timeout`` seconds.

    Raises:
        Unavailable: the host shows another key than the pinned one, or refuses the login.
        requests.ConnectionError: it does not answer (the caller waits and tries again).

    """
    _require_readable(host)
    try:
        adapter = _PinnedAdapter(host, timeout)
    except paramiko.BadHostKeyException as error:
        raise Unavailable(
            f"host {host.name}: {host.engine} shows another host key than the pinned one: connection refused",
            "find out why it changed; only then change host_key in inventory.yaml",
        ) from error
    except paramiko.AuthenticationException as error:
        raise Unavailable(f"host {host.name}: {host.engine} refuses the login: {error}", "check key_file") from error
    except paramiko.SSHException as error:
        if "not found in known_hosts" in str(error):
            raise Unavailable(
                f"host {host.name}: {host.engine} shows a key of another type than the pinned one: connection refused",
                "pin the key of a type that the host offers",
            ) from error
        raise requests.ConnectionError(error) from error
    except OSError as error:
        raise requests.ConnectionError(error) from error
    api = docker.APIClient(base_url="tcp://ssh.invalid:22", version="1.41", timeout=timeout)
    api.mount("http+docker://ssh", adapter)
    api.base_url = "http+docker://ssh"
    return api


def _require_readable(host: Host) -> None:
    try:
        if host.key_file is not None:
            named_files.content(host.key_file, named_files.SECRET)
    except BadInput as error:
        raise Unavailable(f"host {host.name}: key_file {error.message}") from None


def _public_key(host: Host) -> paramiko.PKey:
    try:
        kind, encoded = (host.host_key or "").split()[:2]
        return paramiko.PKey.from_type_string(kind, base64.b64decode(encoded, validate=True))
    except (ValueError, paramiko.SSHException) as error:
        raise BadInput(f"host {host.name}: host_key is no public key such as `ssh-ed25519 AAAA…`: {error}") from None
