"""The database server of a host: databases and users of generations.

Statements are short and idempotent, so they may run inside the server's own container; dumps and
imports never do. No secret passes here: a user is made from the hash of its password.
"""

import time

from provisioner.adapters.docker_host import DockerHost
from provisioner.errors import ProvisionError, Unavailable
from provisioner.inventory import SitePolicy
from provisioner.model.container import Outcome
from provisioner.model.names import READER, HostNames

START_SECONDS = 60
RETURN_SECONDS = 20  # how long a server that is down may take to come back
# All that a user may do in its database but read it; what a page reads may be a view or a function.
WRITING = (
    "INSERT, UPDATE, DELETE, DELETE HISTORY, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, "
    "LOCK TABLES, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER"
)
# What logging in writes: a session, and a new password with the link that leads to it. It adds no account.
LOGGING_IN = {"wp_usermeta": "INSERT, UPDATE, DELETE", "wp_users": "UPDATE"}
# What a dump needs to hold everything: without TRIGGER or SHOW CREATE ROUTINE it ends well and lacks them.
READING = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, SHOW CREATE ROUTINE, EXECUTE"
READER_CONNECTIONS = 10
_UNREACHABLE = ("ERROR 2002", "ERROR 2003")  # what the client says when it could not connect
_LOST = ("ERROR 2006", "ERROR 2013", "ERROR 1053", "ERROR 1927")  # the server went away; the statement may have run


class Down(ProvisionError):
    """The server was down all the time: nothing was asked of it."""


def execute(host: DockerHost, sql: str) -> str:
    """Run ``sql`` as the server's administrator and return its rows, tab-separated.

    A server that is down is waited for, and then asked again: ``sql`` may be repeated.

    Raises:
        Down: it did not come back, and never saw ``sql``.
        ProvisionError: it refused it, or went away over it.

    """
    what = f"host {host.name}: the database server"
    deadline = time.monotonic() + RETURN_SECONDS
    asked = False
    while True:
        try:
            outcome = _run(host, sql)
        except Unavailable:
            raise
        except ProvisionError as error:  # its container does not run
            said = error.message
        else:
            if not outcome.errors.startswith(_UNREACHABLE + _LOST):
                return outcome.require_success(what)
            said = " ".join(outcome.errors.split())
            asked = asked or outcome.errors.startswith(_LOST)
        if time.monotonic() > deadline:
            kind = ProvisionError if asked else Down
            raise kind(f"{what} was down for {RETURN_SECONDS} s: {said}", "provision doctor --fix")
        time.sleep(0.5)


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


def empty(host: DockerHost, name: str) -> None:
    """Make the database ``name`` anew, with nothing in it; its user keeps what it may."""
    execute(host, f"DROP DATABASE IF EXISTS `{name}`")
    create_database(host, name)


def create_user(host: DockerHost, name: str, password_hash: str, policy: SitePolicy) -> None:
    """Create the user ``name``, or give it this password, with the limits of ``policy``.

    It may do everything in the database of its own name, and nothing elsewhere.
    """
    execute(
        host,
        f"CREATE OR REPLACE USER `{name}`@localhost IDENTIFIED VIA mysql_native_password USING '{password_hash}' "
        f"WITH MAX_USER_CONNECTIONS {policy.connections} MAX_STATEMENT_TIME {policy.statement_seconds}; "
        f"{allowing(name)}",
    )


def create_reader(host: DockerHost, database: str, password_hash: str) -> None:
    """Create the user that reads the database ``database`` for us, or give it this password.

    It is not the site's own: what that may do changes while the site is frozen or closed.
    """
    reader = f"{database}{READER}"
    execute(
        host,
        f"CREATE OR REPLACE USER `{reader}`@localhost IDENTIFIED VIA mysql_native_password USING '{password_hash}' "
        f"WITH MAX_USER_CONNECTIONS {READER_CONNECTIONS}; "
        f"GRANT {READING} ON {_everything_of(database)} TO `{reader}`@localhost",
    )


def allowing(name: str) -> str:
    """Return the statement that lets the user ``name`` do everything in its database."""
    return f"GRANT ALL PRIVILEGES ON {_everything_of(name)} TO `{name}`@localhost"


def forbidding(name: str, privileges: str = WRITING) -> str:
    """Return the statement that leaves the user ``name`` its other rights; reading never stops in between.

    Connections that are open keep what they had until they end.
    """
    return f"REVOKE {privileges} ON {_everything_of(name)} FROM `{name}`@localhost"


def lending(source: str, target: str) -> str:
    """Return the statement that lets the user ``target`` read the database ``source`` of the same site, to copy it."""
    return f"GRANT SELECT ON {_everything_of(source)} TO `{target}`@localhost"


def unlending(source: str, target: str) -> str:
    """Return the statements that undo `lending`, whether or not it happened."""
    taking_back = f"REVOKE SELECT ON {_everything_of(source)} FROM `{target}`@localhost"  # noqa: S608
    return f"{lending(source, target)}; {taking_back}"


def writing(name: str) -> list[str]:
    """Return the statements that let the user ``name`` do everything in its database, whatever it could do before."""
    return [allowing(name), *_forgetting_tables(name)]


def reading(name: str) -> list[str]:
    """Return the statements that leave the user ``name`` reading alone, whatever it could do before."""
    # What is not granted cannot be revoked.
    return [
        f"GRANT SELECT ON {_everything_of(name)} TO `{name}`@localhost",
        forbidding(name),
        *_forgetting_tables(name),
    ]


def logging_in(name: str) -> list[str]:
    """Return the statements that leave the user ``name`` reading, and writing what `LOGGING_IN` names."""
    granted = [f"GRANT {rights} ON `{name}`.{table} TO `{name}`@localhost" for table, rights in LOGGING_IN.items()]
    return [*reading(name)[:2], *granted]


def _forgetting_tables(name: str) -> list[str]:
    """Return the statements that take back rights on single tables; CREATE may be granted where there is no table."""
    return [
        f"{verb} ON `{name}`.{table} {whom} `{name}`@localhost"
        for table, rights in LOGGING_IN.items()
        for verb, whom in (("GRANT CREATE", "TO"), (f"REVOKE CREATE, {rights}", "FROM"))
    ]


def forbid_writes(host: DockerHost, name: str) -> None:
    """Let the user ``name``, and the events of its database, read alone from their next connection on."""
    execute(host, "; ".join(reading(name)))


def closed(host: DockerHost) -> set[str]:
    """Return the databases whose user may write nothing but what `LOGGING_IN` names."""
    return set(
        execute(
            host,
            "SELECT DISTINCT t.db FROM mysql.tables_priv t JOIN mysql.db d ON d.user = t.user AND d.host = t.host "
            "WHERE t.table_name = 'wp_usermeta' AND d.insert_priv = 'N'",
        ).split()
    )


def _everything_of(name: str) -> str:
    database = name.replace("_", "\\_")  # in a grant, a bare underscore stands for any character
    return f"`{database}`.*"


def drop(host: DockerHost, name: str) -> None:
    """Drop the database ``name`` and its users, as far as they exist; running statements of theirs end."""
    users = f"`{name}`@localhost, `{name}{READER}`@localhost"
    execute(host, f"DROP USER IF EXISTS {users}; DROP DATABASE IF EXISTS `{name}`")


def size(host: DockerHost, name: str) -> int:
    """Return the bytes of the rows and indexes of a database, as the server estimates them."""
    return int(
        execute(
            host,
            "SELECT COALESCE(SUM(data_length + index_length), 0) "  # noqa: S608  (a name of our own)
            f"FROM information_schema.tables WHERE table_schema = '{name}'",
        )
    )


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
