"""`provision upgrade`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.operations.upgrade import Outcome, Plan


def upgrade(
    slugs: options.Slugs = None,
    everything: Annotated[bool, typer.Option("--all", help="Every site.")] = False,
    only: Annotated[
        Literal["core", "extensions"] | None,
        typer.Option(help="Only WordPress and PHP, or only plugins and themes.", show_default=False),
    ] = None,
    to: Annotated[str, typer.Option(help="Release to upgrade to; otherwise the newest build of each site's own.")] = "",
    canary: Annotated[
        list[str] | None, typer.Option(help="Site that goes before the others; may be repeated.", show_default=False)
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=8, help="Sites at a time.")] = 1,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Upgrade sites: backed up, rehearsed on twins, then switched to while they refuse writes for a moment.

    With --all and no --canary, the first site that has work goes alone. It stops at the second failure; begun again,
    it goes on.
    `provision undo SLUG` returns to the generation before.

    \b
    provision upgrade kayane --to 6.8
    provision upgrade --all --canary kayane --parallel 2
    """
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import upgrade as operation

    if bool(slugs) == everything:
        raise BadInput("name sites, or give --all", "provision upgrade --all")
    if to and only == "extensions":
        raise BadInput("--to names a release of WordPress, --only extensions leaves it as it is", "give one of them")
    installation = Installation.open(inventory)
    chosen = operation.sites(installation, list(dict.fromkeys(slugs or [])))
    if not set(canary or []) <= set(chosen):
        raise BadInput("a canary is one of the sites that are upgraded", "name it among them, or give --all")
    plans, refused = operation.plans(installation, chosen, only=only, to=to)
    first = operation.canaries(plans, canary or [], wanted=everything or bool(canary))
    shown = dry_run or not (yes or json)
    if shown:
        _show(plans, refused, first, json)
    if dry_run or (shown and not any(plan.parts for plan in plans)):
        output.end(refused, json=json)
        return
    if shown:
        typer.confirm("Upgrade them?", abort=True)
    outcomes = list(refused)
    with output.progress(not json) as progress:
        outcomes += operation.upgrade(installation, plans, first, parallel, progress)
    _tell(outcomes, json)


def _show(plans: Sequence[Plan], refused: Sequence[Outcome], first: Sequence[str], json: bool) -> None:
    from provisioner.cli import output
    from provisioner.operations.upgrade import STEPS

    if json:
        steps = [{"name": step.name, "does": step.explanation} for step in STEPS]
        output.machine({"plans": plans, "refused": refused, "canaries": first, "steps": steps})
        return
    for plan in plans:
        what = f"would bring {', '.join(plan.parts)}" if plan.parts else "is up to date"
        line = f"{plan.slug}: {what}"
        if plan.parts:
            line += f"; WordPress {plan.wordpress} → {plan.to_wordpress}, frozen for about {plan.freeze_seconds:.0f} s"
            line += ", before the others" if plan.slug in first else ""
        output.line(line)
    for outcome in (one for one in refused if one.begun):
        output.attention(outcome.slug, outcome.outcome, outcome.hint)


def _tell(outcomes: Sequence[Outcome], json: bool) -> None:
    """Print what became of each site; end with the exit code of the worst."""
    from provisioner.cli import output

    begun = [outcome for outcome in outcomes if outcome.begun]
    if json:
        output.machine(outcomes)
    else:
        for outcome in begun:
            if outcome.exit_code:
                output.attention(outcome.slug, outcome.outcome, outcome.hint)
                for difference in outcome.differences:
                    output.line(f"    {difference}")
            else:
                seconds = "" if outcome.frozen_seconds is None else f", frozen for {outcome.frozen_seconds:.1f} s"
                output.line(f"{outcome.slug}: {outcome.outcome}{seconds}")
            for held in outcome.held:
                output.line(f"    held back: {held}")
        well = sum(not outcome.exit_code for outcome in outcomes)
        output.line(f"{well} of {len(outcomes)} sites well")
    output.end(outcomes, json=json)
