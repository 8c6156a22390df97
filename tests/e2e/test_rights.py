"""Who has which rights while all happens that happens to a site: what the engine ran, and who asked the database what.

One walk through the operations, which the engine and the database server watch; every test looks at what they saw.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from provisioner.keys import Keys
from tests.support.derived import rebuild
from tests.support.engine_view import EngineView, Rights, Seen, documented
from tests.support.full_site import FullSite
from tests.support.town import Town, association

# What lets a site in closing log in; a grant opens no table (docs/security.md).
GRANTS = re.compile(r"(?:GRANT|REVOKE) [A-Z, ]+ ON `\w+`\.wp_user(?:s|meta) (?:TO|FROM) `\w+`@localhost")
LITERALS = re.compile(r"'[^']*'")  # what the catalogue is asked about is no table that is opened
SITES_OWN = re.compile(r"\bwp_\w+|carnet", re.IGNORECASE)
SITE, COPY, BESIDE, GONE = "kayane", "kayane-copie", "regart", "passage"
# By whose repository it is: for whom work is done with it. A copy comes from that of the site it is a copy of.
WORKS_WITH = {SITE: (SITE, COPY), COPY: (COPY,), BESIDE: (BESIDE,)}


@dataclass(frozen=True)
class Walk:
    """A town in which everything happened, what its engine ran and what its database server was asked."""

    town: Town
    seen: list[Seen]
    administrators: list[str]
    others: list[str]

    @property
    def rights(self) -> dict[str, Rights]:
        """Return the rights of each container that ran, by its name."""
        return {one.name: one.rights(self.town.data_root) for one in self.seen}

    def secrets(self) -> dict[str, list[str]]:
        """Return what opens a repository or a database, by whose it is."""
        keys = Keys(self.town.state)
        found = {name: [keys.repository(name)] for name in (SITE, COPY, BESIDE, "control-plane")}
        sites = self.town.data_root / "sites"
        for path in sites.glob("*/generations/*/*/*.json"):
            found[path.relative_to(sites).parts[0]].append(json.loads(path.read_text())["password"])
        return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town that is not ready yet: making a host ready is watched as well."""
    place = Town(tmp_path_factory.mktemp("watched"))
    try:
        yield place
    finally:
        place.remove()


@pytest.fixture(scope="module")
def walk(empty: Town) -> Walk:
    """A host made ready, and a full site through all that happens to one."""
    with EngineView(empty, files=True) as view:
        empty.init()
        empty.create(SITE, BESIDE)
        empty.run("agreement", "sign", SITE, "--on", "2026-01-01")
        site = FullSite(empty, SITE, posts=20, media=15, media_bytes=1000, database_mb=1)
        site.fill()
        empty.sql("SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; SET GLOBAL general_log = ON")
        happen(empty)
        empty.sql("SET GLOBAL general_log = OFF")
    return Walk(empty, view.seen, statements(empty, administrators=True), statements(empty, administrators=False))


def happen(town: Town) -> None:
    """Do all that is done to a site."""
    for command in (
        ("backup", SITE),
        ("drill", SITE),
        ("restore", SITE, "--yes"),
        ("restore", SITE, "--database", "--yes"),
        ("undo", SITE, "--yes"),
        ("restore", SITE, "--files", "themes"),
        ("restore", SITE, "--after-intrusion", "--yes"),
        ("restore", SITE, "--as", COPY),
        ("export", SITE, "--to", str(town.folder / "kayane.zip")),
        ("status", SITE),
        ("status", SITE, "--snapshots"),
        ("log", SITE, "--site"),
    ):
        town.run(*command)
    rebuild(town, "6.8")
    town.run("upgrade", SITE, "--yes")
    end = ("agreement", "end", SITE, "--on", "2026-12-15", "--termination", "--reason", "essai")
    town.run(*end, PROVISION_NOW="2026-12-01T10:00")
    town.run("agreement", "close", SITE, "--yes", PROVISION_NOW="2027-01-15T10:00")
    came = town.describe(association(GONE))
    town.run("create", "--from", came, code=1, PROVISION_FAILPOINT="create.files:after:fail")
    (town.data_root / "run/sites" / GONE).mkdir()  # for doctor to remove
    town.run("nightly", code=None, PROVISION_NOW="2027-03-01T12:00")
    town.run("doctor", "--fix", code=None)


def statements(town: Town, *, administrators: bool) -> list[str]:
    """Return what was asked by the administrator's accounts, or by all others."""
    who = "REGEXP" if administrators else "NOT REGEXP"
    said = town.sql(
        "SELECT REPLACE(CONVERT(argument USING utf8mb4), '\\n', ' ') FROM mysql.general_log "
        f"WHERE command_type IN ('Query', 'Prepare', 'Execute') AND user_host {who} '^(mysql|root)[[]'"
    )
    return [line for line in said.splitlines() if "mysql.general_log" not in line]


# The database


def test_the_administrator_names_no_table_of_a_site(walk: Walk) -> None:
    named = [line for line in walk.administrators if SITES_OWN.search(LITERALS.sub("", GRANTS.sub("", line)))]
    assert named == []
    assert any(line.startswith("CREATE DATABASE") for line in walk.administrators)  # it was heard at all
    assert any("carnet" in line for line in walk.others)


# The engine


def test_what_runs_has_the_documented_rights_alone(walk: Walk) -> None:
    known = documented()
    surplus = {one.row: name for name, one in walk.rights.items() if one not in known}  # one container of each kind
    assert surplus == {}, "\n".join(sorted(surplus))


def test_the_document_lists_nothing_that_never_runs(walk: Walk) -> None:
    """An exception that nobody needs any more goes from the list."""
    assert sorted(one.row for one in documented() - set(walk.rights.values())) == []


def test_nothing_runs_privileged(walk: Walk) -> None:
    assert len(walk.seen) > 50
    for one in walk.seen:
        settings = one.settings
        assert not settings["Privileged"], one.name
        assert settings["CapDrop"] == ["ALL"], one.name
        assert settings["SecurityOpt"] == ["no-new-privileges"], one.name
        assert not settings["GroupAdd"], one.name
        assert not settings["Devices"], one.name
        assert not settings["PidMode"], one.name
        assert settings["IpcMode"] in ("private", "shareable", ""), one.name
        assert "docker.sock" not in json.dumps(one.attributes["Mounts"]), one.name


def test_nothing_is_mounted_through_what_is_not_roots(walk: Walk) -> None:
    found = {f"{one.name}: {problem}" for one in walk.seen for place in one.places for problem in place.strangers}
    assert found == set()


def test_secrets_stand_in_no_inspection(walk: Walk) -> None:
    secrets = [secret for found in walk.secrets().values() for secret in found]
    assert len(secrets) >= 7
    assert [one.name for one in walk.seen for secret in secrets if secret in one.shown] == []


def test_nobody_is_handed_a_secret_that_is_not_its_own(walk: Walk) -> None:
    """Beside a site: that site's alone. Who sees the files of any site, and a relay: none."""
    rights, secrets = walk.rights, walk.secrets()
    strangers, handed = [], 0
    for one in walk.seen:
        text = b"\n".join(one.files.values()).decode()
        held = {owner for owner, found in secrets.items() if any(secret in text for secret in found)}
        mine = {owner for owner in held for slug in WORKS_WITH.get(owner, ()) if f".{slug}." in one.name}
        allowed = {"none": held, "own": mine, "any": set[str]()}[rights[one.name].content]
        allowed = set() if ".relay." in one.name else allowed
        strangers += [f"{one.name}: {owner}" for owner in held - allowed]
        handed += len(held)
    assert strangers == []
    assert handed  # it was looked at all
