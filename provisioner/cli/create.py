"""`provision create`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provisioner.cli import options

if TYPE_CHECKING:
    from provisioner.associations import AssociationSpec
    from provisioner.operations.create import Created

PROFILES = "general, education, culture, sport or fetes"


def create(
    slug: Annotated[str | None, typer.Argument(help="Short name: the site's address begins with it.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="YAML file that describes one or many associations.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the association.")] = None,
    contact: Annotated[
        list[str] | None, typer.Option(help="'NAME <MAIL>' of a contact who does not administer the site.")
    ] = None,
    administrator: Annotated[
        list[str] | None,
        typer.Option(help="'NAME <MAIL>' of a contact who administers the site. Two are wanted."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help=f"Starter content: {PROFILES}.")] = None,
    commune: Annotated[str | None, typer.Option(help="Commune of its seat.")] = None,
    rna: Annotated[str | None, typer.Option(help="RNA number: W and nine digits.")] = None,
    siret: Annotated[str | None, typer.Option(help="SIRET number: 14 digits.")] = None,
    seat: Annotated[str | None, typer.Option(help="Postal address of its seat, for the legal notice.")] = None,
    telephone: Annotated[str | None, typer.Option(help="Telephone, for the legal notice.")] = None,
    mail: Annotated[str | None, typer.Option(help="Mail address of the association, for the legal notice.")] = None,
    publication_director: Annotated[
        str | None, typer.Option(help="Legal representative, for the legal notice.")
    ] = None,
    theme: Annotated[str | None, typer.Option(help="Theme of the release to use instead of its default.")] = None,
    host_name: Annotated[str | None, typer.Option(help="Name of its own instead of SLUG.DOMAIN.")] = None,
    agreement_start: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day of the agreement; today by default."),
    ] = None,
    inventory: options.Inventory = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Create an association's site: database, WordPress in French with its starter pages, HTTPS, invitations.

    \b
    provision create kayane --name Kayane --profile education \\
        --administrator 'Présidence <presidence@example.org>' --administrator 'Secrétariat <secretariat@example.org>'
    provision create --from conventions/associations/kayane.yaml
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import create as operation

    given: dict[str, Any] = {
        "slug": slug,
        "name": name,
        "profile": profile,
        "commune": commune,
        "rna": rna,
        "siret": siret,
        "seat": seat,
        "telephone": telephone,
        "mail": mail,
        "publication_director": publication_director,
        "theme": theme,
        "host_name": host_name,
        "agreement_start": agreement_start.date() if agreement_start else None,
        "contacts": [
            *(_contact(text, administrator=True) for text in administrator or []),
            *(_contact(text, administrator=False) for text in contact or []),
        ],
    }
    specs = _specs({key: value for key, value in given.items() if value not in (None, [])}, source, ask=not yes)
    installation = Installation.open(inventory)
    for warning in operation.warnings(installation, specs):
        output.warn(warning)
    if dry_run:
        new = {spec.slug for spec in operation.check(installation, specs)}
        plan = {
            "operation": operation.KIND,
            "sites": [{"slug": spec.slug, "change": "create" if spec.slug in new else "none"} for spec in specs],
            "steps": [{"name": step.name, "does": step.explanation} for step in operation.STEPS],
        }
        _print_plan(plan, json)
        return
    with output.progress(not json) as progress:
        results = operation.create(installation, specs, progress)
    _report(results, json)


def _specs(given: dict[str, Any], source: Path | None, *, ask: bool) -> list[AssociationSpec]:
    """Return the associations that a file, the options, or a person at the terminal describe."""
    from provisioner import associations
    from provisioner.errors import BadInput

    if source is None:
        if ask and sys.stdin.isatty():
            _ask_for_missing(given)
        return [associations.from_options({"contacts": [], **given})]
    if given:
        raise BadInput("--from describes everything: give it alone", "provision create --from FILE")
    return associations.from_file(source)


def _report(results: list[Created], json: bool) -> None:
    from provisioner.cli import output
    from provisioner.errors import BadInput

    if json:
        output.machine(results)
    for result in results:
        if not result.begun:
            continue
        if result.exit_code:
            output.fail(BadInput(result.outcome, result.hint))
        elif not json:
            output.line(f"{result.slug}: {result.outcome}  {result.url}")
    if not json and any(result.outcome == "created" for result in results):
        output.line("invitations: provision mail list     sign the agreement: provision agreement sign SLUG --on DATE")
    output.end(results, json=json)


def _contact(text: str, *, administrator: bool) -> dict[str, Any]:
    """Return the contact that ``NAME <MAIL>`` (or a bare address) describes; its parts are checked later."""
    name, bracket, rest = text.rpartition("<")
    mail = rest.removesuffix(">") if bracket else text
    return {"name": name.strip() if bracket else mail, "mail": mail.strip(), "administrator": administrator}


def _ask_for_missing(given: dict[str, Any]) -> None:
    """Ask the person at the terminal for what has no default."""
    if "slug" not in given:
        given["slug"] = typer.prompt("Short name (slug)")
    if "name" not in given:
        given["name"] = typer.prompt("Name of the association", default=str(given["slug"]).capitalize())
    if "profile" not in given:
        given["profile"] = typer.prompt(f"Profile ({PROFILES})", default="general")
    while not given.get("contacts") or (len(given["contacts"]) < 2 and typer.confirm("A second administrator?", True)):
        text = typer.prompt("Administrator, as NAME <MAIL>")
        given.setdefault("contacts", []).append(_contact(text, administrator=True))


def _print_plan(plan: dict[str, Any], json: bool) -> None:
    from provisioner.cli import output

    if json:
        output.machine(plan)
        return
    for site in plan["sites"]:
        output.line(f"{site['slug']}: {site['change']}")
    output.table(["step", "does"], [[step["name"], step["does"]] for step in plan["steps"]])
