"""`provision mail`."""

import typer

from provisioner.cli import options

app = typer.Typer(no_args_is_help=True, help="The outbox: mails that left, that wait, that were refused.")


@app.command("list")
def list_mails(inventory: options.Inventory = None, json: options.Json = False) -> None:
    """List the mails, with what stands as proof that they left, or why they did not.

    \b
    provision mail list
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.mail import outbox

    lines = outbox.listing(Installation.open(inventory))
    if json:
        output.machine(lines)
        return
    columns = ["mail", "site", "kind", "to", "state", "attempts", "outcome"]
    output.table(columns, [[str(m.id), m.site, m.kind, m.to, m.state, str(m.attempts), m.outcome] for m in lines])


@app.command()
def retry(inventory: options.Inventory = None, json: options.Json = False) -> None:
    """Try again now to send every mail that has not left, those that were refused for good included.

    \b
    provision mail retry
    """
    from provisioner.cli import output
    from provisioner.errors import NeedsHand
    from provisioner.installation import Installation
    from provisioner.mail import outbox

    delivery = outbox.retry(Installation.open(inventory))
    if json:
        output.machine(delivery)
    else:
        reason = f" ({delivery.reason})" if delivery.reason else ""
        output.line(f"sent {delivery.sent}, waiting {delivery.waiting}, refused for good {delivery.dead}{reason}")
    if delivery.reason:
        raise typer.Exit(NeedsHand.exit_code)
