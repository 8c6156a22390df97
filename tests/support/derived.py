"""Images derived from a release's own, for what a rebuilt or a broken one does."""

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator

from provisioner.model.names import LABEL_NAMESPACE
from tests.support.town import Town


@contextlib.contextmanager
def derived_release(town: Town, release: str, *changes: str) -> Iterator[None]:
    """Have ``release`` be another image for a while: its own, with ``changes`` (lines of a Dockerfile)."""
    client = town.docker()
    (real,) = [row["image"] for row in town.json("release", "list") if row["name"] == release]
    container = client.containers.create(real)
    try:
        label = f"LABEL {LABEL_NAMESPACE}={town.namespace}"
        image = container.commit(town.namespace, secrets.token_hex(4), changes=[label, *changes])
        derived = str(image.id)
    finally:
        container.remove()
    _record(town, release, derived)
    try:
        yield
    finally:
        _record(town, release, real)
        client.images.remove(derived, force=True)


def _record(town: Town, release: str, image: str) -> None:
    with contextlib.closing(sqlite3.connect(town.state / "provision.db", timeout=30)) as connection, connection:
        connection.execute("UPDATE release SET image = ? WHERE name = ?", (image, release))
