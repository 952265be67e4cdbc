"""What a meter answers, as text for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from protocols.dlms import reading
from protocols.dlms.client import AttributeReference, ClientAssociation
from protocols.dlms.data import Data
from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.object_list import ObjectListElement
from protocols.dlms.objects import Access
from protocols.dlms.reading import Flow
from protocols.dlms.units import Quantity, ScalerUnit
from protocols.errors import RemoteProtocolError
from protocols.headend.quantities import BY_OBIS

DATA, REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER, PROFILE, CLOCK = 1, 3, 4, 5, 7, 8
CLASS_NAMES = {
    1: "Data",
    3: "Register",
    4: "Extended register",
    5: "Demand register",
    6: "Register activation",
    7: "Profile generic",
    8: "Clock",
    9: "Script table",
    11: "Special days table",
    15: "Association LN",
    17: "SAP assignment",
    18: "Image transfer",
    20: "Activity calendar",
    21: "Register monitor",
    22: "Single action schedule",
    40: "Push setup",
    64: "Security setup",
    70: "Disconnect control",
    71: "Limiter",
    111: "Account",
    112: "Credit",
    113: "Charge",
    115: "Token gateway",
}
"""IEC 62056-6-2."""
READABLE = (DATA, REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER, CLOCK)
"""Classes whose attribute 2 is a value that people read."""
_UNIT_ATTRIBUTE = {REGISTER: 3, EXTENDED_REGISTER: 3, DEMAND_REGISTER: 4}


@dataclass(frozen=True, slots=True)
class Value:
    """One attribute as it was read. `value` is for JSON, `text` for people; `error` says why there is none."""

    obis: ObisCode
    class_id: int
    attribute_id: int
    value: Any = None
    text: str = ""
    unit: str = ""
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        head = {"obis": str(self.obis), "class_id": self.class_id, "attribute": self.attribute_id}
        return head | ({"error": self.error} if self.error else {"value": self.value, "unit": self.unit})


def name_of(class_id: int, obis: ObisCode) -> str:
    """What an object is, for people: a quantity's name where it is known, otherwise that of its class."""
    quantity = BY_OBIS.get(str(obis))
    return CLASS_NAMES.get(class_id, f"class {class_id}") if quantity is None else quantity.label


def plain(value: Any) -> Any:
    """A COSEM value for JSON: numbers stay exact, octets are text if they are ASCII, otherwise hexadecimal."""
    match value:
        case Data():
            return plain(value.plain())
        case Quantity():
            return plain(value.value)
        case bytes():
            return value.decode("ascii") if value and value.isascii() and _is_printable(value) else value.hex()
        case list() | tuple():
            return [plain(item) for item in value]
        case DateTime():
            return _instant(value)
        case Date() | Time():
            return str(value)
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def text_of(value: Any) -> str:
    """A COSEM value for people."""
    if isinstance(value, Quantity):
        return str(value)
    found = plain(value)
    return "" if found is None else str(found)


def readable(listed: Sequence[ObjectListElement], classes: Sequence[int]) -> list[ObjectListElement]:
    """Objects of some classes whose attribute 2 the association may read."""
    return [
        item
        for item in listed
        if item.class_id in classes
        and any(rights.attribute_id == 2 and rights.access & Access.READ for rights in item.attributes)
    ]


def read_values(client: ClientAssociation, wanted: Sequence[tuple[int, ObisCode, int]]) -> Flow[list[Value]]:
    """Attributes (class, OBIS code, attribute), registers with scaler and unit. What cannot be read says why."""
    values: list[Value] = []
    for class_id, obis, attribute_id in wanted:
        references = [AttributeReference(class_id, obis, attribute_id)]
        unit_attribute = _UNIT_ATTRIBUTE.get(class_id)
        is_scaled = unit_attribute is not None and (attribute_id == 2 or (class_id, attribute_id) == (5, 3))
        if is_scaled:
            references.append(AttributeReference(class_id, obis, unit_attribute or 0))
        answers = yield from reading.read(client, references)
        values.append(_value(class_id, obis, attribute_id, answers))
    return values


def _value(class_id: int, obis: ObisCode, attribute_id: int, answers: Sequence[Data | DataAccessResult]) -> Value:
    raw = answers[0]
    if isinstance(raw, DataAccessResult):
        return Value(obis, class_id, attribute_id, error=raw.name.lower().replace("_", " "))
    shown: Any = raw
    unit = ""
    if len(answers) > 1 and isinstance(answers[1], Data) and _is_number(raw.value):
        quantity = ScalerUnit.from_data(answers[1]).quantity(raw.value)
        shown, unit = quantity, quantity.unit.symbol
    elif class_id == CLOCK and attribute_id == 2:
        shown = _date_time(raw)
    return Value(obis, class_id, attribute_id, plain(shown), text_of(shown), unit)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _date_time(raw: Data) -> Any:
    if not isinstance(raw.value, bytes):
        return raw
    try:
        return DateTime.decode(raw.value)
    except RemoteProtocolError:
        return raw


def _instant(value: DateTime) -> str:
    """ISO 8601 with the deviation from UTC, where it is one instant."""
    try:
        return value.to_datetime().isoformat()
    except RemoteProtocolError:
        return str(value)


def _is_printable(value: bytes) -> bool:
    return all(0x20 <= octet < 0x7F for octet in value)
