"""Exit codes, command by command: what is refused never ends with 0, and what is done, or need not be, always does."""

import shlex
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.support.doors import add_plugin
from tests.support.exit_codes import ROWS
from tests.support.town import Town, association, free_port

PLUGIN = "<?php\n/* Plugin Name: Bonne extension\n * Version: {} */\n"


def describe(town: Town, name: str, *slugs: str) -> None:
    text = yaml.safe_dump([association(slug) for slug in slugs], allow_unicode=True)
    (town.folder / name).write_text(text, encoding="utf-8")


@pytest.mark.timeout(1800)  # some hundred commands in a row
def test_every_command_ends_as_the_table_says(empty_town: Town) -> None:
    """One town sees all rows of tests/support/exit_codes.py; docs/exit-codes.md has the rule."""
    town = empty_town
    mirror = town.folder / "mirror" / "plugins"
    mirror.mkdir(parents=True)
    policy = {"extensions": {"mirror": "mirror", "after_days": 0}}
    server = {"host": "127.0.0.1", "port": free_port(), "security": "none"}
    town.write_inventory(policy=policy, mail={"sender": "associations@example.org", "server": server})
    (town.folder / "no-mail.yaml").write_bytes(town.inventory.read_bytes())
    town.write_inventory(policy=policy)
    describe(town, "two.yaml", "kayane", "regart")
    describe(town, "moon.yaml", "lune")
    describe(town, "three.yaml", "kayane", "lune", "soleil")

    wrong = []
    for row in ROWS:
        if (row.command, row.case) == ("upgrade", "done"):
            new_plugin(town, mirror)
        arguments = [word.format(folder=town.folder) for word in shlex.split(row.arguments)]
        environment = {name: value.format(folder=town.folder) for name, value in row.environment.items()}
        done = town.run(*row.command.split(), *arguments, code=None, **environment)
        if done.returncode != row.code:
            wrong.append(
                f"{row.command} {row.arguments}: {done.returncode}, not {row.code}: {done.stderr}{done.stdout}"
            )
        elif row.code > 0:
            assert done.stderr + done.stdout, f"{row.command} {row.arguments} says nothing"
    assert not wrong, "\n".join(wrong)


def new_plugin(town: Town, mirror: Path) -> None:
    """Give a site a plugin that is older than the mirror's."""
    add_plugin(town, "kayane", "bonne", PLUGIN.format("1.0"))
    with zipfile.ZipFile(mirror / "bonne-2.0.zip", "w") as archive:
        archive.writestr("bonne/bonne.php", PLUGIN.format("2.0"))
