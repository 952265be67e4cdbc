"""IEEE 1547-2018 by category: trip defaults and ranges, ride-through, curves.

Trip defaults agree with an open model of the standard. Ranges and ride-through rows are from general knowledge and
have not been checked against the paid text. Voltages are per unit of nominal, frequencies in Hz of a 60 Hz system.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Category(enum.StrEnum):
    """Abnormal operating performance category."""

    I = "I"  # noqa: E741
    II = "II"
    III = "III"


@dataclass(frozen=True, slots=True)
class TripPoint:
    """Trip once the quantity lay beyond `limit` for `clearing_s`."""

    limit: float
    clearing_s: float


@dataclass(frozen=True, slots=True)
class TripRange:
    """What a trip point may be set to, ends included."""

    low: float
    high: float
    shortest_s: float
    longest_s: float

    def allows(self, point: TripPoint) -> bool:
        tiny = 1e-9
        return (
            self.low - tiny <= point.limit <= self.high + tiny
            and self.shortest_s - tiny <= point.clearing_s <= self.longest_s + tiny
        )


@dataclass(frozen=True, slots=True)
class VoltageTrips:
    """OV2, OV1, UV1, UV2."""

    ov2: TripPoint
    ov1: TripPoint
    uv1: TripPoint
    uv2: TripPoint


@dataclass(frozen=True, slots=True)
class FrequencyTrips:
    """OF2, OF1, UF1, UF2."""

    of2: TripPoint
    of1: TripPoint
    uf1: TripPoint
    uf2: TripPoint

    def scaled(self, factor: float) -> FrequencyTrips:
        """The same trips on a system of another nominal frequency, rounded to 0.01 Hz."""
        return FrequencyTrips(
            *(
                TripPoint(round(point.limit * factor, 2), point.clearing_s)
                for point in (self.of2, self.of1, self.uf1, self.uf2)
            )
        )


VOLTAGE_DEFAULTS = {
    Category.I: VoltageTrips(TripPoint(1.20, 0.16), TripPoint(1.10, 2.0), TripPoint(0.70, 2.0), TripPoint(0.45, 0.16)),
    Category.II: VoltageTrips(
        TripPoint(1.20, 0.16), TripPoint(1.10, 2.0), TripPoint(0.70, 10.0), TripPoint(0.45, 0.16)
    ),
    Category.III: VoltageTrips(
        TripPoint(1.20, 0.16), TripPoint(1.10, 13.0), TripPoint(0.88, 21.0), TripPoint(0.50, 2.0)
    ),
}

_OV2 = TripRange(1.20, 1.20, 0.16, 0.16)
_OV1 = TripRange(1.10, 1.20, 1.0, 13.0)
VOLTAGE_RANGES: dict[Category, tuple[TripRange, TripRange, TripRange, TripRange]] = {
    Category.I: (_OV2, _OV1, TripRange(0.0, 0.88, 2.0, 21.0), TripRange(0.0, 0.50, 0.16, 2.0)),
    Category.II: (_OV2, _OV1, TripRange(0.0, 0.88, 2.0, 21.0), TripRange(0.0, 0.50, 0.16, 2.0)),
    Category.III: (_OV2, _OV1, TripRange(0.0, 0.88, 21.0, 50.0), TripRange(0.0, 0.50, 2.0, 21.0)),
}
"""In the order of `VoltageTrips`."""

FREQUENCY_DEFAULTS = FrequencyTrips(
    TripPoint(62.0, 0.16), TripPoint(61.2, 300.0), TripPoint(58.5, 300.0), TripPoint(56.5, 0.16)
)
FREQUENCY_RANGES = (
    TripRange(61.8, 66.0, 0.16, 1000.0),
    TripRange(61.0, 66.0, 180.0, 1000.0),
    TripRange(50.0, 59.0, 180.0, 1000.0),
    TripRange(50.0, 57.0, 0.16, 1000.0),
)
"""In the order of `FrequencyTrips`."""


class RideThrough(enum.StrEnum):
    CONTINUOUS = "continuous operation"
    MANDATORY = "mandatory operation"
    PERMISSIVE = "permissive operation"
    CESSATION = "momentary cessation"
    CEASE = "cease to energize"


@dataclass(frozen=True, slots=True)
class RideThroughRow:
    """Between `low` and `high` the inverter must hold on for `base_s` + `slope_s_per_pu` · (V - low)."""

    low: float
    high: float
    mode: RideThrough
    base_s: float = 0.0
    slope_s_per_pu: float = 0.0

    def duration_s(self, voltage_pu: float) -> float:
        return self.base_s + self.slope_s_per_pu * (voltage_pu - self.low)


_HIGH = (
    RideThroughRow(1.175, 1.20, RideThrough.PERMISSIVE, 0.2),
    RideThroughRow(1.15, 1.175, RideThrough.PERMISSIVE, 0.5),
    RideThroughRow(1.10, 1.15, RideThrough.PERMISSIVE, 1.0),
)
VOLTAGE_RIDE_THROUGH: dict[Category, tuple[RideThroughRow, ...]] = {
    Category.I: (
        *_HIGH,
        RideThroughRow(0.70, 0.88, RideThrough.MANDATORY, 0.7, 4.0),
        RideThroughRow(0.50, 0.70, RideThrough.PERMISSIVE, 0.16),
    ),
    Category.II: (
        *_HIGH,
        RideThroughRow(0.65, 0.88, RideThrough.MANDATORY, 3.0, 8.7),
        RideThroughRow(0.45, 0.65, RideThrough.PERMISSIVE, 0.32),
        RideThroughRow(0.30, 0.45, RideThrough.PERMISSIVE, 0.16),
    ),
    Category.III: (
        RideThroughRow(1.10, 1.20, RideThrough.CESSATION, 12.0),
        RideThroughRow(0.70, 0.88, RideThrough.MANDATORY, 20.0),
        RideThroughRow(0.50, 0.70, RideThrough.MANDATORY, 10.0),
        RideThroughRow(0.0, 0.50, RideThrough.CESSATION, 1.0),
    ),
}

ROCOF_HZ_PER_S = {Category.I: 0.5, Category.II: 2.0, Category.III: 3.0}
"""Rate of change of frequency, over 0.1 s, that must be ridden through."""
PHASE_JUMP_DEG = 20.0
"""Jump of the positive-sequence phase angle that must be ridden through; 60 degrees of a single phase."""
SINGLE_PHASE_JUMP_DEG = 60.0
CESSATION_RESPONSE_S = 0.083
