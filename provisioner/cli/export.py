"""`provision export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.operations.export import Exported, Plan


def export(
    slug: options.Slug,
    to: Annotated[
        Path | None,
        typer.Option(help="File to write, or folder; SLUG-YYYY-MM-DD.zip in the current folder if none is given."),
    ] = None,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Write one archive of all that an association owns, which it can open without us.

    Database, WordPress's own export, media, plugins, themes, a copy of the pages, checksums, and how to start again.

    \b
    provision export kayane
    provision export kayane --to /media/usb
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import export as operation

    installation = Installation.open(inventory)
    plan = operation.plan(installation, slug, to)
    if dry_run:
        _show_plan(plan, json)
        return
    with output.progress(not json) as progress:
        exported = operation.export(installation, plan, progress)
    if json:
        output.machine(exported)
    else:
        _tell(exported)


def _show_plan(plan: Plan, json: bool) -> None:
    from provisioner.cli import output

    if json:
        output.machine(plan)
        return
    output.line(
        f"would write {plan.file}: {plan.files} files, {output.size(plan.content_bytes)}, "
        f"and a database of {output.size(plan.database_bytes)}"
    )
    output.line(
        f"    at most {output.size(plan.needed_bytes)} on the host meanwhile, {output.size(plan.free_bytes)} are free"
    )


def _tell(exported: Exported) -> None:
    from provisioner.cli import output

    output.line(
        f"{exported.slug}: {exported.file}, {exported.files} files, {exported.pages} pages, "
        f"{output.size(exported.bytes)}, {exported.seconds:.1f} s"
    )
    output.line(f"    sha256 {exported.sha256}")
    for count, what in (
        (exported.pages_left_out, "pages beyond the first 5000 are not in the copy of the pages"),
        (len(exported.pages_missing), f"published pages do not answer, such as {exported.pages_missing[:1]}"),
        (exported.links_left_out, "symbolic links in the site's files are left out"),
    ):
        if count:
            output.warn(f"{exported.slug}: {count} {what}")
