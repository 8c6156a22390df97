"""Measure for how long an upgrade refuses writes: with few media and many, and with a large database; print a table."""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from tests.support.full_site import FullSite
from tests.support.town import Town

MIB = 1024 * 1024
ROUNDS = 3


def frozen_by_turns(town: Town, *slugs: str) -> dict[str, float]:
    """Upgrade sites by turns, and go back; return the median seconds of the freezes of each."""
    seconds: dict[str, list[float]] = {slug: [] for slug in slugs}
    for _ in range(ROUNDS):
        for slug in slugs:
            (outcome,) = json.loads(town.run("upgrade", slug, "--to", "6.8", "--json").stdout)
            seconds[slug].append(outcome["frozen_seconds"])
            town.run("undo", slug, "--yes")
    return {slug: statistics.median(several) for slug, several in seconds.items()}


def main() -> None:
    """Print the table; write nothing."""
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as folder:
        town = Town(Path(folder), settings={"default_release": "6.1"})
        try:
            town.init()
            town.run("release", "build", "6.8")
            for slug, media in (("peu", 10), ("beaucoup", 1024)):
                town.create(slug)
                FullSite(town, slug, posts=20, media=media, media_bytes=MIB, database_mb=1).fill()
            frozen = frozen_by_turns(town, "peu", "beaucoup")
            town.create("grand")
            FullSite(town, "grand", posts=500, media=10, media_bytes=10_000, database_mb=100).fill()
            frozen |= frozen_by_turns(town, "grand")
        finally:
            town.remove()
    few, many = frozen["peu"], frozen["beaucoup"]
    sys.stdout.write(
        f"""
| an upgrade refuses writes for | figure | baseline, same run | ratio | bound |
| --- | --- | --- | --- | --- |
| a small site with 10 MiB of media | {few:.2f} s | – | – | 2 s |
| … with 1 GiB of media | {many:.2f} s | 10 MiB: {few:.2f} s | {many / few:.2f} | 1.2 |
| 100 MB of rows | {frozen["grand"]:.2f} s | – | – | 5 s |
"""
    )


if __name__ == "__main__":
    main()
