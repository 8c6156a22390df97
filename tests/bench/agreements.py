"""Measure ten thousand agreements: the whole pass over their reminders, and `agreement list`; print a table."""

import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from sqlmodel import select

from provisioner import clock, records
from provisioner.agreement.reminders import due
from provisioner.model.tables import Agreement, Site
from provisioner.operations import register
from tests.registry import Registry
from tests.town import association

MANY = 10_000
SPREAD_DAYS = 3287  # first days over the last nine years: all terms, all kinds of reminders


def fill(registry: Registry) -> None:
    """Write the records of many signed agreements."""
    today = clock.today()
    with registry.installation.store.transaction() as session:
        for number in range(MANY):
            slug = f"association-{number}"
            site = Site(
                slug=slug,
                host_name=f"{slug}.assos.localhost",
                host="local",
                profile="general",
                release="6.8",
                name=slug,
                created_at=clock.now(),
            )
            session.add(site)
        session.flush()
        for number, site in enumerate(session.exec(select(Site).where(Site.slug != "kayane")).all()):
            start = today - timedelta(days=number % SPREAD_DAYS)
            policy = registry.installation.inventory.policy.agreement.model_dump(exclude={"reminders"})
            session.add(Agreement(site_id=site.key, start=start, signed_on=start, **policy))


def baseline(registry: Registry) -> float:
    """Return the seconds of reading all sites and agreements, and doing nothing with them."""
    begun = time.monotonic()
    with registry.installation.store.transaction() as session:
        read = session.exec(select(Site, Agreement).where(Site.id == Agreement.site_id)).all()
    assert len(read) > MANY
    return time.monotonic() - begun


def whole_pass(registry: Registry, today: date) -> tuple[float, int]:
    """Return the seconds that all reminders of all agreements take, and how many are due on one day."""
    begun = time.monotonic()
    with registry.installation.store.transaction() as session:
        agreements = session.exec(select(Agreement)).all()
    found = 0
    for agreement in agreements:
        found += len(due(records.agreement_reminders(agreement, registry.installation.inventory), today, ()))
    return time.monotonic() - begun, found


def main() -> None:
    """Print the table; write nothing."""
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as folder:
        registry = Registry(Path(folder), association("kayane"))
        fill(registry)
        read = min(baseline(registry) for _ in range(3))
        passed, found = min(whole_pass(registry, clock.today()) for _ in range(3))
        begun = time.monotonic()
        items = len(register.due(registry.installation, 3))
        listed = time.monotonic() - begun
    sys.stdout.write(
        f"""
| {MANY} agreements | figure | reading the records alone, same run | ratio | bound |
| --- | --- | --- | --- | --- |
| all reminders of all computed ({found} due) | {passed:.2f} s | {read:.2f} s | {passed / read:.2f} | 2 s |
| `agreement list --months 3` ({items} lines), without the program's start | {listed:.2f} s | {read:.2f} s \
| {listed / read:.2f} | 1 s |
"""
    )


if __name__ == "__main__":
    main()
