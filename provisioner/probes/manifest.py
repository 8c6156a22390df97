"""Does a restored generation hold what its snapshot says that it must? (D13: one that restored nothing fails here.)"""

from collections.abc import Iterator, Mapping
from typing import Any

# What the manifest says of a database and must be found again. Sessions and application passwords end by themselves.
_DATABASE = (
    "rows", "engines", "views", "triggers", "routines", "events", "db_version", "active_plugins", "stylesheet",
    "users", "administrators",
)  # fmt: skip


def database_differences(manifest: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return what differs between a manifest and the measured database, each as one phrase."""
    differences: list[str] = []
    for key in _DATABASE:
        differences += _differences(key, manifest["database"][key], found["database"][key])
    return differences


def differences(manifest: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return what differs between a manifest and the measured generation, each as one phrase."""
    wanted, content = manifest["content"], found["content"]
    # The files of a site that never stood still while it was backed up were counted at another moment.
    keys = ("files", "bytes", "plugins", "themes") if manifest["settled"] else ("plugins", "themes")
    more: list[str] = []
    for key in (*keys, "sample"):
        more += _differences(key, wanted[key], content[key])
    return database_differences(manifest, found) + more


def _differences(key: str, wanted: Any, found: Any) -> Iterator[str]:
    if wanted == found:
        return
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted({*wanted, *found}):
            if wanted.get(name) != found.get(name):
                yield f"{key} of {name}: {found.get(name, 'nothing')} instead of {wanted.get(name, 'nothing')}"
    else:
        yield f"{key}: {found} instead of {wanted}"


def revived(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the ways in that the snapshot has and the live site has not: a restore would bring them back (C17)."""

    def entries(of: Mapping[str, Any], key: str) -> list[str]:
        return [entry["login"] if isinstance(entry, dict) else str(entry) for entry in of["database"][key]]

    return {
        key: sorted(set(entries(manifest, key)) - set(entries(live, key)))
        for key in ("administrators", "sessions", "application_passwords")
    }
