"""The database server of a host: databases and users of generations.

Statements are short and idempotent, so they may run inside the server's own container; dumps and
imports never do. No secret passes here: a user is made from the hash of its password.
"""

import time

from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import ProvisionError
from provisioner.inventory import SitePolicy
from provisioner.model.container import Outcome
from provisioner.model.names import HostNames

START_SECONDS = 60


def execute(host: DockerHost, sql: str) -> str:
    """Run ``sql`` as the server's administrator and return its rows, tab-separated.

    Raises:
        ProvisionError: the server refused it, or is down.

    """
    return _run(host, sql).require_success(f"host {host.name}: the database server")


def _run(host: DockerHost, sql: str) -> Outcome:
    return host.execute(HostNames(host.namespace).database, ["mariadb", "--no-defaults", "-N", "-B", "-e", sql])


def wait_until_ready(host: DockerHost, seconds: float = START_SECONDS) -> None:
    """Wait until the server answers (A7: bounded).

    Raises:
        ProvisionError: it did not within ``seconds``.

    """
    deadline = time.monotonic() + seconds
    said = "it does not run"
    while time.monotonic() < deadline:
        try:
            outcome = _run(host, "SELECT 1")
        except ProvisionError as error:
            said = error.message
        else:
            if outcome.exit_code == 0:
                return
            said = " ".join(outcome.errors.split())
        time.sleep(0.25)
    raise ProvisionError(
        f"host {host.name}: the database server did not answer within {seconds:.0f} s: {said}",
        "provision doctor --fix",
    )


def create_database(host: DockerHost, name: str) -> None:
    """Create the database ``name`` unless it exists."""
    execute(host, f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci")


def create_user(host: DockerHost, name: str, password_hash: str, policy: SitePolicy) -> None:
    """Create the user ``name``, or give it this password, with the limits of ``policy``.

    It may do everything in the database of its own name, and nothing elsewhere.
    """
    database = name.replace("_", "\\_")  # in a grant, a bare underscore stands for any character
    execute(
        host,
        f"CREATE OR REPLACE USER `{name}`@localhost IDENTIFIED VIA mysql_native_password USING '{password_hash}' "
        f"WITH MAX_USER_CONNECTIONS {policy.connections} MAX_STATEMENT_TIME {policy.statement_seconds}; "
        f"GRANT ALL PRIVILEGES ON `{database}`.* TO `{name}`@localhost",
    )


def drop(host: DockerHost, name: str) -> None:
    """Drop the database and the user ``name``, as far as they exist; running statements of the user end."""
    execute(host, f"DROP USER IF EXISTS `{name}`@localhost; DROP DATABASE IF EXISTS `{name}`")


def databases(host: DockerHost) -> set[str]:
    """Return the names of all databases that belong to generations."""
    return set(
        execute(
            host,
            "SELECT schema_name FROM information_schema.schemata "
            "WHERE schema_name NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')",
        ).split()
    )


def users(host: DockerHost) -> set[str]:
    """Return the names of all users that belong to generations."""
    return set(
        execute(
            host,
            "SELECT user FROM mysql.global_priv WHERE user NOT IN ('root', 'mysql', 'mariadb.sys', 'PUBLIC', '')",
        ).split()
    )
