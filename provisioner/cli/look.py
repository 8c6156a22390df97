"""`provision status`, `provision log` and `provision doctor`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.installation import Installation
    from provisioner.operations.status import SiteDetails


def status(
    slug: Annotated[str | None, typer.Argument(help="A site; all of them if none is named.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="One line for the monitoring; exit code 0 well, 1 warning, 2 critical.")
    ] = False,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="The snapshots that its repository holds, instead.")
    ] = False,
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Show what needs a person, each with the command to paste, then every site; or one site in detail.

    \b
    provision status
    provision status kayane --json
    provision status kayane --snapshots
    """
    from provisioner.cli import output
    from provisioner.errors import BadInput, ProvisionError
    from provisioner.installation import Installation
    from provisioner.operations import status as operation

    if check:
        if slug is not None:
            raise BadInput("--check looks at everything: name no site", "provision status --check")
        try:
            overview = operation.overview(Installation.open(inventory))
        except ProvisionError as error:
            output.line(f"PROVISION CRITICAL - {error.message}")
            raise typer.Exit(2) from None
        critical = sum(item.critical for item in overview.attention)
        pending = sum(item.pressing and not item.critical for item in overview.attention)
        word, code = ("CRITICAL", 2) if critical else ("WARNING", 1) if pending else ("OK", 0)
        first = next((f"; {output.about(item.subject, item.what)}" for item in overview.attention if item.pressing), "")
        output.line(f"PROVISION {word} - {len(overview.sites)} sites, {critical} critical, {pending} warnings{first}")
        raise typer.Exit(code)
    if snapshots and slug is None:
        raise BadInput("--snapshots looks into one repository: name its site", "provision status SLUG --snapshots")
    installation = Installation.open(inventory)
    if slug is not None and snapshots:
        _show_snapshots(installation, slug, json)
        return
    if slug is not None:
        _show_site(operation.details(installation, slug), json)
        return
    overview = operation.overview(installation)
    if json:
        output.machine(overview)
        return
    for item in overview.attention:
        output.attention(item.subject, item.what, item.command)
    if not overview.sites:
        output.line("no sites yet  →  provision create SLUG")
        return
    columns = ["site", "name", "state", "agreement", "release", "address"]
    rows = [
        [s.slug, s.name, s.state, s.agreement, f"{s.release} (behind)" if s.behind else s.release, s.url]
        for s in overview.sites
    ]
    output.table(columns, rows)


def _show_snapshots(installation: Installation, slug: str, json: bool) -> None:
    from provisioner.cli import output
    from provisioner.operations import backup

    found = backup.listing(installation, slug)
    if json:
        output.machine(found)
        return
    rows = [
        [
            one["snapshot"][:8],
            _local(one["taken_at"]),
            output.size(one["total_bytes"]),
            str(one["files"]),
            "yes" if one["recorded"] else "void" if one["void"] else "no",
        ]
        for one in found
    ]
    output.table(["snapshot", "taken", "size", "files", "recorded"], rows)


def _show_site(site: SiteDetails, json: bool) -> None:
    from provisioner.cli import output

    if json:
        output.machine(site)
        return
    if site.problem:
        output.line(f"! {site.problem}")
    people = ", ".join(person["login"] for person in site.administrators or [])
    for label, value in (
        ("site", f"{site.slug} ({site.name})"),
        ("address", site.url),
        ("state", site.state),
        ("generation", f"{site.generation or '-'}, release {site.release}, WordPress {site.wordpress}, PHP {site.php}"),
        ("administrators", people or "-"),
        ("content", site.content_sha256 or "-"),
        ("last backup", _local(site.last_backup)),
        ("last drill", _local(site.last_drill)),
        (
            "agreement",
            f"{site.agreement.state}, from {site.agreement.start}, signed on {site.agreement.signed_on or '-'}",
        ),
        ("last day", _last_day(site)),
    ):
        output.line(f"{label:<16}{value}")
    for change in site.planned:
        output.line(f"{'planned':<16}{change.kind} on {change.on}")
    for past in site.past_agreements:
        output.line(f"{'before':<16}agreement of {past.start} to {past.last_day}, signed on {past.signed_on or '-'}")
    rows = [[str(n), str(t.start), str(t.end), str(t.notice_by or "-")] for n, t in enumerate(site.agreement.terms, 1)]
    output.table(["term", "start", "end", "notice by"], rows)


def _last_day(site: SiteDetails) -> str:
    """Return when the agreement ends, and why then."""
    agreement = site.agreement
    if agreement.terminated_on is not None:
        return f"{agreement.last_day}, terminated"
    if agreement.notice_on is not None:
        return f"{agreement.last_day}, by notice of {agreement.notice_on}"
    return (
        str(agreement.last_day) if agreement.state == "final_term" else f"{agreement.last_day}, unless notice is given"
    )


def _local(moment: datetime | None) -> str:
    from provisioner import clock

    return f"{moment.astimezone(clock.PARIS):%Y-%m-%d %H:%M:%S}" if moment else "none"


def log(
    subject: Annotated[str | None, typer.Argument(help="A slug or host:NAME; everything if none is named.")] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=1_000_000, help="How many of the newest events.")
    ] = 50,
    site: Annotated[
        bool, typer.Option("--site", help="What the site itself told: log-ins, publications, changes of roles.")
    ] = False,
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Show what happened.

    \b
    provision log kayane
    provision log kayane --site
    """
    from provisioner import clock, eventlog
    from provisioner.cli import output
    from provisioner.errors import BadInput
    from provisioner.installation import Installation

    if site:
        if subject is None:
            raise BadInput("--site shows one site's own log: name it", "provision log SLUG --site")
        _show_activity(Installation.open(inventory), subject, count, json)
        return
    with Installation.open(inventory).store.transaction() as session:
        events = eventlog.last(session, subject, count)
    if subject is not None and not events:
        raise BadInput(f"nothing is on record about {subject!r}", "provision status   (lists the sites)")
    if json:
        output.machine([event.model_dump() for event in events])
        return
    for event in events:
        data = " ".join(f"{key}={value}" for key, value in event.data.items() if value != "")
        output.line(
            f"{event.at.astimezone(clock.PARIS):%Y-%m-%d %H:%M:%S}  {event.subject}  {event.kind}  {data}".rstrip()
        )


def _show_activity(installation: Installation, slug: str, count: int, json: bool) -> None:
    from provisioner.cli import output
    from provisioner.operations import logs

    entries = logs.activity(installation, slug, count)
    if json:
        output.machine(entries)
        return
    for entry in entries:
        output.line(f"{_local(entry.at)}  {entry.user or '-'}  {entry.event}  {entry.object}".rstrip())


def doctor(
    slugs: options.Slugs = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended safely.")] = False,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Compare the hosts with the records, both ways, and ask every site over HTTPS. Exit code 3: something is wrong.

    With slugs: these sites alone. --fix tries each thing, and tells what could not be mended.

    \b
    provision doctor --fix
    provision doctor kayane regart
    """
    from provisioner.cli import output
    from provisioner.errors import NeedsHand
    from provisioner.installation import Installation
    from provisioner.operations import doctor as operation

    installation = Installation.open(inventory)
    sites = list(dict.fromkeys(slugs or []))
    findings = operation.examine(installation, sites)
    if fix and findings and not dry_run:
        findings = operation.fix(installation, findings, sites)
    if json:
        output.machine(findings)
    else:
        for finding in findings:
            output.attention(finding.subject, finding.problem, finding.mend)
        if not findings:
            output.line(
                f"all is well: {', '.join(sites)} as the records say, over HTTPS too"
                if sites
                else "all is well: hosts and records agree, every site answers over HTTPS"
            )
    if findings:
        raise typer.Exit(NeedsHand.exit_code)
