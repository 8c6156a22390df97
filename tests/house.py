"""Count the modules and commands; fail when the house outgrows its plan (docs/decisions/0011)."""

import sys
from pathlib import Path

import typer.main

from provisioner.cli.app import app

MODULES, LINES, COMMANDS = 92, 400, 32


def commands(group: typer.Typer) -> int:
    """Return how many commands a person can type."""
    groups = [sub.typer_instance for sub in group.registered_groups if sub.typer_instance is not None]
    return len(group.registered_commands) + sum(commands(sub) for sub in groups)


files = [path for path in Path("provisioner").rglob("*.py") if "versions" not in path.parts]
modules = [path for path in files if path.name != "__init__.py"]
long = [str(path) for path in modules if len(path.read_text().splitlines()) > LINES]
sys.stdout.write(f"modules: {len(modules)} of at most {MODULES}; commands: {commands(app)} of at most {COMMANDS}\n")
for path in long:
    sys.stdout.write(f"{path} has more than {LINES} lines\n")
sys.exit(bool(long) or len(modules) > MODULES or commands(app) > COMMANDS)
