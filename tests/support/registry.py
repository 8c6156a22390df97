"""An installation with records and no host: for what the council does on paper."""

import io
import json
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from provisioner import records
from provisioner.associations import AssociationSpec
from provisioner.cli.app import main
from provisioner.installation import Installation
from provisioner.model.tables import Generation, GenerationState, SiteState
from tests.support.state import make_state
from tests.support.town import Town, association

NOON = "2026-11-25T12:00"


class Registry:
    """A town of which only the records exist, driven through its command line."""

    def __init__(self, folder: Path, *specs: dict[str, Any], **settings: Any) -> None:
        self.town = Town(folder, settings=settings)
        self.installation = Installation.described(self.town.inventory)
        make_state(self.installation.store)
        with self.installation.store.transaction() as session:
            for spec in specs or (association("kayane", agreement_start="2026-09-15"),):
                checked = AssociationSpec.model_validate(spec)
                records.record_association(session, self.installation.inventory, checked)

    def sign(self, slug: str, on: str) -> None:
        """Write a signature to the record, as `provision agreement sign` does once the site is published."""
        with self.installation.store.transaction() as session:
            site = records.site(session, slug)
            records.agreement(session, site.key).signed_on = date.fromisoformat(on)

    def serve(self, slug: str) -> None:
        """Write to the record that the site is online, and serves."""
        with self.installation.store.transaction() as session:
            site = records.site(session, slug)
            site.state = SiteState.ONLINE
            session.add(
                Generation(site_id=site.key, number=1, state=GenerationState.SERVING, release="6.8", image="none",
                           wordpress="6.8", php="8.4", created_at=site.created_at)
            )  # fmt: skip

    def run(self, *arguments: str, code: int = 0, now: str = NOON, failpoint: str = "") -> str:
        """Run a command at some instant and return what it printed, its errors behind.

        In this process, which saves a second each; in one of its own where it is to meet a failpoint.
        """
        if failpoint:
            done = self.town.run(*arguments, code=code, PROVISION_NOW=now, PROVISION_FAILPOINT=failpoint)
            return done.stdout + done.stderr
        output, errors = io.StringIO(), io.StringIO()
        environment = self.town.environment(PROVISION_NOW=now)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with (
                patch.dict(os.environ, environment),
                patch.object(sys, "argv", ["provision", *arguments]),
                redirect_stdout(output),
                redirect_stderr(errors),
                pytest.raises(SystemExit) as end,
            ):
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        assert (end.value.code or 0) == code, f"{arguments} ended with {end.value.code}: {errors.getvalue()}"
        return output.getvalue() + errors.getvalue()

    def json(self, *arguments: str, now: str = NOON) -> Any:
        """Run a command with --json at some instant and return what it printed."""
        return json.loads(self.run(*arguments, "--json", now=now))

    def agreement(self, now: str, slug: str = "kayane") -> dict[str, Any]:
        """Return what `provision status` shows of an agreement at some instant, and what is planned."""
        details = self.json("status", slug, now=now)
        return {**details["agreement"], "planned": [(item["on"], item["kind"]) for item in details["planned"]]}
