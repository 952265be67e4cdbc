"""Physical units and scalers (IEC 62056-6-2, enumeration of `scaler_unit`)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal

from protocols.dlms.data import Data, Tag, enumerated, integer, structure
from protocols.errors import RemoteProtocolError


class Unit(enum.IntEnum):
    YEAR = 1
    MONTH = 2
    WEEK = 3
    DAY = 4
    HOUR = 5
    MINUTE = 6
    SECOND = 7
    DEGREE = 8
    DEGREE_CELSIUS = 9
    CURRENCY = 10
    METRE = 11
    METRE_PER_SECOND = 12
    CUBIC_METRE = 13
    CUBIC_METRE_CORRECTED = 14
    CUBIC_METRE_PER_HOUR = 15
    CUBIC_METRE_PER_HOUR_CORRECTED = 16
    CUBIC_METRE_PER_DAY = 17
    CUBIC_METRE_PER_DAY_CORRECTED = 18
    LITRE = 19
    KILOGRAM = 20
    NEWTON = 21
    NEWTON_METRE = 22
    PASCAL = 23
    BAR = 24
    JOULE = 25
    JOULE_PER_HOUR = 26
    WATT = 27
    VOLT_AMPERE = 28
    VAR = 29
    WATT_HOUR = 30
    VOLT_AMPERE_HOUR = 31
    VAR_HOUR = 32
    AMPERE = 33
    COULOMB = 34
    VOLT = 35
    VOLT_PER_METRE = 36
    FARAD = 37
    OHM = 38
    OHM_METRE = 39
    WEBER = 40
    TESLA = 41
    AMPERE_PER_METRE = 42
    HENRY = 43
    HERTZ = 44
    ACTIVE_ENERGY_CONSTANT = 45
    REACTIVE_ENERGY_CONSTANT = 46
    APPARENT_ENERGY_CONSTANT = 47
    VOLT_SQUARED_HOUR = 48
    AMPERE_SQUARED_HOUR = 49
    KILOGRAM_PER_SECOND = 50
    SIEMENS = 51
    KELVIN = 52
    VOLT_SQUARED_HOUR_CONSTANT = 53
    AMPERE_SQUARED_HOUR_CONSTANT = 54
    VOLUME_CONSTANT = 55
    PERCENT = 56
    AMPERE_HOUR = 57
    WATT_HOUR_PER_CUBIC_METRE = 60
    JOULE_PER_CUBIC_METRE = 61
    MOLE_PERCENT = 62
    GRAM_PER_CUBIC_METRE = 63
    PASCAL_SECOND = 64
    JOULE_PER_KILOGRAM = 65
    DECIBEL_MILLIWATT = 70
    DECIBEL_MICROVOLT = 71
    DECIBEL = 72
    OTHER = 254
    COUNT = 255
    """No unit: a count or a ratio."""

    @property
    def symbol(self) -> str:
        return _SYMBOLS.get(self, "")


_SYMBOLS = {
    Unit.SECOND: "s",
    Unit.MINUTE: "min",
    Unit.HOUR: "h",
    Unit.DAY: "d",
    Unit.DEGREE: "°",
    Unit.DEGREE_CELSIUS: "°C",
    Unit.CUBIC_METRE: "m³",
    Unit.WATT: "W",
    Unit.VOLT_AMPERE: "VA",
    Unit.VAR: "var",
    Unit.WATT_HOUR: "Wh",
    Unit.VOLT_AMPERE_HOUR: "VAh",
    Unit.VAR_HOUR: "varh",
    Unit.AMPERE: "A",
    Unit.VOLT: "V",
    Unit.HERTZ: "Hz",
    Unit.KELVIN: "K",
    Unit.PERCENT: "%",
    Unit.AMPERE_HOUR: "Ah",
    Unit.DECIBEL_MILLIWATT: "dBm",
    Unit.DECIBEL: "dB",
}


@dataclass(frozen=True, slots=True)
class ScalerUnit:
    """The quantity is `value * 10**scaler` in `unit`."""

    scaler: int
    unit: Unit

    def to_data(self) -> Data:
        return structure(integer(self.scaler), enumerated(self.unit))

    @classmethod
    def from_data(cls, data: Data) -> ScalerUnit:
        """Raises RemoteProtocolError if `data` is not a structure of scaler and a known unit."""
        if data.tag != Tag.STRUCTURE or [item.tag for item in data.value] != [Tag.INTEGER, Tag.ENUM]:
            raise RemoteProtocolError("scaler_unit is not a structure of integer and enum", spec="IEC 62056-6-2")
        scaler, unit = (item.value for item in data.value)
        try:
            return cls(scaler, Unit(unit))
        except ValueError as error:
            raise RemoteProtocolError(f"unit {unit} is not in the table of units", spec="IEC 62056-6-2") from error

    def quantity(self, raw: int | float) -> Quantity:
        if isinstance(raw, float):
            return Quantity(Decimal(repr(raw)).scaleb(self.scaler), self.unit)
        return Quantity(Decimal(raw).scaleb(self.scaler), self.unit)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured value with its unit, exact."""

    value: Decimal
    unit: Unit

    def __str__(self) -> str:
        return f"{self.value:f} {self.unit.symbol}".rstrip()
