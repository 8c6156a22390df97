"""`provision release`."""

from typing import Annotated

import typer

from provisioner.cli import options

app = typer.Typer(no_args_is_help=True, help="Releases: a WordPress with its PHP, built into an image.")


@app.command("list")
def list_releases(inventory: options.Inventory = None, json: options.Json = False) -> None:
    """List the releases that the inventory names, and what is built of them on each host.

    \b
    provision release list
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import release

    rows = release.list_releases(Installation.open(inventory))
    if json:
        output.machine(rows)
        return
    output.table(
        ["release", "host", "wordpress", "php", "image", "built"],
        [
            [
                row.name + (" (default)" if row.default else " (candidate)" if row.candidate else ""),
                row.host,
                row.wordpress,
                row.php,
                row.image[:19],
                f"{row.built_at:%Y-%m-%d %H:%M}" if row.built_at else "not built",
            ]
            for row in rows
        ],
    )


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Releases; the default one if none is named.")] = None,
    refresh: Annotated[bool, typer.Option(help="Build again with today's Debian packages: a new digest.")] = False,
    inventory: options.Inventory = None,
    json: options.Json = False,
) -> None:
    """Build releases on every host. What has not changed is not built.

    \b
    provision release build 6.8 --refresh
    """
    from provisioner.cli import output
    from provisioner.installation import Installation
    from provisioner.operations import release

    installation = Installation.open(inventory)
    with output.telling(not json) as tell:
        built = release.build(installation, names or [installation.inventory.default_release], refresh, tell)
    if json:
        output.machine(built)
        return
    for row in built:
        output.line(f"{row.name} on {row.host}: WordPress {row.wordpress}, PHP {row.php}, {row.image[:19]}")
