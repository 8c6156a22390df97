"""Hostile and careless input: every row of hostile.yaml that is to be refused is, without effect (H1 to H6)."""

import os
import re
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import yaml

from provisioner.cli.app import main
from provisioner.fields import visible
from tests.support.hostile import COLUMNS, REFUSED, ROWS, changed, made, name_of, word
from tests.support.registry import Registry
from tests.support.town import Town, association

pytestmark = pytest.mark.timeout(60)  # for one refusal, whatever the input
LINE = 1100  # characters of a refusal at most, whatever the input


def test_the_table_is_well_formed() -> None:
    assert len(REFUSED) > 150
    assert {row["row"] for row in ROWS} == {"H1", "H2", "H3", "H4", "H5", "H6"}
    for row in ROWS:
        assert set(row) <= COLUMNS, name_of(row)
        assert ("given" in row) != ("content" in row), name_of(row)
        assert ("says" in row) == (row["then"] == "refused"), name_of(row)
    assert [name for name, count in Counter(map(name_of, ROWS)).items() if count > 1] == []


def write(path: Path, row: Mapping[str, Any], sound: Any) -> Path:
    """Write the file of a row and return its path; some rows are about another kind of file."""
    match row.get("content"):
        case None:
            path.write_text(yaml.safe_dump(changed(sound, row["given"]), allow_unicode=True), encoding="utf-8")
        case {"place": "missing"}:
            pass
        case {"place": "directory"}:
            path.mkdir()
        case {"place": "endless"}:
            return Path("/dev/zero")
        case content:
            data = made(content)
            path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def command(row: Mapping[str, Any], town: Town, folder: Path) -> tuple[list[str], Path | None]:
    """Return the words behind `provision` that bring in a row, and the file that they name."""
    match row["through"]:
        case "argument":
            return [word(value) for value in row["given"]], None
        case "options":
            two = [f"{who} <{who}@example.org>" for who in ("presidence", "secretariat")]
            given = {"slug": "kayane", "name": "Kayane", "administrator": two, **row["given"]}
            slug = word(given.pop("slug"))
            pairs = [(key, one) for key, value in given.items() for one in (value if type(value) is list else [value])]
            return ["create", "--yes", *(f"--{key}={word(value)}" for key, value in pairs), "--", slug], None
        case "file":
            path = write(folder / "associations.yaml", row, association("kayane"))
            return ["create", "--yes", "--from", str(path)], path
        case "inventory":
            sound = {**yaml.safe_load(town.inventory.read_text(encoding="utf-8")), "state": str(town.state)}
            path = write(folder / "inventory.yaml", row, sound)
            return ["status", "--inventory", str(path)], path
    raise AssertionError(f"{name_of(row)}: through {row['through']}")


# Refused: one line, the right code, no effect


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str


def run_here(town: Town, words: list[str]) -> Ended:
    """Run `provision` in this process, by its own `main`: what it prints and returns is what an operator gets."""
    output, errors = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", ["provision", *words]),
        patch.dict(os.environ, town.environment()),
        redirect_stdout(output),
        redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Ended(cast("int", ended.value.code), output.getvalue(), errors.getvalue())


def counts(town: Town) -> dict[str, int]:
    """Return how many of each are on record, read beside `provision`."""
    with sqlite3.connect(f"file:{town.state / 'provision.db'}?mode=ro", uri=True) as database:
        tables = ("site", "contact", "agreement", "generation", "operation", "operationstep", "mail", "event")
        return {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def files(town: Town) -> set[Path]:
    """Return every file of the control plane."""
    return set(town.folder.rglob("*"))


@pytest.fixture(scope="module")
def signals() -> Iterator[None]:
    """Give the signals that `main` takes back at the end."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, signals: None) -> Town:
    """A town of which only the records exist: no command gets as far as to need a host."""
    return Registry(tmp_path_factory.mktemp("untouched"), association("known")).town


def assert_refused(row: Mapping[str, Any], ended: Ended, path: Path | None) -> None:
    """Check that a command ended with the code and the one line that the row asks for."""
    assert (ended.code, ended.output) == (row.get("code", 2), ""), ended.errors[-2000:]
    lines = ended.errors.splitlines()
    assert len(lines) == 1, ended.errors[-2000:]
    assert lines[0].startswith("provision: ")
    assert row["says"] in lines[0]
    assert len(lines[0]) < LINE + len(str(path))
    assert visible(lines[0]) == lines[0]
    if path is not None:
        place = f":{row.get('at', r'[0-9]+:[0-9]+')}"
        if "content" in row and "at" not in row:
            place = f"({place})?"  # a file that cannot be read as text has no line
        assert re.match(f"provision: {re.escape(str(path))}{place}: ", lines[0])


@pytest.mark.parametrize("row", REFUSED, ids=name_of)
def test_it_is_refused_with_one_line_and_without_effect(
    row: dict[str, Any], untouched: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(untouched.folder)
    words, path = command(row, untouched, tmp_path)
    before = counts(untouched), files(untouched)
    ended = run_here(untouched, words)
    assert_refused(row, ended, path)
    assert (counts(untouched), files(untouched)) == before


FIRST_OF_EACH = [next(rows) for _, rows in groupby(sorted(REFUSED, key=lambda r: r["through"]), lambda r: r["through"])]
NOT_UTF8 = [row for row in REFUSED if row["through"] in ("argument", "options") and "not UTF-8" in row["says"]]


@pytest.mark.parametrize("row", [*FIRST_OF_EACH, *NOT_UTF8], ids=name_of)
def test_a_process_of_its_own_says_the_same(
    row: dict[str, Any], untouched: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Town, "forks", False)
    words, path = command(row, untouched, tmp_path)
    done = untouched.run(*words, code=None)
    assert_refused(row, Ended(done.returncode, done.stdout, done.stderr), path)
