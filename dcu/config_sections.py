"""Taking a JSON configuration apart: every member is asked for by name, and what nobody asked for is unknown."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeVar, get_type_hints

from protocols.errors import BadInputError

T = TypeVar("T")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: raises ValueError for a key that is there twice."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"key {name!r} is there twice")
    return dict(pairs)


class Section:
    """One JSON object, whose members are taken one by one; what is left over is unknown."""

    def __init__(self, content: object, name: str) -> None:
        if not isinstance(content, dict):
            raise BadInputError("must be an object", key=name or None)
        self._content: dict[str, Any] = dict(content)
        self._name = name

    def key(self, name: str) -> str:
        return f"{self._name}.{name}" if self._name else name

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def take(self, name: str) -> Any:
        if name not in self._content:
            raise BadInputError("is missing", key=self.key(name))
        return self._content.pop(name)

    def section(self, name: str) -> Section:
        return Section(self.take(name), self.key(name))

    def sections(self, name: str) -> list[Section]:
        """A list of objects."""
        value = self.take(name)
        if not isinstance(value, list):
            raise BadInputError("must be a list", key=self.key(name))
        return [Section(item, f"{self.key(name)}[{number}]") for number, item in enumerate(value)]

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool):
            raise BadInputError("must be true or false", key=self.key(name))
        return value

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise BadInputError("must be a text", key=self.key(name))
        return value

    def octets(self, name: str, size_bytes: int) -> bytes:
        value = self.take(name)
        if not isinstance(value, str) or re.fullmatch(f"[0-9a-fA-F]{{{2 * size_bytes}}}", value) is None:
            raise BadInputError(f"must be {size_bytes} octets in hexadecimal", key=self.key(name))
        return bytes.fromhex(value)

    def integer(self, name: str, minimum: int, maximum: int) -> int:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise BadInputError(f"must be an integer of {minimum} to {maximum}", key=self.key(name))
        return value

    def number(self, name: str, minimum: float, maximum: float) -> float:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
            raise BadInputError(f"must be a number of {minimum:g} to {maximum:g}", key=self.key(name))
        return float(value)

    def numbers(self, of: type[T]) -> T:
        """A dataclass of positive numbers, all with defaults."""
        hints = get_type_hints(of)
        found: dict[str, Any] = {}
        for row in dataclasses.fields(of):  # type: ignore[arg-type]
            if row.name not in self:
                continue
            value = self.take(row.name)
            allowed = int if hints[row.name] is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, allowed) or value <= 0:
                raise BadInputError("must be a positive number", key=self.key(row.name))
            found[row.name] = value
        self.end()
        return of(**found)

    def end(self) -> None:
        for name in self._content:
            raise BadInputError("is not a known key", key=self.key(name))
