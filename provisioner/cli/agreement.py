"""`provision agreement`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.agreement.acts import Giver
from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.installation import Installation
    from provisioner.operations.agreement import Ending

app = typer.Typer(no_args_is_help=True, help="Agreements: three years, renewed tacitly, nine years at most.")
DAY = ["%Y-%m-%d"]


@app.command()
def preview(
    start: Annotated[datetime, typer.Option(formats=DAY, help="First day of the agreement.", show_default=False)],
    notice_months: Annotated[
        int | None, typer.Option(min=0, max=12, help="Notice period; the inventory's by default, else 3.")
    ] = None,
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Show the terms, notice deadlines and reminders of an agreement for any first day; needs no installation.

    \b
    provision agreement preview --start 2028-02-29
    """
    from provisioner import inventory as inventories
    from provisioner.cli import output
    from provisioner.operations import register

    place = inventories.find(inventory)
    wanted = inventory is not None or place.exists()
    known = inventories.load(place) if wanted else None
    policy = known.policy.agreement if known else inventories.AgreementPolicy()
    local = known is not None and known.legal.alsace_moselle
    found = register.preview(policy, start.date(), notice_months, alsace_moselle=local)
    if json:
        output.machine(found)
        return
    rows = [[str(n), str(t.start), str(t.end), str(t.notice_by or "-")] for n, t in enumerate(found.terms, 1)]
    output.table(["term", "start", "end", "notice by"], rows)
    columns = ["leaves on", "reminder", "term", "makes sense until"]
    output.table(columns, [[str(r.on), r.kind, str(r.term), str(r.valid_until)] for r in found.reminders])


@app.command()
def sign(
    slug: options.Slug,
    on: Annotated[datetime, typer.Option(formats=DAY, help="Day of the signature.", show_default=False)],
    copy: Annotated[Path | None, typer.Option(help="The signed copy, a PDF, to be kept.", show_default=False)] = None,
    start: Annotated[
        datetime | None,
        typer.Option(formats=DAY, help="First day of a new agreement; the day after the last one.", show_default=False),
    ] = None,
    retroactive: Annotated[
        bool, typer.Option("--retroactive", help="A new agreement's first day before its signature is meant.")
    ] = False,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Record that an agreement was signed: its site goes online, search engines are welcome.

    Where the agreement before ends, a new one takes its place: a closing is cancelled, a closed site is opened again.
    It begins on the day after the one before, or within six months of it.

    \b
    provision agreement sign kayane --on 2026-09-01 --copy kayane-signed.pdf
    provision agreement sign kayane --on 2035-06-20 --start 2035-09-15
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import agreement as operation

    installation = Installation.open(inventory)
    first_day = start.date() if start else None
    arguments = operation.check_signature(installation, slug, on.date(), copy, first_day, retroactive=retroactive)
    begins = f"; the new agreement begins on {arguments['start']}" if "start" in arguments else ""
    if dry_run:
        output.line(f"{slug}: would be online, signed on {on.date()}{begins}")
        return
    with output.progress(not json) as progress:
        operation.sign(installation, slug, arguments, progress)
    if json:
        output.machine({"slug": slug, "signed_on": on.date(), "state": "online"})
    else:
        output.line(f"{slug}: agreement signed on {on.date()}, the site is online{begins}")


@app.command()
def end(
    slug: options.Slug,
    on: Annotated[
        datetime | None,
        typer.Option(
            formats=DAY,
            help="Day on which the notice was received; or first day without agreement.",
            show_default=False,
        ),
    ] = None,
    notice: Annotated[bool, typer.Option("--notice", help="Notice was given: no further term.")] = False,
    by: Annotated[str | None, typer.Option(help="The person who gave notice.", show_default=False)] = None,
    giver: Annotated[
        Giver | None, typer.Option("--from", help="The party that gave it; association by default.", show_default=False)
    ] = None,
    accept_late: Annotated[
        bool, typer.Option("--accept-late", help="You decided that a late notice counts all the same.")
    ] = False,
    next_term: Annotated[
        bool, typer.Option("--next-term", help="You decided that a late notice counts for the end of the next term.")
    ] = False,
    termination: Annotated[bool, typer.Option("--termination", help="It is terminated before its term.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is terminated.", show_default=False)] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Take notice or termination back.")] = False,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Record notice or termination and plan the closing of the site; or take that back. Every contact gets a mail.

    --on is the day on which a notice was received, or the first day without agreement of a termination. A notice that
    is recorded after the term has ended asks for --yes.

    \b
    provision agreement end kayane --on 2029-05-02 --notice --by 'Présidence de Kayane'
    provision agreement end kayane --on 2029-05-02 --notice --from council --by 'Le maire'
    provision agreement end kayane --on 2027-01-01 --termination --reason 'the association is dissolved'
    provision agreement end kayane --cancel
    """
    from provisioner.agreement.acts import Late
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import agreement as operation

    if (notice, termination, cancel).count(True) != 1:
        raise BadInput("one of --notice, --termination and --cancel is expected", "provision agreement end --help")
    _refuse_strays({"--by": by, "--from": giver, "--accept-late": accept_late, "--next-term": next_term}, notice)
    _refuse_strays({"--reason": reason}, termination)
    _refuse_strays({"--on": on}, notice or termination)
    if accept_late and next_term:
        raise BadInput(
            "a late notice counts for one term: --accept-late or --next-term", "provision agreement end --help"
        )
    installation = Installation.open(inventory)
    would = "would be" if dry_run else "is"
    if cancel:
        kept = operation.take_back(installation, slug, dry_run=dry_run)
        if json:
            output.machine(kept)
            return
        planned = "; ".join(f"{kind.value} on {on}" for on, kind in kept.planned.to_come) if kept.planned else "none"
        output.line(f"{slug}: its agreement {would} {kept.state.value} again, its site {would} {kept.site.value}")
        output.line(f"planned: {planned}")
        return
    if on is None:
        raise BadInput("--on DATE is missing", "provision agreement end --help")
    if notice:
        person = operation.one_line("--by", by)
        decided = {(True, False): Late.COUNTS, (False, True): Late.NEXT_TERM}.get((accept_late, next_term))
        giver = giver or Giver.ASSOCIATION
        ending = operation.give_notice(
            installation, slug, on.date(), person, giver, decided=decided, confirmed=yes, dry_run=dry_run
        )
    else:
        ending = operation.terminate(
            installation, slug, on.date(), operation.one_line("--reason", reason), dry_run=dry_run
        )
    if json:
        output.machine(ending)
    else:
        _tell_ending(ending, giver, would)


def _tell_ending(ending: Ending, giver: Giver | None, would: str) -> None:
    from provisioner.cli import output

    by_whom = f", by notice from the {giver}" if giver else ""
    output.line(
        f"{ending.slug}: its agreement {would} {ending.state.value}, its last day {would} {ending.ends}{by_whom}"
    )
    output.line(f"planned: read-only on {ending.read_only}, archived on {ending.archive}")
    output.line(f"to take it back, until its last day: provision agreement end {ending.slug} --cancel")


@app.command()
def close(
    slug: options.Slug,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Make a site read-only whose agreement is over, as planned: it is read on, administrators log in and export.

    Opened again by a new agreement.

    \b
    provision agreement close kayane --dry-run
    provision agreement close kayane
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import agreement as operation

    installation = Installation.open(inventory)
    closed = operation.check_closing(installation, slug)
    if not (dry_run or yes or json):
        typer.confirm(f"{slug}: make it read-only now, exports offered until {closed.export_until}?", abort=True)
    if not dry_run:
        with output.progress(not json) as progress:
            closed = operation.close(installation, slug, progress)
    if json:
        output.machine(closed)
        return
    would = "would be" if dry_run else "is"
    output.line(
        f"{slug}: {would} read-only from {closed.read_only} on, exports are offered until {closed.export_until}"
    )
    output.line(f"for the association: provision export {slug}")


def _refuse_strays(options_given: dict[str, object], belong: bool) -> None:
    """Refuse options that belong to another way of ending."""
    from provisioner.errors import BadInput

    for option, given in options_given.items():
        if given and not belong:
            raise BadInput(f"{option} has no meaning here", "provision agreement end --help")


@app.command("list")
def list_due(
    months: Annotated[int, typer.Option(min=0, max=1200, help="How many months ahead.")] = 12,
    ics: Annotated[Path | None, typer.Option(help="Write a calendar to this file.", show_default=False)] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a spreadsheet to this file.", show_default=False)] = None,
    statement: Annotated[
        int | None, typer.Option(min=2000, max=2200, help="Instead: the value of the aid in this year.")
    ] = None,
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """List what is due: signatures, notice deadlines, renewals, ends, planned closings. Or state the aid's value.

    \b
    provision agreement list --months 6
    provision agreement list --ics agreements.ics
    provision agreement list --statement 2026 --csv aid-2026.csv
    """
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import register

    installation = Installation.open(inventory)
    if statement is not None:
        if ics is not None:
            raise BadInput("--statement is no calendar: leave out --ics")
        _state_aid(installation, statement, csv, json)
        return
    items = register.due(installation, months)
    if ics is not None:
        output.to_file(ics, register.calendar(installation, items))
    if csv is not None:
        output.to_file(csv, register.sheet_of_due(items))
    if json:
        output.machine(items)
    elif ics is None and csv is None:
        if not items:
            output.line(f"nothing is due in the next {months} months")
            return
        rows = [[str(i.on), i.slug, i.name, i.state, i.kind, str(i.term)] for i in items]
        output.table(["on", "site", "name", "agreement", "due", "term"], rows)


def _state_aid(installation: Installation, year: int, csv: Path | None, json: bool) -> None:
    from provisioner.cli import output
    from provisioner.operations import register

    items = register.statement(installation, year)
    if csv is not None:
        output.to_file(csv, register.sheet_of_aid(year, items))
    if json:
        output.machine(items)
    elif csv is None:
        columns = ["site", "name", "months", "hosting", "domain", "support", "total (€)"]
        rows = [[i.slug, i.name, *map(str, (i.months, i.hosting, i.domain, i.support, i.total))] for i in items]
        output.table(columns, [*rows, ["total", "", "", "", "", "", str(sum(i.total for i in items))]])


@app.command()
def document(
    slug: options.Slug,
    to: Annotated[
        Path | None, typer.Option(help="Copy it to this PDF file; it is kept as conventions/SLUG/convention.pdf.")
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Print it as HTML instead; changes nothing.")] = False,
    start: Annotated[
        datetime | None,
        typer.Option(formats=DAY, help="Of a new agreement instead, by its first day.", show_default=False),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make another beside the one that is there, from today's records.")
    ] = False,
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Make the agreement as a PDF to be signed; from then on it awaits its signature.

    A document that was made is kept as it is, also when its template has changed.

    \b
    provision agreement document kayane
    provision agreement document kayane --again
    provision agreement document kayane --html > kayane.html
    """
    import sys

    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation
    from provisioner.operations import document as operation

    if html and (to is not None or json or again):
        raise BadInput("--html prints a page: leave out --to, --again and --json")
    installation = Installation.open(inventory)
    first_day = start.date() if start else None
    if html:
        sys.stdout.write(operation.html(installation, slug, first_day))
        return
    made = operation.make(installation, slug, to, first_day, again=again)
    if json:
        output.machine(made)
    else:
        output.line(f"{slug}: {made.file}{', kept as it was made' if made.kept else ''}")
        if made.newer_template:
            output.line("a newer template exists than the one that it was made from")
        if made.kept:
            command = f"provision agreement document {slug}{f' --start {first_day}' if first_day else ''} --again"
            output.line(f"for another, from today's records and template: {command}")
        output.line(f"once it is signed: provision agreement sign {slug} --on DATE --copy FILE.pdf")
