"""A generation's database: dumped to a file, loaded from it, and described.

Each generation has two accounts. Its own may do everything in its database and nothing outside; the reader may read all
that a dump holds, whatever the site's own may do at the moment, and has connections of its own, so that a site that
uses up its own is backed up all the same. Whatever a site wrote into its database (views, functions, triggers,
generated columns, names) is thus evaluated with rights on that database alone.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Administrator, DatabaseFacts
from provisioner.agent.serialized import parse

SOCKET = "/run/mysqld/mysqld.sock"
DIRECTORY = Path("/directory")  # the site's directory on its host, with its generations
ADMINISTRATOR = 20100  # the user id by which the server knows its administrator
COMPLETION = b"-- Dump completed"
_HEAD = b"INSERT INTO `"
_INSERT = re.compile(rb"INSERT INTO `((?:[^`]|``)+)` VALUES\n")
_LONGEST_HEAD = 600  # bytes: a name has at most 64 characters
# Definers name the users of one generation; the next one's own user is to own what it loads. mariadb-dump
# writes each at the beginning of a line, where no row of data ever stands: rows begin with a bracket.
_NAME = rb"(?:`(?:[^`]|``)*`|\"(?:[^\"]|\"\")*\")"  # of what was made where double quotes are for names, too
_DEFINER = re.compile(
    rb"^(/\*!\d+ CREATE\*/ /\*!\d+ |/\*!\d+ |CREATE (?:OR REPLACE )?)DEFINER=" + _NAME + b"@" + _NAME + b" ?"
)
_OWNED = (b"/*!", b"CREATE ")
Change = Callable[[str, bytes], bytes]  # the table of a row, or nothing, and the line: what is written instead


@dataclass(frozen=True)
class Account:
    """A user of the database server, and the one database that it may use."""

    user: str
    password: str
    database: str

    @contextmanager
    def login(self) -> Iterator[Path]:
        """Write an option file for MariaDB's programs for a block: a password is never an argument."""
        handle, name = tempfile.mkstemp(suffix=".cnf", dir="/tmp")
        with os.fdopen(handle, "w") as file:
            file.write(f"[client]\nuser={self.user}\npassword={self.password}\nsocket={SOCKET}\n")
        try:
            yield Path(name)
        finally:
            Path(name).unlink()


def reader(number: int) -> Account:
    """Return the account that reads the database of a generation."""
    return _account(DIRECTORY / "generations" / str(number) / "reader" / "reader.json")


def owner(number: int) -> Account:
    """Return the account of a generation itself."""
    return _account(DIRECTORY / "generations" / str(number) / "secrets" / "generation.json")


def _account(path: Path) -> Account:
    content = json.loads(path.read_text())
    return Account(content["user"], content["password"], content["database"])


def as_it_is(_table: str, line: bytes) -> bytes:
    """Write a line as it is."""
    return line


def dump(account: Account, path: Path, change: Change = as_it_is) -> dict[str, int]:
    """Write a consistent dump of the account's database to ``path``; return the rows of each table in it.

    Raises:
        Fault: mariadb-dump failed, or its output lacks the completion line (D1).

    """
    rows: dict[str, int] = {}
    table, head = "", b""  # a name may have line breaks: the head of its rows then takes several lines
    with path.open("wb", buffering=1 << 20) as file:
        for line in dumped(account, "--routines", "--triggers", "--events"):
            if table and line.startswith(b"("):
                rows[table] += 1
                line = change(table, line)
            else:
                head = head + line if head or line.startswith(_HEAD) else b""
                match = _INSERT.fullmatch(head)
                head = b"" if match or len(head) > _LONGEST_HEAD else head
                table = match[1].replace(b"``", b"`").decode() if match else ""
                if table:
                    rows.setdefault(table, 0)
                line = change("", line)
            file.write(line)
    return rows


def dumped(account: Account, *options: str, tables: Sequence[str] = ()) -> Iterator[bytes]:
    """Run mariadb-dump on ``tables``, or on all there are, and yield its lines, without definers.

    Raises:
        Fault: it failed, or its output lacks the completion line (D1); raised after the last line.

    """
    complete = False
    with account.login() as login:
        # One transaction sees InnoDB's tables at one instant and blocks nobody; other engines are read as they are.
        command = [
            "mariadb-dump", f"--defaults-file={login}", "--single-transaction", "--quick", "--hex-blob",
            "--skip-dump-date", "--default-character-set=utf8mb4", "--max-allowed-packet=256M", *options,
            "--", account.database, *tables,
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=1 << 20) as process:
            for line in process.stdout or ():
                complete = line.startswith(COMPLETION)
                yield without_definer(line)
            errors = process.stderr.read().decode(errors="replace") if process.stderr else ""
    if process.returncode != 0:
        raise Fault(f"mariadb-dump ended with exit code {process.returncode}: {' '.join(errors.split())}")
    if not complete:
        raise Fault("the dump lacks its completion line")


def without_definer(line: bytes) -> bytes:
    """Return a line of a dump without the account that owned what it makes."""
    if not line.startswith(_OWNED):
        return line
    return _DEFINER.sub(rb"\1", line).replace(b"/*!50017 */", b"").replace(b"/*!50117 */", b"")


def load(path: Path, account: Account) -> None:
    """Load the dump at ``path`` into the account's database. May be repeated.

    Raises:
        Fault: a statement was refused.

    """
    with account.login() as login, path.open("rb") as file:
        # --sandbox: a dump cannot make the client run a program or read a file.
        command = [
            "mariadb", f"--defaults-file={login}", "--sandbox", "--local-infile=0", "--default-character-set=utf8mb4",
            "--max-allowed-packet=256M", "--init-command=SET SESSION max_statement_time=0", account.database,
        ]  # fmt: skip
        done = subprocess.run(command, stdin=file, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").splitlines()  # the statement with all its values, then the error
        raise Fault(f"loading the dump: {said[-1] if said else 'it said nothing'}")


@contextmanager
def connection(account: Account) -> Iterator[pymysql.cursors.Cursor]:
    """Connect to the account's database for a block."""
    try:
        link = pymysql.connect(
            unix_socket=SOCKET, user=account.user, password=account.password, database=account.database,
            charset="utf8mb4",
        )  # fmt: skip
    except pymysql.MySQLError as error:
        raise Fault(f"the database server: {error}") from None
    with closing(link), link.cursor() as cursor:
        yield cursor


@contextmanager
def administrator() -> Iterator[pymysql.cursors.Cursor]:
    """Connect as the server's administrator for a block: for accounts and connections, never for a site's tables."""
    os.setegid(ADMINISTRATOR)
    os.seteuid(ADMINISTRATOR)
    try:
        link = pymysql.connect(unix_socket=SOCKET, user="mysql", database="mysql", charset="utf8mb4")
    except pymysql.MySQLError as error:
        raise Fault(f"the database server: {error}") from None
    finally:
        os.seteuid(0)
        os.setegid(0)
    with closing(link), link.cursor() as cursor:
        yield cursor


def describe(account: Account, rows: dict[str, int] | None = None) -> DatabaseFacts:
    """Return what can be compared of a database: its objects, rows, people and versions.

    ``rows`` are those of a dump, where one was made: counting reads every table from end to end.

    Raises:
        Fault: it is no WordPress database, or a table of it is broken.

    """
    try:
        with connection(account) as cursor:
            return _describe(cursor, account.database, rows)
    except pymysql.MySQLError as error:
        raise Fault(f"database {account.database}: {error}") from None


def _describe(cursor: pymysql.cursors.Cursor, database: str, rows: dict[str, int] | None) -> DatabaseFacts:
    def names(sql: str) -> list[str]:
        cursor.execute(sql, (database,))
        return [str(row[0]) for row in cursor.fetchall()]

    cursor.execute(
        "SELECT table_name, engine FROM information_schema.tables "
        "WHERE table_schema = %s AND table_type = 'BASE TABLE' ORDER BY table_name",
        (database,),
    )
    engines = {str(name): str(engine) for name, engine in cursor.fetchall()}
    if "wp_options" not in engines:
        raise Fault(f"database {database} holds no WordPress")
    people = _people(cursor)
    return {
        "engines": engines,
        "rows": count(cursor, list(engines)) if rows is None else {table: rows.get(table, 0) for table in engines},
        "views": names("SELECT table_name FROM information_schema.views WHERE table_schema = %s ORDER BY 1"),
        "triggers": names("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = %s ORDER BY 1"),
        "routines": names("SELECT routine_name FROM information_schema.routines WHERE routine_schema = %s ORDER BY 1"),
        "events": names("SELECT event_name FROM information_schema.events WHERE event_schema = %s ORDER BY 1"),
        "db_version": _option(cursor, "db_version"),
        "active_plugins": sorted(_texts(_option(cursor, "active_plugins"))),
        "stylesheet": _option(cursor, "stylesheet"),
        "users": people.users,
        "administrators": people.administrators,
        "sessions": sorted(people.sessions),
        "application_passwords": sorted(people.application_passwords),
    }


def count(cursor: pymysql.cursors.Cursor, tables: list[str]) -> dict[str, int]:
    """Return the rows of each table."""
    rows = {}
    for table in tables:
        quoted = table.replace("`", "``")
        cursor.execute(f"SELECT COUNT(*) FROM `{quoted}`")  # noqa: S608  (an identifier cannot be a parameter)
        rows[table] = number(cursor)
    return rows


def number(cursor: pymysql.cursors.Cursor) -> int:
    """Return the one number that the last statement asked for."""
    row = cursor.fetchone()
    if row is None:
        raise Fault("the database server answered nothing")
    return int(row[0])


def attachments(account: Account) -> set[str]:
    """Return the path of every attachment's file, below uploads/."""
    with connection(account) as cursor:
        cursor.execute("SELECT meta_value FROM wp_postmeta WHERE meta_key = '_wp_attached_file'")
        return {str(row[0]).lstrip("/") for row in cursor.fetchall() if row[0]}


@dataclass
class _People:
    """Who administers a site, and every way in that a restore would revive."""

    users: int = 0
    administrators: list[Administrator] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    application_passwords: list[str] = field(default_factory=list)


def _people(cursor: pymysql.cursors.Cursor) -> _People:
    """Return who administers the site, and every way in that a restore would revive."""
    cursor.execute(
        "SELECT u.ID, u.user_login, u.user_email, m.meta_key, m.meta_value FROM wp_users u "
        "LEFT JOIN wp_usermeta m ON m.user_id = u.ID "
        "AND m.meta_key IN ('wp_capabilities', 'session_tokens', '_application_passwords') ORDER BY u.ID, m.umeta_id"
    )
    found, known = _People(), set()
    for key, login, mail, meta, value in cursor.fetchall():
        known.add(key)
        if meta == "wp_capabilities" and "administrator" in _keys(value):
            found.administrators.append({"login": login, "mail": mail})
        elif meta == "session_tokens":
            # The database holds the token's hash; its beginning is enough to tell one session from another.
            found.sessions += [f"{login} {verifier[:16]}" for verifier in _keys(value)]
        elif meta == "_application_passwords":
            found.application_passwords += [f"{login} {entry['uuid']}" for entry in _entries(value)]
    found.users = len(known)
    return found


def _option(cursor: pymysql.cursors.Cursor, name: str) -> str:
    cursor.execute("SELECT option_value FROM wp_options WHERE option_name = %s", (name,))
    row = cursor.fetchone()
    return str(row[0]) if row else ""


def _value(text: str) -> Any:
    try:
        return parse(text.encode())
    except ValueError:
        return None


def _keys(text: str) -> list[str]:
    value = _value(text)
    return [key.decode(errors="replace") for key in value if isinstance(key, bytes)] if isinstance(value, dict) else []


def _texts(text: str) -> list[str]:
    value = _value(text)
    found = value.values() if isinstance(value, dict) else []
    return [entry.decode(errors="replace") for entry in found if isinstance(entry, bytes)]


def _entries(text: str) -> list[dict[str, str]]:
    value = _value(text)
    found = value.values() if isinstance(value, dict) else []
    named = [entry.get(b"uuid") for entry in found if isinstance(entry, dict)]
    return [{"uuid": uuid.decode(errors="replace") if isinstance(uuid, bytes) else "unnamed"} for uuid in named]
