"""Data, Register, Extended register and Demand register: classes 1, 3, 4 and 5."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from meters.firmware.clock import MeterClock
from meters.firmware.integers import INTEGER_RANGES
from meters.firmware.measurements import Measurements
from meters.firmware.objects.classes import DATA, DEMAND_REGISTER, EXTENDED_REGISTER, REGISTER
from meters.firmware.quantities import DEMAND_FIELDS, MeasuredQuantity, scaled
from protocols.dlms.data import (
    Data,
    Readable,
    Tag,
    double_long_unsigned,
    long_unsigned,
    octet_string,
    unsigned,
)
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject, InterfaceClass
from protocols.dlms.selective import Selector
from protocols.dlms.units import ScalerUnit, Unit

if TYPE_CHECKING:
    from meters.firmware.objects.shown import Shown
    from meters.firmware.services import Services
    from meters.models.schema import ObjectRow


@functools.cache
def shared_scaler_unit(scaler: int, unit: Unit) -> ScalerUnit:
    """One object for all registers with the same scaler and unit."""
    return ScalerUnit(scaler, unit)


def whole(tag: Tag, value: int) -> Data:
    """An integer of that type; beyond its range the end of the range, as a saturated register shows."""
    least, most = INTEGER_RANGES[tag]
    return Data(tag, min(max(value, least), most))


class DataObject(CosemObject):
    """Class 1: a value that is read from, and perhaps written to, something else in the firmware.

    `shown` says what, with this row's settings; its `accept` raises AccessDenied for a value that it cannot take.
    """

    INTERFACE = DATA
    __slots__ = ("_row", "_services", "_shown")

    def __init__(self, obis: ObisCode, shown: Shown, services: Services, row: ObjectRow) -> None:
        super().__init__(obis)
        self._shown = shown
        self._services = services
        self._row = row

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        return self._shown.value(self._services, self._row)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if self._shown.accept is None:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        self._shown.accept(self._services, self._row, value)


class RegisterObject(CosemObject):
    """Class 3, bound to a measured quantity."""

    INTERFACE: ClassVar[InterfaceClass] = REGISTER
    __slots__ = ("_measurements", "_quantity", "_scaler_unit", "_tag")

    def __init__(
        self, obis: ObisCode, measurements: Measurements, quantity: MeasuredQuantity, scaler: int, tag: Tag
    ) -> None:
        super().__init__(obis)
        self._measurements = measurements
        self._quantity = quantity
        self._scaler_unit = shared_scaler_unit(scaler, quantity.unit)
        self._tag = tag

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 2:
            return whole(self._tag, self._quantity.read(self._measurements, self._scaler_unit.scaler))
        return self._scaler_unit.to_data()

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        # A billing register is never set back by a client.
        raise AccessDenied(ActionResult.READ_WRITE_DENIED)


class MaximumDemandObject(RegisterObject):
    """Class 4: the highest demand since the last reset, and when it was."""

    INTERFACE = EXTENDED_REGISTER
    __slots__ = ("_clock", "_demand")

    def __init__(
        self,
        obis: ObisCode,
        measurements: Measurements,
        clock: MeterClock,
        demand: str,
        quantity: MeasuredQuantity,
        scaler: int,
        tag: Tag,
    ) -> None:
        super().__init__(obis, measurements, quantity, scaler, tag)
        self._clock = clock
        self._demand = DEMAND_FIELDS[demand]

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 4:
            return unsigned(0)
        if attribute_id == 5:
            return _moment(self._clock, self._measurements.demands[self._demand].maximum_utc_s)
        return super().read(attribute_id, selector, caller)

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        self._measurements.reset_maximum(self._demand)
        return None


class DemandObject(CosemObject):
    """Class 5: block demand over one period."""

    INTERFACE = DEMAND_REGISTER
    __slots__ = ("_clock", "_demand", "_measurements", "_scaler_unit", "_tag")

    def __init__(
        self,
        obis: ObisCode,
        measurements: Measurements,
        clock: MeterClock,
        demand: str,
        scaler_unit: ScalerUnit,
        tag: Tag,
    ) -> None:
        super().__init__(obis)
        self._measurements = measurements
        self._clock = clock
        self._demand = DEMAND_FIELDS[demand]
        self._scaler_unit = scaler_unit
        self._tag = tag

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        demand = self._measurements.demands[self._demand]
        if attribute_id == 2:
            return self._power(self._measurements.running_demand_mw(self._demand))
        if attribute_id == 3:
            return self._power(demand.last_mw)
        if attribute_id == 4:
            return self._scaler_unit.to_data()
        if attribute_id == 5:
            return unsigned(0)
        if attribute_id in (6, 7):
            start_s = self._clock.utc_s() // demand.period_s * demand.period_s
            return _moment(self._clock, start_s)
        if attribute_id == 8:
            return double_long_unsigned(demand.period_s)
        return long_unsigned(1)

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        raise AccessDenied(ActionResult.READ_WRITE_DENIED)

    def _power(self, value_mw: int) -> Data:
        return whole(self._tag, scaled(value_mw / 1000, self._scaler_unit.scaler))


def _moment(clock: MeterClock, utc_s: float) -> Data:
    """A date-time octet string; "not specified" throughout if it never happened."""
    return octet_string((DateTime() if utc_s < 0 else clock.date_time(utc_s)).encode())
