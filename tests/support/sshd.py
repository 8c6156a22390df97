"""A real sshd on loopback, for engines and repositories behind SSH."""

import contextlib
import getpass
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.support.town import free_port

SSHD = "/usr/sbin/sshd"


class Sshd:
    """A real sshd on loopback, with its own port, host key and authorised key."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("host", "other-host", "login", "stranger"):
            self._make_key(name)
        (folder / "authorized_keys").write_text((folder / "login.pub").read_text())
        self.start("host")

    def _make_key(self, name: str) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self._folder / name)]
        subprocess.run(command, check=True)

    def start(self, host_key: str) -> None:
        """Start serving, with one of the two host keys."""
        Path("/run/sshd").mkdir(exist_ok=True)
        log = self._folder / "log"
        log.write_text("")
        options = {
            "ListenAddress": "127.0.0.1",
            "Port": self.port,
            "HostKey": self._folder / host_key,
            "AuthorizedKeysFile": self._folder / "authorized_keys",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "Subsystem": "sftp internal-sftp",
            # Not the caller's own start-up files: what they do takes time, and some leave a lock when they are killed.
            "SetEnv": f"HOME={self._folder}",
        }
        command = [SSHD, "-D", "-E", str(log), "-f", "/dev/null"]
        for key, value in options.items():
            command += ["-o", f"{key}={value}"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while "listening" not in log.read_text():
            assert time.monotonic() < deadline, f"sshd does not listen: {log.read_text()}"
            time.sleep(0.02)

    def _family(self) -> list[int]:
        """Return the process ids of the listener and of its sessions (not of what runs in them)."""
        assert self._process is not None
        found = [self._process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def kill(self) -> None:
        """Kill the listener and all its sessions, as when a machine dies."""
        for pid in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop listener and sessions without closing anything: connections are half open."""
        for pid in self._family():
            os.kill(pid, signal.SIGSTOP)

    @property
    def engine(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def settings(self, *, host_key: str = "host", login: str = "login") -> dict[str, Any]:
        """Return what the inventory needs to reach the engine behind this sshd."""
        return {
            "engine": self.engine,
            "host_key": " ".join((self._folder / f"{host_key}.pub").read_text().split()[:2]),
            "key_file": str(self._folder / login),
        }
