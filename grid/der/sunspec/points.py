"""Points and groups of SunSpec models: types, registers, and the value that means "not implemented"."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass


class PointType(enum.Enum):
    """(registers, signed, raw value that means "not implemented")."""

    UINT16 = ("uint16", 1, False, 0xFFFF)
    INT16 = ("int16", 1, True, -0x8000)
    UINT32 = ("uint32", 2, False, 0xFFFFFFFF)
    INT32 = ("int32", 2, True, -0x80000000)
    UINT64 = ("uint64", 4, False, 0xFFFFFFFFFFFFFFFF)
    ENUM16 = ("enum16", 1, False, 0xFFFF)
    BITFIELD16 = ("bitfield16", 1, False, 0xFFFF)
    BITFIELD32 = ("bitfield32", 2, False, 0xFFFFFFFF)
    SUNSSF = ("sunssf", 1, True, -0x8000)
    STRING = ("string", 0, False, 0)
    PAD = ("pad", 1, False, 0x8000)

    def __init__(self, text: str, registers: int, signed: bool, absent: int) -> None:
        self.text, self.registers, self.signed, self.absent = text, registers, signed, absent


_BY_TEXT = {kind.text: kind for kind in PointType}
_POINT = re.compile(r"^(\w+):(\w+?)(?:\((\d+)\))?(?:/(\w+))?(\*?)$")


@dataclass(frozen=True, slots=True)
class PointSpec:
    """One point: its scale factor point, and whether a client may write it."""

    name: str
    kind: PointType
    size: int
    scale: str | None
    writable: bool


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group of points, repeated `count` times."""

    name: str
    points: tuple[PointSpec, ...]
    groups: tuple[GroupSpec, ...] = ()
    count: int = 1


@dataclass(frozen=True, slots=True)
class Point:
    """A point at its place: `offset` is its first register, counted from the model's identifier."""

    path: str
    spec: PointSpec
    offset: int


def parse_points(text: str) -> tuple[PointSpec, ...]:
    """Points from words like `W:int16/W_SF` and `Ena:enum16*`; a star means that it may be written."""
    specs = []
    for word in text.split():
        match = _POINT.match(word)
        if match is None:
            raise ValueError(f"{word!r} is not a point")
        name, kind, size, scale, star = match.groups()
        point_type = _BY_TEXT[kind]
        specs.append(PointSpec(name, point_type, int(size) if size else point_type.registers, scale, star == "*"))
    return tuple(specs)


def lay_out(group: GroupSpec) -> list[Point]:
    """Every point of a model with its place, in order."""
    points: list[Point] = []
    offset = 0
    for path, spec in _walk(group, ""):
        points.append(Point(path, spec, offset))
        offset += spec.size
    return points


def _walk(group: GroupSpec, prefix: str) -> Iterator[tuple[str, PointSpec]]:
    for spec in group.points:
        yield prefix + spec.name, spec
    for child in group.groups:
        for index in range(child.count):
            number = f"[{index}]" if child.count > 1 or child.name in {"Crv", "Pt", "Ctl", "Prt"} else ""
            yield from _walk(child, f"{prefix}{child.name}{number}.")


def to_registers(spec: PointSpec, value: int | str | None) -> list[int]:
    """Registers of a raw value, or of "not implemented". Raises ValueError for what does not fit."""
    if spec.kind is PointType.STRING:
        data = str(value or "").encode("ascii")[: spec.size * 2].ljust(spec.size * 2, b"\0")
    else:
        raw = spec.kind.absent if value is None else int(value)
        try:
            data = raw.to_bytes(spec.size * 2, "big", signed=spec.kind.signed)
        except OverflowError:
            raise ValueError(f"{spec.name}: {raw} does not fit {spec.kind.text}") from None
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def from_registers(spec: PointSpec, registers: list[int]) -> int | str | None:
    """Raw value of a point's registers; None where it is "not implemented"."""
    data = b"".join(register.to_bytes(2, "big") for register in registers)
    if spec.kind is PointType.STRING:
        return data.rstrip(b"\0").decode("ascii", "replace")
    raw = int.from_bytes(data, "big", signed=spec.kind.signed)
    return None if raw == spec.kind.absent else raw
