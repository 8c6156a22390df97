"""What README.md and docs/*.md name exists: commands and their options, paths, links and headings, make's targets."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from provisioner.cli.app import app
from tests.support.town import CHECKOUT

DOCUMENTS = [CHECKOUT / name for name in ("README.md", "CHANGELOG.md", "backups/README.md")]
DOCUMENTS += sorted((CHECKOUT / "docs").glob("*.md"))
FENCE = re.compile(r"^ *```(?:mermaid\n.*?|[^\n]*\n(.*?))^ *```", re.S | re.M)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(\.?[\w-][\w.-]*/)+[\w.-]*")
# From where a document may name a file, and what is no file of this tree: it is made by an installation, on a host.
FROM = ("", "provisioner", "templates", "templates/images/site", "tests")
MADE = ("run/", "sites/", "state/", "logs/", "database/", "conventions/kayane/", "TARGET/", ".venv/")
BEGINS = re.compile(r"(?:^ *|[$;&(\"`→:] *|\b(?:do|or|and|sudo) +|bin/)provision +(?=[\w-])")  # a command line
ENDS = re.compile(r"[|;&>#→()`]")
PROGRAM = typer.main.get_command(app)
documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))


def code(document: Path) -> list[str]:
    """Return the lines of all fenced blocks, and all inline code, each on one line."""
    text = document.read_text(encoding="utf-8")
    blocks = [block.replace("\\\n", " ") for block in FENCE.findall(text)]
    spans = [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]
    return [line for block in blocks for line in block.splitlines()] + spans


def options(command: Any) -> set[str]:
    named = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return named | {"--help", "-h"}


def every_option(command: Any) -> set[str]:
    below = command.commands.values() if isinstance(command, TyperGroup) else ()
    return options(command).union(*(every_option(one) for one in below))


def command_lines(line: str) -> Iterator[list[str]]:
    """Yield the words of each `provision` command in a line, without its own name."""
    for found in BEGINS.finditer(line):
        words: list[str] = []
        for word in re.findall(r"\"[^\"]*\"|'[^']*'|\S+", line[found.end() :]):
            if word in ("or", "and", "provision") or ENDS.match(word):
                break
            words.append(word.rstrip(",.;:)`"))
            if word != words[-1] or ENDS.search(word):
                break
        yield words


def fault(words: list[str]) -> str:
    """Return what the program would not understand of a command; nothing if all is well."""
    command: Any = PROGRAM
    for place, word in enumerate(words):
        if not isinstance(command, TyperGroup):
            given = [word.partition("=")[0] for word in words[place:] if re.match(r"--?[a-z]", word)]
            return next((f"no option {word}" for word in given if word not in options(command)), "")
        if word.startswith("-"):
            return "" if word in options(command) else f"no option {word}"
        if word not in command.commands:
            return f"no command {word}"
        command = command.commands[word]
    return ""


@documents
def test_commands_and_their_options_exist(document: Path) -> None:
    lines = code(document)
    wrong = [f"{line}: {said}" for line in lines for words in command_lines(line) if words and (said := fault(words))]
    known = every_option(PROGRAM)
    wrong += [line for line in lines if line.startswith("--") and re.split(r"[ =]", line)[0] not in known]
    assert not wrong, "\n".join(wrong)


def exists(name: str) -> bool:
    """Return whether a path exists, for some name in the place of its words in capitals."""
    pattern = re.sub(r"\b[A-Z]{2,}\b", "*", name).rstrip("/")
    return any(any((CHECKOUT / place).glob(pattern)) for place in FROM)


@documents
def test_paths_exist(document: Path) -> None:
    words = {word for line in code(document) for word in line.split() if PATH.fullmatch(word)}
    tree = {path.name for path in CHECKOUT.iterdir() if path.is_dir()}
    spans = {line for line in code(document) if PATH.fullmatch(line)}
    named = {word for word in words if word in spans or word.partition("/")[0] in tree}
    assert not sorted(word for word in named if not word.startswith(MADE) and not exists(word))


def headings(document: Path) -> set[str]:
    """Return the anchors of a document, as its readers' programs make them of its headings."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r"<a id=\"([^\"]+)\"", text))


@documents
def test_links_lead_somewhere(document: Path) -> None:
    wrong = []
    for link in LINK.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in headings(target)):
            wrong.append(link)
    assert not wrong


@documents
def test_targets_of_make_exist(document: Path) -> None:
    targets = set(re.findall(r"^([\w./-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {name for line in code(document) for name in re.findall(r"\bmake (?:-C \S+ )?([\w./-]+)", line)}
    assert named <= targets


def test_what_does_not_exist_is_found(tmp_path: Path) -> None:
    """The rules above, on a document in which all is wrong."""
    document = tmp_path / "wrong.md"
    document.write_text(
        "`provision bakcup`\n\n```sh\nprovision backup --al   # all\n.venv/bin/provision contact list\n```\n"
    )
    faults = [fault(words) for line in code(document) for words in command_lines(line)]
    assert sorted(faults) == ["no command bakcup", "no command list", "no option --al"]
    assert not exists("operations/no-such.py")
    assert not exists("templates/nothing/NAME.yaml")
    assert exists("templates/kit/profiles/NAME.yaml")
