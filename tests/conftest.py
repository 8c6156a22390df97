"""Fixtures: a town per module, and one of its own for who needs it."""

from collections.abc import Iterator

import pytest

from tests.town import Town

Town.forks = True  # each command saves a second of a busy machine; benches have no such setting


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
