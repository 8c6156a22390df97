"""What happens to a site behind the back of `provision`."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.town import Town


@contextmanager
def corrupt(town: Town, slug: str) -> Iterator[None]:
    """Damage a table of a site on disk."""
    database = f"{slug}_1"
    town.sql(
        f"USE {database}; CREATE TABLE {database}.wp_broken (a INT PRIMARY KEY) ENGINE=MyISAM; "
        f"INSERT INTO {database}.wp_broken SELECT seq FROM seq_1_to_1000; FLUSH TABLES"
    )
    index = next((town.data_root / "database" / "data").rglob(f"{database}/wp_broken.MYI"))
    index.write_bytes(b"\0" * index.stat().st_size)
    try:
        yield
    finally:
        town.sql(f"DROP TABLE {database}.wp_broken")
