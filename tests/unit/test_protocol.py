"""What the control plane and the programs on its hosts say to each other: one type each, and nothing else is taken."""

import ast
import inspect
import json
import re
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import agent
from provisioner.agent import protocol, wire
from provisioner.agent.__main__ import ALONE, WITH_REPOSITORY, WITHOUT, function
from provisioner.errors import Unavailable
from provisioner.render import resources
from provisioner.steps.site import require_spoken

AGENT = Path(agent.__file__).parent
SITE_IMAGE = resources("templates") / "images" / "site"
REQUESTS = [kind for kind in vars(protocol).values() if inspect.isclass(kind) and issubclass(kind, protocol.Request)]
SITES_OWN = {"install", "publish", "invite", "facts", "upgrade", "rehearse", "export"}


def names(request: type[protocol.Request[Any]]) -> str:
    return request.__name__


@pytest.fixture(scope="module")
def requests() -> list[type[protocol.Request[Any]]]:
    return [kind for kind in REQUESTS if kind is not protocol.Request]


def test_every_request_is_answered_by_one_program(requests: list[type[protocol.Request[Any]]]) -> None:
    php = (SITE_IMAGE / "provision.php").read_text()
    (listed,) = re.findall(r"in_array\(\$verb, \[(.*?)\], true\)", php)
    assert set(re.findall(r"'([a-z-]+)'", listed)) == SITES_OWN
    by_the_agent: set[type[protocol.Request[Any]]] = {*WITH_REPOSITORY, *WITHOUT, *ALONE}
    by_the_site = {kind for kind in requests if kind not in by_the_agent and kind.verb in SITES_OWN}
    assert set(requests) - by_the_agent - by_the_site == {protocol.Prepare}
    assert {kind.verb for kind in by_the_site} == SITES_OWN
    verbs = [kind.verb for kind in requests if kind in by_the_agent]
    assert len(verbs) == len(set(verbs))


@pytest.mark.parametrize("request_type", [*WITH_REPOSITORY, *WITHOUT], ids=names)
def test_the_agent_takes_and_answers_what_the_protocol_says(request_type: type[protocol.Request[Any]]) -> None:
    act = function({**WITH_REPOSITORY, **WITHOUT}[request_type])
    hints = get_type_hints(act)
    answer = hints.pop("return")
    assert list(hints.values())[-1] is request_type
    assert answer is wire.answer_type(request_type)
    assert is_dataclass(answer)


@pytest.mark.parametrize("request_type", ALONE, ids=names)
def test_who_answers_by_an_exit_code_takes_what_the_protocol_says(request_type: type[protocol.Request[Any]]) -> None:
    hints = get_type_hints(function(ALONE[request_type]))
    assert hints.pop("return") in (int, NoReturn)
    assert list(hints.values()) == [request_type]


def test_an_image_says_which_protocol_it_speaks() -> None:
    (said,) = re.findall(rf'^LABEL {re.escape(protocol.LABEL)}="(\d+)"$', (SITE_IMAGE / "Dockerfile").read_text(), re.M)
    assert int(said) == protocol.CURRENT
    assert {protocol.FIRST, protocol.CURRENT} <= protocol.SPOKEN


def test_the_agent_needs_nothing_that_its_image_lacks() -> None:
    allowed = {*sys.stdlib_module_names, "pymysql"}
    for path in sorted(AGENT.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert module.partition(".")[0] in allowed or module.startswith("provisioner.agent"), (path, module)


requests_of_some_kinds = st.one_of(
    st.builds(protocol.CopyCode, st.integers(), st.lists(st.integers())),
    st.builds(protocol.Pack, st.text(), st.dictionaries(st.text(), st.text())),
    st.builds(
        protocol.ComparePages,
        st.text(),
        st.builds(protocol.Twin, st.integers(), st.text()),
        st.builds(protocol.Twin, st.integers(), st.text()),
        st.lists(st.text()),
    ),
    st.builds(protocol.AskFacts, st.just([])),
)


@given(requests_of_some_kinds)
def test_what_is_written_is_read_again(request: protocol.Request[Any]) -> None:
    assert wire.read(type(request), json.loads(wire.written(request)), "request") == request


FIGURES = {"snapshot": "abc", "time": "t", "new_bytes": 1, "total_bytes": 2, "files": 3}


def test_an_answer_is_read_with_all_that_it_holds() -> None:
    request = protocol.KeepControlPlane(append_only=False, time="t", operation="1")
    assert asdict(wire.answered(request, json.dumps(FIGURES))) == FIGURES


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("<html>Fatal error</html>", "keep: the answer is no JSON: it begins with '<html>Fatal error</html>'"),
        ("", "keep: the answer is no JSON"),
        ("[" * 100_000, "keep: the answer is no JSON"),
        ("3", "keep: dict is expected, not int"),
        ("null", "keep: dict is expected, not NoneType"),
        (json.dumps({**FIGURES, "files": "3"}), "keep.files: int is expected, not str"),
        (json.dumps({**FIGURES, "files": True}), "keep.files: int is expected, not bool"),
        (json.dumps({**FIGURES, "snapshot": None}), "keep.snapshot: str is expected, not NoneType"),
        (json.dumps({key: value for key, value in FIGURES.items() if key != "time"}), "keep: 'time' is missing"),
    ],
)
def test_what_is_no_answer_is_refused_in_one_line(said: str, complaint: str) -> None:
    request = protocol.KeepControlPlane(append_only=False, time="t", operation="1")
    with pytest.raises(wire.Malformed, match=re.escape(complaint)) as error:
        wire.answered(request, said)
    assert "\n" not in str(error.value)


def test_a_newer_program_may_say_more() -> None:
    request = protocol.Publish(public=True)
    assert wire.answered(request, '{"public": true, "since": 2030}') == protocol.Published(public=True)


def test_php_writes_an_empty_array_for_an_empty_object() -> None:
    assert wire.read(dict[str, str], [], "kit") == {}


MANIFEST: dict[str, Any] = {
    "format": 1, "namespace": "demo", "site": "kayane", "netloc": "kayane.test", "generation": 1, "release": "6.8",
    "image": "sha256:0", "wordpress": "6.8", "php": "8.4", "settled": True,
    "database": {
        "engines": {"wp_posts": "InnoDB"}, "rows": {"wp_posts": 3}, "views": [], "triggers": [], "routines": [],
        "events": [], "db_version": "1", "active_plugins": [], "stylesheet": "x", "users": 1, "administrators": [],
        "sessions": [], "application_passwords": [], "bytes": 10, "sha256": "0",
    },
    "content": {"files": 1, "bytes": 2, "sample": {}, "plugins": [], "themes": []},
}  # fmt: skip


def test_a_manifest_keeps_what_a_later_version_wrote_into_it() -> None:
    later = {**MANIFEST, "sequences": ["s"]}
    assert wire.read(protocol.Manifest, later, "manifest") == later


def test_a_manifest_that_lacks_something_names_it() -> None:
    database = {key: value for key, value in MANIFEST["database"].items() if key != "rows"}
    with pytest.raises(wire.Malformed, match=re.escape("manifest.database: 'rows' is missing")):
        wire.read(protocol.Manifest, {**MANIFEST, "database": database}, "manifest")


@pytest.mark.parametrize(
    ("spoken", "hint"),
    [(0, "provision upgrade kayane"), (999, "install the version of provision that built the image")],
)
def test_an_image_that_speaks_another_protocol_is_refused_in_one_line(spoken: int, hint: str) -> None:
    with pytest.raises(Unavailable) as error:
        require_spoken("kayane", spoken)
    assert error.value.message == f"kayane: its image speaks protocol {spoken}, this version of provision speaks 1, 2"
    assert error.value.hint == hint


def test_what_an_image_speaks_is_spoken() -> None:
    for spoken in protocol.SPOKEN:
        require_spoken("kayane", spoken)
