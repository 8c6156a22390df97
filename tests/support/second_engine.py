"""A second Docker engine of the tests' own, which they may crash: nothing of it is shared with the machine's engine."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import docker

PLACE = Path("/var/lib")  # not /tmp: overlay file systems do not stack everywhere
START_SECONDS = 60
# No plug-in that speaks to a kubelet, or to another containerd's socket.
_CONTAINERD = """
version = 2
root = "{root}/containerd"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{run}/containerd.sock"
"""


class SecondEngine:
    """dockerd and containerd with directories, sockets and control groups of their own."""

    def __init__(self) -> None:
        number = secrets.token_hex(3)
        self.root = Path(f"{PLACE}/test-engine-{number}")
        self.run = Path(f"/run/{self.root.name}")
        self.url = f"unix://{self.run}/docker.sock"
        self._bridge = f"te-{number}"
        # Of the range for benchmarks, which no network uses: not one that may be the machine's own, or its gateway's.
        self._address = f"198.18.{int(number[:2], 16)}.1/24"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both daemons and wait until they answer, as a machine does when it boots."""
        for folder in (self.root, self.run):
            folder.mkdir(mode=0o711, exist_ok=True)
        configuration = self.root / "containerd.toml"
        configuration.write_text(_CONTAINERD.format(root=self.root, run=self.run))
        (self.root / "daemon.json").write_text("{}")  # instead of the machine's own configuration
        self._ensure_bridge()
        self._spawn("containerd", "--config", str(configuration))
        self._wait_for(lambda: (self.run / "containerd.sock").exists(), "containerd")
        self._spawn(
            "dockerd",
            f"--config-file={self.root}/daemon.json",
            f"--data-root={self.root}/docker",
            f"--exec-root={self.run}/docker",
            f"--pidfile={self.run}/docker.pid",
            f"--host={self.url}",
            f"--containerd={self.run}/containerd.sock",
            f"--cgroup-parent=/{self.root.name}",
            f"--bridge={self._bridge}",
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--live-restore",
        )
        self._wait_for(self._answers, "dockerd")

    def _ensure_bridge(self) -> None:
        """Make a bridge of its own: told to have none, an engine deletes docker0, which is the machine's."""
        if not Path(f"/sys/class/net/{self._bridge}").exists():
            subprocess.run(["ip", "link", "add", self._bridge, "type", "bridge"], check=True)
            subprocess.run(["ip", "address", "add", self._address, "dev", self._bridge], check=True)

    def _spawn(self, *command: str) -> None:
        with (self.root / f"{command[0]}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            )

    def _wait_for(self, ready: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            log = self.root / f"{name}.log"
            assert self._processes[-1].poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with contextlib.closing(docker.APIClient(base_url=self.url, version="1.41", timeout=5)) as api:
                return bool(api.ping())
        except (OSError, docker.errors.DockerException):
            return False

    def load(self, images: Iterable[str]) -> None:
        """Copy images of the machine's engine into this one, with their names."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
            subprocess.run(
                ["docker", "--host", self.url, "load", "--quiet"], stdin=save.stdout, check=True, capture_output=True
            )
        assert save.returncode == 0

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.url, version="1.41", timeout=60)

    def restart(self) -> None:
        """Kill and start the daemons alone; containers go on (as when the engine is updated)."""
        self._kill_daemons()
        self.start()

    def reboot(self) -> None:
        """Cut the power: daemons and every process of every container die at once, /run is empty; then boot."""
        self._cut_power()
        self.start()

    def _cut_power(self) -> None:
        everything = self._container_processes()
        self._kill_daemons()
        for pid in everything + self._container_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while self._container_processes():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self._unmount()
        shutil.rmtree(self.run, ignore_errors=True)

    def _kill_daemons(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()
        for leftover in ("docker.sock", "containerd.sock", "docker.pid"):
            (self.run / leftover).unlink(missing_ok=True)

    def _container_processes(self) -> list[int]:
        """Return every process in this engine's control groups, and every shim that watches over one."""
        found = set()
        for group in Path("/proc").glob("[0-9]*/cgroup"):
            with contextlib.suppress(OSError):
                pid = int(group.parent.name)
                command = (group.parent / "cmdline").read_bytes()
                shim = b"containerd-shim" in command and str(self.run).encode() in command
                if (shim or f"/{self.root.name}/" in group.read_text()) and _lives(pid):
                    found.add(pid)
        return sorted(found)

    def _unmount(self) -> None:
        """Unmount what a dead engine left mounted below its own directories."""
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mounted in sorted(mounts, reverse=True):
            if mounted.startswith((f"{self.root}/", f"{self.run}/")):
                subprocess.run(["umount", "--lazy", mounted], check=False, capture_output=True)

    def remove(self) -> None:
        """End everything of this engine and remove its directories and control groups."""
        self._cut_power()
        subprocess.run(["ip", "link", "delete", self._bridge], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)
        groups = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")]
        for group in (parent / self.root.name for parent in groups):
            for folder in sorted(group.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):
                group.rmdir()


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
