"""Does a restored generation hold what its snapshot says that it must? (D13: one that restored nothing fails here.)"""

from collections.abc import Iterator

from provisioner.agent.protocol import DatabaseFacts, Manifest, Measured

# What the manifest says of a database and must be found again. Sessions and application passwords end by themselves.
_DATABASE = (
    "rows", "engines", "views", "triggers", "routines", "events", "db_version", "active_plugins", "stylesheet",
    "users", "administrators",
)  # fmt: skip


def database_differences(manifest: Manifest, found: Measured) -> list[str]:
    """Return what differs between a manifest and the measured database, each as one phrase."""
    wanted = manifest["database"]
    return [phrase for key in _DATABASE for phrase in _differences(key, wanted.get(key), found.database.get(key))]


def differences(manifest: Manifest, found: Measured) -> list[str]:
    """Return what differs between a manifest and the measured generation, each as one phrase."""
    # The files of a site that never stood still while it was backed up were counted at another moment.
    keys = ("files", "bytes", "plugins", "themes") if manifest["settled"] else ("plugins", "themes")
    wanted = manifest["content"]
    more = [
        phrase for key in (*keys, "sample") for phrase in _differences(key, wanted.get(key), found.content.get(key))
    ]
    return database_differences(manifest, found) + more


def _differences(key: str, wanted: object, found: object) -> Iterator[str]:
    if wanted == found:
        return
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted({*wanted, *found}):
            if wanted.get(name) != found.get(name):
                yield f"{key} of {name}: {found.get(name, 'nothing')} instead of {wanted.get(name, 'nothing')}"
    else:
        yield f"{key}: {found} instead of {wanted}"


def revived(then: DatabaseFacts, now: DatabaseFacts) -> dict[str, list[str]]:
    """Return the ways in that ``then`` has and ``now`` has not: going back would bring them back (C17)."""

    def logins(facts: DatabaseFacts) -> set[str]:
        return {one["login"] for one in facts["administrators"]}

    return {
        "administrators": sorted(logins(then) - logins(now)),
        "sessions": sorted({*then["sessions"]} - {*now["sessions"]}),
        "application_passwords": sorted({*then["application_passwords"]} - {*now["application_passwords"]}),
    }
