"""`provision resume` and `provision undo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.installation import Installation

Subject = Annotated[str, typer.Argument(help="A site's slug, or host:NAME.", show_default=False)]


def resume(subject: Subject, inventory: options.Inventory = None, json: options.Json = False) -> None:
    """Go on where an interrupted operation stopped.

    \b
    provision resume kayane
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import recovery

    installation = Installation.open(inventory)
    with output.progress(not json) as progress:
        outcome = recovery.resume(installation, subject, progress)
    _tell(subject, outcome, json)


def undo(
    subject: Subject,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Take back an interrupted operation; or, where none is, return to the generation that served before.

    What was made since the last restore or upgrade is listed before you are asked.

    \b
    provision undo kayane
    """
    from provisioner.installation import Installation
    from provisioner.operations import recovery

    installation = Installation.open(inventory)
    undo = _go_back if recovery.has_ended(installation, subject) else _take_back
    undo(installation, subject, dry_run, json, yes)


def _take_back(installation: Installation, subject: str, dry_run: bool, json: bool, yes: bool) -> None:
    from provisioner.cli import output
    from provisioner.operations import recovery

    plan = recovery.plan_of_undo(installation, subject)
    if dry_run:
        if json:
            output.machine({"subject": subject, "undoes": plan})
        else:
            output.line(f"{subject}: would undo {', '.join(plan) or 'nothing'}")
        return
    if not (yes or json):
        typer.confirm(f"{subject}: undo {', '.join(plan)}?", abort=True)
    with output.progress(not json) as progress:
        outcome = recovery.undo(installation, subject, progress)
    _tell(subject, outcome, json)


def _go_back(installation: Installation, subject: str, dry_run: bool, json: bool, yes: bool) -> None:
    from provisioner.cli import output
    from provisioner.operations import undo as operation

    plan = operation.plan(installation, subject)
    if dry_run and json:
        output.machine(plan)
        return
    if not json:
        output.line(f"{subject}: back from generation {plan.leaving} to {plan.arriving} (WordPress {plan.wordpress})")
        for line in operation.report(plan):
            output.line(f"    ! {line}")
    if dry_run:
        return
    if not (yes or json):
        typer.confirm(f"{subject}: return to it? Generation {plan.leaving} is kept in its place", abort=True)
    with output.progress(not json) as progress:
        number = operation.undo(installation, subject, progress)
    if json:
        output.machine({"subject": subject, "outcome": "undo succeeded", "generation": number, "plan": plan})
    else:
        output.line(f"{subject}: generation {number} serves again")


def _tell(subject: str, outcome: str, json: bool) -> None:
    from provisioner.cli import output

    if json:
        output.machine({"subject": subject, "outcome": outcome})
    else:
        output.line(f"{subject}: {outcome}")
