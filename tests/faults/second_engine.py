"""A Docker engine of the tests' own, beside the machine's: it may be killed and started again."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException

START_SECONDS = 60


@dataclass
class SecondEngine:
    """An engine with its own containerd, images and containers; nothing of it is shared with the first."""

    folder: Path

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        """Start the engine and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "daemon.json").write_text("{}")  # not the machine's own configuration
        with (self.folder / "containerd.log").open("ab") as log:
            self._containerd = subprocess.Popen(
                [
                    "containerd",
                    *("--root", self.folder / "containerd", "--state", self.folder / "containerd-run"),
                    *("--address", self.folder / "containerd.sock"),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with (self.folder / "dockerd.log").open("ab") as log:
            self._dockerd = subprocess.Popen(
                [
                    "dockerd",
                    *("--config-file", self.folder / "daemon.json", "--host", self.url),
                    *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
                    *("--pidfile", self.folder / "docker.pid", "--containerd", self.folder / "containerd.sock"),
                    *("--bridge", "none", "--iptables=false", "--ip-forward=false", "--live-restore"),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                docker.DockerClient(base_url=self.url, timeout=5).ping()
            except (DockerException, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """Stop the engine and its containerd, by the ids of the processes that were started here."""
        for process in (self._dockerd, self._containerd):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        (self.folder / "docker.pid").unlink(missing_ok=True)

    def processes(self) -> list[int]:
        """Return every process of every container, as the host numbers them."""
        found = []
        client = docker.DockerClient(base_url=self.url, timeout=30)
        for container in client.containers.list():
            top = container.top(ps_args="-eo pid")
            found += [int(row[0]) for row in top["Processes"]]
        return found

    def load(self, images: list[str]) -> None:
        """Copy images of the first engine, by digest."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
            subprocess.run(["docker", "--host", self.url, "load", "--quiet"], stdin=save.stdout, check=True)
        assert save.returncode == 0


@contextmanager
def second_engine(folder: Path) -> Iterator[SecondEngine]:
    """Run an engine for a block; afterwards nothing of it is left."""
    engine = SecondEngine(folder)
    engine.start()
    try:
        yield engine
    finally:
        client = docker.DockerClient(base_url=engine.url, timeout=30)
        for container in client.containers.list(all=True):
            container.remove(force=True, v=True)
        engine.stop()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = line.split()[1]
            if place.startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(folder)


def kill(processes: list[int]) -> None:
    """Kill processes from the host, as a power cut does."""
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it went with its parent
