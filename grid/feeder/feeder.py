"""The feeder in time: homes and solar plants on it, and what every meter sees, in pieces that stay the same.

A piece ends with the homes' minute, with a change (a switch, the supply), or where an inverter's timer ends; while
inverters still move, after CONTROL_S. Nothing is computed before somebody asks for a time, and the answers do not
depend on who asks when.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from grid.der.inverter import DerState, GridPoint, Inverter
from grid.feeder.history import Energies, History, Piece
from grid.feeder.power_flow import Flow, PowerFlow, Values
from grid.feeder.supply import Supply
from grid.feeder.topology import Topology
from grid.household import MINUTE_BEGINS_S
from grid.pv import PvArray, Sky
from protocols.errors import BadInputError, LocalProtocolError
from protocols.loads import LoadSegment, LoadSource

CONTROL_S = 1.0
"""How long inverters that move live with one voltage."""
_MOVING_S = 1.0
_FINE_S = 0.02
_MINUTE_S = 60.0
_SETTLED = 0.002
_DEAD_PU = 0.05
_CONSTANT_POWER_ABOVE_PU = 0.7


@dataclass(frozen=True, slots=True)
class PvPlant:
    """Panels and an inverter behind a meter, on the meter's phases."""

    meter: str
    array: PvArray
    inverter: Inverter


class _Site:
    """One meter's place on the feeder, and what is behind it."""

    def __init__(self, phases: tuple[int, ...], home: LoadSource, plant: PvPlant | None) -> None:
        self.phases = phases
        self.home = home
        self.plant = plant
        self.share = 0.0
        """Of its lines, how much is closed and has mains."""
        self.segment: LoadSegment | None = None
        self.taken_w = 0.0
        """Taken from the pole, beside the meter."""


class Feeder:
    """Homes and plants on a topology, from `start_s` (UTC). Every home begins disconnected: its meter has no mains yet.

    Raises BadInputError where homes and connections do not match. `on_piece` is called with every closed piece.
    """

    def __init__(
        self,
        topology: Topology,
        homes: Mapping[str, LoadSource],
        supply: Supply,
        start_s: float,
        *,
        plants: Sequence[PvPlant] = (),
        sky: Sky | None = None,
    ) -> None:
        self._flow = PowerFlow(topology)
        self.topology = topology
        self.supply = supply
        self.meters = self._flow.meters
        self.plants = {plant.meter: plant for plant in plants}
        self._sky = sky
        self._index = {meter: index for index, meter in enumerate(self.meters)}
        for name in (*homes, *self.plants):
            if name not in self._index:
                raise BadInputError("is not connected to the feeder", key=name)
        if self.plants and sky is None:
            raise BadInputError("solar plants need a sky", key="pv")
        self._sites = [
            _Site(connection.phases, homes[connection.meter], self.plants.get(connection.meter))
            for connection in topology.connections
        ]
        self.energies = Energies()
        self.on_piece: list[Callable[[Piece], None]] = []
        self._history = History()
        self._demand_w = np.zeros((len(self.meters), 3))
        self._demand_var = np.zeros((len(self.meters), 3))
        self._restless = bool(self.plants)
        self._start_s = start_s
        self._piece: Piece | None = None
        """What began at `_start_s`; None until somebody asks for it."""

    # for meters and people who look

    def tap(self, meter: str) -> LoadSource:
        """What this meter is connected to. Raises KeyError for a meter that is not on the feeder."""
        return _Tap(self, self._index[meter])

    def segment(self, index: int, utc_s: float) -> LoadSegment:
        """What meter number `index` sees at a time, past or present."""
        return self.piece_at(utc_s).segment(index, self._sites[index].phases)

    def piece_at(self, utc_s: float) -> Piece:
        """The piece of a time. Raises LocalProtocolError for a time that is forgotten."""
        self.advance(utc_s)
        return self._present() if utc_s >= self._start_s else self._history.at(utc_s)

    def phases_of(self, meter: str) -> tuple[int, ...]:
        return self._sites[self._index[meter]].phases

    def voltage_v(self, meter: str, utc_s: float) -> float:
        """Mean voltage of the phases that the meter uses."""
        index = self._index[meter]
        return _mean_voltage(self.piece_at(utc_s).voltage_v, index, self._sites[index].phases)

    @property
    def nominal_v(self) -> float:
        return self.topology.nominal_v

    @property
    def next_change_s(self) -> float:
        """When the present piece ends, should nobody interfere (UTC)."""
        return self._present().end_s

    def advance(self, utc_s: float) -> None:
        """Live until `utc_s`. Raises FeederError where the feeder cannot carry its loads."""
        while utc_s > self._start_s and self._present().end_s <= utc_s:
            self._close(self._present().end_s)

    def settle(self, utc_s: float) -> Energies:
        """Live until `utc_s`, and the energies until then."""
        self._interrupt(utc_s, lambda: None)
        return replace(self.energies)

    # what happens to it

    def connect(self, meter: str, share: float, utc_s: float) -> None:
        """Home and plant behind a meter get mains, or lose it: `share` of the meter's lines are closed, 0 to 1."""
        site = self._sites[self._index[meter]]
        if site.share != share:
            self._interrupt(utc_s, lambda: setattr(site, "share", share))

    def take(self, meter: str, power_w: float, utc_s: float) -> None:
        """Somebody takes `power_w` from the meter's pole, beside the meter; 0 ends it."""
        if not (math.isfinite(power_w) and 0.0 <= power_w <= 100e3):
            raise BadInputError(f"must be from 0 to 100 kW, is {power_w} W", key="power_w")
        site = self._sites[self._index[meter]]
        self._interrupt(utc_s, lambda: setattr(site, "taken_w", power_w))

    def change_supply(
        self, utc_s: float, *, voltage_pu: float | None = None, hz: float | None = None, over_s: float = 0.0
    ) -> None:
        """The grid above goes to another voltage or frequency, at once or within `over_s`."""
        self._interrupt(utc_s, lambda: self.supply.change(utc_s, voltage_pu=voltage_pu, hz=hz, over_s=over_s))

    def _interrupt(self, utc_s: float, change: Callable[[], None]) -> None:
        self.advance(utc_s)
        if utc_s < self._start_s:
            raise LocalProtocolError("the feeder's past cannot be changed")
        if utc_s > self._start_s:
            self._close(utc_s)
        change()
        self._restless = bool(self.plants)
        self._piece = None

    # inside

    def _present(self) -> Piece:
        if self._piece is None:
            self._piece = self._open(self._start_s)
        return self._piece

    def _open(self, at_s: float) -> Piece:
        point = self.supply.at(at_s)
        # Below this voltage, homes take what their impedance lets through, not constant power.
        share = min(1.0, (point.voltage_pu / _CONSTANT_POWER_ABOVE_PU) ** 2)
        self._ask_homes(at_s)
        active_w, reactive_var = self._demand_w * share, self._demand_var * share
        self._add_plants(active_w, reactive_var, at_s)
        active_w, reactive_var = np.round(active_w, 1), np.round(reactive_var, 1)
        closed = np.array([site.share for site in self._sites])
        taken_w = self._taken() * share
        flow = self._solve(active_w * closed[:, None] + taken_w, reactive_var * closed[:, None], point.voltage_pu)
        piece = Piece(
            at_s, at_s, round(point.hz, 3), point.voltage_pu, np.round(flow.voltage_v, 2), active_w, reactive_var,
            closed, float(taken_w.sum()), flow,
        )  # fmt: skip
        return replace(piece, end_s=self._end_of(piece))

    def _solve(self, active_w: Values, reactive_var: Values, source_pu: float) -> Flow:
        if source_pu < _DEAD_PU:
            return Flow(np.zeros((len(self.meters), 3)), 0.0, 0.0, 0.0, 0.0, 0.0)
        return self._flow.solve(active_w, reactive_var, source_pu)

    def _ask_homes(self, at_s: float) -> None:
        dead = self.supply.at(at_s).voltage_pu < _DEAD_PU
        for index, site in enumerate(self._sites):
            if dead:
                self._demand_w[index], self._demand_var[index] = 0.0, 0.0
                site.segment = None
            elif site.segment is None or site.segment.until_s <= at_s:
                site.segment = site.home.segment_at(at_s)
                for phase, load in zip(site.phases, site.segment.phases, strict=False):
                    self._demand_w[index, phase], self._demand_var[index, phase] = load.p_w, load.q_var

    def _add_plants(self, active_w: Values, reactive_var: Values, at_s: float) -> None:
        if self._sky is None:
            return
        irradiance = self._sky.irradiance_w_m2(at_s)
        for plant in self.plants.values():
            inverter, index = plant.inverter, self._index[plant.meter]
            share_pct = min(100.0, 100.0 * plant.array.power_w(irradiance) / inverter.rating.active_w)
            self._restless |= abs(share_pct - inverter.available_pct) > 100.0 * _SETTLED
            inverter.available_pct = share_pct
            phases = self._sites[index].phases
            # Without sun the inverter is in standby, whatever its functions would ask for.
            if self._sites[index].share > 0.0 and share_pct > 0.0:
                for phase in phases:
                    active_w[index, phase] -= inverter.active_w / len(phases)
                    reactive_var[index, phase] -= inverter.reactive_var / len(phases)

    def _taken(self) -> Values:
        taken = np.zeros((len(self.meters), 3))
        for index, site in enumerate(self._sites):
            for phase in site.phases:
                taken[index, phase] = site.taken_w / len(site.phases)
        return taken

    def _point(self, piece: Piece, plant: PvPlant, hz: float) -> GridPoint:
        index = self._index[plant.meter]
        site = self._sites[index]
        voltage_v = _mean_voltage(piece.voltage_v, index, site.phases) if site.share > 0.0 else 0.0
        return GridPoint(voltage_v / self.nominal_v, hz)

    def _end_of(self, piece: Piece) -> float:
        start_s = piece.start_s
        minutes = math.floor((start_s - MINUTE_BEGINS_S) / _MINUTE_S) + 1
        end_s = min(minutes * _MINUTE_S + MINUTE_BEGINS_S, self.supply.next_mark_s(start_s))
        if self.supply.is_moving(start_s):
            end_s = min(end_s, start_s + _MOVING_S)
        for plant in self.plants.values():
            point = self._point(piece, plant, piece.hz)
            self._restless |= abs(point.voltage_pu - plant.inverter.grid.voltage_pu) > _SETTLED / 4
            end_s = min(end_s, start_s + max(_FINE_S, plant.inverter.next_change_s(point)))
        return min(end_s, start_s + CONTROL_S) if self._restless else end_s

    def _close(self, at_s: float) -> None:
        piece = replace(self._present(), end_s=at_s)
        self._start_s, self._piece = at_s, None
        self._restless = False
        for plant in self.plants.values():
            self._restless |= self._live(plant, piece)
        self.energies.add(piece)
        self._history.add(piece)
        for listener in self.on_piece:
            listener(piece)

    def _live(self, plant: PvPlant, piece: Piece) -> bool:
        """Let an inverter live through a piece; whether it still moves."""
        inverter = plant.inverter
        before = inverter.active_w, inverter.reactive_var
        if self.supply.is_moving(piece.start_s):
            steps = max(1, math.ceil(piece.duration_s / _FINE_S - 1e-6))
            for step in range(steps):
                hz = self.supply.at(piece.start_s + piece.duration_s * (step + 1) / steps).hz
                inverter.step(self._point(piece, plant, hz), piece.duration_s / steps)
        else:
            inverter.step(self._point(piece, plant, piece.hz), piece.duration_s)
        limit = _SETTLED * inverter.rating.apparent_va
        moved = max(abs(inverter.active_w - before[0]), abs(inverter.reactive_var - before[1]))
        return moved > limit or inverter.state is DerState.RAMPING


def _mean_voltage(voltage_v: Values, index: int, phases: tuple[int, ...]) -> float:
    return sum(float(voltage_v[index, phase]) for phase in phases) / len(phases)


class _Tap:
    """A `LoadSource` for one meter."""

    def __init__(self, feeder: Feeder, index: int) -> None:
        self._feeder = feeder
        self._index = index

    def segment_at(self, utc_s: float) -> LoadSegment:
        return self._feeder.segment(self._index, utc_s)
