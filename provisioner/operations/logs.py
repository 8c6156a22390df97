"""The logs that hosts keep for the law: who logged in and published on each site, and who visited.

Retention: policy.activity_log_days and policy.access_log_days (CONTEXT.md: authentication and publication 12 months,
access logs 6 to 12 months).
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from provisioner import clock, records
from provisioner.adapters import restic
from provisioner.agent.protocol import ReadActivity, TidyLogs
from provisioner.installation import Installation
from provisioner.journal import lock
from provisioner.model.container import Bind
from provisioner.model.names import LABEL_SUBJECT, LOGS, SITE_LOGS
from provisioner.operations.fleet import Outcome


@dataclass(frozen=True)
class Entry:
    """Something that a site told: the recorder's time, what happened, by which login, to what."""

    at: datetime
    event: str
    user: str  # login; empty where nobody was logged in
    object: str


def activity(installation: Installation, slug: str, count: int) -> list[Entry]:
    """Return the ``count`` newest entries of a site's activity, oldest first; the recorder need not run.

    Raises:
        BadInput: no site is called so.

    """
    with installation.store.transaction() as session:
        site = records.site(session, slug)
    host = installation.host(site.host)
    worker = restic.Worker(
        host,
        installation.inventory,
        f"{host.namespace}.log",
        host.role_labels("one-shot"),
        binds=[Bind(SITE_LOGS, "/logs/sites", read_only=True)],
    )
    _, files = worker.collect(ReadActivity(slug, count), "/answer")
    told = [json.loads(line) for line in files["activity.jsonl"].decode().splitlines()]
    return [Entry(**{**one, "at": datetime.fromisoformat(one["at"])}) for one in told]


def tidy(installation: Installation, name: str) -> Outcome:
    """Compress the logs of past days on host ``name`` and drop those that are older than the policy says.

    Raises:
        ProvisionError: nearly all of them would go at once, which a wrong clock would explain (A10).

    """
    host, policy = installation.host(name), installation.inventory.policy
    subject = f"logs:{name}"
    worker = restic.Worker(
        host, installation.inventory, host.namespace, host.held_labels(subject), binds=[Bind(LOGS, "/logs")]
    )
    request = TidyLogs(
        today=clock.now().astimezone(UTC).date().isoformat(),  # a day's file is named in UTC
        activity=policy.activity_log_days,
        access=policy.access_log_days,
    )
    with lock.wait_for(installation.locks, subject):
        host.remove_labelled(**{LABEL_SUBJECT: subject})  # a process that died left it: two would write one file
        done = worker.call(request)
    said = f"{done.compressed} compressed, {done.dropped} dropped, {done.bytes // 1024} KiB kept"
    return Outcome(f"host:{name}", said)
