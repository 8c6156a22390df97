"""A command under way: stopped at a failpoint, continued, killed; and the inventory that it sees."""

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.town import SECONDS, Town
from tests.support.wire import Wire

FREEZE_SECONDS = 15  # the longest, where a test waits for its end


@dataclass
class Ended:
    """How a command ended, and what it said."""

    code: int
    said: str
    seconds: float
    output: str

    def check(self, code: int, *words: str) -> None:
        """Check exit code and message: one clear line, no traceback."""
        assert self.code == code, self.said
        lines = [line for line in self.said.splitlines() if line.startswith("provision: ")]
        assert len(lines) == 1, self.said
        assert "Traceback" not in self.said
        for word in words:
            assert word in lines[0]


class Command:
    """A command under way."""

    def __init__(self, town: Town, *arguments: str, **environment: str) -> None:
        self._began = time.monotonic()
        self._process = town.start(*arguments, **environment)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until_stopped(self, seconds: float = 60) -> None:
        """Wait until the process has stopped at its failpoint."""
        deadline = time.monotonic() + seconds
        while _process_state(self.pid) != "T":
            assert self._process.poll() is None, "it ended before its failpoint"
            assert time.monotonic() < deadline, "it did not reach its failpoint"
            time.sleep(0.02)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self, seconds: float = SECONDS) -> Ended:
        """Wait for the end, bounded."""
        try:
            output, said = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        return Ended(self._process.returncode, said, time.monotonic() - self._began, output)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()


def _process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def variant(town: Town, **changes: Any) -> dict[str, Any]:
    """Return the environment of commands that see the town through another inventory: top-level keys, or its host."""
    inventory = yaml.safe_load(town.inventory.read_text())
    inventory["hosts"][0].update(changes.pop("host", {}))
    inventory.update(changes)
    path = Path(tempfile.mkdtemp(dir=town.folder)) / "inventory.yaml"
    inventory["state"] = str(town.folder / inventory["state"])
    path.write_text(yaml.safe_dump(inventory, allow_unicode=True), encoding="utf-8")
    return {"PROVISION_INVENTORY": str(path)}


def through(town: Town, wire: Wire) -> dict[str, Any]:
    """Return the environment of commands whose engine is behind the wire."""
    return variant(town, host={"engine": wire.url})


def under(town: Town, **policy: Any) -> dict[str, str]:
    """Return the environment of commands that see the town under another policy."""
    inventory = yaml.safe_load(town.inventory.read_text())
    path = town.folder / f"{'-'.join(policy)}.yaml"
    path.write_text(yaml.safe_dump({**inventory, "policy": policy}))
    return {"PROVISION_INVENTORY": str(path)}


def impatient(town: Town) -> dict[str, str]:
    """Return the environment of commands that see the town with a short longest freeze."""
    return under(town, upgrade={"freeze_seconds": FREEZE_SECONDS})
