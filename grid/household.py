"""Electricity use of a home, minute by minute.

The idea is that of bottom-up occupancy models in the literature (Richardson, Thomson, Infield and Clifford: "Domestic
electricity use: A high-resolution energy demand model", Energy and Buildings 42, 2010): appliances are switched on by
people who are at home and awake, on top of a base load and a cycling refrigerator. The appliances, their powers and
the daily curve are our own parametrisation for small rural homes (0.5 to 6 kWh a day, peak in the evening), not taken
from that paper or from any measured data set.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate

from protocols.loads import LoadSegment, PhaseLoad

MINUTES_A_DAY = 1440
_DAY_S = 86_400
_DAYS_KEPT = 3
MINUTE_BEGINS_S = 30.0
"""No home keeps time by the meters' clocks: its minutes begin in the middle of the true ones. Otherwise loads would
change at the very instants at which meters capture, and milliseconds decide between the old load and the new."""
_SMALLEST_KWH, _LARGEST_KWH = 0.5, 6.0

# Share of appliance use that begins in each hour of local time.
_ACTIVITY = (2, 1, 1, 1, 3, 14, 26, 20, 12, 10, 10, 14, 20, 14, 10, 10, 16, 34, 70, 92, 84, 58, 28, 9)
_HOUR_ENDS = tuple(accumulate(_ACTIVITY))


@dataclass(frozen=True, slots=True)
class Appliance:
    """One kind of appliance: power range, running time and power factor (negative: capacitive)."""

    name: str
    power_w: tuple[float, float]
    minutes: tuple[int, int]
    power_factor: float
    weight: float
    needs_kwh: float = 0.0
    """Homes that use less than this a day do not have one."""


APPLIANCES = (
    Appliance("phone charger", (5, 20), (60, 150), -0.6, 8),
    Appliance("radio", (8, 25), (30, 180), 0.8, 6),
    Appliance("television", (40, 110), (60, 180), 0.95, 10, needs_kwh=0.7),
    Appliance("fan", (35, 70), (60, 240), 0.85, 6, needs_kwh=0.8),
    Appliance("computer", (30, 90), (40, 180), 0.95, 4, needs_kwh=1.5),
    Appliance("kettle", (1200, 2000), (3, 8), 1.0, 6, needs_kwh=1.5),
    Appliance("iron", (900, 1400), (8, 25), 1.0, 2, needs_kwh=1.5),
    Appliance("pressure cooker", (700, 1100), (15, 40), 1.0, 5, needs_kwh=2.0),
    Appliance("water pump", (370, 750), (10, 40), 0.75, 2, needs_kwh=2.5),
    Appliance("washing machine", (300, 600), (40, 80), 0.8, 1.5, needs_kwh=3.0),
    Appliance("water heater", (1500, 3000), (10, 30), 1.0, 2, needs_kwh=4.5),
)


@dataclass(slots=True)
class _Day:
    """Starts (minute of the day) of pieces with the same load, and the loads."""

    starts: list[int]
    loads: list[tuple[PhaseLoad, ...]]
    frequencies_hz: list[float]


class Household:
    """The load of one home; a `LoadSource`. The same `rng` state gives the same home, whatever is asked first.

    `daily_kwh` is the mean day; without it, it is drawn from 0.5 to 6 kWh by the number of people. Days differ from
    one another by some ten percent. Powers are constant for a minute at a time (see `MINUTE_BEGINS_S`).
    `local_offset_s` is local time minus UTC.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        people: int | None = None,
        daily_kwh: float | None = None,
        phases: int = 1,
        nominal_v: float = 230.0,
        nominal_hz: float = 50.0,
        local_offset_s: int = 0,
    ) -> None:
        drawn_people = rng.choice((1, 2, 2, 3, 3, 4, 4, 5, 6))
        spread = rng.lognormvariate(0.0, 0.45)
        self._seed = rng.getrandbits(64)
        self.people = people if people is not None else drawn_people
        likely_kwh = (0.5 + 0.45 * self.people) * spread
        self.daily_kwh = daily_kwh if daily_kwh is not None else min(max(likely_kwh, 0.6), 5.5)
        self.phases = phases
        self.nominal_v = nominal_v
        self.nominal_hz = nominal_hz
        self._offset_s = local_offset_s - MINUTE_BEGINS_S
        home = random.Random(f"{self._seed}/home")
        self._base_w = min(home.uniform(3, 12) * (1 + self.people / 4), 150 * self.daily_kwh / 24)
        self._fridge_w = home.uniform(60, 110) if self.daily_kwh > 1.3 else 0.0
        self._fridge_on_min = home.randint(9, 14)
        self._fridge_period_min = self._fridge_on_min + home.randint(24, 36)
        self._lights_w = home.uniform(12, 25) * (1 + self.people / 3)
        self._feeder_ohm = home.uniform(0.1, 0.6)
        self._owned = tuple(item for item in APPLIANCES if self.daily_kwh >= item.needs_kwh)
        # A home beyond the rural range has stronger appliances rather than hundreds of small ones.
        self._scale = max(1.0, self.daily_kwh / 8.0)
        self._days: OrderedDict[int, _Day] = OrderedDict()

    def segment_at(self, utc_s: float) -> LoadSegment:
        """The load at `utc_s`, and until when it stays."""
        local_s = utc_s + self._offset_s
        number = math.floor(local_s / _DAY_S)
        day = self._day(number)
        minute = min(int((local_s - number * _DAY_S) // 60), MINUTES_A_DAY - 1)
        index = bisect_right(day.starts, minute) - 1
        end_min = day.starts[index + 1] if index + 1 < len(day.starts) else MINUTES_A_DAY
        until_s = float(number * _DAY_S + end_min * 60 - self._offset_s)
        return LoadSegment(until_s, day.loads[index], day.frequencies_hz[index])

    def energy_wh(self, start_s: float, end_s: float) -> float:
        """Active energy between two moments (UTC), in O(pieces between them)."""
        total_ws = 0.0
        while start_s < end_s:
            segment = self.segment_at(start_s)
            stop_s = min(segment.until_s, end_s)
            total_ws += sum(phase.p_w for phase in segment.phases) * (stop_s - start_s)
            start_s = stop_s
        return total_ws / 3600

    def _day(self, number: int) -> _Day:
        day = self._days.get(number)
        if day is None:
            day = self._days[number] = self._make_day(random.Random(f"{self._seed}/{number}"))
            if len(self._days) > _DAYS_KEPT:
                self._days.popitem(last=False)
        return day

    def _make_day(self, rng: random.Random) -> _Day:
        p = [[0.0] * MINUTES_A_DAY for _ in range(self.phases)]
        q = [[0.0] * MINUTES_A_DAY for _ in range(self.phases)]
        target_kwh = self.daily_kwh * rng.lognormvariate(0.0, 0.12)
        if _SMALLEST_KWH <= self.daily_kwh <= _LARGEST_KWH:
            target_kwh = min(max(target_kwh, _SMALLEST_KWH), _LARGEST_KWH)
        left_wmin = target_kwh * 60_000
        left_wmin -= self._add(p[0], q[0], 0, MINUTES_A_DAY, self._base_w, -0.7)
        left_wmin -= self._add_fridge(p[0], q[0], rng)
        left_wmin -= self._add_lights(p[-1], q[-1], rng, left_wmin)
        self._add_appliances(p, q, rng, left_wmin)
        return self._pieces(p, q, rng)

    def _add(self, p: list[float], q: list[float], start: int, end: int, power_w: float, power_factor: float) -> float:
        """Add a load to some minutes. Returns its energy in watt-minutes."""
        end = min(end, MINUTES_A_DAY)
        power_w = round(power_w, 1)
        reactive_var = round(math.copysign(power_w * math.sqrt(1 / power_factor**2 - 1), power_factor), 1)
        for minute in range(start, end):
            p[minute] += power_w
            q[minute] += reactive_var
        return power_w * max(0, end - start)

    def _add_fridge(self, p: list[float], q: list[float], rng: random.Random) -> float:
        if not self._fridge_w:
            return 0.0
        used = 0.0
        minute = rng.randrange(self._fridge_period_min)
        while minute < MINUTES_A_DAY:
            used += self._add(p, q, minute, minute + self._fridge_on_min, self._fridge_w, 0.65)
            minute += self._fridge_period_min + rng.randint(-3, 4)
        return used

    def _add_lights(self, p: list[float], q: list[float], rng: random.Random, most_wmin: float) -> float:
        dusk = 18 * 60 + rng.randint(-15, 25)
        bed = 22 * 60 + rng.randint(-70, 45)
        dawn = 6 * 60 + rng.randint(5, 40)
        rise = dawn - rng.randint(15, 75)
        minutes = bed - dusk + dawn - rise
        lights_w = min(self._lights_w, 0.6 * max(most_wmin, 0.0) / minutes)
        return self._add(p, q, dusk, bed, lights_w, -0.9) + self._add(p, q, rise, dawn, lights_w, -0.9)

    def _add_appliances(self, p: list[list[float]], q: list[list[float]], rng: random.Random, left_wmin: float) -> None:
        """Switch appliances on, at hours when people are about, until the day's energy is used."""
        weights = [item.weight for item in self._owned]
        while left_wmin > 60:
            (item,) = rng.choices(self._owned, weights)
            hour = bisect_right(_HOUR_ENDS, rng.randrange(_HOUR_ENDS[-1]))
            start = hour * 60 + rng.randrange(60)
            power_w = rng.uniform(*item.power_w) * self._scale
            minutes = min(rng.randint(*item.minutes), max(1, round(left_wmin / power_w)))
            phase = rng.randrange(self.phases)
            left_wmin -= self._add(p[phase], q[phase], start, start + minutes, power_w, item.power_factor)

    def _pieces(self, p: list[list[float]], q: list[list[float]], rng: random.Random) -> _Day:
        day = _Day([], [], [])
        phases = range(self.phases)
        rows = list(zip(*p, *q, strict=True))
        previous: tuple[float, ...] | None = None
        supply_v, frequency_hz = [self.nominal_v] * self.phases, self.nominal_hz
        for minute, row in enumerate(rows):
            turn = minute % 30 == 0
            if turn:
                # The feeder sags in the evening, when everybody is at home.
                sag = 0.03 if 18 * 60 <= minute < 22 * 60 else 0.0
                supply_v = [self.nominal_v * (1.005 - sag + rng.gauss(0, 0.006)) for _ in phases]
                frequency_hz = round(self.nominal_hz + rng.gauss(0, 0.02), 3)
            if row == previous and not turn:
                continue
            previous = row
            day.starts.append(minute)
            day.loads.append(
                tuple(self._phase(row[index], row[self.phases + index], supply_v[index]) for index in phases)
            )
            day.frequencies_hz.append(frequency_hz)
        return day

    def _phase(self, p_w: float, q_var: float, supply_v: float) -> PhaseLoad:
        drop_v = self._feeder_ohm * p_w / supply_v
        return PhaseLoad(round(p_w, 1), round(q_var, 1), round(supply_v - drop_v, 2))
