"""An operation killed at each of its steps: once each step acted and resumed, or once each is taken back."""

from collections.abc import Callable

from provisioner.operations.recovery import RECIPES
from tests.support.town import Town

DIED = -9  # of SIGKILL
WITH_MIDDLE = {"files", "database", "flip", "edge", "snapshot", "pack", "fetch", "twins", "rehearse", "switch", "lock"}


def steps_of(kind: str) -> list[str]:
    """Return the steps of a kind of operation, as failpoints name them.

    A test that kills at each of them says so by the mark `kills`: test_suite.py looks that no kind is left out.
    """
    return [f"{kind}.{step.name}" for step in RECIPES[kind].steps]


def points(steps: list[str]) -> list[str]:
    """Return every place of every step."""
    return [
        f"{step}:{place}"
        for step in steps
        for place in ("before", "middle", "after")
        if place != "middle" or step.rpartition(".")[2] in WITH_MIDDLE
    ]


def die_after_each(
    town: Town, steps: list[str], subject: str, *command: str, meanwhile: Callable[[], None] | None = None
) -> None:
    """Kill a command once its first step acted, then each resume once the next one did; the last resume ends well.

    ``meanwhile`` checks what must hold while nothing is resumed yet.
    """
    for step in steps:
        town.run(*command, code=DIED, PROVISION_FAILPOINT=f"{step}:after:kill")
        if meanwhile is not None:
            meanwhile()
        command = ("resume", subject)
    town.run(*command)


def die_undoing_each(town: Town, steps: list[str], subject: str, *command: str) -> None:
    """Kill a command once the last of ``steps`` acted, then each undo before it takes back the next; one ends well."""
    town.run(*command, code=DIED, PROVISION_FAILPOINT=f"{steps[-1]}:after:kill")
    for step in reversed(steps):
        town.run("undo", subject, "--yes", code=DIED, PROVISION_FAILPOINT=f"{step}:undo:kill")
    town.run("undo", subject, "--yes")
