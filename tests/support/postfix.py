"""A real mail server, Debian's Postfix, of a test's own: on loopback, with a queue, TLS, accounts and one mailbox."""

import contextlib
import os
import pwd
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.town import free_port

MASTER = "/usr/lib/postfix/sbin/master"
USER, PASSWORD = "council", "a p:a$s"
_MAIN = """
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
alias_database =
virtual_mailbox_domains = example.org
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
maillog_file = {root}/log
maillog_file_prefixes = {root}
smtpd_sasl_auth_enable = yes
smtpd_sasl_path = smtpd
smtpd_sasl_security_options = noanonymous
smtpd_tls_auth_only = yes
smtpd_recipient_restrictions = {restrictions}
smtpd_tls_security_level = {tls}
smtpd_tls_chain_files = {root}/server.pem
"""
_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes -o smtpd_tls_security_level=encrypt
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
_SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {accounts}
mech_list: PLAIN LOGIN
"""


@dataclass
class Postfix:
    """A real mail server on loopback, with its own queue, that takes mails or refuses them."""

    root: Path
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    up: bool = False

    def __post_init__(self) -> None:
        self.root.chmod(0o755)
        owner = pwd.getpwnam("postfix")
        for name in ("conf", "queue", "data", "mail"):
            (self.root / name).mkdir()
        for name in ("data", "mail"):
            os.chown(self.root / name, owner.pw_uid, -1)
        self.authority, chain = self.root / "authority.pem", self.root / "server.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", str(self.authority)]
        subprocess.run([*command.split(), *names], check=True, cwd=self.root, capture_output=True)
        chain.write_text((self.root / "key.pem").read_text() + self.authority.read_text())
        chain.chmod(0o600)
        accounts = self.root / "accounts"
        make = ["saslpasswd2", "-p", "-c", "-f", str(accounts), "-u", "localhost", USER]
        subprocess.run(make, check=True, input=PASSWORD, text=True, capture_output=True)
        os.chown(accounts, owner.pw_uid, -1)
        (self.root / "conf/sasl").mkdir()  # where Debian's Postfix looks
        (self.root / "conf/sasl/smtpd.conf").write_text(_SASL.format(accounts=accounts))

    def start(self, restrictions: str = "permit_mynetworks, reject", tls: str = "none") -> None:
        """Start, or start again with other rules."""
        self.stop()
        owner = pwd.getpwnam("postfix")
        values = {"root": self.root, "uid": owner.pw_uid, "gid": owner.pw_gid, "restrictions": restrictions, "tls": tls}
        (self.root / "conf/main.cf").write_text(_MAIN.format(**values))
        (self.root / "conf/master.cf").write_text(_MASTER.format(port=self.port, tls_port=self.tls_port))
        if (self.root / "queue/pid").exists():
            subprocess.run([MASTER, "-w", "-c", str(self.root / "conf")], check=True, capture_output=True)
        else:
            self._control("start")  # makes the queue, which takes seconds
        self.up = True
        deadline = time.monotonic() + 10
        while not self._listens():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Stop this server."""
        if self.up:  # by itself: `postfix stop` looks once a second whether it has ended
            master = psutil.Process(int((self.root / "queue/pid/master.pid").read_text()))
            master.terminate()
            deadline = time.monotonic() + 10
            with contextlib.suppress(psutil.NoSuchProcess):
                while master.status() != psutil.STATUS_ZOMBIE:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            self.up = False

    def empty(self) -> None:
        """Forget the mails that came."""
        for path in self.root.glob("mail/all/new/*"):
            path.unlink()

    def _control(self, action: str) -> None:
        subprocess.run(["postfix", "-c", str(self.root / "conf"), action], check=True, capture_output=True)

    def delivered(self, count: int) -> list[str]:
        """Return the mails in the mailbox, once there are ``count``."""
        deadline = time.monotonic() + 20
        while len(found := [path.read_text() for path in self.root.glob("mail/all/new/*")]) < count:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the inventory's section about mail."""
        server = {"host": "localhost", "port": self.port, "security": "none", **more}
        return {"mail": {"sender": "associations@example.org", "server": server}}

    def refusing(self, *refused: str) -> str:
        """Return the rules by which some addresses are refused, each by what the server says to it."""
        (self.root / "refused").write_text("".join(f"{line}\n" for line in refused))
        return f"check_recipient_access texthash:{self.root}/refused, permit_mynetworks, reject"
