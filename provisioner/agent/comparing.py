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
    """Return by kind what was made, changed and deleted in the later database.

    Raises:
        Fault: one of them cannot be read.

    """
    earlier, later = request.earlier, request.later
    try:
        with database.connection(later) as cursor:
            return Compared({name: _changes(cursor, kind, earlier, later) for name, kind in _KINDS.items()})
    except pymysql.MySQLError as error:
        raise Fault(f"comparing {earlier} with {later}: {error}") from None


def _changes(cursor: pymysql.cursors.Cursor, kind: _Kind, earlier: str, later: str) -> Changes:
    def rows(name: str) -> str:
        return f"(SELECT *, {kind.name} AS label FROM `{name}`.{kind.table} WHERE {kind.rows})"  # noqa: S608

    def labels(mine: str, other: str, condition: str, join: str = "LEFT JOIN") -> list[str]:
        cursor.execute(
            f"SELECT mine.label FROM {rows(mine)} mine {join} {rows(other)} other USING ({kind.key}) "  # noqa: S608
            f"WHERE {condition} ORDER BY {kind.key}"
        )
        return [str(row[0]) for row in cursor.fetchall()]

    alone = f"other.{kind.values[0]} IS NULL"
    same = " AND ".join(f"mine.{value} <=> other.{value}" for value in kind.values)
    return Changes(
        made=labels(later, earlier, alone),
        changed=labels(later, earlier, f"NOT ({same})", "JOIN"),
        deleted=labels(earlier, later, alone),
    )
