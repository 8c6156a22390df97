"""The way back: a snapshot fetched into a generation, its dump loaded, its addresses changed, all of it compared."""

import json
import os
import secrets
import shutil
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

SITE = Path("/site")  # the site's directory on its host, with its generations and sets of media


def _generation(number: int) -> Path:
    return SITE / "generations" / str(number)


def fetch(repository: Repository, request: Fetch) -> ManifestFound:
    """Restore a snapshot beside its generation, then move its parts into their places; return its manifest.

    Raises:
        Fault: restic failed, or the snapshot is another site's (D12).

    """
    generation = _generation(request.number)
    fetched = generation / "fetched"
    content, media = generation / "content", SITE / request.media
    generation.mkdir(parents=True, exist_ok=True)
    if not (generation / "manifest.json").exists():
        shutil.rmtree(fetched, ignore_errors=True)
        repository.run("restore", f"{request.snapshot}:/site", "--target", str(fetched), *_excluded(request))
        manifest = _manifest(fetched)
        require_owner({"site": manifest["site"], "namespace": manifest["namespace"]}, request.owner)
        # The dump first and the manifest last: whoever finds the manifest here finds all of it.
        (fetched / "database.sql").rename(generation / "database.sql")
        (fetched / "manifest.json").rename(generation / "manifest.json")
    if request.files:
        files.place(fetched / "wp-content", content, media, request.uid)
    shutil.rmtree(fetched, ignore_errors=True)
    return ManifestFound(_manifest(generation))


def _manifest(folder: Path) -> Manifest:
    found: Manifest = wire.read(Manifest, json.loads((folder / "manifest.json").read_text()), "manifest")
    return found


def _excluded(request: Fetch) -> list[str]:
    return [] if request.files else ["--exclude", "/wp-content"]


def load(request: Load) -> Done:
    """Load the fetched dump into the generation's database, as its own user."""
    generation = _generation(request.number)
    dump = generation / "database.sql"
    if dump.exists():  # it goes when it is loaded: a repetition after that has nothing to do
        database.load(dump, generation / "secrets" / "generation.json")
        dump.unlink()
    return Done()


def rewrite(request: Rewrite) -> Rewritten:
    """Replace the site's old address by its new one in every text of the database; return how many rows changed."""
    changed = 0
    with database.connection(request.database) as cursor:
        try:
            for table, key, columns in _texts(cursor, request.database):
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
    return "`" + name.replace("`", "``") + "`"


def measure(request: Measure) -> Measured:
    """Return what a manifest says, of the generation as it is now; with the hashes of the files that one names."""
    content, media = _generation(request.number) / "content", SITE / request.media
    described = files.describe(content, 0)
    uploads = files.describe(media, 0)
    return Measured(
        database=database.describe(request.database),
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
    now = _code(_generation(request.number) / "content")
    return CodeDifferences(
        added=sorted(now.keys() - then.keys()),
        changed=sorted(path for path in now.keys() & then.keys() if now[path] != then[path]),
        removed=sorted(then.keys() - now.keys()),
    )


def _code(content: Path) -> dict[str, str]:
    """Return the hash of every file of plugins, themes and what lies beside them."""
    found = {}
    for path, _state in files.walk(content):
        name = os.fsencode(path.relative_to(content)).decode(errors="replace")
        found[name] = f"link to {os.readlink(path)}" if path.is_symlink() else files.sha256(path)
    return found


def lock_out(request: LockOut) -> LockedOut:
    """End every session, application password and link for a new password in a generation's database."""
    with database.connection(request.database) as cursor:
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
    secret = SITE / "secrets" / "site.json"
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
