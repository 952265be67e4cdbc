"""Ranges of the COSEM integer types."""

from __future__ import annotations

from protocols.dlms.data import Tag

INTEGER_RANGES: dict[Tag, tuple[int, int]] = {
    Tag.INTEGER: (-(1 << 7), (1 << 7) - 1),
    Tag.LONG: (-(1 << 15), (1 << 15) - 1),
    Tag.DOUBLE_LONG: (-(1 << 31), (1 << 31) - 1),
    Tag.LONG64: (-(1 << 63), (1 << 63) - 1),
    Tag.UNSIGNED: (0, (1 << 8) - 1),
    Tag.LONG_UNSIGNED: (0, (1 << 16) - 1),
    Tag.DOUBLE_LONG_UNSIGNED: (0, (1 << 32) - 1),
    Tag.LONG64_UNSIGNED: (0, (1 << 64) - 1),
}
