"""`provision agreement`."""

from datetime import datetime
from typing import Annotated

import typer

from provisioner.cli import options

app = typer.Typer(no_args_is_help=True, help="Agreements: three years, renewed tacitly, nine years at most.")


@app.callback()
def _group() -> None:
    pass


@app.command()
def sign(
    slug: options.Slug,
    on: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Day of the signature.", show_default=False)],
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Record that an agreement was signed: its site goes online, search engines are welcome.

    \b
    provision agreement sign kayane --on 2026-09-01
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import sign as operation

    installation = Installation.open(inventory)
    if dry_run:
        operation.check(installation, slug, on.date())
        output.line(f"{slug}: would be online, signed on {on.date()}")
        return
    with output.progress(not json) as progress:
        operation.sign(installation, slug, on.date(), progress)
    if json:
        output.machine({"slug": slug, "signed_on": on.date(), "state": "online"})
    else:
        output.line(f"{slug}: agreement signed on {on.date()}, the site is online")
