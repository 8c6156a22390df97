"""A generation made from the one that serves: its code, and its database, copied beside it."""

import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymysql

from provisioner.agent import database
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import CopyCode, CopyGeneration, DatabaseCopied, Done, FillTwins
from provisioner.agent.sockets import SOCKETS

LOOK_SECONDS = 0.01  # between two looks for the switch's word
WORKERS = 2  # tables copied at a time


def generation(number: int) -> Path:
    """Return the directory of a generation."""
    return database.DIRECTORY / "generations" / str(number)


def code(request: CopyCode) -> Done:
    """Make the code of each generation in ``targets`` that of ``source``: plugins, themes, translations."""
    for number in request.targets:
        copy_code(request.source, number)
    return Done()


def copy_code(source: int, target: int) -> None:
    """Make a generation's code equal to another's; what is equal already is not touched.

    Media are mounted at uploads/, and upgrade/ is WordPress's own place for what it unpacks.

    Raises:
        Fault: a file could not be copied.

    """
    command = [
        "rsync", "--archive", "--delete", "--exclude=/uploads/*", "--exclude=/upgrade/",
        f"{generation(source)}/content/", f"{generation(target)}/content/",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=False)
    # 24: a file went while it was looked at. The copy that counts is made while nothing writes.
    if done.returncode not in (0, 24):
        raise Fault(f"rsync ended with exit code {done.returncode}: {done.stderr.decode(errors='replace').strip()}")


def twins(request: FillTwins) -> Done:
    """Dump the database that serves, which goes on being written to, and load it into the twins'."""
    dump = database.DIRECTORY / "work" / "scratch" / f"twins-{os.getpid()}.sql"
    try:
        database.dump(database.reader(request.source), dump)
        for number in request.targets:
            database.load(dump, database.owner(number))
    finally:
        dump.unlink(missing_ok=True)
    return Done()


def copy_generation(request: CopyGeneration) -> DatabaseCopied:
    """Wait for the switch's word that nothing writes any more; then copy code and database, and compare.

    Raises:
        Fault: the word did not come in time, something could not be copied, or a checksum differs.

    """
    deadline = time.monotonic() + request.patience
    still, off = (SOCKETS / f"switch-{request.operation}.{word}" for word in ("still", "off"))
    while not still.exists():
        if off.exists() or time.monotonic() > deadline:
            raise Fault("the switch did not say in time that nothing writes any more")
        time.sleep(LOOK_SECONDS)
    began = time.monotonic()
    copy_code(request.source, request.target)
    tables = copy_database(database.reader(request.source), database.owner(request.target))
    return DatabaseCopied(tables, round(time.monotonic() - began, 3))


def copy_database(source: database.Account, target: database.Account) -> int:
    """Copy a database to which nothing writes; return how many tables have equal checksums on both sides.

    Statements go by mariadb-dump and are loaded as the target's own user, so that it owns what it gets; rows go
    inside the server, by that user too, who may read the source for as long as this takes.

    Raises:
        Fault: something could not be copied, or a checksum differs.

    """
    try:
        with database.connection(source) as cursor:
            tables, views = _tables(cursor, source.database), _views(cursor, source.database)
        _load(source, target, "--no-data", "--skip-triggers", tables=tables)
        with ExitStack() as stack:
            cursors = [stack.enter_context(database.connection(target)) for _ in range(WORKERS)]
            pool = stack.enter_context(ThreadPoolExecutor(WORKERS))
            queue = iter(tables)  # the largest first; each worker takes the next
            copied = [pool.submit(_copy_tables, cursor, source.database, target.database, queue) for cursor in cursors]
            for worker in copied:
                worker.result()
        _load(source, target, "--no-data", "--no-create-info", "--routines", "--events", "--triggers", tables=tables)
        if views:
            _load(source, target, "--no-data", "--skip-triggers", tables=views)
    except pymysql.MySQLError as error:
        raise Fault(f"copying database {source.database}: {error}") from None
    return len(tables)


def _tables(cursor: pymysql.cursors.Cursor, name: str) -> list[str]:
    cursor.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE' "
        "ORDER BY data_length DESC",
        (name,),
    )
    return [str(row[0]) for row in cursor.fetchall()]


def _views(cursor: pymysql.cursors.Cursor, name: str) -> list[str]:
    cursor.execute("SELECT table_name FROM information_schema.views WHERE table_schema = %s ORDER BY 1", (name,))
    return [str(row[0]) for row in cursor.fetchall()]


def _load(source: database.Account, target: database.Account, *options: str, tables: Sequence[str]) -> None:
    if not tables:
        return
    statements = Path("/tmp/statements.sql")
    with statements.open("wb") as file:
        file.writelines(database.dumped(source, *options, tables=tables))
    database.load(statements, target)


def _copy_tables(cursor: pymysql.cursors.Cursor, source: str, target: str, queue: Any) -> None:
    cursor.execute(
        "SET SESSION foreign_key_checks = 0, unique_checks = 0, max_statement_time = 0, "
        "sql_mode = 'NO_AUTO_VALUE_ON_ZERO', tx_isolation = 'READ-COMMITTED'"
    )
    for table in queue:
        quoted = table.replace("`", "``")
        columns = ", ".join(f"`{column}`" for column in _stored_columns(cursor, source, table))
        cursor.execute(
            f"INSERT INTO `{target}`.`{quoted}` ({columns}) SELECT {columns} FROM `{source}`.`{quoted}`"  # noqa: S608
        )
        cursor.connection.commit()
        cursor.execute(f"CHECKSUM TABLE `{source}`.`{quoted}`, `{target}`.`{quoted}`")
        before, after = (row[1] for row in cursor.fetchall())
        if before is None or before != after:
            raise Fault(f"table {table} has checksum {before}, its copy {after}")


def _stored_columns(cursor: pymysql.cursors.Cursor, name: str, table: str) -> Sequence[str]:
    """Return the columns that hold what was written; generated ones compute themselves."""
    cursor.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position",
        (name, table),
    )
    return [str(row[0]).replace("`", "``") for row in cursor.fetchall()]
