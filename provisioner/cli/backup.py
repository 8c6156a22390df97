"""`provision backup`, `provision restore` and `provision drill`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.installation import Installation
    from provisioner.operations.restore import Plan


def backup(
    slugs: options.Slugs = None,
    everything: Annotated[bool, typer.Option("--all", help="Every site.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Instead: check the repositories, and read a part of their data.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Instead: remove the snapshots that the inventory does not keep.")
    ] = False,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Take a verified snapshot of sites, each in a restic repository of its own.

    \b
    provision backup kayane
    provision backup --all
    provision backup --all --check
    """
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import backup as operation

    if check and prune:
        raise BadInput("--check and --prune are two jobs", "run one after the other")
    installation = Installation.open(inventory)
    chosen = _chosen(slugs, everything, "provision backup")
    if dry_run:
        verb = "check" if check else "prune" if prune else "back up"
        _tell_plan(verb, operation.sites(installation, chosen), json)
        return
    if check:
        outcomes = operation.check(installation, chosen)
    elif prune:
        outcomes = operation.prune(installation, chosen, allow_many=yes)
    else:
        with output.progress(not json) as progress:
            outcomes = operation.backup(installation, chosen, progress)
    _tell(outcomes, json)


def drill(
    slugs: options.Slugs = None,
    due: Annotated[
        bool, typer.Option("--due", help="The sites whose proof is due, the longest unproven first.")
    ] = False,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Restore the newest snapshot of sites for proof, where nobody sees it; compare it, and record the evidence.

    \b
    provision drill kayane
    provision drill --due
    """
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import drill as operation

    if bool(slugs) == due:
        raise BadInput("name sites, or give --due", "provision drill --due")
    installation = Installation.open(inventory)
    chosen = operation.due(installation) if due else slugs or []
    if dry_run:
        _tell_plan("prove", chosen, json)
        return
    with output.progress(not json) as progress:
        outcomes = operation.drill(installation, chosen, progress)
    _tell(outcomes, json)


def restore(
    slug: options.Slug,
    snapshot: Annotated[
        str, typer.Option(help="Id of the snapshot, or its beginning; the newest if none is given.")
    ] = "",
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d"],
            help="The newest snapshot of that time (Europe/Paris) or before.",
            show_default=False,
        ),
    ] = None,
    new_slug: Annotated[
        str, typer.Option("--as", help="Make another site of it, of this slug; its own site is left alone.")
    ] = "",
    after_intrusion: Annotated[
        bool,
        typer.Option(
            "--after-intrusion", help="New salts, no session or application password, and code files compared."
        ),
    ] = False,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Put a site back to a snapshot; what serves now is kept, and `provision undo` returns to it.

    \b
    provision restore kayane --at "2026-09-01 03:00"
    provision restore kayane --as kayane-essai
    provision restore kayane --at 2026-09-01 --after-intrusion
    """
    from dataclasses import replace

    from provisioner import clock
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import restore as operation

    if snapshot and at:
        raise BadInput("--snapshot names one, --at looks for one", "give one of them")
    if new_slug and after_intrusion:
        raise BadInput("--as leaves the site alone, --after-intrusion cleans it", "run one after the other")
    installation = Installation.open(inventory)
    moment = at.replace(tzinfo=clock.PARIS) if at else None
    plan = operation.plan(installation, slug, snapshot=snapshot, at=moment)
    if new_slug:
        _copy(installation, plan, new_slug, dry_run=dry_run, json=json)
        return
    if after_intrusion:
        plan = replace(plan, code=operation.code_now(installation, plan))
    if dry_run:
        _show_plan(plan, json)
        return
    if not (yes or json):
        _show_plan(plan, json)
        typer.confirm(f"{slug}: restore it? What was written since then is kept in the generation before", abort=True)
    carry_out = operation.restore_after_intrusion if after_intrusion else operation.restore
    with output.progress(not json) as progress:
        number = carry_out(installation, plan, progress)
    if json:
        output.machine(
            {"slug": slug, "snapshot": plan.snapshot, "generation": number, "revived": plan.revives, "code": plan.code}
        )
    else:
        output.line(f"{slug}: generation {number} serves, from the snapshot of {_local(plan.taken_at)}")


def _copy(installation: Installation, plan: Plan, slug: str, *, dry_run: bool, json: bool) -> None:
    from provisioner.cli import output
    from provisioner.operations import copy_site

    spec = copy_site.check(installation, plan, slug)
    if dry_run:
        _show_plan(plan, json)
        return
    with output.progress(not json) as progress:
        url = copy_site.copy_site(installation, plan, spec, progress)
    if json:
        output.machine({"slug": slug, "snapshot": plan.snapshot, "url": url})
    else:
        output.line(f"{slug}: made of {plan.slug}'s snapshot of {_local(plan.taken_at)}  {url}")


def _chosen(slugs: list[str] | None, everything: bool, command: str) -> list[str]:
    from provisioner.errors import BadInput

    if bool(slugs) == everything:
        raise BadInput("name sites, or give --all", f"{command} --all")
    return list(dict.fromkeys(slugs or []))


def _show_plan(plan: Plan, json: bool) -> None:
    from provisioner.cli import output

    if json:
        output.machine(plan)
        return
    output.line(f"{plan.slug}: snapshot {plan.snapshot[:8]} of {_local(plan.taken_at)}")
    manifest = plan.manifest
    output.line(
        f"    WordPress {manifest['wordpress']}, {manifest['content']['files']} files, "
        f"{sum(manifest['database']['rows'].values())} rows"
    )
    for kind, names in (plan.revives or {}).items():
        if names:
            output.line(f"    ! it would bring back {kind.replace('_', ' ')}: {', '.join(names)}")
    for kind, paths in (plan.code or {}).items():
        for path in paths:
            output.line(f"    ! code {kind} since: {path}")


def _local(moment: datetime) -> str:
    from provisioner import clock

    return f"{moment.astimezone(clock.PARIS):%Y-%m-%d %H:%M:%S}"


def _tell_plan(verb: str, slugs: Sequence[str], json: bool) -> None:
    from provisioner.cli import output

    if json:
        output.machine([{"slug": slug, "would": verb} for slug in slugs])
    else:
        output.line(f"would {verb}: {', '.join(slugs) or 'nothing is due'}")


def _tell(outcomes: Sequence[Any], json: bool) -> None:
    """Print what became of each site, with figures; end with the exit code of the worst."""
    from provisioner.cli import output

    failed = [one for one in outcomes if one.exit_code]
    if json:
        output.machine(outcomes)
    else:
        for one in outcomes:
            if one.exit_code:
                output.attention(one.slug, one.outcome, one.hint)
            elif getattr(one, "snapshot", "") and hasattr(one, "new_bytes"):
                output.line(
                    f"{one.slug}: snapshot {one.snapshot[:8]}, {one.files} files, {output.size(one.total_bytes)}, "
                    f"{output.size(one.new_bytes)} new, {one.seconds:.1f} s"
                )
            else:
                output.line(f"{one.slug}: {one.outcome}")
        output.line(f"{len(outcomes) - len(failed)} of {len(outcomes)} sites well")
    if failed:
        raise typer.Exit(max(one.exit_code for one in failed))
