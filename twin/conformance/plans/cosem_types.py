"""Types of the attributes of interface classes, as IEC 62056-6-2 gives them: what a sweep holds answers against.

Written from the standard and not from the emulated meter's own tables, so that an error there is found here.
"""

from __future__ import annotations

from protocols.dlms.data import Data, Tag
from protocols.dlms.date_time import DateTime
from protocols.dlms.units import Unit
from protocols.errors import RemoteProtocolError

_NUMBERS = (
    Tag.DOUBLE_LONG,
    Tag.DOUBLE_LONG_UNSIGNED,
    Tag.INTEGER,
    Tag.LONG,
    Tag.UNSIGNED,
    Tag.LONG_UNSIGNED,
    Tag.LONG64,
    Tag.LONG64_UNSIGNED,
    Tag.FLOAT32,
    Tag.FLOAT64,
    Tag.BCD,
    Tag.ENUM,
)
_VALUE = (
    *_NUMBERS,
    Tag.NULL,
    Tag.BOOLEAN,
    Tag.BIT_STRING,
    Tag.OCTET_STRING,
    Tag.VISIBLE_STRING,
    Tag.UTF8_STRING,
    Tag.DATE_TIME,
    Tag.DATE,
    Tag.TIME,
)
_ANY = tuple(Tag)
_ARRAY = (Tag.ARRAY,)
_STRUCTURE = (Tag.STRUCTURE,)
_OCTETS = (Tag.OCTET_STRING,)
_BOOLEAN = (Tag.BOOLEAN,)
_ENUM = (Tag.ENUM,)
_U8 = (Tag.UNSIGNED,)
_U16 = (Tag.LONG_UNSIGNED,)
_U32 = (Tag.DOUBLE_LONG_UNSIGNED,)
_I8 = (Tag.INTEGER,)
_I16 = (Tag.LONG,)
_BITS = (Tag.BIT_STRING,)

ATTRIBUTE_TYPES: dict[int, dict[int, tuple[Tag, ...]]] = {
    1: {2: _ANY},  # Data
    3: {2: _VALUE, 3: _STRUCTURE},  # Register
    4: {2: _VALUE, 3: _STRUCTURE, 4: _VALUE, 5: _OCTETS},  # Extended register
    5: {2: _VALUE, 3: _VALUE, 4: _STRUCTURE, 5: _VALUE, 6: _OCTETS, 7: _OCTETS, 8: _U32, 9: _U16},  # Demand register
    6: {2: _ARRAY, 3: _ARRAY, 4: _OCTETS},  # Register activation
    7: {2: (Tag.ARRAY, Tag.COMPACT_ARRAY), 3: _ARRAY, 4: _U32, 5: _ENUM, 6: _STRUCTURE, 7: _U32, 8: _U32},  # Profile
    8: {2: _OCTETS, 3: _I16, 4: _U8, 5: _OCTETS, 6: _OCTETS, 7: _I8, 8: _BOOLEAN, 9: _ENUM},  # Clock
    9: {2: _ARRAY},  # Script table
    11: {2: _ARRAY},  # Special days table
    15: {
        2: _ARRAY,
        3: _STRUCTURE,
        4: (Tag.STRUCTURE, Tag.OCTET_STRING),
        5: _STRUCTURE,
        6: (Tag.STRUCTURE, Tag.OCTET_STRING),
        7: _OCTETS,
        8: _ENUM,
        9: _OCTETS,
        10: _ARRAY,
        11: _STRUCTURE,
    },  # Association LN
    17: {2: _ARRAY},  # SAP assignment
    18: {2: _U32, 3: _BITS, 4: _U32, 5: _BOOLEAN, 6: _ENUM, 7: _ARRAY},  # Image transfer
    20: {2: _OCTETS, 3: _ARRAY, 4: _ARRAY, 5: _ARRAY, 6: _OCTETS, 7: _ARRAY, 8: _ARRAY, 9: _ARRAY, 10: _OCTETS},
    21: {2: _ARRAY, 3: _STRUCTURE, 4: _ARRAY},  # Register monitor
    22: {2: _STRUCTURE, 3: _ENUM, 4: _ARRAY},  # Single action schedule
    23: {2: _ENUM, 3: _ENUM, 4: _ENUM, 5: _U16, 6: _U16, 7: _U16, 8: _U16, 9: _U16},  # IEC HDLC setup
    40: {2: _ARRAY, 3: _STRUCTURE, 4: _ARRAY, 5: _U16, 6: _U8, 7: (Tag.LONG_UNSIGNED, Tag.STRUCTURE)},  # Push setup
    41: {2: _U16, 3: _OCTETS, 4: _U16, 5: _U8, 6: _U16},  # TCP-UDP setup
    64: {2: _ENUM, 3: _ENUM, 4: _OCTETS, 5: _OCTETS, 6: _ARRAY},  # Security setup
    70: {2: _BOOLEAN, 3: _ENUM, 4: _ENUM},  # Disconnect control
    71: {
        2: _STRUCTURE,
        3: _VALUE,
        4: _VALUE,
        5: _VALUE,
        6: _U32,
        7: _U32,
        8: _STRUCTURE,
        9: _ARRAY,
        10: _BOOLEAN,
        11: _STRUCTURE,
    },  # Limiter
    115: {2: _OCTETS, 3: _OCTETS, 4: _ARRAY, 5: _ENUM, 6: _STRUCTURE},  # Token gateway
}

METHOD_COUNTS = {
    1: 0, 3: 1, 4: 1, 5: 2, 6: 3, 7: 2, 8: 6, 9: 1, 11: 2, 15: 6, 17: 1, 18: 4, 20: 1, 21: 0, 22: 0, 64: 8,
    70: 2, 71: 0, 115: 1,
}  # fmt: skip
"""Methods that a class has at most; a class that is not here is not counted."""

_UNIT_OF_QUANTITY = {
    (1, 8): Unit.WATT_HOUR, (2, 8): Unit.WATT_HOUR, (15, 8): Unit.WATT_HOUR, (16, 8): Unit.WATT_HOUR,
    (3, 8): Unit.VAR_HOUR, (4, 8): Unit.VAR_HOUR, (5, 8): Unit.VAR_HOUR, (6, 8): Unit.VAR_HOUR,
    (7, 8): Unit.VAR_HOUR, (8, 8): Unit.VAR_HOUR,
    (1, 7): Unit.WATT, (2, 7): Unit.WATT, (15, 7): Unit.WATT, (16, 7): Unit.WATT, (3, 7): Unit.VAR, (4, 7): Unit.VAR,
    (1, 6): Unit.WATT, (2, 6): Unit.WATT, (1, 4): Unit.WATT, (2, 4): Unit.WATT,
    (32, 7): Unit.VOLT, (52, 7): Unit.VOLT, (72, 7): Unit.VOLT,
    (31, 7): Unit.AMPERE, (51, 7): Unit.AMPERE, (71, 7): Unit.AMPERE,
    (14, 7): Unit.HERTZ,
}  # fmt: skip
"""Unit by groups C and D of an electricity code (IEC 62056-6-1)."""

_UNIT_ATTRIBUTES = {3: 3, 4: 3, 5: 4}
_MOMENTS = {(8, 2), (8, 5), (8, 6), (4, 5), (5, 6), (5, 7)}
_ENUM_RANGES = {(7, 5): range(1, 7), (8, 9): range(6), (15, 8): range(3), (18, 6): range(8), (64, 3): range(3),
                (70, 3): range(3), (70, 4): range(8)}  # fmt: skip
_NAME_BYTES = 6
_MOMENT_BYTES = 12


def type_fault(class_id: int, obis: bytes, attribute_id: int, value: Data) -> str:
    """What is wrong with an attribute's value; empty if nothing is, or if the class is not known here."""
    if attribute_id == 1:
        is_name = value.tag == Tag.OCTET_STRING and value.value == obis
        return "" if is_name else "attribute 1 is not the logical name"
    allowed = ATTRIBUTE_TYPES.get(class_id, {}).get(attribute_id)
    if allowed is None:
        return ""
    if value.tag not in allowed:
        return f"attribute {attribute_id} is {_name(value.tag)}, not {' or '.join(_name(tag) for tag in allowed)}"
    for check in (_unit_fault, _moment_fault, _enum_fault):
        fault = check(class_id, obis, attribute_id, value)
        if fault:
            return f"attribute {attribute_id}: {fault}"
    return ""


def _name(tag: int) -> str:
    return Tag(tag).name.lower().replace("_", "-")


def _unit_fault(class_id: int, obis: bytes, attribute_id: int, value: Data) -> str:
    if _UNIT_ATTRIBUTES.get(class_id) != attribute_id:
        return ""
    tags = [item.tag for item in value.value]
    if tags != [Tag.INTEGER, Tag.ENUM]:
        return "scaler_unit is not a structure of integer and enum"
    unit = value.value[1].value
    if unit not in set(Unit):
        return f"{unit} is no unit"
    due = _UNIT_OF_QUANTITY.get((obis[2], obis[3])) if obis[0] == 1 else None
    return f"the unit is {Unit(unit).name.lower()}, not {due.name.lower()}" if due not in (None, unit) else ""


def _moment_fault(class_id: int, obis: bytes, attribute_id: int, value: Data) -> str:
    if (class_id, attribute_id) not in _MOMENTS:
        return ""
    if len(value.value) != _MOMENT_BYTES:
        return f"a date-time of {len(value.value)} bytes"
    try:
        DateTime.decode(value.value)
    except RemoteProtocolError as error:
        return str(error)
    return ""


def _enum_fault(class_id: int, obis: bytes, attribute_id: int, value: Data) -> str:
    allowed = _ENUM_RANGES.get((class_id, attribute_id))
    return "" if allowed is None or value.value in allowed else f"{value.value} is not in the enumeration"
