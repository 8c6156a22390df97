"""Jinja2, strict: a variable that is missing is an error, never an empty string."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from traceback import walk_tb
from typing import Any

from jinja2 import (
    Environment,
    FileSystemBytecodeCache,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
)

from provisioner.errors import BadInput
from provisioner.fields import visible
from provisioner.typography import typeset

_PACKAGE = Path(__file__).parent


@cache
def resources(name: str) -> Path:
    """Return the folder ``templates`` or ``conventions``: inside the wheel, or beside the package in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value


class _Templates(FileSystemLoader):
    """Loads templates; what people read (pages and texts) with the spaces and apostrophes of French."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Return a template's text, its file, and whether that is unchanged."""
        source, file, is_current = super().get_source(environment, template)
        html = ".html" in template
        return typeset(source, html=html) if html or ".txt" in template else source, file, is_current


@cache
def _environment(folder: Path, escape: bool, *, report: bool = False) -> Environment:
    use = "page" if escape else "report" if report else "text"
    # In a folder that only this user can write, which Jinja checks. Compiled code holds the options: one file for each.
    compiled = FileSystemBytecodeCache(pattern=f"__jinja2_{use}_%s.cache")
    environment = Environment(
        loader=_Templates(folder),
        undefined=StrictUndefined,
        bytecode_cache=compiled,
        autoescape=escape,
        finalize=_shown if report else None,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}  # YAML reads no surrogate pairs
    return environment


def text(template: str, **values: Any) -> str:
    """Return ``template`` (a path below templates/) rendered as plain text."""
    return _environment(resources("templates"), False).get_template(template).render(**values)


def report(template: str, **values: Any) -> str:
    """Return ``template`` as plain text for operators: each value is one line and hides no character (J10)."""
    return _environment(resources("templates"), False, report=True).get_template(template).render(**values)


def html(template: str, **values: Any) -> str:
    """Return ``template`` (a path below templates/) rendered as HTML: every value is escaped (H5)."""
    return _environment(resources("templates"), True).get_template(template).render(**values)


def own_html(folder: Path, template: str, **values: Any) -> str:
    """Return a template of the council's own, from ``folder``, rendered as `html` renders ours.

    Raises:
        BadInput: it is faulty, or names something that there is not; says in which line.

    """
    try:
        return _environment(folder, True).get_template(template).render(**values)
    except TemplateError as error:
        raise BadInput(f"{folder / template}:{_line(error, template)}: {error.message}") from None


def _line(error: TemplateError, template: str) -> int:
    """Return the line of a template in which an error arose."""
    if isinstance(error, TemplateSyntaxError):
        return error.lineno
    frames = walk_tb(error.__traceback__)
    return max((line for frame, line in frames if frame.f_code.co_filename.endswith(template)), default=1)
