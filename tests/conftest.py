"""Fixtures: a town per module, and one of its own for who needs it."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import alone
from tests.support.town import Town

Town.forks = True  # each command saves a second of a busy machine; benches have no such setting

settings.register_profile("any machine", deadline=None)  # how fast a busy machine is decides no test
settings.load_profile("any machine")

# A file is one worker's (its tests share a town): those that take longest begin first, or one worker ends alone.
LONGEST = (
    "faults/test_snapshots.py", "e2e/test_upgrade.py", "faults/test_upgrade.py", "faults/test_world.py",
    "faults/test_repositories.py", "contract/test_targets.py", "faults/test_operations.py", "faults/test_mail.py",
    "e2e/test_hostile_input.py", "e2e/test_restore.py", "faults/test_export.py", "e2e/test_nightly.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; within a file, and among the others, the order stays."""
    tests = Path(__file__).parent
    rank = {tests / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give the tests that need no engine one that is not there, from before their first fixture on."""
    with pytest.MonkeyPatch.context() as patch:
        if item.path.relative_to(Path(__file__).parent).parts[0] in alone.FOLDERS:
            patch.setenv("DOCKER_HOST", alone.NO_ENGINE)
        return (yield)


@pytest.fixture(scope="module")
def executed() -> Iterator[None]:
    """Every command is executed, as an operator does it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Town, "forks", False)
        yield


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town that is ready, with no site; the tests of a module share it."""
    place = Town(tmp_path_factory.mktemp("town"))
    try:
        place.init()
        yield place
    finally:
        place.remove()


@pytest.fixture
def empty_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town of one's own, not initialised."""
    place = Town(tmp_path_factory.mktemp("empty"))
    try:
        yield place
    finally:
        place.remove()
