"""Requests and answers as JSON: written from their types, and read back only as their types say."""

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from provisioner.agent.protocol import Access, Request

A = TypeVar("A")
Q = TypeVar("Q")


class Malformed(ValueError):
    """What was said is not of the type that was expected; the message names the place."""


def written(request: Request[Any], access: Access | None = None) -> bytes:
    """Return a request as its program reads it from /request.json."""
    content: dict[str, Any] = asdict(request)  # type: ignore[call-overload]  # every request is a dataclass
    if access is not None:
        content["repository"] = asdict(access)
    return json.dumps(content).encode()


def answered(request: Request[A], said: str) -> A:
    """Return the answer that a program printed to ``request``.

    Raises:
        Malformed: it is no JSON, or not of the type of the answer.

    """
    try:
        content = json.loads(said)
    except (ValueError, RecursionError):
        begins = " ".join(said.split())[:80]
        raise Malformed(f"{request.verb}: the answer is no JSON: it begins with {begins!r}") from None
    answer: A = read(answer_type(type(request)), content, request.verb)
    return answer


def answer_type(request: type[Request[Any]]) -> type[Any]:
    """Return the type of the answer to a type of request."""
    (base,) = request.__orig_bases__  # type: ignore[attr-defined]
    (answer,) = get_args(base)
    return answer  # type: ignore[no-any-return]


def read(kind: Any, value: object, where: str) -> Any:
    """Return ``value``, which JSON gave, as an object of the type ``kind``; ``where`` is named in errors.

    Keys that a type does not have are passed over in a dataclass, for a newer program may say more, and are kept in a
    typed dictionary, which may be written down again.

    Raises:
        Malformed: it is of another type, or something is missing.

    """
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if is_typeddict(kind):
        return _typed_dictionary(kind, value, where)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind, value, where)
    if origin is list:
        items = _expected(list, value, where)
        return [read(get_args(kind)[0], item, f"{where}[{place}]") for place, item in enumerate(items)]
    if origin in (dict, Mapping):
        inner = get_args(kind)[1]
        return {key: read(inner, item, f"{where}.{key}") for key, item in _object(value, where).items()}
    return value if kind is object else _expected(kind, value, where)


def _dataclass(kind: Any, value: object, where: str) -> Any:
    content, hints = _object(value, where), get_type_hints(kind)
    given = {}
    for one in fields(kind):
        if one.name in content:
            given[one.name] = read(hints[one.name], content[one.name], f"{where}.{one.name}")
        elif one.default is MISSING and one.default_factory is MISSING:
            raise Malformed(f"{where}: {one.name!r} is missing")
    return kind(**given)


def _typed_dictionary(kind: Any, value: object, where: str) -> dict[str, Any]:
    content, hints = dict(_object(value, where)), get_type_hints(kind)
    for key, inner in hints.items():
        if key in content:
            content[key] = read(inner, content[key], f"{where}.{key}")
        elif key in kind.__required_keys__:
            raise Malformed(f"{where}: {key!r} is missing")
    return content


def _optional(kind: Any, value: object, where: str) -> Any:
    (inner,) = (one for one in get_args(kind) if one is not types.NoneType)
    return None if value is None else read(inner, value, where)


def _object(value: object, where: str) -> dict[str, object]:
    # PHP writes an empty array for an empty object.
    found: dict[str, object] = {} if value == [] else _expected(dict, value, where)
    return found


def _expected(kind: Any, value: object, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise Malformed(f"{where}: {kind.__name__} is expected, not {type(value).__name__}")
    return value
