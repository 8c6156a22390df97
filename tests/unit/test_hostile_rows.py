"""No operation and no command that looks at a site is left out of the hostile site's matrix."""

from collections.abc import Iterator, Sequence
from typing import Any

import typer

from provisioner.cli.app import app
from provisioner.operations.recovery import RECIPES
from tests.support.hostile_rows import ELSEWHERE, INDIFFERENT, ROWS, SHARED, Row
from tests.support.hostile_site import ANSWERS, PAGES, TRICKS

WORDS = [row.command.split() for row in ROWS] + [row.failpoint.split() for row in ROWS if row.failpoint]
SOME = [row for row in ROWS if not row.whole]  # those of `make test`


def commands(group: Any = None, *path: str) -> Iterator[tuple[str, Any]]:
    """Yield every command of the command line with its words."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield " ".join((*path, name)), command


def rows_of(name: str) -> list[list[str]]:
    return [words for words in WORDS if words[: len(name.split())] == name.split()]


def is_in(rows: Sequence[Row], name: str) -> bool:
    return any(row.command.split()[: len(name.split())] == name.split() for row in rows)


def test_every_operation_meets_the_hostile_site() -> None:
    assert set(RECIPES) - {kind for row in SOME for kind in row.kinds} == set()


def test_every_command_meets_the_hostile_site() -> None:
    known = [name for name, _ in commands()]
    assert len(known) > 15
    assert [name for name in known if not is_in(SOME, name) and name not in ELSEWHERE] == []
    assert set(ELSEWHERE) <= set(known)


def test_every_option_meets_it_or_makes_no_difference() -> None:
    missing = []
    for name, command in commands():
        indifferent = INDIFFERENT.get(name, {})
        if name in ELSEWHERE or "*" in indifferent:
            continue
        known = {word for words in rows_of(name) for word in words} | set(SHARED) | set(indifferent)
        for parameter in command.params:
            options = {option for option in parameter.opts if option.startswith("--")}
            if options and not options & known:
                missing.append(f"{name} {min(options)}")
    assert missing == []


def test_the_rows_name_what_there_is() -> None:
    known = [name for name, _ in commands()]
    for words, row in zip(WORDS, ROWS, strict=False):
        assert any(words[: len(name.split())] == name.split() for name in known), row.command
        assert row.page in PAGES
        assert row.answer in ANSWERS
        assert set(row.also) <= set(TRICKS)
    assert set(PAGES) - {row.page for row in ROWS} == {"neighbour"}
    assert len({row.name for row in ROWS}) == len(ROWS)
