"""What an association takes along: a dump without keys, its administrators, and one archive of all it owns."""

import contextlib
import csv
import hashlib
import os
import re
import shutil
import stat
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from provisioner.agent import database, files
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Pack, Packed, Stage, Staged, Weigh, Weight

STAGING = Path("/export")  # on the host, in the site's own directory
WRITTEN = Path("/wordpress")  # beside it: all that WordPress, which writes its own export there, sees of either
CONTENT = Path("/content")  # wp-content with its uploads; no secret is mounted beside it
DUMP, PEOPLE, PAGES = "database.sql", "administrateurs.csv", "site"
ARCHIVE, SUMS = "archive.zip", "SHA256SUMS"
CHUNK = 1 << 20
LARGE = 1 << 30  # files from here on get the ZIP64 form, whatever they grow to while they are read
# Compressed already: trying again costs time and saves nothing.
_PACKED = frozenset({
    ".7z", ".avi", ".avif", ".docx", ".gif", ".gz", ".heic", ".jpeg", ".jpg", ".m4a", ".mov", ".mp3", ".mp4", ".odp",
    ".ods", ".odt", ".ogg", ".png", ".pptx", ".rar", ".webm", ".webp", ".woff", ".woff2", ".xlsx", ".xz", ".zip",
})  # fmt: skip
_VALUE = re.compile(rb"'(?:[^'\\]|\\.|'')*+'|[^,']++", re.DOTALL)
# Ways in that belong to this hosting and end with it: sessions, and the keys of links that were sent by mail.
# WordPress's own names: table, column that is emptied, and in which rows (column, values); None: in all.
_KEYS: dict[str, tuple[str, tuple[str, frozenset[bytes]] | None]] = {
    "wp_users": ("user_activation_key", None),
    "wp_usermeta": ("meta_value", ("meta_key", frozenset({b"'session_tokens'", b"'_new_email'"}))),
    "wp_options": (
        "option_value",
        (
            "option_name",
            frozenset(
                {b"'adminhash'", b"'recovery_keys'"}
                # Where WordPress keeps salts that its configuration does not name.
                | {f"'{name}_{kind}'".encode() for name in ("auth", "secure_auth", "logged_in", "nonce")
                   for kind in ("key", "salt")}
            ),
        ),
    ),
}  # fmt: skip
_SANDBOX = b"/*M!999999\\- enable the sandbox mode */"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def weigh(request: Weigh) -> Weight:
    """Return how many files and bytes an export holds: files, and database as the server counts it."""
    count = total = 0
    for _path, state in files.walk(CONTENT):
        count, total = count + 1, total + state.st_size
    reader = database.reader(request.number)
    with database.connection(reader) as cursor:
        cursor.execute(
            "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables "
            "WHERE table_schema = %s",
            (reader.database,),
        )
        return Weight(count, total, database.number(cursor))


def stage(request: Stage) -> Staged:
    """Empty the staging directories; write the dump and the list of administrators to it.

    Raises:
        Fault: the dump failed, or a row that may hold a key cannot be read.

    """
    for path in (*STAGING.iterdir(), *WRITTEN.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    reader = database.reader(request.number)
    rows = database.dump(reader, STAGING / DUMP, _without_keys(_columns(reader)))
    people = _people(reader)
    with (STAGING / PEOPLE).open("w", encoding="utf-8-sig", newline="") as file:  # as spreadsheets expect it
        table = csv.writer(file, delimiter=";")
        table.writerow(("identifiant", "nom", "adresse électronique"))
        table.writerows([_cell(text) for text in one] for one in people)
    return Staged(sum(rows.values()), len(people))


def _people(reader: database.Account) -> list[tuple[str, str, str]]:
    """Return login, name and mail of each administrator."""
    logins = {one["login"] for one in database.describe(reader, {})["administrators"]}
    with database.connection(reader) as cursor:
        cursor.execute("SELECT user_login, display_name, user_email FROM wp_users ORDER BY ID")
        return [(login, shown, mail) for login, shown, mail in cursor.fetchall() if login in logins]


def _columns(reader: database.Account) -> dict[str, list[str]]:
    with database.connection(reader) as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
            "ORDER BY table_name, ordinal_position",
            (reader.database,),
        )
        found: dict[str, list[str]] = {}
        for table, column in cursor.fetchall():
            found.setdefault(str(table), []).append(str(column))
    return found


def _without_keys(columns: dict[str, list[str]]) -> database.Change:
    """Return what empties keys in the rows of a dump."""

    def change(table: str, line: bytes) -> bytes:
        if table not in _KEYS:
            # Clients of MySQL and of older MariaDBs stop at the command in it.
            return b"" if line.startswith(_SANDBOX) else line
        emptied, where = _KEYS[table]
        body, end = line.rstrip(b"\n")[:-2], line.rstrip(b"\n")[-2:] + b"\n"  # "(1,'x'" and "),\n" or ");\n"
        values = _VALUE.findall(body[1:])
        if b",".join(values) != body[1:] or len(values) != len(columns[table]):
            raise Fault(f"a row of {table} cannot be read: it may hold a key, so nothing is exported")
        if where is not None and values[columns[table].index(where[0])] not in where[1]:
            return line
        values[columns[table].index(emptied)] = b"''"
        return b"(" + b",".join(values) + end

    return change


def _cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula (H5)."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def pack(request: Pack) -> Packed:
    """Write the archive, every file's SHA-256 in it; return its figures.

    Raises:
        Fault: two names are the same.

    """
    archive = STAGING / ARCHIVE
    sums: dict[str, str] = {}
    packed = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as zipped:
        for name, text in request.texts.items():
            zipped.writestr(f"{request.folder}/{name}", text)
            sums[name] = hashlib.sha256(text.encode()).hexdigest()
        for name, path in _parts():
            if name in sums:
                raise Fault(f"two files would be called {name!r} in the archive")
            digest = _add(zipped, f"{request.folder}/{name}", path)
            if digest is not None:
                sums[name] = digest
        packed = sum(entry.file_size for entry in zipped.infolist())
        lines = "".join(_line(digest, name) for name, digest in sorted(sums.items()))
        zipped.writestr(f"{request.folder}/{SUMS}", lines)
    with archive.open("rb") as file:
        os.fsync(file.fileno())
    return Packed(
        files=len(sums),
        content_bytes=packed,
        links=sum(not stat.S_ISREG(state.st_mode) for _path, state in files.walk(CONTENT)),
        bytes=archive.stat().st_size,
        sha256=files.sha256(archive),
    )


def _parts() -> Iterator[tuple[str, Path]]:
    """Yield each file of the archive: its name there, and where it lies."""
    for name in (DUMP, PEOPLE):
        yield name, STAGING / name
    yield "wordpress.xml", WRITTEN / "wordpress.xml"
    for root, prefix in ((STAGING / PAGES, "site"), (CONTENT, "wp-content")):
        for path in sorted(path for path, state in files.walk(root) if stat.S_ISREG(state.st_mode)):
            yield f"{prefix}/{_text(path.relative_to(root))}", path


def _text(path: Path) -> str:
    """Return a path as text; one that is no UTF-8 comes from an old Windows, whose letters it is read by."""
    name = os.fsencode(path)
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _add(zipped: zipfile.ZipFile, name: str, path: Path) -> str | None:
    """Add a file as it is read; return its SHA-256, or None when it is gone."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(files.opened(path))  # a link that took its place meanwhile is not followed
        except (FileNotFoundError, files.NoFile):
            return None
        state = os.fstat(file.fileno())
        entry = zipfile.ZipInfo(name, max(time.gmtime(state.st_mtime)[:6], (1980, 1, 1, 0, 0, 0)))
        entry.external_attr = (stat.S_IFREG | 0o644) << 16
        entry.file_size = state.st_size
        entry.compress_type = zipfile.ZIP_STORED if path.suffix.lower() in _PACKED else zipfile.ZIP_DEFLATED
        digest = hashlib.sha256()
        with zipped.open(entry, "w", force_zip64=state.st_size >= LARGE) as out:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                out.write(chunk)
    return digest.hexdigest()


def _line(digest: str, name: str) -> str:
    r"""Return a line as ``sha256sum`` writes it: a name with a newline, \\ or \r comes escaped, and is marked."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"
