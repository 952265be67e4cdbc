"""Whole flows of a client: associate, discover a meter, read typed values and profiles as tables.

Each is a generator that gives APDUs to send and is sent the answers, so that it runs over any transport:

    flow = read_profile(client, obis, RangeDescriptor(...))
    apdu = next(flow)                       # or drive(flow, exchange)
    apdu = flow.send(answer)                # StopIteration.value is the result

Errors of the server become ServiceRefused; an answer that breaks the protocol raises RemoteProtocolError out of the
generator, and ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from protocols.dlms.action import MethodReference
from protocols.dlms.client import (
    ActionDone,
    Associated,
    ClientAssociation,
    Event,
    GetDone,
    NotificationReceived,
    Refused,
    Released,
    RequestFailed,
    Send,
    SetDone,
)
from protocols.dlms.data import Data, Tag
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.object_list import ObjectListElement, decode_object_list
from protocols.dlms.selective import CaptureObject, EntryDescriptor, RangeDescriptor
from protocols.dlms.units import Quantity, ScalerUnit
from protocols.errors import RemoteProtocolError

T = TypeVar("T")
Flow = Generator[bytes, bytes, T]

CURRENT_ASSOCIATION = ObisCode(bytes((0, 0, 40, 0, 0, 255)))
_ASSOCIATION_LN, _CLOCK, _PROFILE = 15, 8, 7
_SCALED_CLASSES = {3: (2, 3), 4: (2, 3), 5: (2, 4)}
"""Value and scaler_unit attributes of Register, Extended register and Demand register."""


class ServiceRefused(RemoteProtocolError):  # noqa: N818 (what happened)
    """The server does not do what was asked. `result` is its reason, if it gave one."""

    def __init__(self, message: str, result: DataAccessResult | ActionResult | None = None) -> None:
        super().__init__(message)
        self.result = result


def drive(flow: Flow[T], exchange: Callable[[bytes], bytes]) -> T:
    """Run a flow over a transport that gives an answer for every APDU."""
    try:
        apdu = next(flow)
        while True:
            apdu = flow.send(exchange(apdu))
    except StopIteration as done:
        result: T = done.value
        return result


def _converse(client: ClientAssociation, apdu: bytes) -> Flow[Event]:
    """Send `apdu` and what follows from it, up to the event that ends it."""
    waiting = apdu
    while True:
        answer = yield waiting
        for event in client.receive(answer):
            if isinstance(event, Send):
                waiting = event.apdu
            elif isinstance(event, RequestFailed | Refused):
                raise ServiceRefused(event.reason)
            elif not isinstance(event, NotificationReceived):
                return event


def associate(client: ClientAssociation) -> Flow[Associated]:
    """Open the association. Raises ServiceRefused."""
    event = yield from _converse(client, client.associate())
    return _expect(event, Associated)


def release(client: ClientAssociation) -> Flow[None]:
    _expect((yield from _converse(client, client.release())), Released)


def read(
    client: ClientAssociation, references: Sequence[AttributeReference]
) -> Flow[tuple[Data | DataAccessResult, ...]]:
    """Values of attributes, or for each why not; one by one if the server takes no lists."""
    if len(references) > 1 and not client.conformance & Conformance.MULTIPLE_REFERENCES:
        found: list[Data | DataAccessResult] = []
        for reference in references:
            found += yield from read(client, (reference,))
        return tuple(found)
    event = yield from _converse(client, client.get(*references))
    return _expect(event, GetDone).results


def read_value(client: ClientAssociation, reference: AttributeReference) -> Flow[Data]:
    """One attribute. Raises ServiceRefused with the DataAccessResult."""
    (result,) = yield from read(client, (reference,))
    return _require(result, reference)


def write_value(client: ClientAssociation, reference: AttributeReference, value: Data) -> Flow[None]:
    """Raises ServiceRefused with the DataAccessResult."""
    event = yield from _converse(client, client.set(reference, value))
    (result,) = _expect(event, SetDone).results
    if result is not DataAccessResult.SUCCESS:
        raise ServiceRefused(f"{_name(reference)}: {result.name.lower()}", result)


def invoke(client: ClientAssociation, reference: MethodReference, argument: Data | None = None) -> Flow[Data | None]:
    """What a method returns. Raises ServiceRefused with the ActionResult."""
    event = yield from _converse(client, client.action(reference, argument))
    (outcome,) = _expect(event, ActionDone).outcomes
    if outcome.result is not ActionResult.SUCCESS:
        named = f"method {reference.method_id} of class {reference.class_id} at {reference.obis}"
        raise ServiceRefused(f"{named}: {outcome.result.name.lower()}", outcome.result)
    returned = outcome.returned
    return None if isinstance(returned, DataAccessResult) else returned


def discover(client: ClientAssociation) -> Flow[tuple[ObjectListElement, ...]]:
    """Every object that the association shows, with its rights.

    How rights are written depends on the version of class 15, which the list itself tells.
    """
    reference = AttributeReference(_ASSOCIATION_LN, CURRENT_ASSOCIATION, 2)
    data = yield from read_value(client, reference)
    return decode_object_list(data, _association_version(data))


def _association_version(data: Data) -> int:
    if data.tag == Tag.ARRAY:
        for item in data.value:
            if item.tag == Tag.STRUCTURE and len(item.value) == 4 and item.value[0].value == _ASSOCIATION_LN:
                version = item.value[1].value
                return version if isinstance(version, int) else 0
    return 0


def read_quantity(client: ClientAssociation, class_id: int, obis: ObisCode) -> Flow[Quantity]:
    """A register's value with its scaler and unit. Raises ServiceRefused, RemoteProtocolError if it is no number."""
    value_id, unit_id = _SCALED_CLASSES[class_id]
    value_of = AttributeReference(class_id, obis, value_id)
    unit_of = AttributeReference(class_id, obis, unit_id)
    value, unit = yield from read(client, (value_of, unit_of))
    raw = _require(value, value_of).value
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise RemoteProtocolError(f"{_name(value_of)} is not a number")
    return ScalerUnit.from_data(_require(unit, unit_of)).quantity(raw)


@dataclass(frozen=True, slots=True)
class ProfileColumn:
    """A captured attribute; `scaler_unit` None where it has none or is not readable."""

    captured: CaptureObject
    scaler_unit: ScalerUnit | None

    def cell(self, data: Data) -> Any:
        """A cell's value: Quantity where there is a unit, DateTime for the clock, None for null data."""
        value = data.value
        if self.captured.class_id == _CLOCK and isinstance(value, bytes) and len(value) == 12:
            return DateTime.decode(value)
        if self.scaler_unit is None or isinstance(value, bool) or not isinstance(value, int | float):
            return data.plain()
        return self.scaler_unit.quantity(value)


@dataclass(frozen=True, slots=True)
class ProfileTable:
    """Rows of a profile, each with one cell a column."""

    columns: tuple[ProfileColumn, ...]
    rows: tuple[tuple[Any, ...], ...]


def read_capture_objects(client: ClientAssociation, obis: ObisCode) -> Flow[tuple[CaptureObject, ...]]:
    data = yield from read_value(client, AttributeReference(_PROFILE, obis, 3))
    if data.tag != Tag.ARRAY:
        raise RemoteProtocolError("capture_objects is not an array")
    return tuple(CaptureObject.from_data(item) for item in data.value)


def read_columns(client: ClientAssociation, captured: Sequence[CaptureObject]) -> Flow[tuple[ProfileColumn, ...]]:
    """The columns with the scalers and units of the registers they come from."""
    scaled = [item for item in captured if _unit_attribute(item) is not None]
    units: dict[CaptureObject, ScalerUnit] = {}
    if scaled:
        references = [AttributeReference(item.class_id, item.obis, _unit_attribute(item) or 0) for item in scaled]
        results = yield from read(client, references)
        for item, result in zip(scaled, results, strict=True):
            if isinstance(result, Data):
                units[item] = ScalerUnit.from_data(result)
    return tuple(ProfileColumn(item, units.get(item)) for item in captured)


def _unit_attribute(item: CaptureObject) -> int | None:
    attributes = _SCALED_CLASSES.get(item.class_id)
    return attributes[1] if attributes is not None and item.attribute_id in (2, 3) else None


def read_profile(
    client: ClientAssociation, obis: ObisCode, selector: RangeDescriptor | EntryDescriptor | None = None
) -> Flow[ProfileTable]:
    """A profile, or the part that `selector` names, as a table. Raises ServiceRefused, RemoteProtocolError."""
    captured = yield from read_capture_objects(client, obis)
    if isinstance(selector, RangeDescriptor) and selector.columns:
        captured = selector.columns
    elif isinstance(selector, EntryDescriptor):
        captured = captured[selector.from_column - 1 : selector.to_column or None]
    columns = yield from read_columns(client, captured)
    data = yield from read_value(client, AttributeReference(_PROFILE, obis, 2, selector))
    return ProfileTable(columns, tuple(_rows(data, columns)))


def _rows(data: Data, columns: tuple[ProfileColumn, ...]) -> Generator[tuple[Any, ...], None, None]:
    items = data.value.items if data.tag == Tag.COMPACT_ARRAY else data.value
    if data.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY):
        raise RemoteProtocolError("a buffer that is not an array")
    for row in items:
        if row.tag != Tag.STRUCTURE or len(row.value) != len(columns):
            raise RemoteProtocolError(f"a row that is not a structure of {len(columns)}")
        yield tuple(column.cell(item) for column, item in zip(columns, row.value, strict=True))


def _require(result: Data | DataAccessResult, reference: AttributeReference) -> Data:
    if isinstance(result, DataAccessResult):
        raise ServiceRefused(f"{_name(reference)}: {result.name.lower()}", result)
    return result


def _name(reference: AttributeReference) -> str:
    return f"attribute {reference.attribute_id} of class {reference.class_id} at {reference.obis}"


def _expect(event: Event, kind: type[T]) -> T:
    if not isinstance(event, kind):
        raise RemoteProtocolError(f"{type(event).__name__} where {kind.__name__} is due")
    return event
