"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Inventory: TypeAlias = Annotated[
    Path | None,
    typer.Option("--inventory", envvar="PROVISION_INVENTORY", help="inventory.yaml to use.", show_default=False),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would be done, change nothing.")
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Slugs: TypeAlias = Annotated[list[str] | None, typer.Argument(help="Sites, by their slugs.", show_default=False)]
Slug: TypeAlias = Annotated[str, typer.Argument(help="The site, by its slug.", show_default=False)]
