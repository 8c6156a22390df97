"""File systems that are mounted, filled and unmounted."""

import subprocess
from pathlib import Path

MIB = 1024 * 1024


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(folder: Path) -> Path:
    """Fill the file system of ``folder`` to its last byte and return the file that does it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler
