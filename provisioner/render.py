"""Jinja2, strict: a variable that is missing is an error, never an empty string."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

_PACKAGE = Path(__file__).parent


@cache
def resources(name: str) -> Path:
    """Return the folder ``templates`` or ``conventions``: inside the wheel, or beside the package in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


@cache
def _environment(folder: Path, escape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        bytecode_cache=FileSystemBytecodeCache(),  # a folder that only this user can write, checked by Jinja
        autoescape=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}  # YAML reads no surrogate pairs
    return environment


def text(template: str, **values: Any) -> str:
    """Return ``template`` (a path below templates/) rendered as plain text."""
    return _environment(resources("templates"), False).get_template(template).render(**values)


def html(template: str, **values: Any) -> str:
    """Return ``template`` (a path below templates/) rendered as HTML: every value is escaped (H5)."""
    return _environment(resources("templates"), True).get_template(template).render(**values)
