"""The way back: a snapshot fetched into a generation, its dump loaded, its addresses changed, all of it compared."""

import json
import os
import secrets
import subprocess
import tempfile
from pathlib import Path

import pymysql

from provisioner.agent import database, files, wire
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import (
    CodeDifferences,
    CompareCode,
    Done,
    Fetch,
    Load,
    LockedOut,
    LockOut,
    Manifest,
    ManifestFound,
    Measure,
    Measured,
    RenewSalts,
    Rewrite,
    Rewritten,
)
from provisioner.agent.repository import Repository
from provisioner.agent.serialized import readdress
from provisioner.agent.snapshot import require_owner

SITE = Path("/site")  # as a snapshot shows it: dump and manifest, and below them the generation's content and media
DIRECTORY = database.DIRECTORY
SCRATCH = DIRECTORY / "work" / "scratch"  # where one-shots beside the site put down what they make
DUMP, MANIFEST = "database.sql", "manifest.json"


def _content(number: int) -> Path:
    return DIRECTORY / "generations" / str(number) / "content"


def fetch(repository: Repository, request: Fetch) -> ManifestFound:
    """Restore a snapshot into the directories of its generation, which were handed over empty; return its manifest.

    May be repeated: what is not of the snapshot goes.

    Raises:
        Fault: restic failed, or the snapshot is another site's (D12).

    """
    # Emptied by us: restic would remove the places where content and media are mounted, where a snapshot lacks them.
    for folder, mounted in ((SITE, "wp-content"), (SITE / "wp-content", "uploads"), (SITE / "wp-content/uploads", "")):
        if folder == SITE or request.files:
            _empty(folder, mounted)
    files_too = [] if request.files else ["--exclude", "/wp-content"]
    repository.run("restore", f"{request.snapshot}:{SITE}", "--target", str(SITE), "--sparse", *files_too)
    manifest = _manifest(SITE)
    require_owner({"site": manifest["site"], "namespace": manifest["namespace"]}, request.owner)
    return ManifestFound(manifest)


def _empty(folder: Path, mounted: str) -> None:
    """Remove what is in a folder but the place where another one is mounted, however deep it is.

    Raises:
        Fault: something could not be removed.

    """
    command = [
        "find", str(folder), "-mindepth", "1", "-maxdepth", "1", "!", "-name", mounted,
        "-exec", "rm", "-rf", "--", "{}", "+",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise Fault(f"emptying {folder}: {' '.join(done.stderr.decode(errors='replace').split())}")


def _manifest(folder: Path) -> Manifest:
    found: Manifest = wire.read(Manifest, json.loads((folder / MANIFEST).read_text()), "manifest")
    return found


def load(request: Load) -> Done:
    """Load the fetched dump into the generation's database, as its own user."""
    dump = DIRECTORY / "work" / f"fetched-{request.number}" / DUMP
    if dump.exists():  # it goes when it is loaded: a repetition after that has nothing to do
        database.load(dump, database.owner(request.number))
        dump.unlink()
    return Done()


def rewrite(request: Rewrite) -> Rewritten:
    """Replace the site's old address by its new one in every text of the database; return how many rows changed."""
    changed = 0
    account = database.owner(request.number)
    with database.connection(account) as cursor:
        try:
            for table, key, columns in _texts(cursor, account.database):
                changed += _rewrite_table(cursor, table, key, columns, request.old, request.new)
        except pymysql.MySQLError as error:
            raise Fault(f"changing addresses: {error}") from None
    return Rewritten(changed)


def _texts(cursor: pymysql.cursors.Cursor, name: str) -> list[tuple[str, list[str], list[str]]]:
    """Return each base table with its primary key and its columns of text."""
    cursor.execute(
        "SELECT c.table_name, c.column_name, c.data_type, c.column_key FROM information_schema.columns c "
        "JOIN information_schema.tables t USING (table_schema, table_name) "
        "WHERE c.table_schema = %s AND t.table_type = 'BASE TABLE' ORDER BY c.table_name, c.ordinal_position",
        (name,),
    )
    tables: dict[str, tuple[list[str], list[str]]] = {}
    for table, column, kind, role in cursor.fetchall():
        key, columns = tables.setdefault(str(table), ([], []))
        if role == "PRI":
            key.append(str(column))
        elif kind in ("char", "varchar", "tinytext", "text", "mediumtext", "longtext"):
            columns.append(str(column))
    # A post's guid is an identifier, not an address: WordPress says never to change it.
    return [
        (table, key, [column for column in columns if (table, column) != ("wp_posts", "guid")])
        for table, (key, columns) in tables.items()
        if key and columns
    ]


def _rewrite_table(
    cursor: pymysql.cursors.Cursor, table: str, key: list[str], columns: list[str], old: str, new: str
) -> int:
    changed = 0
    where = " AND ".join(f"{_quoted(column)} = %s" for column in key)
    for column in columns:
        cursor.execute(
            f"SELECT {', '.join(map(_quoted, key))}, {_quoted(column)} FROM {_quoted(table)} "  # noqa: S608
            f"WHERE INSTR({_quoted(column)}, %s)",
            (old.partition(":")[0],),
        )
        for *identity, text in cursor.fetchall():
            rewritten = readdress(text.encode(), old, new).decode()
            if rewritten != text:
                cursor.execute(
                    f"UPDATE {_quoted(table)} SET {_quoted(column)} = %s WHERE {where}",  # noqa: S608
                    (rewritten, *identity),
                )
                changed += 1
        cursor.connection.commit()
    return changed


def _quoted(name: str) -> str:
    """Return an identifier for a statement with parameters: no per cent sign in it stands for one of them."""
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def measure(request: Measure) -> Measured:
    """Return what a manifest says, of the generation as it is now; with the hashes of the files that one names."""
    content, media = _content(request.number), DIRECTORY / request.media
    described = files.describe(content, 0)
    uploads = files.describe(media, 0)
    return Measured(
        database=database.describe(database.reader(request.number)),
        content={
            "files": described["files"] + uploads["files"],
            "bytes": described["bytes"] + uploads["bytes"],
            "sample": {
                path: files.sha256(
                    media / path.removeprefix("uploads/") if path.startswith("uploads/") else content / path
                )
                for path in request.sample
            },
            "plugins": described["plugins"],
            "themes": described["themes"],
        },
    )


def code(repository: Repository, request: CompareCode) -> CodeDifferences:
    """Return the code files of a generation that a snapshot has not, has otherwise, or has alone."""
    with tempfile.TemporaryDirectory() as folder:
        source = f"{request.snapshot}:/site/wp-content"
        repository.run("restore", source, "--target", folder, "--exclude", "/uploads")
        then = _code(Path(folder))
    now = _code(_content(request.number))
    return CodeDifferences(
        added=sorted(now.keys() - then.keys()),
        changed=sorted(path for path in now.keys() & then.keys() if now[path] != then[path]),
        removed=sorted(then.keys() - now.keys()),
    )


def _code(content: Path) -> dict[str, str]:
    """Return the hash of every file of plugins, themes and what lies beside them, or that nobody can read it."""
    found = {}
    unread: list[Path] = []
    for path, _state in files.walk(content, unread):
        name = files.shown(path.relative_to(content))
        found[name] = f"link to {os.readlink(path)}" if path.is_symlink() else files.sha256(path)
    return found | {files.shown(path.relative_to(content)): files.UNREADABLE for path in unread}


def lock_out(request: LockOut) -> LockedOut:
    """End every session, application password and link for a new password in a generation's database."""
    with database.connection(database.owner(request.number)) as cursor:
        try:
            cursor.execute(
                "DELETE FROM wp_usermeta WHERE meta_key IN "
                "('session_tokens', '_application_passwords', '_password_reset_key')"
            )
            ended = cursor.rowcount
            cursor.execute("UPDATE wp_users SET user_activation_key = '' WHERE user_activation_key <> ''")
            cursor.connection.commit()
        except pymysql.MySQLError as error:
            raise Fault(f"ending sessions: {error}") from None
    return LockedOut(ended)


def new_salts(_request: RenewSalts) -> Done:
    """Give the site new salts, by one rename: every cookie that was signed with the old ones is void."""
    secret = DIRECTORY / "secrets" / "site.json"
    state = secret.stat()
    content = json.loads(secret.read_text())
    content["salts"] = {name: secrets.token_hex(32) for name in content["salts"]}
    fresh = secret.with_name("site.json.new")
    with fresh.open("w") as file:
        os.fchmod(file.fileno(), 0o440)
        os.fchown(file.fileno(), state.st_uid, state.st_gid)
        file.write(json.dumps(content) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(secret)
    return Done()
