"""The state database of a new installation, without its migrations' time: they run once in a process."""

import tempfile
from functools import cache
from pathlib import Path

from provisioner.store import Store


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store, copy = Store(f"sqlite:///{folder}/state.db"), Path(folder) / "copy.db"
        store.upgrade()
        store.copy_to(copy)
        return copy.read_bytes()


def make_state(store: Store) -> None:
    """Make the database that `store.upgrade` would make where there is none."""
    store.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    store.path.touch(mode=0o600)
    store.path.write_bytes(_migrated())
