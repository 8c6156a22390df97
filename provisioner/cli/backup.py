"""`provision backup`, `provision restore` and `provision drill`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.installation import Installation
    from provisioner.operations.fleet import Outcome
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
    escrow: Annotated[
        str, typer.Option(metavar="FILE", help="Instead: write what must lie in the safe; - for standard output.")
    ] = "",
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Take a verified snapshot of sites, each in a restic repository of its own; with --all of the control plane too.

    \b
    provision backup kayane
    provision backup --all
    provision backup --all --check
    provision backup --escrow escrow.yaml
    """
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import backup as operation

    if check + prune + bool(escrow) > 1:
        raise BadInput("--check, --prune and --escrow are several jobs", "run one after the other")
    if escrow and (slugs or everything):
        raise BadInput("--escrow is for everything: name no site", f"provision backup --escrow {escrow}")
    if escrow:
        _write_escrow(Installation.described(inventory), escrow, dry_run, json)
        return
    installation = Installation.open(inventory)
    chosen = _chosen(slugs, everything, "provision backup")
    if dry_run:
        verb = "check" if check else "prune" if prune else "back up"
        _tell_plan(verb, operation.plan(installation, chosen, serving=verb == "back up"), json)
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
        _tell_plan("prove", operation.plan(installation, chosen), json)
        return
    with output.progress(not json) as progress:
        outcomes = operation.drill(installation, chosen, progress)
    _tell(outcomes, json)


def restore(
    slug: Annotated[str, typer.Argument(help="The site, by its slug.", show_default=False)] = "",
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
    files: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Only this file or directory below wp-content, such as uploads/2026/11; may be repeated.",
            show_default=False,
        ),
    ] = None,
    database: Annotated[
        bool, typer.Option("--database", help="Only the database; files are those that serve now.")
    ] = False,
    control_plane: Annotated[
        bool, typer.Option("--control-plane", help="Instead: inventory and state, on a machine that has neither.")
    ] = False,
    escrow: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --control-plane: the escrow.", show_default=False)
    ] = None,
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
    provision restore kayane --files uploads/2026/11/photo.jpg
    provision restore --control-plane --escrow escrow.yaml
    """
    from dataclasses import replace

    from provisioner import clock
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import restore as operation

    _refuse_mixtures(bool(snapshot and at), sum(map(bool, (new_slug, after_intrusion, files, database))))
    moment = at.replace(tzinfo=clock.PARIS) if at else None
    if control_plane or escrow:
        if slug or not (control_plane and escrow):
            raise BadInput(
                "--control-plane and --escrow go together, without a site",
                "provision restore --control-plane --escrow FILE",
            )
        _restore_control_plane(escrow, inventory, snapshot, moment, dry_run, json)
        return
    if not slug:
        raise BadInput("which site?", "provision restore SLUG")
    installation = Installation.open(inventory)
    plan = operation.plan(installation, slug, snapshot=snapshot, at=moment)
    if new_slug:
        _copy(installation, plan, new_slug, dry_run=dry_run, json=json)
        return
    if files:
        _place(installation, plan, files, dry_run=dry_run, json=json)
        return
    if after_intrusion:
        plan = replace(plan, code=operation.code_now(installation, plan))
    if dry_run:
        _show_plan(plan, json)
        return
    if not (yes or json):
        _show_plan(plan, json)
        typer.confirm(f"{slug}: restore it? What was written since then is kept in the generation before", abort=True)
    carry_out = operation.restore_database if database else operation.restore
    carry_out = operation.restore_after_intrusion if after_intrusion else carry_out
    with output.progress(not json) as progress:
        number = carry_out(installation, plan, progress)
    if json:
        output.machine(
            {"slug": slug, "snapshot": plan.snapshot, "generation": number, "revived": plan.revives, "code": plan.code}
        )
    else:
        output.line(f"{slug}: generation {number} serves, from the snapshot of {_local(plan.taken_at)}")


def _refuse_mixtures(two_snapshots: bool, jobs: int) -> None:
    from provisioner.errors import BadInput

    if two_snapshots:
        raise BadInput("--snapshot names one, --at looks for one", "give one of them")
    if jobs > 1:
        raise BadInput("--as, --after-intrusion, --files and --database are different jobs", "run one after the other")


def _place(installation: Installation, plan: Plan, paths: Sequence[str], *, dry_run: bool, json: bool) -> None:
    from provisioner.cli import output
    from provisioner.operations import restore as operation

    if dry_run:
        _show_plan(plan, json)
        return
    with output.progress(not json) as progress:
        placed = operation.restore_files(installation, plan, paths, progress)
    if json:
        output.machine({"slug": plan.slug, "snapshot": plan.snapshot, "files": placed})
    else:
        output.line(f"{plan.slug}: {len(placed)} files are back, from the snapshot of {_local(plan.taken_at)}")


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


def _write_escrow(installation: Installation, file: str, dry_run: bool, json: bool) -> None:
    import sys

    from provisioner import escrow, eventlog
    from provisioner.cli import output
    from provisioner.errors import Unavailable
    from provisioner.keys import CONTROL_PLANE

    text = escrow.written(installation)
    if dry_run:
        output.machine({"would": "write", "file": file}) if json else output.line(f"would write the escrow to {file}")
        return
    if file == "-":
        sys.stdout.write(text)
    else:
        escrow.write(Path(file), text)
    try:
        installation.store.check()
        with installation.store.transaction() as session:
            eventlog.record(session, CONTROL_PLANE, escrow.WRITTEN)
    except Unavailable as error:  # the records are lost: what brings them back is needed all the more
        output.warn(f"not recorded: {error.message}")
    if file != "-":
        output.machine({"file": file}) if json else output.line(
            f"{file}: into the safe with it, apart from this machine and from the repositories; then delete it here"
        )


def _restore_control_plane(
    file: Path, inventory: Path | None, snapshot: str, at: datetime | None, dry_run: bool, json: bool
) -> None:
    from provisioner import escrow
    from provisioner.cli import output
    from provisioner.inventory import find
    from provisioner.operations import control_plane

    given = escrow.read(file)
    rebuilt = control_plane.restore(given, find(inventory), snapshot=snapshot, at=at, dry_run=dry_run)
    if json:
        output.machine(rebuilt)
        return
    output.line(f"control plane: snapshot {rebuilt.snapshot[:8]} of {_local(rebuilt.taken_at)}")
    for place in rebuilt.files:
        output.line(f"    {'would write' if dry_run else 'wrote'} {place}")
    if rebuilt.elsewhere:
        output.line(f"! {rebuilt.inventory} says backup.target {rebuilt.elsewhere}: change it to {given.target}")
    if dry_run:
        return
    output.line("next, once inventory.yaml describes this machine:")
    output.line("    provision init")
    if rebuilt.sites:
        output.line(f'    for site in {" ".join(rebuilt.sites)}; do provision restore "$site" --yes; done')
    output.line("    provision doctor")


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


def _tell_plan(verb: str, plan: Sequence[Outcome], json: bool) -> None:
    """Print what would be done, and what would be refused; end with the exit code of the worst refusal."""
    from provisioner.cli import output

    slugs = [one.slug for one in plan if not one.exit_code]
    refused = [one for one in plan if one.exit_code]
    if json:
        output.machine([*({"slug": slug, "would": verb} for slug in slugs), *refused])
    else:
        if slugs or not refused:
            output.line(f"would {verb}: {', '.join(slugs) or 'nothing is due'}")
        for one in refused:
            output.attention(one.slug, one.outcome, one.hint)
    output.end(plan, json=json)


def _tell(outcomes: Sequence[Outcome], json: bool) -> None:
    """Print what became of each site, with figures; end with the exit code of the worst."""
    from provisioner.cli import output
    from provisioner.operations import backup as backups

    begun = [one for one in outcomes if one.begun]
    failed = [one for one in begun if one.exit_code]
    if json:
        output.machine(outcomes)
    else:
        for one in begun:
            if one.exit_code:
                output.attention(one.slug, one.outcome, one.hint)
            elif isinstance(one, backups.Outcome) and one.snapshot:
                output.line(
                    f"{one.slug}: snapshot {one.snapshot[:8]}, {one.files} files, {output.size(one.total_bytes)}, "
                    f"{output.size(one.new_bytes)} new, {one.seconds:.1f} s"
                )
            else:
                output.line(f"{one.slug}: {one.outcome}")
        names = ", ".join(one.slug for one in failed)
        output.line(f"{len(outcomes) - len(failed)} of {len(outcomes)} well" + (f"; failed: {names}" if failed else ""))
    output.end(outcomes, json=json)
