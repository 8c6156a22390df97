"""An installation with records and no host: for what the council does on paper."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from provisioner import records
from provisioner.associations import AssociationSpec
from provisioner.installation import Installation
from tests.town import Town, association


class Registry:
    """A town of which only the records exist, driven through its command line."""

    def __init__(self, folder: Path, *specs: dict[str, Any], **settings: Any) -> None:
        self.town = Town(folder, settings=settings)
        self.installation = Installation.described(self.town.inventory)
        self.installation.store.upgrade()
        with self.installation.store.transaction() as session:
            for spec in specs or (association("kayane", agreement_start="2026-09-15"),):
                checked = AssociationSpec.model_validate(spec)
                records.record_association(session, self.installation.inventory, checked)

    def sign(self, slug: str, on: str) -> None:
        """Write a signature to the record, as `provision agreement sign` does once the site is published."""
        with self.installation.store.transaction() as session:
            site = records.site(session, slug)
            records.agreement(session, site.key).signed_on = date.fromisoformat(on)

    def run(self, *arguments: str, code: int = 0, now: str = "2026-11-25T12:00", **environment: str) -> str:
        """Run a command at some instant and return what it printed, its errors behind."""
        done = self.town.run(*arguments, code=code, PROVISION_NOW=now, **environment)
        return done.stdout + done.stderr

    def json(self, *arguments: str, now: str = "2026-11-25T12:00") -> Any:
        """Run a command with --json at some instant and return what it printed."""
        return json.loads(self.town.run(*arguments, "--json", PROVISION_NOW=now).stdout)

    def agreement(self, now: str, slug: str = "kayane") -> dict[str, Any]:
        """Return what `provision status` shows of an agreement at some instant, and what is planned."""
        details = self.json("status", slug, now=now)
        return {**details["agreement"], "planned": [(item["on"], item["kind"]) for item in details["planned"]]}
