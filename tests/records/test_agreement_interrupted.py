"""Ending an agreement, and taking that back: killed, failed; resumed and undone."""

from pathlib import Path

import pytest

from provisioner.operations import agreement
from tests.support.kills import DIED, steps_of
from tests.support.registry import Registry

NOW = "2029-05-02T12:00"
NOTICE = ("agreement", "end", "kayane", "--on", "2029-05-02", "--notice", "--by", "Présidence de Kayane")
TERMINATION = ("agreement", "end", "kayane", "--on", "2029-07-01", "--termination", "--reason", "dissoute")
CANCEL = ("agreement", "end", "kayane", "--cancel")
CLOSING = [("2029-09-15", "read_only"), ("2029-10-15", "archive")]
POINTS = [
    f"{step}:{place}"
    for kind in (agreement.END, agreement.KEEP)
    for step in steps_of(kind)
    for place in ("before", "after")
]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Kayane's agreement, signed."""
    place = Registry(tmp_path)
    place.sign("kayane", "2026-09-01")
    return place


def check(registry: Registry, *, ended: bool) -> None:
    """Check that an end is on record with its closing, once; or that nothing is. Names stand in no event."""
    found = registry.agreement(NOW)
    assert found["state"] == ("notice_given" if ended else "active")
    assert found["planned"] == (CLOSING if ended else [])
    assert found["last_day"] == ("2029-09-14" if ended else "2035-09-14")
    log = registry.run("log", now=NOW)
    assert "Présidence" not in log
    assert registry.run("status", now=NOW, code=0).count("planned:") == ended


@pytest.mark.kills("end", "keep")
@pytest.mark.parametrize("then", ["resume", "undo"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_then_resumed_or_undone(registry: Registry, point: str, then: str) -> None:
    command = NOTICE if point.startswith(agreement.END) else CANCEL
    if command is CANCEL:
        registry.run(*NOTICE, now=NOW)
    registry.run(*command, now=NOW, code=DIED, failpoint=f"{point}:kill")
    assert "resume kayane" in registry.run(*command, now=NOW, code=4)
    registry.run(then, "kayane", *(["--yes"] if then == "undo" else []), now=NOW)
    check(registry, ended=(command is NOTICE) == (then == "resume"))


@pytest.mark.parametrize("point", POINTS)
def test_failed_is_undone(registry: Registry, point: str) -> None:
    command = NOTICE if point.startswith(agreement.END) else CANCEL
    if command is CANCEL:
        registry.run(*NOTICE, now=NOW)
    assert "undone" in registry.run(*command, now=NOW, code=1, failpoint=f"{point}:fail")
    check(registry, ended=command is CANCEL)


def test_termination_undone_leaves_the_notice_before_it(registry: Registry) -> None:
    registry.run(*NOTICE, now=NOW)
    registry.run(*TERMINATION, now=NOW, code=DIED, failpoint="end.record:after:kill")
    assert registry.agreement(NOW)["planned"] == [("2029-07-01", "read_only"), ("2029-07-31", "archive")]
    registry.run("undo", "kayane", "--yes", now=NOW)
    check(registry, ended=True)
