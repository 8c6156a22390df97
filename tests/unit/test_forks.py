"""What tests/support/forks.py takes from CPython's own business is there, in this version of it."""

import os
import sys

import pytest

from tests.support import forks


def test_this_pythons_popen_is_known() -> None:
    """Every version of Python that runs this test: where it fails, commands are executed, and all takes longer."""
    assert forks.popen_is_known(), (
        f"Python {sys.version.split()[0]} starts processes in another way than 3.11 to 3.14 do: "
        "read its Popen._execute_child, and make Forked and EXECUTE_CHILD in tests/support/forks.py fit it"
    )


def test_where_it_is_not_commands_are_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forks.can_fork(dict(os.environ))
    monkeypatch.setattr(forks, "EXECUTE_CHILD", ("self", "argv"))
    forks.popen_is_known.cache_clear()
    try:
        assert not forks.can_fork(dict(os.environ))
    finally:
        forks.popen_is_known.cache_clear()
