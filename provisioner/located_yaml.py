"""YAML files whose every fault is told with its line and column.

Written by people, so careless or hostile input is expected: duplicate keys, aliases (and with
them alias bombs), tags, deep nesting and huge files are refused before anything is built from them.
"""

from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from provisioner import named_files
from provisioner.errors import BadInput

LARGEST = 1024 * 1024  # bytes; 400 associations in one file take about 200 KiB

Place: TypeAlias = tuple[int, int]
Key: TypeAlias = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, tags and duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed here", problem_mark=event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="tags (!…) are not allowed here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # such as 30 February
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is not text: put it in quotes", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class LocatedYaml:
    """The data of one YAML file, and where each part of it stands."""

    def __init__(self, path: Path) -> None:
        """Read ``path``.

        Raises:
            BadInput: unreadable, no regular file, too large, not UTF-8, or not the YAML that is allowed here.

        """
        self.path = path
        text = named_files.text(path, LARGEST, "split the file")
        self.places: dict[Key, Place] = {}
        try:
            loader = _Loader(text)
        except yaml.reader.ReaderError as error:
            before = text[: error.position].split("\n")
            place = f"{len(before)}:{len(before[-1]) + 1}"
            raise BadInput(f"{path}:{place}: the character U+{ord(text[error.position]):04X} is not allowed") from None
        try:
            node = loader.get_single_node()
            if node is None:
                raise BadInput(f"{path}:1:1: the file is empty")
            self.data: Any = loader.construct_document(node)
            self._note_places(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
            reason = ", ".join(part for part in (error.context, error.problem) if part)
            raise BadInput(f"{path}:{place}: {reason}") from None
        except (ValueError, OverflowError) as error:  # an escape such as "\\UFFFFFFFF"
            raise BadInput(f"{path}:{loader.line + 1}:{loader.column + 1}: {error}") from None
        except RecursionError:
            raise BadInput(f"{path}:1:1: nested too deeply") from None

    def _note_places(self, node: yaml.Node, key: Key) -> None:
        self.places.setdefault(key, (node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                child = (*key, name.value)
                self.places[child] = (name.start_mark.line + 1, name.start_mark.column + 1)
                self._note_places(value, child)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._note_places(value, (*key, index))

    def place(self, key: Key) -> str:
        """Return ``path:line:column`` of ``key``, or of the nearest part around it."""
        while key and key not in self.places:
            key = key[:-1]
        line, column = self.places.get(key, (1, 1))
        return f"{self.path}:{line}:{column}"

    def parse(self, model: type[M], at: Key = ()) -> M:
        """Return what stands at ``at`` (default: the whole file) as a ``model``.

        Raises:
            BadInput: one line that names the first fault's place.

        """
        data = self.data
        for part in at:
            data = data[part]
        try:
            return model.model_validate(data)
        except ValidationError as error:
            fault = error.errors()[0]
            key = tuple(part for part in fault["loc"] if not str(part).startswith("function-"))
            raise BadInput(f"{self.place((*at, *key))}: {fault_in_words(fault)}") from None


def fault_in_words(fault: Any) -> str:
    """Return one of pydantic's faults as a sentence that names the key."""
    name = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case "extra_forbidden":
            return f"unknown key {name!r}"
        case "missing":
            return f"key {name!r} is missing"
        case "value_error":
            reason = str(fault["ctx"]["error"])
        case "string_type":
            reason = "text is expected; put it in quotes"
        case "list_type" | "tuple_type":
            reason = "a list is expected"
        case "dict_type" | "model_type":
            reason = "keys and values are expected"
        case _:
            reason = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{name}: {reason}" if name else reason
