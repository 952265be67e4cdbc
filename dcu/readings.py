"""From what the head-end asks for to COSEM attributes, and from their values to what the head-end gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from protocols.dlms.client import AttributeReference
from protocols.dlms.data import Data, Tag
from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.units import ScalerUnit
from protocols.errors import RemoteProtocolError
from protocols.headend.messages import MissingReason, MissingValue, ObjectReference, ReadingValue

CLASS_REGISTER = 3
CLASS_EXTENDED_REGISTER = 4
CLASS_CLOCK = 8
CLOCK = ObisCode.parse("0-0:1.0.0*255")
_VALUE, _SCALER_UNIT, _CAPTURE_TIME = 2, 3, 5
_MAX_EXPONENT = 18
_MAX_TEXT = 512
NUMBERS = frozenset(
    (
        Tag.DOUBLE_LONG,
        Tag.DOUBLE_LONG_UNSIGNED,
        Tag.INTEGER,
        Tag.LONG,
        Tag.UNSIGNED,
        Tag.LONG_UNSIGNED,
        Tag.LONG64,
        Tag.LONG64_UNSIGNED,
        Tag.ENUM,
        Tag.BCD,
        Tag.FLOAT32,
        Tag.FLOAT64,
    )
)
_DENIED = (DataAccessResult.READ_WRITE_DENIED, DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
_UNDEFINED = (DataAccessResult.OBJECT_UNDEFINED, DataAccessResult.OBJECT_CLASS_INCONSISTENT)

Result = Data | DataAccessResult


@dataclass(frozen=True, slots=True)
class ReadingOutcome:
    """A finished reading. `meter_time_utc_ms` is None where the meter's clock is not set."""

    values: tuple[ReadingValue, ...]
    missing: tuple[MissingValue, ...]
    meter_time_utc_ms: int | None


class ReadingPlan:
    """Which attributes one reading needs, and what their values mean.

    Scaler and unit do not change while an association lives, so those in `known_units` (by class and OBIS code) are
    not asked for again; after `finish`, `units` has the new ones too.
    """

    def __init__(self, objects: Sequence[ObjectReference], known_units: Mapping[tuple[int, bytes], ScalerUnit]) -> None:
        """Raises ValueError for an OBIS code that is none."""
        self._objects = [(item.class_id, ObisCode.parse(item.obis)) for item in objects]
        self.units = dict(known_units)
        references = [AttributeReference(CLASS_CLOCK, CLOCK, _VALUE)]
        for class_id, obis in self._objects:
            references.append(AttributeReference(class_id, obis, _VALUE))
            if class_id in (CLASS_REGISTER, CLASS_EXTENDED_REGISTER) and (class_id, obis) not in known_units:
                references.append(AttributeReference(class_id, obis, _SCALER_UNIT))
            if class_id == CLASS_EXTENDED_REGISTER:
                references.append(AttributeReference(class_id, obis, _CAPTURE_TIME))
        self.references = tuple(dict.fromkeys(references))

    def finish(self, results: Sequence[Result]) -> ReadingOutcome:
        """`results` are those of `references`, in order."""
        found = dict(zip(self.references, results, strict=True))
        values: list[ReadingValue] = []
        missing: list[MissingValue] = []
        for class_id, obis in self._objects:
            outcome = self._object(class_id, obis, found)
            if isinstance(outcome, ReadingValue):
                values.append(outcome)
            else:
                missing.append(MissingValue(str(obis), outcome))
        return ReadingOutcome(
            tuple(values), tuple(missing), utc_ms(found[AttributeReference(CLASS_CLOCK, CLOCK, _VALUE)])
        )

    def _object(
        self, class_id: int, obis: ObisCode, found: dict[AttributeReference, Result]
    ) -> ReadingValue | MissingReason:
        raw = found[AttributeReference(class_id, obis, _VALUE)]
        if isinstance(raw, DataAccessResult):
            return _reason(raw)
        capture_time = found.get(AttributeReference(class_id, obis, _CAPTURE_TIME))
        capture_time_utc_ms = None if capture_time is None else utc_ms(capture_time)
        if class_id not in (CLASS_REGISTER, CLASS_EXTENDED_REGISTER):
            return _plain_value(class_id, obis, raw)
        try:
            unit = self._unit(class_id, obis, found)
        except RemoteProtocolError:
            return MissingReason.UNAVAILABLE
        if raw.tag not in NUMBERS or abs(unit.scaler) > _MAX_EXPONENT:
            return MissingReason.UNAVAILABLE
        value = unit.quantity(raw.value).value
        if not fits(value):
            return MissingReason.UNAVAILABLE
        return ReadingValue(str(obis), value, unit.unit.symbol, capture_time_utc_ms)

    def _unit(self, class_id: int, obis: ObisCode, found: dict[AttributeReference, Result]) -> ScalerUnit:
        known = self.units.get((class_id, obis))
        if known is not None:
            return known
        answer = found[AttributeReference(class_id, obis, _SCALER_UNIT)]
        if isinstance(answer, DataAccessResult):
            raise RemoteProtocolError(f"scaler_unit of {obis} cannot be read: {answer.name}")
        unit = self.units[class_id, obis] = ScalerUnit.from_data(answer)
        return unit


def utc_ms(answer: Result) -> int | None:
    """A date-time of the meter as milliseconds since 1970 UTC, None where it is not one instant."""
    if isinstance(answer, DataAccessResult):
        return None
    moment = answer.value
    try:
        if answer.tag == Tag.OCTET_STRING:
            moment = DateTime.decode(moment)
        if not isinstance(moment, DateTime):
            return None
        seconds = moment.to_utc_s()
    except (RemoteProtocolError, OverflowError):
        return None
    return round(seconds * 1000)


def text_of(data: Data) -> str:
    """Text of an octet string or a visible string: ASCII where it is, hexadecimal where it is not."""
    value = data.value
    if isinstance(value, bytes):
        try:
            text = value.decode("ascii")
        except UnicodeDecodeError:
            return value.hex()
        return text if text.isprintable() else value.hex()
    return str(value)


def _plain_value(class_id: int, obis: ObisCode, raw: Data) -> ReadingValue | MissingReason:
    if class_id == CLASS_CLOCK and raw.tag == Tag.OCTET_STRING:
        try:
            return ReadingValue(str(obis), str(DateTime.decode(raw.value)), "")
        except RemoteProtocolError:
            return MissingReason.UNAVAILABLE
    if raw.tag in NUMBERS:
        value = Decimal(repr(raw.value)) if isinstance(raw.value, float) else Decimal(raw.value)
        return ReadingValue(str(obis), value, "") if fits(value) else MissingReason.UNAVAILABLE
    if isinstance(raw.value, bytes | str | bool | DateTime | Date | Time):
        return ReadingValue(str(obis), text_of(raw)[:_MAX_TEXT], "")
    return MissingReason.UNAVAILABLE


def fits(value: Decimal) -> bool:
    """Whether a number is within what a message can carry exactly."""
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and abs(exponent) <= _MAX_EXPONENT and value.adjusted() <= _MAX_EXPONENT + 20


def _reason(result: DataAccessResult) -> MissingReason:
    if result in _DENIED:
        return MissingReason.DENIED
    return MissingReason.UNDEFINED if result in _UNDEFINED else MissingReason.UNAVAILABLE
