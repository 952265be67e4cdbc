"""What a run's uplink and clock did, seen from outside: ways, length of the queue, true offset of the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.ports import Cancellable
from twin.clock.clocks import RunClock
from twin.rigs.dcu import RigDcu
from twin.rigs.equipment import CELLULAR, SATELLITE, Equipment
from twin.rigs.folder import EventTrace

SAMPLE_EVERY_S = 29.7
"""Not in step with the seconds, so that a leap is not looked at just when it happens."""
LINK_LANES = {SATELLITE: "satellite", CELLULAR: "cellular"}
_UP, _IDLE = "up", "down"


@dataclass(slots=True)
class LaneSpan:
    """`lane` was in `state` from `start_s` to `end_s` (None: still is), in seconds of the run."""

    lane: str
    state: str
    start_s: float
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """At `at_s` of the run: messages that wait in the concentrator, its clock minus true time, and what it believes."""

    at_s: float
    waiting: int
    offset_s: float | None
    uncertainty_s: float | None
    source: str


@dataclass(slots=True)
class _State:
    spans: list[LaneSpan] = field(default_factory=list)
    current: dict[str, LaneSpan] = field(default_factory=dict)


class UplinkView:
    """Follows the trace, and looks at the concentrator every half minute of the run."""

    def __init__(self, clock: RunClock, dcu: RigDcu, equipment: Equipment, trace: EventTrace) -> None:
        self._clock = clock
        self._dcu = dcu
        self._equipment = equipment
        self._state = _State()
        self._way = SATELLITE
        self._timer: Cancellable | None = None
        self.samples: list[Sample] = []
        self.sessions_resumed = 0
        """Connections that found the session as it had been left."""
        self.has_ways = bool(equipment.links)
        self.has_clock = equipment.devices.have_time
        if self.has_ways:
            for lane in ("satellite", "cellular"):
                self._set(lane, _UP if lane == "satellite" else _IDLE)
            self._set("session", "none")
        trace.listeners.append(self._event)
        self._sample()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def connected_by(self) -> str:
        """The way of the session now, "none" without one."""
        current = self._state.current.get("session")
        return "none" if current is None else current.state

    @property
    def waiting(self) -> int:
        """Messages and bundles in the concentrator now; none without power."""
        station = self._dcu.station
        return 0 if station is None else station.counters()["outbox"]["waiting"] + len(station.dcu.waiting_bundles)

    @property
    def spans(self) -> list[LaneSpan]:
        """In order of their beginnings."""
        return self._state.spans

    def _event(self, kind: str, fields: dict[str, object]) -> None:
        match kind:
            case "backhaul.cut" if fields["link"] == "backhaul":
                self._set("satellite", _IDLE)
            case "backhaul.restored" if fields["link"] == "backhaul":
                self._set("satellite", _UP)
            case "backhaul.cut" if fields["link"] == CELLULAR:
                self._set("cellular", _IDLE)
            case "backhaul.restored" | "backhaul.profile" if fields["link"] == CELLULAR:
                self._cellular()
            case "modem.slot":
                self._set("SIM", f"SIM {int(str(fields['slot'])) + 1}")
            case "dcu-uplink-way":
                self._way = str(fields["way"])
                if fields["reason"] == "connected":
                    self._set("session", self._way)
            case "dcu-uplink" if fields["state"] == "down":
                self._set("session", "none")
            case "dcu-uplink":
                self.sessions_resumed += fields["session_present"] is True
            case "dcu-stopped":
                self._set("session", "none")

    def _cellular(self) -> None:
        modem, link = self._equipment.modem, self._equipment.cellular
        if modem is None or link is None or not link.is_up or modem.technology is None:
            return
        if "SIM" not in self._state.current:
            self._set("SIM", f"SIM {modem.slot + 1}")
        self._set("cellular", modem.technology.value)

    def _set(self, lane: str, state: str) -> None:
        now_s = self._clock.now()
        current = self._state.current.get(lane)
        if current is not None:
            if current.state == state:
                return
            current.end_s = now_s
        self._state.current[lane] = span = LaneSpan(lane, state, now_s)
        self._state.spans.append(span)

    def _sample(self) -> None:
        self._timer = self._clock.loop.call_later(SAMPLE_EVERY_S, self._sample)
        station = self._dcu.station
        if station is None:
            return
        offset_s = uncertainty_s = None
        source = ""
        if station.keeper is not None:
            quality = station.keeper.quality()
            offset_s = station.utc_s() - self._clock.utc_s()
            uncertainty_s, source = quality.uncertainty_s, quality.source.value
        self.samples.append(Sample(self._clock.now(), self.waiting, offset_s, uncertainty_s, source))
