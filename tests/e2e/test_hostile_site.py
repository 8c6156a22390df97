"""Every operation and command against one hostile site, with a neighbour beside (J1 to J11).

The rows are those of tests/support/hostile_rows.py, in the order of one life. After each: nothing of others was read,
changed or mounted; it ended in time, with an honest outcome; nobody's helper is left; the neighbour serves its page.
"""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from provisioner.model.tables import UNFINISHED
from provisioner.operations.recovery import RECIPES
from tests.support import hostile_site
from tests.support.canaries import Canaries
from tests.support.derived import rebuild
from tests.support.engine_view import EngineView
from tests.support.hostile_rows import NEWER, ROWS, SECONDS, Row
from tests.support.hostile_site import TRICKS, HostileSite
from tests.support.town import Town, association

SLUG, NEIGHBOUR = "hostile", "neighbour"
HONEST = {0, 1, 2, 3, 4, 5}  # documented exit codes, of commands that nobody interrupted


@dataclass
class Life:
    """One hostile site on its way through the rows."""

    town: Town
    site: HostileSite
    canaries: Canaries
    view: EngineView
    tricks: Sequence[str]
    planted: set[int] = field(default_factory=set)

    def plant(self, row: Row) -> None:
        """Plant everything in the generation that serves, unless it is there; then what the row asks for."""
        if self.site.number not in self.planted:
            hostile_site.plant(self.site, self.tricks)
            hostile_site.want(self.site, [f"{self.canaries.outside}/file", str(self.town.state / "canary")])
            self.planted.add(self.site.number)
        hostile_site.show(self.site, row.page)
        hostile_site.answer(self.site, row.answer)
        if row.also:
            hostile_site.plant(self.site, row.also)

    def words(self, command: str, number: int) -> list[str]:
        """Return a row's command with its own names."""
        file = self.town.describe(association(f"another-{number}"))
        return command.format(slug=SLUG, copy=f"copied-{number}", file=file, folder=self.exports(number)).split()

    def exports(self, number: int) -> Path:
        """Return the directory of a row's exports."""
        folder = self.town.folder / f"exports-{number}"
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, row: Row, number: int) -> list[str]:
        """Do what a row says; return what does not hold then."""
        began = time.monotonic()
        self.plant(row)
        planted = time.monotonic()
        environment = {"PROVISION_NOW": row.now} if row.now else {}
        if row.needs == NEWER:
            rebuild(self.town, "6.8")
        if row.failpoint:
            first, _, point = row.failpoint.partition(" at ")
            self.town.run(*self.words(first, number), code=None, PROVISION_FAILPOINT=point)
        ended = _bounded(self.town, self.words(row.command, number), environment)
        done = time.monotonic()
        hostile_site.remove(self.site, row.also)
        found = [
            *_honest(ended),
            *self.unfinished(),
            *self.canaries.problems(ended.stdout + ended.stderr, self.exports(number), self.view.since_the_last_time()),
        ]
        looked = time.monotonic()
        seconds = f"planted {planted - began:.1f} s, ran {done - planted:.1f} s, looked {looked - done:.1f} s"
        sys.stdout.write(f"{row.name}: exit code {ended.returncode}; {seconds}\n{ended.stdout}{ended.stderr}")
        return found

    def operations(self) -> list[tuple[str, str, str]]:
        """Return kind, subject and state of every operation."""
        with closing(sqlite3.connect(f"file:{self.town.state / 'provision.db'}?mode=ro", uri=True)) as database:
            return database.execute("SELECT kind, subject, state FROM operation").fetchall()

    def unfinished(self) -> list[str]:
        """Return the operations that a command left unfinished."""
        states = {state.name for state in UNFINISHED}
        return [f"unfinished: {kind} of {subject}" for kind, subject, state in self.operations() if state in states]


def _honest(ended: subprocess.CompletedProcess[str]) -> Iterator[str]:
    said = ended.stdout + ended.stderr
    if ended.returncode not in HONEST:
        yield f"exit code {ended.returncode}: {said[-300:]}"
    if "Traceback" in said or "^^^^" in said:  # the end of one is shown where it was too long
        yield f"a traceback: {said[-1000:]}"
    if ended.returncode and not said.strip():
        yield "it failed and said nothing"
    if hidden := [line for line in said.split("\n") if not line.isprintable()]:
        yield f"hidden characters: {hidden[0]!r}"


def _bounded(town: Town, words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command; one that does not end in time has the code -1."""
    process = town.start(*words, **environment)
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        return subprocess.CompletedProcess(words, -1, output, f"{errors}\nit did not end within {SECONDS} s")
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


ALL_AT_ONCE = [name for name, trick in TRICKS.items() if not trick.holds]
SOME = [number for number, row in enumerate(ROWS) if not row.whole]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A site with all tricks at once, for one representative row of each operation and command."""
    with ExitStack() as stack:
        yield begin(stack, tmp_path_factory.mktemp("hostile"), ALL_AT_ONCE)


@pytest.fixture(scope="module")
def whole_life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Another one, for all rows."""
    with ExitStack() as stack:
        yield begin(stack, tmp_path_factory.mktemp("whole"), ALL_AT_ONCE)


def begin(stack: ExitStack, folder: Path, tricks: Sequence[str]) -> Life:
    """Make a town with both sites and a snapshot of the time before the intrusion; ``stack`` removes it."""
    town = Town(folder)
    stack.callback(town.remove)
    town.init()
    town.create(NEIGHBOUR, SLUG)
    town.run("backup", SLUG)
    site = HostileSite(town, SLUG, NEIGHBOUR)
    canaries = Canaries(town, site)
    stack.callback(canaries.remove)
    canaries.place()
    return Life(town, site, canaries, stack.enter_context(EngineView(town)), tricks)


@pytest.mark.parametrize("number", SOME, ids=[ROWS[number].name for number in SOME])
def test_a_hostile_site_reaches_nothing(life: Life, number: int) -> None:
    assert life.run(ROWS[number], number) == []


def test_every_operation_was_begun(life: Life) -> None:
    """A row whose command is refused before anything begins shows nothing of its operation."""
    assert set(RECIPES) - {kind for kind, _, _ in life.operations()} == set()


@pytest.mark.acceptance
@pytest.mark.parametrize("number", range(len(ROWS)), ids=[row.name for row in ROWS])
def test_in_the_whole_matrix_neither(whole_life: Life, number: int) -> None:
    assert whole_life.run(ROWS[number], number) == []


@pytest.mark.acceptance
@pytest.mark.parametrize("trick", TRICKS)
def test_each_trick_against_each_operation(trick: str, tmp_path: Path) -> None:
    """Alone, no trick hides behind another one that makes an operation stop earlier."""
    with ExitStack() as stack:
        one = begin(stack, tmp_path, [trick])
        found = {row.name: one.run(row, number) for number, row in enumerate(ROWS)}
        assert {name: problems for name, problems in found.items() if problems} == {}
