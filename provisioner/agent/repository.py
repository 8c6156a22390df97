"""One restic repository: plain restic, nothing of ours around it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provisioner.agent import relay
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Access, Lock, SnapshotEntry

UNREADABLE, NO_REPOSITORY = (
    3,
    10,
)  # restic's exit codes: documented by restic, and new ones may come (D4: none but 0 is a success)
MEANING = {
    1: "failed",
    2: "crashed",
    UNREADABLE: "could not read every file",
    NO_REPOSITORY: "found no repository",
    11: "found the repository locked",
    12: "was given the wrong key",
    130: "was interrupted",
}
_BY_TLS = ("rest:https:", "s3:", "b2:", "azure:", "gs:", "swift:")  # what restic reaches by HTTPS


class Repository:
    """One repository, opened by what the request says of it."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.unread: set[str] = set()  # what restic's last run could not read

    def wait(self) -> None:
        """Wait until the repository can be reached: its relay starts beside us.

        Raises:
            Fault: it does not, within 30 s.

        """
        if self.access.relayed:
            relay.wait()

    def run(self, *arguments: str) -> str:
        """Run restic to its end; return what it printed.

        Raises:
            Fault: its exit code is not 0.

        """
        return "".join(self.stream(*arguments))

    def stream(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> Iterator[str]:
        """Run restic and yield its lines as they come.

        Raises:
            Fault: its exit code is not among ``accept``; raised after the last line.

        """
        command = ["restic", *self._options(), *arguments]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/tmp",
            "RESTIC_REPOSITORY": self.access.address,
            "RESTIC_PASSWORD": self.access.key,
            "RESTIC_PROGRESS_FPS": "0.016",
            **self.access.credentials,
            **(relay.proxy() if self.access.relayed and self.access.address.startswith(_BY_TLS) else {}),
        }
        with (
            Path("/tmp/restic-errors").open("w+b") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
        ):
            yield from process.stdout or ()
            code = process.wait()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").splitlines()
        self.unread = {item for line in lines if (item := _unread(line))}
        said = " ".join(" ".join(lines).split())[-600:]
        if code not in accept:
            raise Fault(f"restic {arguments[0]} {MEANING.get(code, 'ended')} (exit code {code}): {said}", code)

    def initialize(self) -> bool:
        """Make the repository unless it is there; return whether it was made.

        Raises:
            Fault: it cannot be reached, or is there with another key.

        """
        try:
            self.run("cat", "config")
        except Fault as fault:
            if fault.exit_code != NO_REPOSITORY:
                raise
            self.run("init")
            return True
        return False

    def snapshots(self, *tags: str) -> list[SnapshotEntry]:
        """Return the snapshots that carry all of ``tags`` (every one, if none is given), oldest first.

        It only reads, so nobody's lock keeps it from that.
        """
        found = json.loads(self.run("snapshots", "--no-lock", "--json", *(["--tag", ",".join(tags)] if tags else [])))
        return sorted(map(entry, found), key=lambda snapshot: snapshot.time)

    def locks(self) -> list[Lock]:
        """Return who holds a lock."""
        names = self.run("list", "locks", "--no-lock").split()
        found = [json.loads(self.run("cat", "lock", name, "--no-lock")) for name in names]
        return [Lock(lock["hostname"], lock["time"]) for lock in found]

    def _options(self) -> list[str]:
        """Return what every call of restic needs: no cache beside a directory, a pinned key for SFTP."""
        options = [] if self.access.cache else ["--no-cache"]
        if self.access.relayed and self.access.address.startswith("sftp:"):
            options += ["-o", f"sftp.command=socat - UNIX-CONNECT:{relay.SOCKET}"]
        elif self.access.address.startswith("sftp:"):
            arguments = relay.ssh_options(self.access.login_key, self.access.host_key)
            options += ["-o", f"sftp.args={' '.join(arguments)}"]
        return options


def entry(listed: dict[str, Any]) -> SnapshotEntry:
    """Return a snapshot out of what restic lists."""
    summary = listed.get("summary") or {}
    return SnapshotEntry(
        id=listed["id"],
        time=listed["time"],
        tags=listed.get("tags") or [],
        total_bytes=summary.get("total_bytes_processed", 0),
        files=summary.get("total_files_processed", 0),
    )


def _unread(line: str) -> str:
    """Return the file that a line of restic's complaints names as one that it could not read, or nothing."""
    try:
        said = json.loads(line)
    except ValueError:
        return ""
    return str(said.get("item", "")) if isinstance(said, dict) and said.get("message_type") == "error" else ""
