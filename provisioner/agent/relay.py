"""The relay: what stands between a one-shot that reads a site's files and the repository that takes them.

The one-shot has the site's own rights, no network and no file with a secret; the relay reaches the repository and sees
nothing of the site. Between them is one unix socket, in a volume that only these two containers mount. Each connection
becomes an sftp server on the mounted directory, an ssh to the target, or a plain connection.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Relay

SOCKET = Path("/relay/socket")
START_SECONDS = 30
CONNECT_SECONDS = 20
LONGEST_REQUEST = 4096  # bytes of a CONNECT with its headers
_CONNECT = re.compile(rb"CONNECT ([\w.\-]+|\[[0-9a-fA-F:]+\]):(\d{1,5}) HTTP/1\.[01]\r\n")
_SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def run(request: Relay) -> NoReturn:
    """Serve connections until told to end; what goes wrong with one is said on standard error and ends no other."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    SOCKET.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(SOCKET))
        SOCKET.chmod(0o666)  # the volume says who gets here
        listener.listen(16)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(request, connection), daemon=True).start()


def _serve(request: Relay, connection: socket.socket) -> None:
    with connection:
        try:
            if request.reaches == "directory":
                _become(connection, [_SFTP_SERVER])
            elif request.reaches == "ssh":
                options = ssh_options(request.login_key, request.host_key)
                _become(connection, ["ssh", *options, *request.ssh, "-s", "sftp"])
            elif request.reaches == "tcp":
                host, _, port = request.address.rpartition(":")
                _join(connection, host, int(port))
            else:
                _join(connection, *_asked_for(connection))
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()


def _become(connection: socket.socket, command: list[str]) -> None:
    subprocess.run(command, stdin=connection.fileno(), stdout=connection.fileno(), check=False)


def _asked_for(connection: socket.socket) -> tuple[str, int]:
    """Return host and port that a client asks for by CONNECT, once it was told to go on."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = connection.recv(LONGEST_REQUEST - len(head))
        if not chunk:
            raise ConnectionError("a connection ended before it asked for anything")
        head += chunk
    match = _CONNECT.match(head)
    if match is None:
        raise ConnectionError("only CONNECT is served")
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    return match[1].decode().strip("[]"), int(match[2])


def _join(connection: socket.socket, host: str, port: int) -> None:
    """Connect to a host, and pass on in both directions what either side says until both are done."""
    with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as far:
        far.settimeout(None)
        join(connection, far)


def join(one: socket.socket, other: socket.socket) -> None:
    """Pass on in both directions what either side says until both are done."""
    back = threading.Thread(target=_pass_on, args=(other, one), daemon=True)
    back.start()
    _pass_on(one, other)
    back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # one side is gone: so is what the other had to say
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def wait() -> None:
    """Wait until the relay answers on its socket.

    Raises:
        Fault: it does not, within 30 s.

    """
    deadline = time.monotonic() + START_SECONDS
    while not SOCKET.exists():
        if time.monotonic() > deadline:
            raise Fault(f"the relay to the repository does not answer, {START_SECONDS} s after its start")
        time.sleep(0.01)


def proxy() -> dict[str, str]:
    """Return the variables by which a program takes the relay for an HTTPS proxy, on a port of this container's own."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_hand_on, args=(listener,), daemon=True).start()
    return {"HTTPS_PROXY": f"http://127.0.0.1:{listener.getsockname()[1]}"}


def _hand_on(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_to_the_relay, args=(connection,), daemon=True).start()


def _to_the_relay(connection: socket.socket) -> None:
    with connection, socket.socket(socket.AF_UNIX) as far:
        far.connect(str(SOCKET))
        join(connection, far)


def ssh_options(login_key: str, host_key: str) -> list[str]:
    """Write ssh's files, and return its options: this key, this host key, no questions, no endless silence."""
    folder = Path("/tmp/ssh")
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, content in (("key", login_key), ("known_hosts", f"* {host_key}")):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(content.rstrip("\n") + "\n")
    settings = (
        f"UserKnownHostsFile={folder}/known_hosts", "StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=20",
        "ServerAliveInterval=15", "ServerAliveCountMax=3",
    )  # fmt: skip
    return ["-i", f"{folder}/key", *(part for setting in settings for part in ("-o", setting))]
