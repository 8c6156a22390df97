"""The table of hostile and careless input: its rows, and what their words mean (FAULTS H1 to H6)."""

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

COLUMNS = {"row", "why", "through", "given", "content", "then", "code", "says", "at"}
ROWS: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("hostile.yaml").read_text(encoding="utf-8"))
REFUSED = [row for row in ROWS if row["then"] == "refused"]
VERBATIM = [row for row in ROWS if row["then"] == "verbatim"]


def name_of(row: Mapping[str, Any]) -> str:
    return f"{row['row']}: {row['why']}"


def made(value: Any) -> Any:
    """Return a value of the table with its generated parts made."""
    match value:
        case {"repeat": part, "times": int(times)}:
            return part * times
        case {"join": [*parts]}:
            return "".join(made(part) for part in parts)
        case {"bytes": hexadecimal}:
            return bytes.fromhex(hexadecimal)
        case dict():
            return {key: made(part) for key, part in value.items()}
        case list():
            return [made(part) for part in value]
    return value


def word(value: Any) -> str:
    """Return a value as Python has it in sys.argv: bytes that are not UTF-8 become lone surrogates."""
    return os.fsdecode(made(value))


def changed(sound: Any, changes: Mapping[str, Any]) -> Any:
    """Return a copy of ``sound`` in which the dotted keys of ``changes`` have other values, or are absent."""
    copy = deepcopy(sound)
    for dotted, value in changes.items():
        *path, last = (int(part) if part.isdecimal() else part for part in dotted.split("."))
        place = copy
        for part in path:
            place = place[part]
        if value == {"absent": True}:
            del place[last]
        else:
            place[last] = made(value)
    return copy
