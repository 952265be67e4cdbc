"""The grid of a rig: the feeder joined to its meters, and the verbs of a bench that can bend it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from grid.codes import CODES, GridCode
from grid.der.inverter import DerEvent, Inverter
from grid.der.sunspec.device import Answer, SunSpecDevice
from grid.feeder.feeder import Feeder
from grid.feeder.history import Energies
from grid.monitor import Monitor
from meters.hardware.metrology import Metrology
from meters.hardware.power import PowerSupply
from protocols.loads import LoadSource
from protocols.ports import Cancellable
from twin.clock.clocks import RunClock
from twin.clock.seeds import Seeds
from twin.errors import RigError
from twin.grid.build import build_feeder
from twin.grid.registers import write_point
from twin.rigs.folder import EventTrace
from twin.scenarios.schema import Scenario

_TICK_AFTER_S = 1e-3
_BEFORE_TRIP_S = 0.05
"""How long before a trip the grid is looked at: it was as it was at least for the shortest clearing time."""
DCU_SUPPLY_HZ = (45.0, 65.0)
"""What the concentrator's supply runs on. An assumption: the reference design gives no nameplate."""


class GridMeter(Protocol):
    """What the grid needs of a meter of the rig."""

    @property
    def household(self) -> LoadSource: ...

    @property
    def metrology(self) -> Metrology: ...

    @property
    def power(self) -> PowerSupply: ...


class GridDcu(Protocol):
    """What the grid needs of the concentrator."""

    @property
    def alive(self) -> bool: ...

    def cut_power(self) -> None: ...


class RigGrid:
    """`rig.grid`. Times are of the run's clock; powers in W, voltages per unit of nominal where they end in `_pu`.

    The grid lives with the run: at the end of every piece of the feeder it looks whether each meter's supply can run
    on what is at its terminals. A meter that a bench switched off stays off.
    """

    def __init__(
        self,
        feeder: Feeder,
        code: GridCode,
        meters: Mapping[str, GridMeter],
        dcu: GridDcu,
        clock: RunClock,
        trace: EventTrace,
    ) -> None:
        self.feeder = feeder
        self.code = code
        self.monitor = Monitor(code, feeder)
        self._meters = dict(meters)
        self._dcu = dcu
        self._clock = clock
        self._trace = trace
        self.began_s = clock.utc_s()
        """Where the inverters' own times are zero, in UTC seconds."""
        self._starved: dict[str, float] = {}
        self._flows_since: dict[str, float] = {}
        self._told = dict.fromkeys(feeder.plants, 0)
        self._tick: Cancellable | None = None
        for name, meter in self._meters.items():
            meter.metrology.set_source(feeder.tap(name))
            meter.metrology.on_change.append(self._follow(name, meter.metrology))
        self._look_soon()

    def stop(self) -> None:
        """The grid lives no longer by itself."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    # what is

    @property
    def hz(self) -> float:
        return self.feeder.supply.at(self._clock.utc_s()).hz

    def voltage_pu(self, meter: str) -> float:
        """At a meter's terminals, mean of the phases that it uses."""
        return self.feeder.voltage_v(self._known(meter), self._clock.utc_s()) / self.feeder.nominal_v

    def feeder_w(self) -> float:
        """What leaves the transformer now; negative: what goes into the grid above."""
        return self.feeder.piece_at(self._clock.utc_s()).flow.busbar_w

    def inverter(self, meter: str) -> Inverter:
        """Raises RigError for a meter without a plant."""
        plant = self.feeder.plants.get(self._known(meter))
        if plant is None:
            raise RigError(f"no solar plant behind {meter!r}; there are: {', '.join(self.feeder.plants) or 'none'}")
        return plant.inverter

    @property
    def inverters(self) -> dict[str, Inverter]:
        return {name: plant.inverter for name, plant in self.feeder.plants.items()}

    def energies(self) -> Energies:
        """Energies of the feeder until now."""
        return self.feeder.settle(self._clock.utc_s())

    # what a bench can do

    def set_frequency(self, hz: float, *, over_s: float = 0.0) -> None:
        """The system's frequency goes to `hz`, at once or within `over_s`."""
        self._change("grid.frequency", hz=hz, over_s=over_s)

    def set_voltage(self, source_pu: float, *, over_s: float = 0.0) -> None:
        """The voltage above the transformer."""
        self._change("grid.voltage", voltage_pu=source_pu, over_s=over_s)

    def cut(self) -> None:
        """The feeder loses its source: every meter on it loses mains."""
        self._change("grid.cut", voltage_pu=0.0)

    def restore(self, source_pu: float = 1.0) -> None:
        """The source is back."""
        self._change("grid.restored", voltage_pu=source_pu)

    def steal(self, meter: str, power_w: float) -> None:
        """Somebody takes power from the meter's pole, beside the meter; 0 ends it."""
        self.feeder.take(self._known(meter), power_w, self._clock.utc_s())
        self._trace("grid.theft", meter=meter, power_w=power_w)
        self._look_soon()

    def write_register(self, meter: str, model: int, path: str, raw: int) -> bool:
        """An operator writes a SunSpec point of the inverter behind a meter; whether the inverter takes it.

        Raises KeyError for a point that no model has.
        """
        answer = write_point(SunSpecDevice(self.inverter(meter)), model, path, raw)
        # The settings hold from now on, not from the end of what the feeder was just doing.
        self.feeder.settle(self._clock.utc_s())
        self._trace("grid.register", meter=meter, model=model, point=path, raw=raw, answer=answer.name.lower())
        self._look_soon()
        return answer is Answer.DONE

    # inside

    def _known(self, meter: str) -> str:
        if meter not in self._meters:
            raise RigError(f"no meter {meter!r} on the feeder; there are: {', '.join(self._meters)}")
        return meter

    def _change(
        self, kind: str, *, voltage_pu: float | None = None, hz: float | None = None, over_s: float = 0.0
    ) -> None:
        self.feeder.change_supply(self._clock.utc_s(), voltage_pu=voltage_pu, hz=hz, over_s=over_s)
        self._trace(kind, voltage_pu=voltage_pu, hz=hz, over_s=over_s)
        self._look_soon()

    def _follow(self, name: str, metrology: Metrology) -> Callable[[], None]:
        def changed() -> None:
            utc_s, flows = self._clock.utc_s(), metrology.flowing
            if not flows:
                self._flows_since.pop(name, None)
            self.feeder.connect(name, metrology.flowing_share, utc_s)
            if flows:
                self._flows_since.setdefault(name, utc_s)
            self._look_soon()

        return changed

    def _look_soon(self) -> None:
        """Something changed: look again, once for all that changes in this moment."""
        self._look_at(self._clock.utc_s())

    def _look_at(self, utc_s: float) -> None:
        self.stop()
        timers = self._clock.timers
        remaining_s = max(0.0, utc_s - self._clock.utc_s())
        self._tick = timers.call_at(timers.time() + remaining_s + _TICK_AFTER_S, self._look)

    def _look(self) -> None:
        """Judge every meter's supply and who is in service, tell what inverters did, and come again."""
        utc_s = self._clock.utc_s()
        piece = self.feeder.piece_at(utc_s)
        for index, connection in enumerate(self.feeder.topology.connections):
            voltage_v = max(float(piece.voltage_v[index, phase]) for phase in connection.phases)
            self._feed(connection.meter, voltage_v, piece.hz, utc_s)
        lowest_hz, highest_hz = DCU_SUPPLY_HZ
        if self._dcu.alive and not lowest_hz <= piece.hz <= highest_hz:
            self._dcu.cut_power()
        self._tell()
        self._watch_service(utc_s, piece.hz)
        self._look_at(self.feeder.next_change_s)

    def _feed(self, name: str, voltage_v: float, hz: float, utc_s: float) -> None:
        power = self._meters[name].power
        runs = power.runs_on(voltage_v, hz)
        if not runs and power.mains_present:
            self._starved[name] = utc_s
            self._trace("grid.meter_starved", meter=name, voltage_v=voltage_v, hz=hz)
            power.cut()
        elif runs and name in self._starved:
            del self._starved[name]
            power.restore()

    def _tell(self) -> None:
        for name, inverter in self.inverters.items():
            new = min(inverter.event_count - self._told[name], len(inverter.events))
            for record in list(inverter.events)[len(inverter.events) - new :]:
                self._trace("grid.inverter", meter=name, state=record.after.value, reason=record.reason)
            self._told[name] = inverter.event_count

    def _watch_service(self, utc_s: float, hz: float) -> None:
        """Look which equipment is in service; the monitor judges whether it should be.

        What a bench or an operator switched off is excused: a meter without mains for another reason than the grid,
        an inverter that tripped behind an open switch, or has not entered service yet.
        """
        watch = self.monitor.in_service
        for name, meter in self._meters.items():
            if name in self._starved or meter.power.mains_present:
                watch(f"meter {name}", name not in self._starved, utc_s, hz, "its supply cannot run")
        for name, inverter in self.inverters.items():
            tripped = self._tripped_in_service(name, inverter) and not inverter.connected
            watch(f"inverter {name}", not tripped, utc_s, hz, inverter.trip_reason)
        watch("DCU", self._dcu.alive, utc_s, hz, "off")

    def _tripped_in_service(self, name: str, inverter: Inverter) -> bool:
        """The last trip came while the meter's switch was closed, and voltage and frequency were within the code."""
        since_s = self._flows_since.get(name)
        trips = [record.at_s for record in inverter.events if record.event is DerEvent.TRIP]
        if since_s is None or not trips or self.began_s + trips[-1] <= since_s:
            return False
        tripped_s = self.began_s + trips[-1] - _BEFORE_TRIP_S
        within = self.code.low_pu <= self.feeder.voltage_v(name, tripped_s) / self.feeder.nominal_v <= self.code.high_pu
        return within and self.code.allows_hz(self.feeder.supply.at(tripped_s).hz)


def build_grid(
    scenario: Scenario, meters: Mapping[str, GridMeter], dcu: GridDcu, seeds: Seeds, clock: RunClock, trace: EventTrace
) -> RigGrid:
    """The grid of a scenario that has one, joined to its meters. Raises BadInputError for a feeder that cannot be."""
    homes = {name: meter.household for name, meter in meters.items()}
    counts = {name: meter.metrology.phase_count for name, meter in meters.items()}
    feeder = build_feeder(scenario, homes, counts, seeds, clock.utc_s())
    code = CODES[scenario.grid.code if scenario.grid is not None else "kenya"]
    return RigGrid(feeder, code, meters, dcu, clock, trace)
