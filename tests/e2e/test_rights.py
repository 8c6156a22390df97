"""Who asks the database what: the server's administrator names no table of a site, its own accounts do."""

import re
from collections.abc import Iterator

import pytest

from tests.support.derived import rebuild
from tests.support.full_site import FullSite
from tests.support.town import Town

# What lets a site in closing log in; a grant opens no table (docs/security.md).
GRANTS = re.compile(r"(?:GRANT|REVOKE) [A-Z, ]+ ON `\w+`\.wp_user(?:s|meta) (?:TO|FROM) `\w+`@localhost")
LITERALS = re.compile(r"'[^']*'")  # what the catalogue is asked about is no table that is opened
SITES_OWN = re.compile(r"\bwp_\w+|carnet", re.IGNORECASE)


@pytest.fixture(scope="module")
def full(town: Town) -> FullSite:
    town.create("kayane")
    town.run("agreement", "sign", "kayane", "--on", "2026-01-01")
    site = FullSite(town, "kayane", posts=20, media=15, media_bytes=1000, database_mb=1)
    site.fill()
    return site


@pytest.fixture
def heard(town: Town, full: FullSite) -> Iterator[FullSite]:
    """The site, with every statement that reaches the server written down."""
    town.sql("SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; SET GLOBAL general_log = ON")
    try:
        yield full
    finally:
        town.sql("SET GLOBAL general_log = OFF; TRUNCATE mysql.general_log")


def statements(town: Town, *, administrators: bool) -> list[str]:
    """Return what was asked by the administrator's accounts, or by all others."""
    who = "REGEXP" if administrators else "NOT REGEXP"
    said = town.sql(
        "SELECT REPLACE(CONVERT(argument USING utf8mb4), '\\n', ' ') FROM mysql.general_log "
        f"WHERE command_type IN ('Query', 'Prepare', 'Execute') AND user_host {who} '^(mysql|root)[[]'"
    )
    return [line for line in said.splitlines() if "mysql.general_log" not in line]


def test_the_administrator_names_no_table_of_a_site(town: Town, heard: FullSite) -> None:
    for command in (
        ("backup", "kayane"),
        ("drill", "kayane"),
        ("restore", "kayane", "--yes"),
        ("restore", "kayane", "--database", "--yes"),
        ("undo", "kayane", "--yes"),
        ("restore", "kayane", "--after-intrusion", "--yes"),
        ("restore", "kayane", "--as", "kayane-copie"),
        ("export", "kayane", "--to", str(town.folder / "kayane.zip")),
        ("status", "kayane"),
        ("doctor",),
    ):
        town.run(*command)
    rebuild(town, "6.8")
    town.run("upgrade", "kayane", "--yes")
    end = ("agreement", "end", "kayane", "--on", "2026-12-15", "--termination", "--reason", "essai")
    town.run(*end, PROVISION_NOW="2026-12-01T10:00")
    town.run("agreement", "close", "kayane", "--yes", PROVISION_NOW="2027-01-15T10:00")
    asked = statements(town, administrators=True)
    assert [line for line in asked if SITES_OWN.search(LITERALS.sub("", GRANTS.sub("", line)))] == []
    assert any(line.startswith("CREATE DATABASE") for line in asked)  # it was heard at all
    others = statements(town, administrators=False)
    assert any("carnet" in line for line in others)
