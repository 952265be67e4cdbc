"""Leakage protection: thresholds, state of each line, trips and their records."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from meters.firmware.clock import MeterClock
from meters.firmware.objects.classes import REGISTER
from meters.firmware.protection.controller import ProtectionController
from protocols.dlms.data import (
    Data,
    Readable,
    array,
    double_long,
    double_long_unsigned,
    enumerated,
    long_unsigned,
    octet_string,
    structure,
    unsigned,
)
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject, InterfaceClass
from protocols.dlms.selective import Selector
from protocols.dlms.units import ScalerUnit, Unit
from protocols.errors import BadInputError
from protocols.leakage_protection import KEPT_TRIPS
from protocols.trip_record import TripRecord

DC_THRESHOLD, AC_THRESHOLD = "leakage_threshold_dc", "leakage_threshold_ac"
THRESHOLDS = (DC_THRESHOLD, AC_THRESHOLD)
"""What a Register of a model can be bound to beside measured quantities."""
_TENTHS_OF_MA = ScalerUnit(-4, Unit.AMPERE)


class ThresholdObject(CosemObject):
    """Class 3: the current at which every line opens, in tenths of a milliampere.

    It can be lowered, and brought back to its limit; above 6 mA DC and 30 mA AC nobody can raise it, whatever the
    association: the protection itself refuses.
    """

    INTERFACE: ClassVar[InterfaceClass] = REGISTER
    __slots__ = ("_changed", "_is_dc", "_protection")

    def __init__(
        self, obis: ObisCode, name: str, protection: ProtectionController, changed: Callable[[], None]
    ) -> None:
        super().__init__(obis)
        self._is_dc = name == DC_THRESHOLD
        self._protection = protection
        self._changed = changed

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id != 2:
            return _TENTHS_OF_MA.to_data()
        settings = self._protection.settings
        return long_unsigned(round(10 * (settings.dc_threshold_ma if self._is_dc else settings.ac_threshold_ma)))

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 2:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        if type(value.value) is not int:
            raise AccessDenied(DataAccessResult.TYPE_UNMATCHED)
        threshold_ma = value.value / 10
        try:
            kept = (
                self._protection.set_threshold(dc_ma=threshold_ma)
                if self._is_dc
                else self._protection.set_threshold(ac_ma=threshold_ma)
            )
        except BadInputError as error:
            raise AccessDenied(DataAccessResult.OTHER_REASON, str(error)) from None
        if not kept:
            raise AccessDenied(DataAccessResult.HARDWARE_FAULT, "the flash does not keep it")
        self._changed()

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        raise AccessDenied(ActionResult.READ_WRITE_DENIED)


def trips_data(protection: ProtectionController, clock: MeterClock) -> Data:
    """The trips that the meter keeps, without their waveforms, oldest first: number, time, line, cause, then smooth DC,
    pulsating DC, AC, high-frequency and total current in microamperes, and the line's frequency in millihertz."""
    return array(_summary(record, clock) for record in protection.trips())


def _summary(record: TripRecord, clock: MeterClock) -> Data:
    parts = record.components
    currents_ma = (parts.smooth_dc_ma, parts.pulsating_dc_ma, parts.ac_ma, parts.high_frequency_ma, parts.total_ma)
    return structure(
        double_long_unsigned(record.number),
        octet_string(clock.date_time(record.time_ms / 1000).encode()),
        unsigned(record.line),
        enumerated(record.cause),
        *(double_long(round(1000 * current_ma)) for current_ma in currents_ma),
        double_long_unsigned(round(1000 * parts.line_hz)),
    )


def trip_slot_data(protection: ProtectionController, slot: int) -> Data:
    """The record of the newest trip whose number ends up in this slot, empty while there is none."""
    newest = protection.newest_trip()
    number = newest - (newest - slot) % KEPT_TRIPS
    record = protection.trip(number) if number > 0 else None
    return octet_string(b"" if record is None else record.encode())
