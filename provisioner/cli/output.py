"""One place prints: lines, tables, JSON, progress, errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.errors import BadInput, ProvisionError
from provisioner.fields import visible
from provisioner.journal.journal import Progress, no_progress

if TYPE_CHECKING:
    from provisioner.operations.fleet import Outcome

WIDE = 2000  # columns of a table that goes to a file or a pipe

LONGEST = 1000  # characters of a line, whatever stands in it


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


def machine(value: Any) -> None:
    """Print ``value`` as JSON; dataclasses become objects.

    Control characters, and those that reorder a line, are escaped: what reads the JSON gets them back, a terminal that
    shows it does not (J10).
    """
    text = json.dumps(value, default=_plain, ensure_ascii=False, indent=2)
    sys.stdout.write("".join(map(_json_visible, text)) + "\n")


def _json_visible(character: str) -> str:
    """Return a character of JSON text, escaped where it does not print: such characters stand in strings only."""
    if character.isprintable() or character == "\n":
        return character
    return json.dumps(character, ensure_ascii=True)[1:-1]


def line(text: str = "") -> None:
    """Print one line, made of one line: what an association wrote cannot forge another."""
    sys.stdout.write(visible(text) + "\n")


def now(text: str) -> None:
    """Print one line at once, for who reads along."""
    line(text)
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print a warning on standard error."""
    sys.stderr.write(f"warning: {visible(text)}\n")


def fail(error: ProvisionError) -> None:
    """Print an error as one line, with what to do next behind it."""
    hint = f"  →  {error.hint}" if error.hint else ""
    message = error.message if len(error.message) <= LONGEST else error.message[: LONGEST - 1] + "…"
    sys.stderr.write(f"provision: {visible(message + hint)}\n")


def size(count: int) -> str:
    """Return a number of bytes as a person reads it, in binary units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        grid.add_column(heading, overflow="fold")  # an address that is cut cannot be copied
    for row in rows:
        grid.add_row(*(Text(visible(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(grid)


def to_file(path: Path, content: bytes) -> None:
    """Write a file that was asked for, and say so on standard error.

    Raises:
        BadInput: it cannot be written there.

    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    _log(f"written: {path}")


def attention(subject: str, what: str, command: str) -> None:
    """Print what needs a person, and the command to paste."""
    line(f"! {about(subject, what)}" + (f"  →  {command}" if command else ""))


def end(outcomes: Sequence[Outcome], *, json: bool) -> None:
    """Name the subjects that a stop left, and end with the highest exit code of all (docs/exit-codes.md).

    Raises:
        Exit: that code is not 0.

    """
    import typer

    left = [one.slug for one in outcomes if not one.begun]
    if left and not json:
        line(f"! stopped, {len(left)} not begun: {', '.join(left)}")
    worst = max((one.exit_code for one in outcomes), default=0)
    if worst:
        raise typer.Exit(worst)


def about(subject: str, what: str) -> str:
    """Return ``what`` with its subject named once."""
    return what if what.startswith((f"{subject}:", subject.replace("host:", "host ") + ":")) else f"{subject}: {what}"


def _log(text: str) -> None:
    sys.stderr.write(visible(text) + "\n")
    sys.stderr.flush()


@contextmanager
def progress(wanted: bool) -> Iterator[Progress]:
    """Show a bar per subject on standard error while a block runs; a line per step where there is no terminal."""
    if not wanted:
        yield no_progress
        return
    if not sys.stderr.isatty():
        yield lambda subject, step, _position, _count: _log(f"{subject}: {step}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.fields[subject]}"),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(subject: str, step: str, position: int, count: int) -> None:
            if subject not in tasks:
                tasks[subject] = bars.add_task(step, total=count, subject=subject)
            bars.update(tasks[subject], description=step, completed=position)

        yield show


@contextmanager
def telling(wanted: bool) -> Iterator[Callable[[str], None]]:
    """Show what a long job says about itself as one status line on standard error."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _line: None
        return
    from rich.console import Console

    with Console(stderr=True).status("working") as status:
        yield lambda text: status.update(visible(text)[:100])
