"""The register bank: the marker "SunS", the models one after the other, and the end marker."""

from __future__ import annotations

from dataclasses import dataclass

from grid.der.sunspec.models import MODELS
from grid.der.sunspec.points import Point, PointType, from_registers, lay_out, to_registers

BASE_ADDRESS = 40000
_MARKER = (0x5375, 0x6E53)
_END = (0xFFFF, 0x0000)


@dataclass(frozen=True, slots=True)
class PlacedPoint:
    """A point of a model, its first register counted from the bank's beginning."""

    model: int
    point: Point
    offset: int


class RegisterBank:
    """Registers by address and points by name, of all models."""

    def __init__(self) -> None:
        self.registers: list[int] = list(_MARKER)
        self._points: dict[tuple[int, str], PlacedPoint] = {}
        self._by_register: dict[int, PlacedPoint] = {}
        for model, group in MODELS.items():
            self._add(model, lay_out(group))
        self.registers += _END

    def _add(self, model: int, points: list[Point]) -> None:
        start = len(self.registers)
        for point in points:
            placed = PlacedPoint(model, point, start + point.offset)
            self._points[model, point.path] = placed
            for register in range(point.spec.size):
                self._by_register[placed.offset + register] = placed
            self.registers += to_registers(point.spec, None)
        self.put(model, "ID", model)
        self.put(model, "L", len(self.registers) - start - 2)

    def put(self, model: int, path: str, raw: int | str | None) -> None:
        """Set a point to a raw value (None: not implemented). Raises KeyError if there is no such point."""
        placed = self._points[model, path]
        registers = to_registers(placed.point.spec, raw)
        self.registers[placed.offset : placed.offset + len(registers)] = registers

    def put_scaled(self, model: int, path: str, value: float | None) -> None:
        """Set a point to a value in its unit, by the scale factor that the bank holds for it."""
        placed = self._points[model, path]
        if value is None:
            self.put(model, path, None)
            return
        raw = round(value / 10.0 ** self._exponent(placed))
        kind = placed.point.spec.kind
        bits = 16 * kind.registers - (1 if kind.signed else 0)
        limit = (1 << bits) - 2
        self.put(model, path, max(-limit if kind.signed else 0, min(limit, raw)))

    def get(self, model: int, path: str) -> int | str | None:
        """Raw value of a point; None: not implemented."""
        placed = self._points[model, path]
        return from_registers(placed.point.spec, self.registers[placed.offset : placed.offset + placed.point.spec.size])

    def get_int(self, model: int, path: str) -> int:
        """Raw value of a point that has to have one. Raises ValueError if it is not implemented."""
        raw = self.get(model, path)
        if not isinstance(raw, int):
            raise ValueError(f"{model}.{path} has no value")
        return raw

    def get_scaled(self, model: int, path: str) -> float:
        """Value of a point in its unit. Raises ValueError if it is not implemented."""
        placed = self._points[model, path]
        return self.get_int(model, path) * 10.0 ** self._exponent(placed)

    def _exponent(self, placed: PlacedPoint) -> int:
        scale = placed.point.spec.scale
        return 0 if scale is None else self.get_int(placed.model, scale)

    def at(self, offset: int) -> PlacedPoint | None:
        """The point to which a register belongs."""
        return self._by_register.get(offset)

    def written(self, offset: int, count: int) -> list[PlacedPoint]:
        """Points touched by a write of `count` registers, in order. Raises PermissionError for any register that
        cannot be written: of a read-only curve, of a point that is read-only or not implemented, or half a point."""
        touched: list[PlacedPoint] = []
        for register in range(offset, offset + count):
            placed = self._by_register.get(register)
            if placed is None:
                raise PermissionError("no point stands there")
            if not touched or touched[-1] is not placed:
                touched.append(placed)
        for placed in touched:
            inside = offset <= placed.offset and placed.offset + placed.point.spec.size <= offset + count
            if not inside or not self.writable(placed):
                raise PermissionError(f"{placed.model}.{placed.point.path} cannot be written")
        return touched

    def writable(self, placed: PlacedPoint) -> bool:
        """Whether a client may write this point now."""
        path, spec = placed.point.path, placed.point.spec
        if not spec.writable or path.startswith(("Crv[0].", "Ctl[0].")):
            return False
        implemented = spec.kind is PointType.STRING or self.get(placed.model, path) is not None
        # Points of a curve beyond its active ones are empty until they are used.
        return implemented or ".Pt[" in path
