"""Keys that live outside the state database, one file each; what lies in the safe is made of them (docs/backup.md).

Every repository's key derives from one master key: an escrow that was written once opens the repositories
of sites that came later too, and one association's key can be handed over without giving away another's.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from provisioner.errors import Unavailable

CONTROL_PLANE = "control-plane"  # the repository of the control plane itself; no site is called so


class Keys:
    """The keys of one installation."""

    def __init__(self, state: Path) -> None:
        self.invitations = state / "secret.key"
        self.backups = state / "backup.key"

    @property
    def complete(self) -> bool:
        """Return whether every key is there."""
        return self.invitations.exists() and self.backups.exists()

    def ensure(self) -> None:
        """Make the keys that are not there."""
        for file in (self.invitations, self.backups):
            if not file.exists():
                write_secret(file, secrets.token_hex(32))

    def invitation_token(self, operation_id: int, contact_id: int) -> str:
        """Return the token of a contact's invitation.

        It derives from a key, so that an operation that is resumed finds the same one, and no step must
        store it for the next.
        """
        return _derived(_read(self.invitations), f"invitation {operation_id} {contact_id}")[:32]

    def repository(self, name: str) -> str:
        """Return the key of the restic repository of a site, or of the control plane."""
        return repository_key(self.master, name)

    @property
    def master(self) -> str:
        """Return the key that all keys of repositories derive from."""
        return _read(self.backups)


def repository_key(master: str, name: str) -> str:
    """Return the key of the restic repository ``name`` of the installation whose master key is ``master``."""
    return _derived(master, f"repository {name}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise Unavailable(f"{file} is missing", "provision init, or docs/needs-hand.md if it was lost") from None


def _derived(master: str, purpose: str) -> str:
    return hmac.new(master.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def write_secret(path: Path, text: str) -> None:
    """Write a text that its owner alone can read."""
    write_private(path, text.encode())


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that, unless ``mode`` says more, its owner alone can read; it gets its name when it is whole."""
    staging = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)
