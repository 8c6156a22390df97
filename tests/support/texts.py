"""Three councils (le, la, l') and three associations: what every French text is rendered for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from provisioner.inventory import Council, Host, Inventory, Mail
from provisioner.model.tables import Site

COUNCILS = {
    "la": Council(
        name="Communauté de communes des Rives",
        address="1 place de la Mairie, 00000 Rives",
        telephone="01 99 00 00 00",
        mail="associations@example.org",
    ),
    "le": Council(
        name="Département du Rivage",
        address="2 quai du Port, 00000 Rivage",
        telephone="01 99 00 00 01",
        mail="vie.associative@example.org",
        representative="La présidente du conseil départemental",
    ),
    "l'": Council(
        name="Agglomération des Deux-Rives",
        address="3 rue Haute, 00000 Deux-Rives",
        telephone="01 99 00 00 02",
        mail="sites@example.org",
    ),
}
WHEN = datetime(2026, 11, 25, 12, tzinfo=UTC)


def association(slug: str, name: str, profile: str, **known: Any) -> Site:
    host = f"{slug}.example.test"
    return Site(
        slug=slug, host_name=host, host="main", name=name, profile=profile, release="6.8", created_at=WHEN, **known
    )


ASSOCIATIONS = {
    "kayane": association("kayane", "Kayane", "education"),
    "regart": association("regart", "Reg'art", "culture", mail="regart@example.org", telephone="01 99 11 11 11"),
    "club": association(
        "club",
        "Allez, le club !",
        "sport",
        rna="W751234567",
        seat="4 rue du Stade",
        publication_director="La présidence",
    ),
}


def inventory_of(council: Council) -> Inventory:
    """Return the smallest inventory of a council."""
    hosts = [Host(name="main", data_root=Path("/srv/provision"))]
    return Inventory(council=council, domain="example.test", hosts=hosts, mail=Mail(sender="site@example.org"))


@dataclass(frozen=True)
class Pair:
    """A council, an association, and what is theirs in a text."""

    council: Council
    site: Site

    @property
    def names(self) -> list[str]:
        own = [self.site.name, self.site.mail, self.site.telephone, self.site.seat, self.site.publication_director]
        council = [self.council.name, self.council.address, self.council.telephone, self.council.mail]
        return [name for name in (*own, *council, self.council.representative) if name]


PAIRS = [Pair(council, site) for council in COUNCILS.values() for site in ASSOCIATIONS.values()]
EACH_PAIR = pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p.council.name.split()[0]}-{p.site.slug}")
