"""`provision contact`."""

from typing import Annotated

import typer

from provisioner.cli import options

app = typer.Typer(no_args_is_help=True, help="Contacts of an association.")


@app.callback()
def _group() -> None:
    pass


@app.command()
def invite(
    slug: options.Slug,
    mail: Annotated[str, typer.Argument(help="Mail address of one of its administrators.", show_default=False)],
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Send an administrator a new single-use link that sets a password, in place of one that expired or got lost.

    \b
    provision contact invite kayane presidence.kayane@example.org
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import invite as operation

    installation = Installation.open(inventory)
    with output.progress(not json) as progress:
        delivery = operation.invite(installation, slug, mail, progress)
    if json:
        output.machine(delivery)
    else:
        waits = f"; it waits: {delivery.reason}" if delivery.waiting or delivery.dead else ""
        output.line(f"{slug}: {mail} has a new invitation{waits}")
