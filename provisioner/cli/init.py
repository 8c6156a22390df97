"""`provision init`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from provisioner.cli import options


def init(
    council: Annotated[str | None, typer.Option(help="Full name of the council.")] = None,
    address: Annotated[str | None, typer.Option(help="Its postal address, on one line.")] = None,
    telephone: Annotated[str | None, typer.Option(help="Its telephone number.")] = None,
    mail: Annotated[str | None, typer.Option(help="Where associations ask for help.")] = None,
    domain: Annotated[str | None, typer.Option(help="Domain under which the sites get their names.")] = None,
    mail_server: Annotated[
        str | None, typer.Option(help="SMTP server, HOST or HOST:PORT; 'none' writes mails to a folder.")
    ] = None,
    backup_target: Annotated[str | None, typer.Option(help="Directory or restic repository prefix.")] = None,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Make the hosts ready: images, database, edge, cron, certificates. Without an inventory, ask and write one.

    \b
    provision init
    provision init --domain assos.example.test --council 'Commune' --mail asso@example.org --mail-server none --yes
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.inventory import find
    from provisioner.operations import doctor
    from provisioner.operations import init as operation

    path = find(inventory)
    given: dict[str, str | None] = {
        "council": council,
        "address": address,
        "telephone": telephone,
        "mail": mail,
        "domain": domain,
        "mail_server": mail_server,
        "backup_target": backup_target,
    }
    if not os.path.exists(path):  # Path.exists raises on a name that is too long
        _write_inventory(path, given, ask=sys.stdin.isatty() and not yes, dry_run=dry_run)
    elif any(given.values()):
        from provisioner.errors import BadInput

        raise BadInput(f"{path} exists: change it there, then run provision init without these options")
    if dry_run:
        steps = [{"name": step.name, "does": step.explanation} for step in operation.STEPS]
        if json:
            output.machine({"operation": operation.KIND, "steps": steps})
        else:
            output.table(["step", "does"], [[step["name"], step["does"]] for step in steps])
        return
    installation = Installation.described(path)
    with output.progress(not json) as progress:
        operation.init(installation, progress, tell=lambda line: progress("building", line[:60], 0, 1))
    findings = doctor.examine(installation)
    result = {
        "inventory": str(path),
        "hosts": [host.name for host in installation.inventory.hosts],
        "root": str(installation.authority.root),
        "mails": str(installation.mail_folder) if installation.inventory.mail.server is None else None,
        "findings": findings,
    }
    if json:
        output.machine(result)
        return
    output.line(f"ready: {', '.join(host.name for host in installation.inventory.hosts)}")
    output.line(f"root certificate to trust: {installation.authority.root}")
    if installation.inventory.mail.server is None:
        output.line(f"mails are written to: {installation.mail_folder}")
    for finding in findings:
        output.attention(finding.subject, finding.problem, finding.mend)


def _write_inventory(path: Path, given: dict[str, str | None], *, ask: bool, dry_run: bool) -> None:
    """Write an inventory from what was given and, when a person is there, what they answer."""
    from provisioner.errors import BadInput
    from provisioner.operations import init as operation

    questions: dict[str, tuple[str, str | None]] = {
        "council": ("Full name of the council", None),
        "address": ("Its postal address, on one line", None),
        "telephone": ("Its telephone number", None),
        "mail": ("Where associations ask for help (mail address)", None),
        "domain": ("Domain of the sites, such as assos.example.test", None),
        "mail_server": ("SMTP server (HOST or HOST:PORT), or none", "none"),
        "backup_target": ("Backup target", "backups"),
    }
    answers: dict[str, Any] = {}
    for key, (question, default) in questions.items():
        answers[key] = given[key] or (typer.prompt(question, default=default) if ask else default)
        if answers[key] is None:
            raise BadInput(
                f"{path}: no such inventory, and --{key.replace('_', '-')} was not given",
                "provision init   at a terminal, which asks",
            )
    operation.write_inventory(path, answers, dry_run=dry_run)
