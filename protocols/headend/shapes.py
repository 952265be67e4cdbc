"""How the fields of a message look in JSON: one declaration checks, encodes and gives the JSON Schema.

A field is declared as `Annotated[python type, kind]`. Kinds are checked in both directions, so that what we send
validates against the schema that we publish.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Protocol, TypeVar, get_args, get_origin, get_type_hints

from protocols.errors import RemoteProtocolError
from protocols.headend.json_text import Json, decimal_text

SPEC = "openami/v1"
T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UTC_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"


def wrong(path: str, message: str) -> RemoteProtocolError:
    """An error that names the field, and never shows its value: it may be a key."""
    return RemoteProtocolError(f"field {path or 'message'}: {message}", spec=SPEC)


class Kind(Protocol):
    """One kind of JSON value. `decode` raises RemoteProtocolError that names `path`."""

    def json_name(self, name: str) -> str:
        """The member's name for a Python field called `name`."""
        ...

    def schema(self) -> dict[str, Any]: ...

    def encode(self, value: Any) -> Json: ...

    def decode(self, value: Json, path: str) -> Any: ...


class _Plain:
    __slots__ = ()

    def json_name(self, name: str) -> str:
        return name


@dataclass(frozen=True, slots=True)
class Text(_Plain):
    """A string of `min_length` to `max_length` characters; `pattern` must match all of it."""

    max_length: int
    pattern: str | None = None
    min_length: int = 0
    description: str = ""

    def schema(self) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "string", "minLength": self.min_length, "maxLength": self.max_length}
        if self.pattern is not None:
            out["pattern"] = f"^(?:{self.pattern})$"
        return out | ({"description": self.description} if self.description else {})

    def encode(self, value: str) -> Json:
        return value

    def decode(self, value: Json, path: str) -> str:
        if not isinstance(value, str):
            raise wrong(path, "must be a string")
        if not self.min_length <= len(value) <= self.max_length:
            raise wrong(path, f"must have {self.min_length} to {self.max_length} characters")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise wrong(path, "holds an unpaired surrogate")
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            raise wrong(path, f"must match {self.pattern}")
        return value


@dataclass(frozen=True, slots=True)
class Hex(_Plain):
    """Octets as lower-case hexadecimal digits."""

    min_bytes: int
    max_bytes: int
    description: str = ""

    def schema(self) -> dict[str, Any]:
        out = {"type": "string", "pattern": f"^(?:[0-9a-f]{{2}}){{{self.min_bytes},{self.max_bytes}}}$"}
        return out | ({"description": self.description} if self.description else {})

    def encode(self, value: bytes) -> Json:
        return value.hex()

    def decode(self, value: Json, path: str) -> bytes:
        if not isinstance(value, str) or re.fullmatch("(?:[0-9a-f]{2})*", value) is None:
            raise wrong(path, "must be octets in lower-case hexadecimal")
        octets = bytes.fromhex(value)
        if not self.min_bytes <= len(octets) <= self.max_bytes:
            raise wrong(path, f"must have {self.min_bytes} to {self.max_bytes} octets")
        return octets


@dataclass(frozen=True, slots=True)
class Integer(_Plain):
    minimum: int
    maximum: int
    description: str = ""

    def schema(self) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        return out | ({"description": self.description} if self.description else {})

    def encode(self, value: int) -> Json:
        return value

    def decode(self, value: Json, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(path, "must be an integer")
        if not self.minimum <= value <= self.maximum:
            raise wrong(path, f"must be {self.minimum} to {self.maximum}")
        return value


@dataclass(frozen=True, slots=True)
class UtcMs(_Plain):
    """Milliseconds since 1970-01-01 UTC, written as `2026-03-01T00:00:00.000Z`. The name loses its `_ms`."""

    description: str = ""

    def json_name(self, name: str) -> str:
        return name.removesuffix("_ms")

    def schema(self) -> dict[str, Any]:
        out = {"type": "string", "pattern": _UTC_PATTERN}
        return out | ({"description": self.description} if self.description else {})

    def encode(self, value: int) -> Json:
        return utc_text(value)

    def decode(self, value: Json, path: str) -> int:
        if not isinstance(value, str) or re.fullmatch(_UTC_PATTERN[1:-1], value) is None:
            raise wrong(path, "must be UTC as YYYY-MM-DDThh:mm:ss.sssZ")
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise wrong(path, "is not a date") from None
        return (moment - _EPOCH) // timedelta(milliseconds=1)


def utc_text(utc_ms: int) -> str:
    """`utc_ms` as ISO 8601 with milliseconds: `2026-03-01T00:00:00.000Z`."""
    return (_EPOCH + timedelta(milliseconds=utc_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Choice(_Plain):
    """One of the texts of a StrEnum."""

    choices: type[StrEnum]

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": [member.value for member in self.choices]}

    def encode(self, value: StrEnum) -> Json:
        return value.value

    def decode(self, value: Json, path: str) -> StrEnum:
        for member in self.choices:
            if value == member.value:
                return member
        raise wrong(path, f"must be one of {', '.join(self.choices)}")


@dataclass(frozen=True, slots=True)
class Amount(_Plain):
    """What a COSEM attribute holds: an exact decimal, or text."""

    max_length: int = 512

    def schema(self) -> dict[str, Any]:
        return {"type": ["number", "string"], "maxLength": self.max_length}

    def encode(self, value: Decimal | str) -> Json:
        return value

    def decode(self, value: Json, path: str) -> Decimal | str:
        if isinstance(value, str):
            return Text(self.max_length).decode(value, path)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise wrong(path, "must be a number or a string")
        return Decimal(decimal_text(Decimal(value)))


@dataclass(frozen=True, slots=True)
class Flag(_Plain):
    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}

    def encode(self, value: bool) -> Json:
        return value

    def decode(self, value: Json, path: str) -> bool:
        if not isinstance(value, bool):
            raise wrong(path, "must be true or false")
        return value


@dataclass(frozen=True, slots=True)
class Optional(_Plain):
    """`inner`, or nothing: the member is then left out, and null is refused."""

    inner: Kind

    def json_name(self, name: str) -> str:
        return self.inner.json_name(name)

    def schema(self) -> dict[str, Any]:
        return self.inner.schema()

    def encode(self, value: Any) -> Json:
        return self.inner.encode(value)

    def decode(self, value: Json, path: str) -> Any:
        return self.inner.decode(value, path)


@dataclass(frozen=True, slots=True)
class ListOf(_Plain):
    """A tuple of at most `max_items`, of one kind."""

    item: Kind
    max_items: int
    min_items: int = 0

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(), "minItems": self.min_items, "maxItems": self.max_items}

    def encode(self, value: Iterable[Any]) -> Json:
        return [self.item.encode(item) for item in value]

    def decode(self, value: Json, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise wrong(path, "must be an array")
        if not self.min_items <= len(value) <= self.max_items:
            raise wrong(path, f"must have {self.min_items} to {self.max_items} items")
        return tuple(self.item.decode(item, f"{path}[{position}]") for position, item in enumerate(value))


@dataclass(frozen=True, slots=True)
class Pairs(_Plain):
    """A JSON object of short texts, as a tuple of (name, text) in the order of the names."""

    max_items: int = 32
    name: Text = Text(64, "[a-z][a-z0-9_]*")
    text: Text = Text(512)

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": self.name.schema(),
            "additionalProperties": self.text.schema(),
            "maxProperties": self.max_items,
        }

    def encode(self, value: tuple[tuple[str, str], ...]) -> Json:
        return dict(value)

    def decode(self, value: Json, path: str) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            raise wrong(path, "must be an object")
        if len(value) > self.max_items:
            raise wrong(path, f"must have at most {self.max_items} members")
        return tuple(
            (self.name.decode(name, f"{path} member name"), self.text.decode(text, f"{path}.{name}"))
            for name, text in sorted(value.items())
        )


@dataclass(frozen=True, slots=True)
class Nested(_Plain):
    """A dataclass whose own fields are annotated."""

    of: type[Any]

    def schema(self) -> dict[str, Any]:
        return object_schema(self.of)

    def encode(self, value: Any) -> Json:
        return encode_object(value)

    def decode(self, value: Json, path: str) -> Any:
        return decode_object(self.of, value, path)


_SHAPES: dict[type[Any], tuple[tuple[str, str, Kind], ...]] = {}


def shape(of: type[Any]) -> tuple[tuple[str, str, Kind], ...]:
    """The fields of a dataclass: Python name, JSON name, kind."""
    known = _SHAPES.get(of)
    if known is None:
        known = _SHAPES[of] = _declared(of)
    return known


def _declared(of: type[Any]) -> tuple[tuple[str, str, Kind], ...]:
    hints = get_type_hints(of, include_extras=True)
    out = []
    for field in dataclasses.fields(of):
        hint = hints[field.name]
        if get_origin(hint) is not Annotated:
            raise TypeError(f"{of.__name__}.{field.name} declares no kind")
        kind: Kind = get_args(hint)[1]
        out.append((field.name, kind.json_name(field.name), kind))
    return tuple(out)


def object_schema(of: type[Any]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a dataclass."""
    fields = shape(of)
    return {
        "type": "object",
        "properties": {json_name: kind.schema() for _, json_name, kind in fields},
        "required": [json_name for _, json_name, kind in fields if not isinstance(kind, Optional)],
        "additionalProperties": False,
    }


def encode_object(value: Any) -> dict[str, Json]:
    """The JSON object of a dataclass instance. Members that are None are left out."""
    out: dict[str, Json] = {}
    for name, json_name, kind in shape(type(value)):
        held = getattr(value, name)
        if held is not None:
            out[json_name] = kind.encode(held)
    return out


def decode_object(of: type[T], value: Json, path: str, *, ignore: frozenset[str] = frozenset()) -> T:
    """An `of` from a JSON object. Raises RemoteProtocolError naming the field that is missing, wrong or unknown."""
    if not isinstance(value, dict):
        raise wrong(path, "must be an object")
    prefix = f"{path}." if path else ""
    found: dict[str, Any] = {}
    fields = shape(of)
    for name, json_name, kind in fields:
        if json_name in value:
            found[name] = kind.decode(value[json_name], prefix + json_name)
        elif isinstance(kind, Optional):
            found[name] = None
        else:
            raise wrong(prefix + json_name, "is missing")
    unknown = sorted(value.keys() - {json_name for _, json_name, _ in fields} - ignore)
    if unknown:
        raise wrong(path, f"has {len(unknown)} unknown members")
    return of(**found)
