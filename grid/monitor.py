"""Holds a run against a grid code: voltage and frequency outside their bands, equipment out of service."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from grid.codes import GridCode
from grid.feeder.feeder import Feeder
from grid.feeder.history import Piece
from grid.feeder.power_flow import Values

_TINY = 1e-9
_FREQUENCY = "frequency"


@dataclass(frozen=True, slots=True)
class Excursion:
    """A quantity of a meter, or the system's frequency (`where` is "frequency"), that lay outside its band."""

    where: str
    start_s: float
    end_s: float
    worst: float
    """Furthest value: per unit of nominal, or Hz."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Outage:
    """Equipment that was out of service while the frequency asked it to stay."""

    equipment: str
    start_s: float
    end_s: float
    hz: float
    reason: str


@dataclass(slots=True)
class Series:
    """What the monitor keeps for plots: one entry a piece. `voltage_pu` holds an array of all meters each."""

    start_s: list[float] = field(default_factory=list)
    hz: list[float] = field(default_factory=list)
    voltage_pu: list[Values] = field(default_factory=list)
    plant_w: list[float] = field(default_factory=list)
    plant_var: list[float] = field(default_factory=list)
    busbar_w: list[float] = field(default_factory=list)


class Monitor:
    """Watches a feeder from when it is made. Dead feeders (a blackout) are not judged for their voltage."""

    def __init__(self, code: GridCode, feeder: Feeder) -> None:
        self.code = code
        self.series = Series()
        self.outages: list[Outage] = []
        self.lowest_hz, self.highest_hz = math.inf, -math.inf
        self._feeder = feeder
        self._open: dict[str, Excursion] = {}
        self._closed: list[Excursion] = []
        self._away: dict[str, Outage] = {}
        self._masks = [feeder.phases_of(meter) for meter in feeder.meters]
        feeder.on_piece.append(self._watch)

    @property
    def excursions(self) -> list[Excursion]:
        """Steady ones: a voltage that was outside for `steady_s` or longer, a frequency however long."""
        every = [*self._closed, *self._open.values()]
        return [item for item in every if item.where == _FREQUENCY or item.duration_s >= self.code.steady_s - _TINY]

    @property
    def voltage_excursions(self) -> list[Excursion]:
        return [item for item in self.excursions if item.where != _FREQUENCY]

    @property
    def frequency_excursions(self) -> list[Excursion]:
        return [item for item in self.excursions if item.where == _FREQUENCY]

    def flagged_meters(self) -> list[str]:
        """Meters whose voltage was outside the band in steady state, in the feeder's order."""
        found = {item.where for item in self.voltage_excursions}
        return [meter for meter in self._feeder.meters if meter in found]

    def in_service(self, equipment: str, working: bool, utc_s: float, hz: float, reason: str = "") -> None:
        """Somebody looked at a piece of equipment. Out of service within the code's frequencies is an outage."""
        if not working and self.code.allows_hz(hz):
            before = self._away.get(equipment)
            start_s = before.start_s if before else utc_s
            self._away[equipment] = Outage(equipment, start_s, utc_s, hz if before is None else before.hz, reason)
        elif equipment in self._away:
            self.outages.append(self._away.pop(equipment))

    @property
    def all_outages(self) -> list[Outage]:
        """Those that are over, and those that last."""
        return [*self.outages, *self._away.values()]

    def _watch(self, piece: Piece) -> None:
        voltages = self._per_meter(piece)
        self._keep(piece, voltages)
        self.lowest_hz, self.highest_hz = min(self.lowest_hz, piece.hz), max(self.highest_hz, piece.hz)
        outside_hz = not self.code.allows_hz(piece.hz)
        self._follow(_FREQUENCY, outside_hz, piece, piece.hz, (self.code.low_hz + self.code.high_hz) / 2.0)
        dead = piece.source_pu == 0.0
        # Rounded to 0.1 per mille: the voltages are rounded to 0.01 V, and 1.10 itself is inside.
        outside = (voltages < self.code.low_pu - 1e-4) | (voltages > self.code.high_pu + 1e-4)
        for index in np.flatnonzero(outside & ~np.bool_(dead)):
            self._follow(self._feeder.meters[index], True, piece, float(voltages[index]), 1.0)
        for meter in [name for name in self._open if name != _FREQUENCY]:
            if self._open[meter].end_s < piece.end_s:
                self._closed.append(self._open.pop(meter))

    def _follow(self, where: str, outside: bool, piece: Piece, value: float, centre: float) -> None:
        before = self._open.get(where)
        if outside:
            worst = value if before is None or abs(value - centre) > abs(before.worst - centre) else before.worst
            start_s = piece.start_s if before is None else before.start_s
            self._open[where] = Excursion(where, start_s, piece.end_s, worst)
        elif before is not None:
            self._closed.append(self._open.pop(where))

    def _per_meter(self, piece: Piece) -> Values:
        """The voltage furthest from nominal of each meter's phases, per unit."""
        per_unit = piece.voltage_v / self._feeder.nominal_v
        return np.array([_furthest(per_unit[index, list(phases)]) for index, phases in enumerate(self._masks)])

    def _keep(self, piece: Piece, voltages: Values) -> None:
        series, inverters = self.series, [plant.inverter for plant in self._feeder.plants.values()]
        series.start_s.append(piece.start_s)
        series.hz.append(piece.hz)
        series.voltage_pu.append(voltages)
        series.plant_w.append(sum(inverter.active_w for inverter in inverters))
        series.plant_var.append(sum(inverter.reactive_var for inverter in inverters))
        series.busbar_w.append(piece.flow.busbar_w)


def _furthest(values: Sequence[float] | Values) -> float:
    return float(max(values, key=lambda value: abs(value - 1.0)))
