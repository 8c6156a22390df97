"""The mirror of extensions: a directory of the control plane's machine with the packages that associations' sites get.

plugins/SLUG-VERSION.zip    themes/SLUG-VERSION.zip
translations/plugins/SLUG-VERSION-LOCALE.zip    translations/themes/SLUG-VERSION-LOCALE.zip
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from provisioner import named_files
from provisioner.agent import protocol
from provisioner.errors import BadInput, Unavailable

_PACKAGE = re.compile(r"(?P<slug>[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)-(?P<version>\d[\w.+~]*(?:-[a-z]+\.?\d*)?)\.zip")
LARGEST = 256 << 20  # bytes of one package
_WHERE = "packages"  # directory in a container


@dataclass(frozen=True)
class Package:
    """One version of a plugin or theme, as an archive that WordPress's own upgrader unpacks."""

    kind: str  # plugin or theme
    slug: str
    version: str
    path: str
    since: datetime = field(compare=False)
    translations: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return what a person calls it."""
        return f"{self.kind} {self.slug} {self.version}"

    @property
    def request(self) -> protocol.Package:
        """Return what the site's program is told of it."""
        return {
            "kind": self.kind,
            "slug": self.slug,
            "version": self.version,
            "file": f"/{_inside(self.path)}",
            "translations": [f"/{_inside(path)}" for path in self.translations],
        }

    @property
    def files(self) -> dict[str, bytes]:
        """Return its archives, by their paths in a container.

        Raises:
            Unavailable: one of them cannot be read.

        """
        try:
            return {_inside(path): named_files.content(Path(path), LARGEST) for path in (self.path, *self.translations)}
        except BadInput as error:
            raise Unavailable(error.message, "the mirror of extensions in inventory.yaml") from None


def packages(mirror: Path) -> list[Package]:
    """Return every package of the mirror, in the order of kind, slug and age.

    Raises:
        Unavailable: the mirror is not there.

    """
    if not mirror.is_dir():
        raise Unavailable(f"{mirror}: no such directory", "policy.extensions.mirror in inventory.yaml")
    found = []
    for kind in ("plugin", "theme"):
        for path in sorted((mirror / f"{kind}s").glob("*.zip")):
            match = _PACKAGE.fullmatch(path.name)
            if match is None:
                continue
            since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            translations = sorted((mirror / "translations" / f"{kind}s").glob(f"{path.stem}-*.zip"))
            found.append(
                Package(kind, match["slug"], match["version"], str(path), since, tuple(map(str, translations)))
            )
    return sorted(found, key=lambda package: (package.kind, package.slug, package.since))


def requests(chosen: Sequence[Package]) -> list[protocol.Package]:
    """Return what the site's program is told of ``chosen``."""
    return [package.request for package in chosen]


def _inside(path: str) -> str:
    return f"{_WHERE}/{Path(path).name}"
