"""Types and sizes of the values that a model's rows give."""

from __future__ import annotations

from collections.abc import Callable

from meters.firmware.integers import INTEGER_RANGES
from meters.firmware.profiles import CLOCK_BYTES
from meters.models.schema import ObjectRow
from protocols.dlms.data import Tag

TYPES = {tag.name.lower().replace("_", "-"): tag for tag in INTEGER_RANGES}
_VALUE_BYTES = {
    Tag.INTEGER: 2,
    Tag.UNSIGNED: 2,
    Tag.LONG: 3,
    Tag.LONG_UNSIGNED: 3,
    Tag.DOUBLE_LONG: 5,
    Tag.DOUBLE_LONG_UNSIGNED: 5,
    Tag.LONG64: 9,
    Tag.LONG64_UNSIGNED: 9,
}
CLASS_SIZES: dict[tuple[int, int], Callable[[Tag], int | None]] = {
    (3, 2): _VALUE_BYTES.get,
    (4, 2): _VALUE_BYTES.get,
    (4, 5): lambda tag: CLOCK_BYTES,
    (5, 2): _VALUE_BYTES.get,
    (5, 3): _VALUE_BYTES.get,
}
"""Size of an attribute's A-XDR encoding by class, attribute and type of the value, where it is fixed."""


def value_tag(row: ObjectRow) -> Tag:
    """The data type of a row's value; without one, 32 bits with the sign that its quantity may have."""
    if row.type is not None:
        return TYPES[row.type]
    return Tag.DOUBLE_LONG if row.measures and row.measures.endswith("_net") else Tag.DOUBLE_LONG_UNSIGNED
