"""The escrow: the one file that lies in the safe. With it and the repositories, everything can be rebuilt (D11)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from pydantic import Field

from provisioner import clock, named_files, render
from provisioner.errors import BadInput
from provisioner.fields import BaseImage, Line, Namespace
from provisioner.installation import Installation
from provisioner.inventory import Backup, Host, Inventory, Section
from provisioner.keys import write_secret
from provisioner.located_yaml import LocatedYaml

WRITTEN = "escrow written"  # the event by which we know that there is one


class Escrow(Section):
    """What opens the repositories of an installation of which nothing else is left."""

    format: Literal[1] = Field(description="Changes when what is written here does.")
    namespace: Namespace
    written: date
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="All repositories' keys derive from it.")
    target: Line
    host_key: Line | None = None
    credentials: str = ""
    login_key: str = ""
    base_image: BaseImage | None = None

    @contextmanager
    def opened(self) -> Iterator[Inventory]:
        """Give just so much of an inventory as reaches the repositories from this machine's own engine."""
        with TemporaryDirectory(prefix="provision-escrow-") as folder:
            files = {}
            for name in ("credentials", "login_key"):
                if text := getattr(self, name):
                    files[name] = Path(folder) / name
                    write_secret(files[name], text)
            reach: dict[str, Any] = {
                "namespace": self.namespace,
                "hosts": [Host(name="this", data_root=Path("/srv/provision"))],  # nothing is done below that root
                "backup": Backup(target=self.target, host_key=self.host_key, **files),
                "base_image": self.base_image,
            }
            yield Inventory.model_construct(**reach)


def read(path: Path) -> Escrow:
    """Read an escrow.

    Raises:
        BadInput: it is no escrow, or faulty, with line and column.

    """
    return LocatedYaml(path).parse(Escrow)


def written(installation: Installation) -> str:
    """Return the escrow of an installation, as it goes into the safe.

    Raises:
        Unavailable: its key is missing.
        BadInput: a file that the inventory names for the target cannot be read.

    """
    inventory = installation.inventory
    backup = inventory.backup
    return render.text(
        "escrow.yaml.j2",
        council=inventory.council.name,
        namespace=inventory.namespace,
        written=clock.today().isoformat(),
        key=installation.keys.master,
        target=inventory.backup_target,
        host_key=backup.host_key,
        credentials=_text(inventory, backup.credentials),
        login_key=_text(inventory, backup.login_key),
        base_image=inventory.base_image,
    )


def write(path: Path, text: str) -> None:
    """Write a new file that its owner alone can read.

    Raises:
        BadInput: it exists, or cannot be written.

    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "an escrow never overwrites another: choose a new name") from None


def _text(inventory: Inventory, path: Path | None) -> str:
    if path is None:
        return ""
    return named_files.text(inventory.resolve(path), named_files.SECRET)
