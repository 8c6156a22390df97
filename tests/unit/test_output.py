"""What an operator reads hides no character and forges no line, whatever a site or an association wrote (H3, J10)."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.cli import output
from provisioner.errors import ProvisionError
from provisioner.fields import visible
from provisioner.mail.messages import compose

HOSTILE = [
    "\x1b]0;title\x07\x1b[2J",  # an escape sequence: the window's title, an empty screen
    "\x9b31m",  # the same by a C1 control character
    "one\nall is well",
    "one\rall is well",
    "\u202egnp.exe",  # right-to-left override
    "\u2066isolated\u2069",
    "zero\u200bwidth",
    "line\u2028separator",
    "tag\U000e0041",
    "\ud800",  # half of a surrogate pair: no UTF-8
    "\x7f\x00\x08",
]
texts = st.text() | st.sampled_from(HOSTILE)


def printed(show: object, *arguments: object) -> str:
    """Return what a function prints, as the bytes that a terminal gets must be UTF-8."""
    assert callable(show)
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    with redirect_stdout(out), redirect_stderr(out):
        show(*arguments)
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    return out.buffer.getvalue().decode()


def check_plain(text: str) -> None:
    """Check that all but line ends is printable."""
    assert [character for character in text if not character.isprintable() and character != "\n"] == []


@given(texts)
def test_json_gives_back_what_it_does_not_show(text: str) -> None:
    said = printed(output.machine, {text: [text]})
    check_plain(said)
    assert len(said.splitlines()) == len(printed(output.machine, {"a": ["a"]}).splitlines())
    assert json.loads(said) == {text: [text]}


@given(texts)
def test_a_line_is_one_line(text: str) -> None:
    for show in (output.line, output.warn):
        said = printed(show, text)
        check_plain(said)
        assert said.count("\n") == 1


@given(texts)
def test_an_error_and_what_needs_a_person_are_one_line(text: str) -> None:
    for said in (printed(output.fail, ProvisionError(text, text)), printed(output.attention, text, text, text)):
        check_plain(said)
        assert said.count("\n") == 1


@given(st.lists(texts, min_size=1, max_size=3))
def test_a_table_has_one_line_per_row(cells: list[str]) -> None:
    said = printed(output.table, ["heading"], [[cell[:8]] for cell in cells])
    check_plain(said)
    assert len(said.splitlines()) == len(printed(output.table, ["heading"], [["a"]] * len(cells)).splitlines())


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_hidden_is_shown_as_an_escape(text: str) -> None:
    shown = visible(text)
    check_plain(shown)
    assert shown.encode()
    assert "\\u" in shown or "\\U" in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_a_mail_to_operators_has_the_lines_of_its_template(text: str) -> None:
    def incident(what: str) -> SimpleNamespace:
        moment = datetime(2026, 9, 1, tzinfo=UTC)
        return SimpleNamespace(
            subject="kayane", alarm="answer", what=what, command="provision doctor", critical=True, began_at=moment,
            ended_at=None,
        )  # fmt: skip

    def body(what: str) -> str:
        return compose("incident", incident=incident(what), local=str, seen_at="now").body

    said = body(f"it says {text}")
    check_plain(said)
    assert said.count("\n") == body("it says nothing").count("\n")
