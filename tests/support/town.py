"""A town of its own for tests: one real installation in a namespace that no other shares, removed at the end."""

import json
import os
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import docker
import urllib3
import yaml

from tests.support.forks import Forked, can_fork, fork_server

PROVISION = str(Path(sys.executable).parent / "provision")
CHECKOUT = Path(__file__).parents[2]
SECONDS = 480  # no command of a test takes longer; the first builds images


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def accounts(database: str) -> set[str]:
    """Return the users of a generation's database: its own, and the one that reads it for us."""
    return {database, f"{database}_reader"}


def association(slug: str, **values: Any) -> dict[str, Any]:
    """Return a small association as `provision create --from` reads it."""
    return {
        "slug": slug,
        "name": slug.capitalize(),
        "profile": "general",
        "agreement_start": "2026-01-01",
        "contacts": [
            {"name": "Présidence", "mail": f"presidence.{slug}@example.org", "administrator": True},
            {"name": "Secrétariat", "mail": f"secretariat.{slug}@example.org", "administrator": True},
        ],
        **values,
    }


@dataclass
class Town:
    """An installation, driven through its command line as an operator drives it."""

    forks: ClassVar[bool] = False  # whether commands are forked from a server (tests/support/forks.py), or executed

    folder: Path
    engine: str = field(default_factory=lambda: os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    host: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    namespace: str = field(default_factory=lambda: f"test-{secrets.token_hex(3)}")

    def __post_init__(self) -> None:
        self.data_root = Path(f"/srv/provision-{self.namespace}")
        self.port = free_port()
        self.inventory = self.folder / "inventory.yaml"
        self.state = self.folder / "state"
        self.write_inventory()

    def write_inventory(self, **changes: Any) -> None:
        """Write the inventory, with top-level keys changed."""
        inventory = {
            "namespace": self.namespace,
            "state": "state",
            "council": {
                "name": "Commune de test",
                "address": "1 place de la Mairie, 00000 Test",
                "telephone": "01 99 00 00 00",
                "mail": "associations@example.org",
            },
            "domain": "assos.localhost",
            "hosts": [
                {
                    "name": "local",
                    "engine": self.engine,
                    "data_root": str(self.data_root),
                    "edge": {"address": "127.0.0.1", "http_port": free_port(), "https_port": self.port},
                    **self.host,
                }
            ],
            "mail": {"sender": "associations@example.org"},
            **self.settings,
            **changes,
        }
        self.inventory.write_text(yaml.safe_dump(inventory, allow_unicode=True), encoding="utf-8")

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment of a command in this town."""
        return {**os.environ, "PROVISION_INVENTORY": str(self.inventory), "COLUMNS": "200", **extra}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command and do not wait for it."""
        options: dict[str, Any] = {
            "env": self.environment(**environment),
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "cwd": self.folder,
        }
        if self.forks and can_fork(options["env"]):
            return Forked(fork_server(), [PROVISION, *arguments], **options)
        return subprocess.Popen([PROVISION, *arguments], **options)

    def run(self, *arguments: str, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and check its exit code (None: any)."""
        process = self.start(*arguments, **environment)
        try:
            output, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        done = subprocess.CompletedProcess(arguments, process.returncode, output, errors)
        if code is not None:
            assert done.returncode == code, f"{arguments} ended with {done.returncode}: {errors}\n{output}"
        return done

    def json(self, *arguments: str) -> Any:
        """Run a command with --json and return what it printed."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def init(self) -> None:
        """Make the town's host ready."""
        self.run("init")

    def describe(self, *associations: dict[str, Any]) -> str:
        """Write a file for `create --from` and return its path."""
        path = self.folder / f"associations-{secrets.token_hex(3)}.yaml"
        path.write_text(yaml.safe_dump(list(associations), allow_unicode=True), encoding="utf-8")
        return str(path)

    def create(self, *slugs: str, **values: Any) -> None:
        """Create small associations by one command."""
        self.run("create", "--from", self.describe(*(association(slug, **values) for slug in slugs)))

    @property
    def root(self) -> Path:
        """Return the root certificate."""
        return self.state / "authority" / "root.pem"

    def get(self, slug: str, path: str = "/", **headers: str) -> urllib3.BaseHTTPResponse:
        """Fetch a page over HTTPS as a browser would, certificate checked."""
        return self.request("GET", f"{slug}.assos.localhost", path, headers)

    def request(
        self, method: str, name: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Send one request to the edge, certificate checked, redirects not followed."""
        with urllib3.HTTPSConnectionPool(
            "127.0.0.1",
            self.port,
            server_hostname=name,
            assert_hostname=name,
            ca_certs=str(self.root),
            timeout=60,
            retries=False,
        ) as pool:
            given = {"Host": f"{name}:{self.port}", **(headers or {})}
            return pool.request(method, path, headers=given, body=body, redirect=False)

    def sql(self, statement: str) -> str:
        """Run SQL as the server's administrator, beside `provision`."""
        command = ["docker", "exec", f"{self.namespace}.database", "mariadb", "-N", "-B", "-e", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def docker(self) -> docker.DockerClient:
        """Return a client of the town's engine, beside `provision`."""
        return docker.DockerClient(base_url=self.engine, timeout=60)

    def is_well(self, *slugs: str) -> bool:
        """Return whether doctor finds nothing (of ``slugs``): asked again where a busy machine made a page slow."""
        said = ""
        for _ in range(3):
            said = self.run("doctor", *slugs, code=None).stdout
            if said.startswith("all is well"):
                return True
        sys.stdout.write(said)
        return False

    def belongings(self) -> dict[str, set[str]]:
        """Return all that exists in this town on the host, to be compared before and after."""
        label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={self.namespace}"}
        client = self.docker()
        containers = {container.name or "" for container in client.containers.list(all=True, filters=label)}
        databases, _, users = self.sql("SHOW DATABASES; SELECT '.'; SELECT user FROM mysql.global_priv").partition(
            ".\n"
        )
        return {
            "containers": containers,
            "databases": set(databases.split()),
            "users": set(users.split()),
            "directories": {
                str(path.relative_to(self.data_root))
                for folder in ("run/sites", "run/activity", "sites")
                for path in (self.data_root / folder).glob("*")
            },
        }

    def remove(self) -> None:
        """Remove the town: its containers, volumes and directory, found by its own namespace alone."""
        client = self.docker()
        label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={self.namespace}"}
        with ThreadPoolExecutor(4) as pool:
            for removed in [
                pool.submit(container.remove, force=True, v=True)
                for container in client.containers.list(all=True, filters=label)
            ]:
                removed.result()
        for volume in client.volumes.list(filters=label):
            volume.remove()
        for image in client.images.list(filters=label):  # such as a release that a test rebuilt
            client.images.remove(image.id or "", force=True)
        # By rm: the deepest trees of a hostile site are deeper than Python goes.
        subprocess.run(["rm", "-rf", "--", str(self.data_root)], check=False)
