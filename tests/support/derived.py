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
    real, derived = _derive(town, release, *changes)
    _record(town, release, derived)
    try:
        yield
    finally:
        _record(town, release, real)
        town.docker().images.remove(derived, force=True)


def rebuild(town: Town, release: str) -> None:
    """Have ``release`` be a newer build of itself from now on; its image goes with the town."""
    _, derived = _derive(town, release, f"LABEL rebuilt={secrets.token_hex(4)}")
    _record(town, release, derived)


def _derive(town: Town, release: str, *changes: str) -> tuple[str, str]:
    """Return the image of a release, and one made of it with ``changes``."""
    (real,) = [row["image"] for row in town.json("release", "list") if row["name"] == release]
    container = town.docker().containers.create(real)
    try:
        label = f"LABEL {LABEL_NAMESPACE}={town.namespace}"
        image = container.commit(town.namespace, secrets.token_hex(4), changes=[label, *changes])
        return real, str(image.id)
    finally:
        container.remove()


def _record(town: Town, release: str, image: str) -> None:
    with contextlib.closing(sqlite3.connect(town.state / "provision.db", timeout=30)) as connection, connection:
        connection.execute("UPDATE release SET image = ? WHERE name = ?", (image, release))
