"""`provision resume` and `provision undo`."""

from typing import Annotated

import typer

from provisioner.cli import options

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
    """Take back an interrupted operation: nothing of it stays.

    \b
    provision undo kayane
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import recovery

    installation = Installation.open(inventory)
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


def _tell(subject: str, outcome: str, json: bool) -> None:
    from provisioner.cli import output

    if json:
        output.machine({"subject": subject, "outcome": outcome})
    else:
        output.line(f"{subject}: {outcome}")
