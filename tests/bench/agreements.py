"""Measure ten thousand agreements: a night's pass over their reminders, and `agreement list`; print a table."""

import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from sqlmodel import select

from provisioner import clock
from provisioner.mail.agreements import due_today, in_force
from provisioner.model.tables import Agreement, Contact, Site, SiteState
from provisioner.operations import register
from tests.support.registry import Registry
from tests.support.town import association

MANY = 10_000
SPREAD_DAYS = 3287  # first days over the last nine years: all terms, all kinds of reminders


def fill(registry: Registry) -> None:
    """Write the records of many signed agreements, each with two contacts."""
    today = clock.today()
    policy = registry.installation.inventory.policy.agreement.model_dump(exclude={"reminders"})
    with registry.installation.store.transaction() as session:
        for number in range(MANY):
            start = today - timedelta(days=number % SPREAD_DAYS)
            slug = f"association-{number}"
            site = Site(
                slug=slug, host_name=f"{slug}.assos.localhost", host="local", name=slug, state=SiteState.ONLINE,
                profile="general", release="6.8", created_at=clock.now(),
            )  # fmt: skip
            session.add(site)
            session.flush()
            people = [
                Contact(site_id=site.key, name=role, mail=f"{role}@example.org", login=role, administrator=True)
                for role in ("presidence", "secretariat")
            ]
            session.add_all([*people, Agreement(site_id=site.key, start=start, signed_on=start, **policy)])


def baseline(registry: Registry) -> float:
    """Return the seconds of reading all sites and agreements, and doing nothing with them."""
    begun = time.monotonic()
    with registry.installation.store.transaction() as session:
        read = session.exec(select(Site, Agreement).where(Site.id == Agreement.site_id)).all()
    assert len(read) > MANY
    return time.monotonic() - begun


def whole_pass(registry: Registry) -> tuple[float, int]:
    """Return the seconds of a night's pass over all agreements, and how many reminders are due; nothing is sent."""
    begun = time.monotonic()
    with registry.installation.store.transaction() as session:
        found = due_today(session, registry.installation.inventory, in_force(session))
    return time.monotonic() - begun, len(found)


def main() -> None:
    """Print the table; write nothing."""
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as folder:
        registry = Registry(Path(folder), association("kayane"))
        fill(registry)
        read = min(baseline(registry) for _ in range(3))
        passed, found = min(whole_pass(registry) for _ in range(3))
        begun = time.monotonic()
        items = len(register.due(registry.installation, 3))
        listed = time.monotonic() - begun
    sys.stdout.write(
        f"""
| {MANY} agreements | figure | reading the records alone, same run | ratio | bound |
| --- | --- | --- | --- | --- |
| a night’s pass over all reminders ({found} due) | {passed:.2f} s | {read:.2f} s | {passed / read:.2f} | 2 s |
| `agreement list --months 3` ({items} lines), without the program's start | {listed:.2f} s | {read:.2f} s \
| {listed / read:.2f} | 1 s |
"""
    )


if __name__ == "__main__":
    main()
