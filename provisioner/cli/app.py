"""The `provision` program: its commands, exit codes and signals."""

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from provisioner.cli import (
    agreement,
    backup,
    contact,
    create,
    export,
    init,
    look,
    mail,
    nightly,
    recover,
    release,
    upgrade,
)
from provisioner.errors import BadInput, ProvisionError

app = typer.Typer(
    name="provision",
    help="Free websites for associations, hosted by their council, run by the associations alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init.init)
app.command()(create.create)
app.command()(upgrade.upgrade)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(backup.drill)
app.command()(export.export)
app.command()(nightly.nightly)
app.command()(nightly.serve)
app.command()(look.status)
app.command()(look.log)
app.command()(look.doctor)
app.command()(recover.resume)
app.command()(recover.undo)
app.add_typer(release.app, name="release")
app.add_typer(agreement.app, name="agreement")
app.add_typer(contact.app, name="contact")
app.add_typer(mail.app, name="mail")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"provision {version('provision')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the program; errors become one line and the exit code that docs/exit-codes.md documents."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        for argument in sys.argv:
            if any("\udc80" <= character <= "\udcff" for character in argument):  # bytes that are no text
                raise BadInput(f"{argument!r} is not UTF-8")
        sys.exit(app(standalone_mode=False))
    except typer.Abort:
        sys.exit(ProvisionError.exit_code)
    except typer.TyperException as error:  # no such command, option or argument
        where = getattr(error, "ctx", None)
        _fail(BadInput(error.format_message(), f"{where.command_path} --help" if where else ""))
    except ProvisionError as error:
        _fail(error)


def _fail(error: ProvisionError) -> NoReturn:
    from provisioner.cli import output

    if error.message:  # none: the help was printed instead
        output.fail(error)
    sys.exit(error.exit_code)


def _stop(number: int, _frame: FrameType | None) -> None:
    """Ask running operations to stop, and end the one-shots that a step waits for; a second signal stops at once."""
    journal = sys.modules.get("provisioner.journal.journal")
    one_shots = sys.modules.get("provisioner.adapters.under_way")
    if journal is None or journal.stop_requested.is_set() or not journal.operations_running():
        sys.stderr.write("provision: interrupted\n")
        if one_shots is not None:
            one_shots.stop(everything=True, wait=True)
        os._exit(128 + number)
    journal.stop_requested.set()
    if one_shots is not None:
        one_shots.stop(everything=False, wait=False)
    sys.stderr.write("provision: stopping the step under way; once more to stop at once (resumable)\n")
