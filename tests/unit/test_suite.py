"""Rules about the tests themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support import alone
from tests.support.town import CHECKOUT

TESTS = Path(__file__).parents[1]
MODULES = sorted(TESTS.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports anywhere, and what it takes from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{name.name}" for name in names)


def test_nothing_imports_a_test_module() -> None:
    """What two files need lies in tests/support: a test module can then be moved, split or selected alone."""
    test_modules = {
        (str(path.relative_to(TESTS)), name)
        for path in MODULES
        for name in imported(path)
        if any(part.startswith("test_") for part in name.split("."))
    }
    assert test_modules == set()


def test_what_runs_without_root_uses_no_helper_that_needs_it() -> None:
    modules = [path for folder in alone.FOLDERS for path in TESTS.glob(f"{folder}/*.py")]
    names = {name for path in modules for name in imported(path) if name.startswith("tests.support.")}
    assert not {name.split(".")[2] for name in names} & alone.ROOT


def test_make_unit_runs_all_that_needs_no_engine() -> None:
    folders = " ".join(f"tests/{folder}" for folder in alone.FOLDERS)
    assert f"pytest {folders} " in (CHECKOUT / "Makefile").read_text()
