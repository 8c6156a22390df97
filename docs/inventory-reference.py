"""Write docs/inventory.schema.json and docs/inventory.md from the types of provisioner/inventory.py (`make schema`)."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from provisioner import inventory

DOCS = Path(__file__).parent
SCHEMA = DOCS / "inventory.schema.json"
REFERENCE = DOCS / "inventory.md"

_KINDS = {"mail_address": "mail address", "host_name": "host name", "_listen": "IP address", "_namespace": "name"}
_PLAIN = {str: "text", int: "integer", Decimal: "amount", float: "number", bool: "true or false", Path: "path"}
_INTRODUCTION = """\
# inventory.yaml, key by key

Written by `make schema` from `provisioner/inventory.py`: change the descriptions there, not here.

The inventory is looked for in this order: `--inventory FILE`, `$PROVISION_INVENTORY`, `./inventory.yaml`,
`/etc/provision/inventory.yaml`. Relative paths in it are relative to its own folder. Unknown keys, duplicate keys and
YAML aliases are refused with line and column.

Editors that speak YAML check it as you type when its first lines hold `# yaml-language-server: $schema=` and the path
of [inventory.schema.json](inventory.schema.json).
"""


def schema() -> str:
    """Return the JSON schema of inventory.yaml."""
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **inventory.Inventory.model_json_schema()}
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """Return the reference as Markdown: one table per section."""
    lines = [_INTRODUCTION, *_section("inventory.yaml", inventory.Inventory)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    yield (model.__doc__ or "").strip().splitlines()[0] + "\n"
    yield "| key | type | default | description |"
    yield "| --- | --- | --- | --- |"
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        path = name if model is inventory.Inventory else f"{title}: {name}"
        kind = _in_words(field.annotation, field.metadata, path)
        cells = (f"`{name}`", kind, _default(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        inner += [(path, found) for found in _models(field.annotation)]
    yield ""
    for path, found in inner:
        yield from _section(path, found)


def _in_words(annotation: Any, metadata: Sequence[Any], path: str) -> str:
    """Return the type of a value as a person would say it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _in_words(arguments[0], [*arguments[1:], *metadata], path)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(part, metadata, path) for part in arguments if part is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_in_words(arguments[0], (), path)}"
    if origin is dict:
        return f"mapping of names to {_in_words(arguments[1], (), path)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{path}](#{path.replace(': ', '-')})"
    return _plain(annotation, list(_flat(metadata)))


def _plain(annotation: Any, limits: Sequence[Any]) -> str:
    kind = _PLAIN[annotation]
    for limit in limits:
        if isinstance(limit, AfterValidator):
            kind = _KINDS.get(getattr(limit.func, "__name__", ""), kind)
    least = next((limit.ge for limit in limits if isinstance(limit, Ge)), None)
    most = next((limit.le for limit in limits if isinstance(limit, Le)), None)
    above = next((limit.gt for limit in limits if isinstance(limit, Gt)), None)
    if least is not None and most is not None:
        return f"{kind}, {least} to {most}"
    bounds = (("at least", least), ("more than", above), ("at most", most))
    return ", ".join([kind, *(f"{words} {bound}" for words, bound in bounds if bound is not None)])


def _flat(metadata: Sequence[Any]) -> Iterator[Any]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        elif not isinstance(item, MinLen | MaxLen):
            yield item


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "as below"
    if value is None:
        return "none"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{name}": {_yaml(part)}' for name, part in value.items()) + "}"
    if isinstance(value, BaseModel):
        set_here = value.model_dump(exclude_defaults=True)
        return "{" + ", ".join(f"{name}: {_yaml(part)}" for name, part in set_here.items()) + "}"
    return str(value)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Find the sections inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def main() -> None:
    """Write both files."""
    SCHEMA.write_text(schema(), encoding="utf-8")
    REFERENCE.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"{SCHEMA.name} and {REFERENCE.name} written\n")


if __name__ == "__main__":
    main()
