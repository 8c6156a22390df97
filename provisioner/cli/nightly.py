"""`provision nightly` and `provision serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.operations.nightly import Job, Summary


def nightly(
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Do all that is due at night, past whatever fails, and say in one summary what a person must look at.

    Exit code 3: there is something. Begun again, it does what is left.

    \b
    provision nightly --dry-run
    provision nightly
    """
    from provisioner.cli import output
    from provisioner.errors import Interrupted, NeedsHand
    from provisioner.installation import Installation
    from provisioner.operations import nightly as operation

    installation = Installation.open(inventory)
    if dry_run:
        due = operation.due(installation)
        if json:
            output.machine(due)
            return
        for name, subjects in due.items():
            output.line(f"{name}: {', '.join(subjects) or 'nothing is due'}")
        return
    with output.progress(not json) as progress:
        summary = operation.run(installation, progress=progress)
    if json:
        output.machine(summary)
    else:
        _tell(summary)
    if summary.outcome == operation.STOPPED:
        raise typer.Exit(Interrupted.exit_code)
    if summary.failures:
        raise typer.Exit(NeedsHand.exit_code)


def serve(
    jobs: Annotated[bool, typer.Option("--jobs", help="Instead: list the jobs, and when they are done.")] = False,
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Stay, and do each job when it is due: the night at the council's hour, what was missed as soon as it starts.

    Of two on the same state one works and the other waits. SIGTERM or Ctrl-C: it ends between two sites.

    \b
    provision serve
    provision serve --jobs
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import nightly as table
    from provisioner.operations import serve as operation

    installation = Installation.open(inventory)
    if jobs:
        hour = installation.inventory.policy.nightly.hour
        rows = [[job.name, _when(job, hour), job.does] for job in table.JOBS]
        if json:
            output.machine([dict(zip(("name", "when", "does"), row, strict=True)) for row in rows])
        else:
            output.table(["job", "when (Europe/Paris)", "what it does"], rows)
        return
    operation.serve(installation, output.now)


def _when(job: Job, hour: int) -> str:
    night = f"at night, {hour:02}:00" if job.at_night else ""
    often = f"every {job.minutes} minutes" if job.minutes else ""
    weekly = f"Mondays, {hour:02}:00" if job.weekday == 0 else ""
    return "; ".join(when for when in (night, often, weekly) if when)


def _tell(summary: Summary) -> None:
    from provisioner.cli import output

    for name, results in summary.jobs.items():
        failed = [one for one in results if one.exit_code]
        left = summary.left.get(name, [])
        if results and left != [name]:
            output.line(f"{name}: {len(results) - len(failed)} of {len(results)} well")
        for one in failed:
            if one.subject not in left:
                output.attention(one.subject, one.outcome, one.hint)
    for name, subjects in summary.left.items():
        output.line(f"! stopped, not begun: {name}" + ("" if subjects == [name] else f" of {', '.join(subjects)}"))
    output.line(f"the night: {summary.outcome}, {len(summary.failures)} need a person")
