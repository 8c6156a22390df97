"""The state database: SQLite by default, PostgreSQL by URL. One transaction at a time writes."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlmodel import Session, text

from provisioner.errors import BadInput, Unavailable

HEAD = "0009"  # the newest migration; a test compares it with what Alembic says
BUSY_SECONDS = 5.0


class Store:
    """Transactions on the state database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = _engine(url)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run a block in one write transaction: all of it is kept, or nothing.

        Raises:
            Unavailable: the database is missing, locked for longer than 5 s, full or damaged (A4).

        """
        with (
            _faults_told(self.url),
            Session(self._engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def check(self) -> None:
        """Make sure that the database is there and has the newest tables.

        Raises:
            Unavailable: it is missing or older; ``provision init`` makes or upgrades it.

        """
        if database_missing(self.url):
            raise Unavailable(f"no state database at {self.url.removeprefix('sqlite:///')}", "provision init")
        with _faults_told(self.url), self._engine.connect() as connection:
            try:
                version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            except (OperationalError, ProgrammingError) as error:
                if "alembic_version" not in str(error.orig):
                    raise
                version = None
        if version != HEAD:
            raise Unavailable(f"the state database has version {version}, this code needs {HEAD}", "provision init")

    @property
    def path(self) -> Path:
        """Return the file of an SQLite database.

        Raises:
            BadInput: it is none.

        """
        if not self.url.startswith("sqlite:///"):
            raise BadInput(
                "the state is in a PostgreSQL database, which only PostgreSQL's own tools copy",
                "back it up with pg_dump beside provision",
            )
        return Path(self.url.removeprefix("sqlite:///"))

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy of the database, by SQLite's own backup; whoever writes to it waits meanwhile.

        Raises:
            BadInput: it is no SQLite database.
            Unavailable: it is missing, locked or damaged; what was written is no copy.

        """
        with (
            self.transaction(),  # no writer can keep the copy from coming to its end
            closing(sqlite3.connect(self.path)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            try:
                source.backup(copy)
                sound = copy.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            except sqlite3.Error:
                sound = False
        if not sound:
            raise Unavailable(f"{self.path}: its copy is not sound", "docs/needs-hand.md, the state is lost or old")

    def upgrade(self) -> None:
        """Create the tables, or bring them to the newest version."""
        from alembic import command
        from alembic.config import Config

        if self.url.startswith("sqlite:///"):
            path = Path(self.url.removeprefix("sqlite:///"))
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                path.touch(mode=0o600)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with _faults_told(self.url), self._engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def database_missing(url: str) -> bool:
    """Return whether ``url`` names an SQLite file that does not exist."""
    return url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists()


def _engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS} if url.startswith("sqlite") else {})
    if engine.dialect.name == "sqlite":
        # pysqlite begins transactions late and as readers; two writers would then meet half-way with
        # "database is locked". SQLAlchemy's documented remedy: begin ourselves, and as a writer.
        @event.listens_for(engine, "connect")
        def _(connection: Any, _record: Any) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")

        @event.listens_for(engine, "begin")
        def _(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def _faults_told(url: str) -> Iterator[None]:
    try:
        yield
    except (OperationalError, DBAPIError) as error:
        from sqlalchemy.exc import IntegrityError

        if isinstance(error, IntegrityError):
            raise
        place = url.removeprefix("sqlite:///") if url.startswith("sqlite") else "the state database"
        raise Unavailable(
            f"{place}: {error.orig}", f"check disk space and other processes ({os.getpid()} is this one)"
        ) from error
