"""Logs of past days: compressed, dropped when their time is over, and read. One file per day (UTC), below /logs."""

import contextlib
import gzip
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from provisioner.agent.faults import Fault
from provisioner.agent.protocol import ActivityRead, LogsTidied, ReadActivity, TidyLogs

LOGS = Path("/logs")
SITES = LOGS / "sites"
ANSWER = Path("/answer")
NAME = re.compile(r"(?P<kind>activity|access)-(?P<day>\d{4}-\d\d-\d\d)\.(?:jsonl|log)(?P<packed>\.gz)?")
STILL_SECONDS = 3600  # what was written to within the last hour may be written to again
FEW_DAYS = 31  # so many may go at once; more than two thirds of all, and it is rather a wrong clock


@dataclass(frozen=True)
class _Log:
    path: Path
    kind: str
    day: date
    packed: bool


def _found(folder: Path) -> Iterator[_Log]:
    for path in sorted(folder.rglob("*")):
        match = NAME.fullmatch(path.name)
        if match is not None and path.is_file() and not path.is_symlink():
            yield _Log(path, match["kind"], date.fromisoformat(match["day"]), bool(match["packed"]))


def tidy(request: TidyLogs) -> LogsTidied:
    """Compress the logs of past days, then drop those older than so many days; ``today`` is the control plane's.

    Raises:
        Fault: nearly all would go at once. Nothing was dropped.

    """
    today = date.fromisoformat(request.today)
    compressed = sum(_compress(log.path) for log in _found(LOGS) if not log.packed and log.day < today)
    for unfinished in LOGS.rglob("*.gz.new"):
        unfinished.unlink()
    dropped = 0
    for kind, days_kept in (("activity", request.activity), ("access", request.access)):
        logs = [log for log in _found(LOGS) if log.kind == kind]
        last = today - timedelta(days=days_kept)
        days = {log.day for log in logs}
        going = {day for day in days if day < last}
        if len(going) > FEW_DAYS and len(going) * 3 > len(days) * 2:
            raise Fault(f"{len(going)} of {len(days)} days of {kind} logs would go at once: is the clock right?")
        for log in logs:
            if log.day in going:
                log.path.unlink()
                dropped += 1
    for folder in SITES.iterdir():
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
    return LogsTidied(compressed, dropped, sum(log.path.stat().st_size for log in _found(LOGS)))


def _compress(path: Path) -> bool:
    """Put a log's lines into its .gz, behind those that are there, and remove it; return whether it was time to.

    The time of the .gz is that of the log whose lines it holds, so that a run that was killed before the removal is
    not repeated.
    """
    seen = path.stat()
    if time.time() - seen.st_mtime < STILL_SECONDS:
        return False
    target = path.with_name(f"{path.name}.gz")
    if not target.exists() or target.stat().st_mtime_ns != seen.st_mtime_ns:
        new = path.with_name(f"{path.name}.gz.new")
        with new.open("wb") as packed:
            if target.exists():
                with target.open("rb") as before:
                    shutil.copyfileobj(before, packed)
            with path.open("rb") as lines, gzip.GzipFile("", "wb", fileobj=packed) as member:
                shutil.copyfileobj(lines, member)
            packed.flush()
            os.fsync(packed.fileno())
        os.chown(new, seen.st_uid, seen.st_gid)
        new.chmod(0o640)
        os.utime(new, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
        new.rename(target)
    path.unlink()
    return True


def activity(request: ReadActivity) -> ActivityRead:
    """Leave the newest ``count`` lines of a site's activity in /answer, oldest first."""
    lines: list[str] = []
    days: dict[date, list[_Log]] = {}
    for log in _found(SITES / request.slug):
        days.setdefault(log.day, []).append(log)
    for day in sorted(days, reverse=True):
        of_day = [line for log in sorted(days[day], key=lambda log: not log.packed) for line in _lines(log)]
        lines = of_day[-(request.count - len(lines)) :] + lines
        if len(lines) >= request.count:
            break
    ANSWER.mkdir()
    (ANSWER / "activity.jsonl").write_text("".join(lines))
    return ActivityRead(len(lines))


def _lines(log: _Log) -> list[str]:
    with gzip.open(log.path, "rt") if log.packed else log.path.open() as file:
        return [line for line in file if _is_whole(line)]


def _is_whole(line: str) -> bool:
    """Return whether a power cut left the line whole."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith("\n")
