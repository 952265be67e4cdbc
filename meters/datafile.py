"""Files that people write: YAML checked against a schema, with errors that name file, line and key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.errors import BadInputError

Place = tuple[str | int, ...]
M = TypeVar("M", bound="FileModel")


class FileModel(BaseModel):
    """Base of every schema of a file: unknown keys are errors, values are not changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class DataFile:
    """A parsed file: plain data, and the line on which each key and item stands."""

    name: str
    data: dict[str, Any]
    lines: dict[Place, int]

    def line_of(self, place: Place) -> int | None:
        """The line of that key, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)

    def error(self, message: str, *place: str | int) -> BadInputError:
        """An error about one place in the file, for the caller to raise."""
        return BadInputError(message, file=self.name, line=self.line_of(place), key=_dotted(place) or None)

    def check(self, model: type[M]) -> M:
        """The file as `model`. Raises BadInputError for the first thing that does not fit."""
        try:
            return model.model_validate(self.data)
        except ValidationError as problem:
            first = problem.errors()[0]
            place = tuple(part for part in first["loc"])
            raise self.error(_explain(first), *place) from None


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _explain(problem: Any) -> str:
    given = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            return "unknown key; check its spelling, or remove it"
        case "missing":
            return "is missing; add it"
        case "float_parsing" | "float_type" | "int_parsing" | "int_type" | "finite_number":
            return f"must be a number, not {given!r}"
        case "value_error":
            return str(problem["ctx"]["error"])
        case _:
            message: str = problem["msg"]
            return f"{message[0].lower()}{message[1:]}; got {given!r}"


def read_text(path: Path) -> str:
    """The text of a person's file. Raises BadInputError if it is not there or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInputError("no such file", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"cannot be read: {error}", file=str(path)) from None


def parse(text: str, name: str) -> DataFile:
    """Parse YAML (JSON is a part of it) whose top level is a mapping. Raises BadInputError with the line."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise BadInputError(f"is not valid YAML: {error.problem}", file=name, line=line) from None
    except yaml.YAMLError as error:
        raise BadInputError(f"is not valid YAML: {error}", file=name) from None
    if not isinstance(root, yaml.MappingNode):
        raise BadInputError("must hold keys and values at its top level", file=name, line=1)
    lines: dict[Place, int] = {}
    _note_lines(root, (), lines, name)
    loader = yaml.SafeLoader("")
    try:
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise BadInputError(f"is not valid YAML: {error.problem}", file=name, line=line) from None
    return DataFile(name, data, lines)


def load(path: Path) -> DataFile:
    return parse(read_text(path), str(path))


def _note_lines(node: yaml.Node, place: Place, lines: dict[Place, int], name: str) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise BadInputError(
                    "stands here twice; remove one", file=name, line=line, key=_dotted((*place, key.value))
                )
            seen.add(key.value)
            lines[*place, key.value] = line
            _note_lines(value, (*place, key.value), lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*place, index] = item.start_mark.line + 1
            _note_lines(item, (*place, index), lines, name)
