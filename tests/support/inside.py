"""What a container looks like from inside, and what its processes may do, as the kernel tells it."""

import json
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.town import Town

SECONDS = 60


def container(town: Town, slug: str) -> str:
    """Return the name of the container of a site's first generation."""
    return f"{town.namespace}.site.{slug}.1"


def shell(town: Town, slug: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script inside a site's container as the site's own user: what an intruder could do."""
    command = ["docker", "exec", "-i", container(town, slug), "bash", "-s", "--", *arguments]
    return subprocess.run(command, input=script, capture_output=True, text=True, errors="replace", timeout=SECONDS)


def php(town: Town, slug: str, program: str, **given: Any) -> Any:
    """Run a PHP program inside a site's container, with ``$given`` in its hands; return what it printed as JSON."""
    values = b64encode(json.dumps(given).encode()).decode()
    script = f"<?php $given = json_decode(base64_decode('{values}'), true);\n{program}"
    command = ["docker", "exec", "-i", container(town, slug), "php"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Process:
    """One process of a container, as the host's kernel sees it."""

    name: str
    uids: tuple[int, ...]  # real, effective, saved, file system
    capabilities: int  # of its effective set
    bounding: int  # what it could ever get
    no_new_privileges: bool
    filtered: bool  # by seccomp


def processes(town: Town, name: str) -> list[Process]:
    """Return the processes of a container."""
    top = town.docker().containers.get(name).top(ps_args="-o pid")
    return [_process(int(line[0])) for line in top["Processes"]]


def _process(pid: int) -> Process:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return Process(
        name=status["Name"],
        uids=tuple(int(uid) for uid in status["Uid"].split()),
        capabilities=int(status["CapEff"], 16) | int(status["CapPrm"], 16) | int(status["CapAmb"], 16),
        bounding=int(status["CapBnd"], 16),
        no_new_privileges=status["NoNewPrivs"] == "1",
        filtered=status["Seccomp"] == "2",
    )
