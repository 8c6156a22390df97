"""PHP's serialization as the agent reads and rewrites it (D18, H10)."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agent import serialized

OLD, NEW = "kayane.assos.test:8443", "kayane-copie.assos.test:8443"


def php(value: Any) -> bytes:
    """Serialize as PHP does."""
    match value:
        case None:
            return b"N;"
        case bool():
            return b"b:%d;" % value
        case int():
            return b"i:%d;" % value
        case str():
            return php(value.encode())
        case bytes():
            return b's:%d:"%s";' % (len(value), value)
        case dict():
            return b"a:%d:{%s}" % (len(value), b"".join(php(k) + php(v) for k, v in value.items()))
    raise TypeError(value)


texts = st.binary(max_size=40) | st.sampled_from(
    [f"https://{OLD}/", f"<a href='//{OLD}'>été</a>", f"https:\\/\\/{OLD}\\/x", "a:1:{i:0;s:3:\"abc\";}", "s:9:"]
).map(str.encode)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.dictionaries(st.integers() | st.binary(max_size=10), inner, max_size=5) | inner.map(php),
    max_leaves=20,
)


@given(values)
def test_what_php_wrote_is_read_back(value: Any) -> None:
    assert serialized.parse(php(value)) == value


@given(values)
def test_rewritten_data_stays_readable_and_loses_nothing(value: Any) -> None:
    """Lengths fit whatever nests in what, the old address is gone, and the way back restores every byte."""
    there = serialized.readdress(php(value), OLD, NEW)
    serialized.parse(there)
    assert f"//{OLD}".encode() not in there
    assert serialized.readdress(there, NEW, OLD) == php(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_but_never_more(data: bytes) -> None:
    try:
        serialized.parse(data)
    except ValueError:
        return
    assert serialized.replace(data, re.compile(rb"(?!)"), b"x") == data


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"https://{OLD}/a.", f"https://{NEW}/a."),
        (f"Voir https://{OLD}.", f"Voir https://{NEW}."),
        (f'{{"url":"https:\\/\\/{OLD}\\/"}}', f'{{"url":"https:\\/\\/{NEW}\\/"}}'),
        ("?u=https%3A%2F%2Fkayane.assos.test%3A8443%2Fa", "?u=https%3A%2F%2Fkayane-copie.assos.test%3A8443%2Fa"),
        (f"https://{OLD}.example.org/", f"https://{OLD}.example.org/"),
        (f"https://{OLD}0/", f"https://{OLD}0/"),
        (f"https://www.{OLD}/", f"https://www.{OLD}/"),
        ("kayane.assos.test", "kayane.assos.test"),
    ],
)
def test_which_addresses_are_the_sites(before: str, after: str) -> None:
    assert serialized.readdress(before.encode(), OLD, NEW).decode() == after
    nested = php({"options": php({0: before})})
    assert serialized.readdress(nested, OLD, NEW) == php({"options": php({0: after})})


def test_objects_are_data_and_keys_stay() -> None:
    url = f"https://{OLD}"
    renamed = url.replace(OLD, NEW)
    thing = b'O:8:"Carnet_X":1:{s:3:"url";' + php(url) + b"}"
    assert serialized.parse(thing) == {b"url": url.encode()}
    assert serialized.readdress(thing, OLD, NEW) == b'O:8:"Carnet_X":1:{s:3:"url";' + php(renamed) + b"}"
    assert serialized.readdress(php({url: url}), OLD, NEW) == php({url: renamed})
    packed = b'C:3:"Box":%d:{%s}' % (len(url), url.encode())
    assert serialized.readdress(packed, OLD, NEW) == packed


@pytest.mark.parametrize("bomb", [b"a:1:{" * 5000, b"a:1:{i:0;" * 5000, b"a:99999999999:{", b"i:" + b"9" * 5000 + b";"])
def test_bombs_are_refused(bomb: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        serialized.parse(bomb)


def test_nested_without_end_is_still_text() -> None:
    data = f"https://{OLD}".encode()
    for _ in range(2000):
        data = php(data)
    assert f"//{OLD}".encode() not in serialized.readdress(data, OLD, NEW)
