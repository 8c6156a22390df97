"""PHP's serialization format, read and rewritten without ever making an object (H10).

A value is read into what Python has for it: bytes, numbers, None, and dictionaries for arrays and for the
properties of objects alike. `replace` writes the same bytes back with only the contents of strings changed,
and with the lengths that go with them (D18). Keys, class names and what a class packed by itself stay as they are.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

_SCALAR = re.compile(rb"(?:N|[bidrR]:[^;]*);")
_LENGTH = re.compile(rb"(\d+):")
DEPTH = 200  # nesting beyond this is no data of WordPress
Change = Callable[[bytes], bytes]


class _Reader:
    """Reads one value, and writes it again beside, with its strings changed."""

    def __init__(self, data: bytes, change: Change) -> None:
        self.data, self.change, self.at, self.out = data, change, 0, bytearray()

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise ValueError("cut short")
        self.at += count
        return taken

    def expect(self, mark: bytes) -> None:
        if self.take(len(mark)) != mark:
            raise ValueError(f"{mark!r} is missing")

    def number(self) -> int:
        match = _LENGTH.match(self.data, self.at)
        if match is None:
            raise ValueError("a length is missing")
        self.at = match.end()
        return int(match[1])

    def value(self, depth: int = 0) -> Any:
        if depth > DEPTH:
            raise ValueError("nested too deeply")
        kind = self.data[self.at : self.at + 2]
        scalar = _SCALAR.match(self.data, self.at)
        if scalar is not None:
            self.at = scalar.end()
            self.out += scalar[0]
            return _scalar(scalar[0])
        self.take(2)
        if kind == b"s:":
            return self.string()
        if kind == b"a:":
            count = self.number()
            self.out += b"a:%d:" % count
            return self.members(count, depth)
        if kind == b"O:":
            name = self.quoted()
            self.expect(b":")
            count = self.number()
            self.out += b'O:%d:"%s":%d:' % (len(name), name, count)
            return self.members(count, depth)
        if kind in (b"C:", b"E:"):  # a class's own format, and an enumeration: nothing in them is ours to change
            name = self.quoted()
            if kind == b"E:":
                self.expect(b";")
                self.out += b'E:%d:"%s";' % (len(name), name)
                return None
            self.expect(b":")
            length = self.number()
            self.expect(b"{")
            body = self.take(length)
            self.expect(b"}")
            self.out += b'C:%d:"%s":%d:{%s}' % (len(name), name, length, body)
            return None
        raise ValueError(f"unknown type {kind!r}")

    def quoted(self) -> bytes:
        length = self.number()
        self.expect(b'"')
        text = self.take(length)
        self.expect(b'"')
        return text

    def string(self) -> bytes:
        text = self.quoted()
        self.expect(b";")
        changed = self.change(text)
        self.out += b's:%d:"%s";' % (len(changed), changed)
        return text

    def members(self, count: int, depth: int) -> dict[Any, Any]:
        self.expect(b"{")
        self.out += b"{"
        found = {}
        for _ in range(count):
            key = self.key()
            found[key] = self.value(depth + 1)
        self.expect(b"}")
        self.out += b"}"
        return found

    def key(self) -> Any:
        """Read a key: never changed, for a plugin looks its entries up by it."""
        if self.data[self.at : self.at + 2] not in (b"i:", b"s:"):
            raise ValueError("a key is a number or a string")
        change, self.change = self.change, bytes
        try:
            return self.value()
        finally:
            self.change = change


def _scalar(token: bytes) -> Any:
    kind, _, text = token[:-1].partition(b":")
    if kind == b"i":
        return int(text)
    if kind == b"b":
        return text == b"1"
    return float(text) if kind == b"d" else None


def parse(data: bytes) -> Any:
    """Return the value of serialized ``data``.

    Raises:
        ValueError: it is not serialized data.

    """
    reader = _Reader(data, bytes)
    value = reader.value()
    if reader.at != len(data):
        raise ValueError("something follows the value")
    return value


def replace(data: bytes, pattern: re.Pattern[bytes], new: bytes) -> bytes:
    """Return ``data`` with what ``pattern`` finds replaced by ``new``, also deep inside serialized data."""
    if pattern.search(data) is None:
        return data
    reader = _Reader(data, lambda text: replace(text, pattern, new))
    try:
        reader.value()
        whole = reader.at == len(data)
    except (ValueError, RecursionError):  # text that only begins like serialized data, or a bomb
        whole = False
    return bytes(reader.out) if whole else pattern.sub(lambda _match: new, data)


def readdress(data: bytes, old: str, new: str) -> bytes:
    """Return ``data`` with every address of the site ``old`` (host name, and port if any) made one of ``new``.

    Plain, as JSON escapes it, and percent-encoded; a longer name that begins like ``old`` is another site's.
    """
    for slashes, was, becomes in (
        (rb"//", old, new),
        (rb"\\/\\/", old, new),
        (rb"%2[Ff]%2[Ff]", quote(old, safe=""), quote(new, safe="")),
    ):
        pattern = re.compile(rb"(?<=" + slashes + rb")" + re.escape(was.encode()) + rb"(?![\w-]|\.\w)", re.IGNORECASE)
        data = replace(data, pattern, becomes.encode())
    return data
