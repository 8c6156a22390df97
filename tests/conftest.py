"""Fixtures: a town per module, and one of its own for who needs it."""

import json
import math
from collections import Counter
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
DURATIONS = Path(__file__).with_name("durations.json")  # seconds per file, as `make durations` measured them


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help=f"write {DURATIONS.name}: run everything then")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Stopwatch())


class Stopwatch:
    """Adds up how long the tests of each file take, set-up included, and writes it down."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.location[0]] += round(report.duration)

    def pytest_sessionfinish(self) -> None:
        DURATIONS.write_text(json.dumps(dict(self._seconds.most_common()), indent=2) + "\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, and those that nobody measured before them; within a file the order stays."""
    seconds = json.loads(DURATIONS.read_text())
    items.sort(key=lambda item: seconds.get(str(item.path.relative_to(config.rootpath)), math.inf), reverse=True)


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


@pytest.fixture(scope="module")
def crowded(town: Town) -> Iterator[Town]:
    """A town with a neighbour, who must notice nothing. When the module's last case is over, all of it is well."""
    town.create("neighbour")
    yield town
    assert town.is_well()


@pytest.fixture
def empty_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town of one's own, not initialised."""
    place = Town(tmp_path_factory.mktemp("empty"))
    try:
        yield place
    finally:
        place.remove()
