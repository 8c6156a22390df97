"""What differs between two generations of one site: what a way back would lose."""

from dataclasses import dataclass

import pymysql

from provisioner.agent import database
from provisioner.agent.faults import Fault
from provisioner.agent.protocol import Changes, Compare, Compared


@dataclass(frozen=True)
class _Kind:
    """One kind of content: where it is, what a report calls it, and what must be equal for it to be unchanged."""

    table: str
    key: str
    name: str
    values: tuple[str, ...]
    rows: str = "1"


_POST = ("post_title", "post_content", "post_excerpt", "post_status", "post_name", "post_parent")
_KINDS = {
    "posts": _Kind(
        "wp_posts", "ID", "post_title", _POST,
        "post_type NOT IN ('revision', 'attachment') AND post_status <> 'auto-draft'",
    ),
    "media": _Kind("wp_posts", "ID", "post_title", _POST, "post_type = 'attachment'"),
    "comments": _Kind(
        "wp_comments", "comment_ID", "LEFT(comment_content, 60)", ("comment_content", "comment_approved")
    ),
    "users": _Kind("wp_users", "ID", "user_login", ("user_login", "user_email", "user_pass")),
}  # fmt: skip


def compare(request: Compare) -> Compared:
    """Return by kind what was made, changed and deleted in the later database; each is read by its own reader.

    Raises:
        Fault: one of them cannot be read.

    """
    earlier, later = database.reader(request.earlier), database.reader(request.later)
    try:
        with database.connection(earlier) as before, database.connection(later) as after:
            return Compared({name: _changes(_rows(before, kind), _rows(after, kind)) for name, kind in _KINDS.items()})
    except pymysql.MySQLError as error:
        raise Fault(f"comparing {earlier.database} with {later.database}: {error}") from None


_Rows = dict[int, tuple[str, str]]  # by key: what a report calls a row, and a hash of what must be equal


def _rows(cursor: pymysql.cursors.Cursor, kind: _Kind) -> _Rows:
    # QUOTE tells NULL from the word, and where one value ends.
    values = ", ".join(f"QUOTE({value})" for value in kind.values)
    cursor.execute(
        f"SELECT {kind.key}, {kind.name}, SHA2(CONCAT_WS(',', {values}), 256) "  # noqa: S608  (WordPress's own names)
        f"FROM {kind.table} WHERE {kind.rows} ORDER BY {kind.key}"
    )
    return {int(key): (str(label), str(digest)) for key, label, digest in cursor.fetchall()}


def _changes(before: _Rows, after: _Rows) -> Changes:
    return Changes(
        made=[label for key, (label, _) in after.items() if key not in before],
        changed=[label for key, (label, digest) in after.items() if key in before and before[key][1] != digest],
        deleted=[label for key, (label, _) in before.items() if key not in after],
    )
