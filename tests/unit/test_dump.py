"""A dump as mariadb-dump writes it: rows are counted whatever a table is called, and nothing in it has an owner."""

from pathlib import Path

import pytest

from provisioner.agent import database

ACCOUNT = database.Account("kayane_1_reader", "password", "kayane_1")


@pytest.mark.parametrize(
    "name", ["wp_posts", "ligne\nsuite", "\n\n", "INSERT INTO\nVALUES\n(1)", "a `quoted` one\n", "(1"]
)
def test_rows_are_counted_whatever_a_table_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quoted = name.replace("`", "``")
    text = (
        f"INSERT INTO `{quoted}` VALUES\n(1,'x'),\n(2,'y');\nUNLOCK TABLES;\nINSERT INTO `next` VALUES\n(1);\n".encode()
    )
    monkeypatch.setattr(database, "dumped", lambda *_: text.splitlines(keepends=True))
    assert database.dump(ACCOUNT, tmp_path / "dump") == {name: 2, "next": 1}
    assert (tmp_path / "dump").read_bytes() == text


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (
            b"CREATE DEFINER=`kayane_1`@`localhost` FUNCTION `f`() RETURNS int(11)\n",
            b"CREATE FUNCTION `f`() RETURNS int(11)\n",
        ),
        (b'CREATE DEFINER="kayane_1"@"localhost" PACKAGE "p" AS\n', b'CREATE PACKAGE "p" AS\n'),
        (b'CREATE DEFINER="a""b"@"localhost" PROCEDURE "p"()\n', b'CREATE PROCEDURE "p"()\n'),
        (b"/*!50013 DEFINER=`kayane_1`@`localhost` SQL SECURITY INVOKER */\n", b"/*!50013 SQL SECURITY INVOKER */\n"),
        (b"(1,'CREATE DEFINER=`x`@`y` FUNCTION'),\n", b"(1,'CREATE DEFINER=`x`@`y` FUNCTION'),\n"),
    ],
)
def test_what_a_dump_makes_is_nobodys(line: bytes, left: bytes) -> None:
    assert database.without_definer(line) == left
