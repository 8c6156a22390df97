"""Measure a night's reminders for ten thousand agreements: what is due found and queued, nothing sent."""

import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from provisioner import clock
from provisioner.installation import Installation
from provisioner.mail import agreements
from provisioner.model.tables import Agreement, Contact, Site, SiteState
from tests.town import Town

AGREEMENTS = 10_000
DAYS = 3 * 365  # over which they began


def fill(installation: Installation) -> None:
    """Record the agreements, each with two contacts, begun on the days of the last three years."""
    policy = installation.inventory.policy.agreement.model_dump(exclude={"reminders"})
    with installation.store.transaction() as session:
        for number in range(AGREEMENTS):
            start = clock.today() - timedelta(days=number % DAYS)
            site = Site(
                id=number + 1, slug=f"a{number}", host_name=f"a{number}.example.test", host="local", name="Kayane",
                state=SiteState.ONLINE, profile="general", release="6.8", created_at=clock.now(),
            )  # fmt: skip
            people = [
                Contact(
                    site_id=number + 1, name=role, mail=f"{role}.{number}@example.org", login=role, administrator=True
                )
                for role in ("presidence", "secretariat")
            ]
            session.add(site)
            session.flush()
            session.add_all([*people, Agreement(site_id=number + 1, start=start, signed_on=start, **policy)])


def main() -> None:
    """Print the table; write nothing."""
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as folder:
        installation = Installation.described(Town(Path(folder)).inventory)
        installation.store.upgrade()
        fill(installation)
        began = time.monotonic()
        with installation.store.transaction() as session:
            found = agreements.due_today(session, installation.inventory, agreements.in_force(session))
        seconds = time.monotonic() - began
    sys.stdout.write("\n| reminders | figure | bound |\n| --- | --- | --- |\n")
    sys.stdout.write(f"| pass over {AGREEMENTS} agreements, {len(found)} due | {seconds:.2f} s | 2 s |\n")


if __name__ == "__main__":
    main()
