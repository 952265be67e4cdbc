"""Settings of an inverter. Frozen: a change makes new settings, checked against the standard's ranges before use."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from grid.der.categories import (
    FREQUENCY_DEFAULTS,
    FREQUENCY_RANGES,
    VOLTAGE_DEFAULTS,
    VOLTAGE_RANGES,
    Category,
    FrequencyTrips,
    TripPoint,
    TripRange,
    VoltageTrips,
)
from protocols.errors import BadInputError


def _within(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low - 1e-9 <= value <= high + 1e-9):
        raise BadInputError(f"must be from {low:g} to {high:g}, is {value:g}", key=name)


class VarReference(enum.IntEnum):
    """What a reactive percentage is a share of."""

    W_MAX = 0
    VAR_MAX = 1
    VAR_AVAILABLE = 2
    VA_MAX = 3


@dataclass(frozen=True, slots=True)
class Curve:
    """Straight lines between points, level outside them. `x` must grow."""

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise BadInputError("a curve needs at least two points")
        if any(not (math.isfinite(x) and math.isfinite(y)) for x, y in self.points):
            raise BadInputError("a curve's points must be numbers")
        if any(after[0] < before[0] for before, after in zip(self.points, self.points[1:], strict=False)):
            raise BadInputError("a curve's points must be in rising order")

    def at(self, x: float) -> float:
        """The curve's value at `x`."""
        if x <= self.points[0][0]:
            return self.points[0][1]
        for (x1, y1), (x2, y2) in zip(self.points, self.points[1:], strict=False):
            if x <= x2:
                return y2 if x2 == x1 else y1 + (y2 - y1) * (x - x1) / (x2 - x1)
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Function:
    """A control curve: on or off, its response time (to 90 %), and what its percentages refer to."""

    curve: Curve
    enabled: bool = False
    response_s: float = 0.0
    reference: VarReference = VarReference.VA_MAX

    def __post_init__(self) -> None:
        if not 0.0 <= self.response_s <= 1000.0:
            raise BadInputError(f"a response time must be from 0 to 1000 s, is {self.response_s:g}")


@dataclass(frozen=True, slots=True)
class FrequencyDroop:
    """Deadbands in Hz, droops per unit of frequency per unit of power."""

    enabled: bool = True
    over_deadband_hz: float = 0.036
    under_deadband_hz: float = 0.036
    over_droop: float = 0.05
    under_droop: float = 0.05
    response_s: float = 5.0
    minimum_power_pct: float = 0.0

    def __post_init__(self) -> None:
        _within("over_deadband_hz", self.over_deadband_hz, 0.017, 1.0)
        _within("under_deadband_hz", self.under_deadband_hz, 0.017, 1.0)
        _within("over_droop", self.over_droop, 0.02, 0.07)
        _within("under_droop", self.under_droop, 0.02, 0.07)
        _within("response_s", self.response_s, 0.2, 10.0)
        _within("minimum_power_pct", self.minimum_power_pct, -100.0, 100.0)


@dataclass(frozen=True, slots=True)
class EnterService:
    """When an inverter may begin to export, and how: voltages per unit, times in s."""

    permitted: bool = True
    low_pu: float = 0.917
    high_pu: float = 1.05
    low_hz: float = 59.5
    high_hz: float = 60.1
    delay_s: float = 300.0
    ramp_s: float = 300.0

    def __post_init__(self) -> None:
        _within("enter service, low voltage", self.low_pu, 0.88, 0.95)
        _within("enter service, high voltage", self.high_pu, 1.05, 1.06)
        if not 40.0 <= self.low_hz < self.high_hz <= 70.0:
            raise BadInputError(f"enter service from {self.low_hz:g} to {self.high_hz:g} Hz cannot be")
        _within("enter service, delay", self.delay_s, 0.0, 600.0)
        _within("enter service, ramp", self.ramp_s, 1.0, 1000.0)


@dataclass(frozen=True, slots=True)
class PowerControl:
    """Set points of an operator. Percentages are of the maximum active power (`limit_pct`, `set_pct`)."""

    limit_enabled: bool = False
    limit_pct: float = 100.0
    limit_revert_pct: float = 100.0
    limit_revert_enabled: bool = False
    limit_revert_s: float = 0.0
    set_enabled: bool = False
    set_pct: float = 100.0
    power_factor_enabled: bool = False
    power_factor: float = 1.0
    over_excited: bool = True
    var_enabled: bool = False
    var_pct: float = 0.0
    var_reference: VarReference = VarReference.VA_MAX
    reactive_first: bool = True
    ramp_pct_per_s: float | None = None
    anti_islanding: bool = True

    def __post_init__(self) -> None:
        _within("limit_pct", self.limit_pct, 0.0, 100.0)
        _within("limit_revert_pct", self.limit_revert_pct, 0.0, 100.0)
        _within("set_pct", self.set_pct, -100.0, 100.0)
        _within("power_factor", self.power_factor, 0.0, 1.0)
        _within("var_pct", self.var_pct, -100.0, 100.0)
        _within("limit_revert_s", self.limit_revert_s, 0.0, 1e7)
        if self.ramp_pct_per_s is not None:
            _within("ramp_pct_per_s", self.ramp_pct_per_s, 0.0, 10000.0)


@dataclass(frozen=True, slots=True)
class Rating:
    """Nameplate. The maximum of reactive power is 44 % of the apparent power (category B)."""

    active_w: float = 5000.0
    apparent_va: float = 5000.0
    reactive_var: float = 2200.0
    nominal_v: float = 230.0

    @property
    def maximum_a(self) -> float:
        return self.apparent_va / self.nominal_v


VOLT_VAR_A = Function(Curve(((90.0, 25.0), (100.0, 0.0), (100.0, 0.0), (110.0, -25.0))), False, 10.0)
VOLT_VAR_B = Function(Curve(((92.0, 44.0), (98.0, 0.0), (102.0, 0.0), (108.0, -44.0))), False, 5.0)
VOLT_WATT = Function(Curve(((106.0, 100.0), (110.0, 0.0))), False, 10.0)
WATT_VAR = Function(Curve(((20.0, 0.0), (50.0, 0.0), (100.0, -44.0))), False, 10.0)


CURVE_RANGES = {
    "volt_var": ((77.0, 123.0), (-100.0, 100.0), (1.0, 90.0)),
    "volt_watt": ((105.0, 110.0), (0.0, 100.0), (0.5, 60.0)),
    "watt_var": ((-100.0, 100.0), (-100.0, 100.0), (0.0, 10.0)),
}
"""Of each control curve: x and y in percent, response time in s. From general knowledge of IEEE 1547-2018, like the
other ranges; a reference voltage may lie from 95 to 105 %, and a curve's outer points 18 % beyond it."""


@dataclass(frozen=True, slots=True)
class DerSettings:
    """Everything that can be set. Curves are in percent; `check` holds them against a profile's ranges."""

    category: Category
    nominal_hz: float
    voltage: VoltageTrips
    frequency: FrequencyTrips
    enter: EnterService
    maximum_w: float
    maximum_va: float
    maximum_var: float
    droop: FrequencyDroop = field(default_factory=FrequencyDroop)
    volt_var: Function = VOLT_VAR_B
    volt_watt: Function = VOLT_WATT
    watt_var: Function = WATT_VAR
    power: PowerControl = field(default_factory=PowerControl)
    trips_enabled: tuple[bool, bool, bool, bool] = (True, True, True, True)
    """Low voltage, high voltage, low frequency, high frequency."""

    def check(self, profile: Profile, rating: Rating) -> None:
        """Raises BadInputError, which names the setting, for the first value outside its range."""
        _check_trips("voltage", self.voltage, VOLTAGE_RANGES[self.category])
        _check_trips("frequency", self.frequency, profile.frequency_ranges)
        _within("maximum_w", self.maximum_w, 0.0, rating.active_w)
        _within("maximum_va", self.maximum_va, 0.0, rating.apparent_va)
        _within("maximum_var", self.maximum_var, 0.0, rating.reactive_var)
        _within("enter service, low frequency", self.enter.low_hz, *profile.enter_low_hz)
        _within("enter service, high frequency", self.enter.high_hz, *profile.enter_high_hz)
        for name, function in (("volt_var", self.volt_var), ("volt_watt", self.volt_watt), ("watt_var", self.watt_var)):
            x_range, y_range, response_range = CURVE_RANGES[name]
            _within(f"{name}, response time", function.response_s, *response_range)
            for x, y in function.curve.points:
                _within(f"{name}, x of a point", x, *x_range)
                _within(f"{name}, y of a point", y, *y_range)


@dataclass(frozen=True, slots=True)
class Profile:
    """A grid code: nominal values, frequency trips and what they may be set to, enter service."""

    name: str
    nominal_hz: float
    nominal_v: float
    frequency: FrequencyTrips
    frequency_ranges: tuple[TripRange, TripRange, TripRange, TripRange]
    enter: EnterService
    enter_low_hz: tuple[float, float]
    """What the lowest frequency of entering service may be set to; the highest: `enter_high_hz`."""
    enter_high_hz: tuple[float, float]

    def settings(self, category: Category, rating: Rating) -> DerSettings:
        """The profile's defaults for a category."""
        return DerSettings(
            category, self.nominal_hz, VOLTAGE_DEFAULTS[category], self.frequency, self.enter,
            rating.active_w, rating.apparent_va, rating.reactive_var,
        )  # fmt: skip


def _scaled_ranges(factor: float) -> tuple[TripRange, TripRange, TripRange, TripRange]:
    of2, of1, uf1, uf2 = (
        TripRange(round(item.low * factor, 2), round(item.high * factor, 2), item.shortest_s, item.longest_s)
        for item in FREQUENCY_RANGES
    )
    return of2, of1, uf1, uf2


_FIFTY = 50.0 / 60.0
_KENYA = FrequencyTrips(TripPoint(52.0, 0.16), TripPoint(52.0, 300.0), TripPoint(45.0, 300.0), TripPoint(45.0, 0.16))

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "ieee1547-60", 60.0, 240.0, FREQUENCY_DEFAULTS, FREQUENCY_RANGES, EnterService(), (59.0, 59.9),
            (60.1, 61.0),
        ),
        Profile(
            "ieee1547-50", 50.0, 230.0, FREQUENCY_DEFAULTS.scaled(_FIFTY), _scaled_ranges(_FIFTY),
            EnterService(low_hz=49.58, high_hz=50.08), (49.17, 49.92), (50.08, 50.83),
        ),
        Profile(
            "kenya", 50.0, 240.0, _KENYA, _scaled_ranges(_FIFTY), EnterService(low_hz=45.0, high_hz=52.0),
            (45.0, 49.92), (50.08, 52.0),
        ),
    )
}  # fmt: skip
"""`ieee1547-50` scales every frequency by 50/60. `kenya` stays in service from 45.0 to 52.0 Hz, ends included, and
enters service there too: the scaled defaults (47.08 and 51.67 Hz) would not, the scaled ranges allow it."""


def _check_trips(name: str, trips: VoltageTrips | FrequencyTrips, ranges: Iterable[TripRange]) -> None:
    for part, allowed in zip(fields(trips), ranges, strict=True):
        point: TripPoint = getattr(trips, part.name)
        if not allowed.allows(point):
            raise BadInputError(
                f"{point.limit:g} / {point.clearing_s:g} s lies outside {allowed.low:g} to {allowed.high:g} / "
                f"{allowed.shortest_s:g} to {allowed.longest_s:g} s",
                key=f"{name} trip {part.name}",
            )
