"""Rules about the tests themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

from provisioner.operations.recovery import RECIPES
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


def kinds_killed(path: Path) -> Iterator[str]:
    """Yield the kinds of operations that the tests of a file kill at each step, by their mark, in `make test`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            marks = [ast.unparse(decorator) for decorator in node.decorator_list]
            for mark in marks:
                if mark.startswith("pytest.mark.kills(") and "pytest.mark.acceptance" not in marks:
                    yield from ast.literal_eval(mark.removeprefix("pytest.mark.kills").replace(")", ",)"))


def test_every_operation_is_killed_at_each_step() -> None:
    """A new line of RECIPES wants a chain: die_after_each and die_undoing_each (tests/support/kills.py)."""
    assert {kind for path in TESTS.glob("*/test_*.py") for kind in kinds_killed(path)} == set(RECIPES)
