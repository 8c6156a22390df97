"""`provision mail`."""

from typing import Annotated

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
def retry(
    due: Annotated[
        bool, typer.Option("--due", help="Only what is due, for cron: a refused mail waits longer.")
    ] = False,
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Try again now to send every mail that has not left, those that were refused for good included.

    \b
    provision mail retry
    provision mail retry --due
    """
    from provisioner.cli import output
    from provisioner.errors import NeedsHand
    from provisioner.installation import Installation
    from provisioner.mail import outbox

    installation = Installation.open(inventory)
    delivery = outbox.deliver_due(installation) if due else outbox.retry(installation)
    if json:
        output.machine(delivery)
    else:
        withdrawn = f", withdrawn {delivery.withdrawn}" if delivery.withdrawn else ""
        reason = f" ({delivery.reason})" if delivery.reason else ""
        left = f"sent {delivery.sent}, waiting {delivery.waiting}, refused for good {delivery.dead}"
        output.line(f"{left}{withdrawn}{reason}")
    if delivery.reason:
        raise typer.Exit(NeedsHand.exit_code)


@app.command("test")
def send_test(
    address: Annotated[str, typer.Argument(help="Where the mail goes.", show_default=False)],
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Send one mail now, to see whether mails leave, and say what the server answered.

    \b
    provision mail test informatique@example.org
    """
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.fields import mail_address
    from provisioner.installation import Installation
    from provisioner.mail import outbox

    try:
        mail_address(address)
    except ValueError as error:
        raise BadInput(str(error)) from None
    proof = outbox.send_test(Installation.open(inventory), address)
    if json:
        output.machine({"to": address, "outcome": proof})
    else:
        output.line(f"{address}: {proof}")


@app.command()
def confirm(
    inventory: options.Inventory = None,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Say that the clock is right although it jumped, and send the reminders that wait for that.

    A clock that does not fit the runs before it holds reminders and closings back: after a long time off, or because it
    is wrong. This shows the date and the list, and asks. It holds for that list; from then on the clock is believed
    until it jumps again. With --json it shows what waits, and confirms with --yes only.

    \b
    provision mail confirm
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import remind

    installation = Installation.open(inventory)
    held = remind.held(installation)
    if json:
        output.machine(remind.confirm(installation, held) if held and yes else held)
        return
    if held is None:
        output.line("the clock fits the last runs: nothing waits for it")
        return
    output.line(held.why)
    output.table(["site", "reminder"], [list(row) for row in held.reminders])
    output.line(f"{len(held.reminders)} reminders would leave, {held.mails} queued mails would be looked at again")
    if not yes:
        typer.confirm(f"is it really {held.today} today?", abort=True)
    reminded = remind.confirm(installation, held)
    output.line(f"queued {len(reminded.queued)} reminders, sent {reminded.delivery.sent} mails")
