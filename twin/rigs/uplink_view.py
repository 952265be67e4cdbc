"""What a run's uplink and clock did, seen from outside: ways, length of the queue, true offset of the clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from twin.clock.clocks import RunClock
from twin.errors import RigError
from twin.rigs.equipment import CELLULAR, SATELLITE, Equipment
from twin.rigs.folder import EventTrace
from twin.rigs.maintenance_verbs import ClockReading

_LOG = logging.getLogger(__name__)
SAMPLE_EVERY_S = 29.7
"""Not in step with the seconds, so that a leap is not looked at just when it happens."""
SAMPLE_MACHINE_EVERY_S = 297.3
"""A machine of its own has to answer for each look, which costs both it and whoever waits for it."""
ASK_EVERY_S = 2.3
"""How often a concentrator whose events are not seen here is asked for its way."""
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


class Looked(Protocol):
    """What the view needs of a concentrator, whatever it runs in."""

    @property
    def alive(self) -> bool: ...

    @property
    def is_machine(self) -> bool: ...

    @property
    def shows_events(self) -> bool: ...

    async def waiting(self) -> int: ...

    async def read_clock(self) -> ClockReading: ...

    async def status(self) -> dict[str, Any]: ...


@dataclass(slots=True)
class _State:
    spans: list[LaneSpan] = field(default_factory=list)
    current: dict[str, LaneSpan] = field(default_factory=dict)


class UplinkView:
    """Follows the trace, and looks at the concentrator now and then."""

    def __init__(self, clock: RunClock, dcu: Looked, equipment: Equipment, trace: EventTrace) -> None:
        self._clock = clock
        self._dcu = dcu
        self._equipment = equipment
        self._trace = trace
        self._state = _State()
        self._way = SATELLITE
        self._tasks: list[asyncio.Task[None]] = []
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

    def start(self) -> None:
        """To be called when the concentrator has power."""
        loop, every_s = self._clock.loop, SAMPLE_MACHINE_EVERY_S if self._dcu.is_machine else SAMPLE_EVERY_S
        self._tasks.append(loop.create_task(self._look_every(every_s, self._sample), name="uplink samples"))
        if self.has_ways and not self._dcu.shows_events:
            self._tasks.append(loop.create_task(self._look_every(ASK_EVERY_S, self._ask), name="uplink's way"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def connected_by(self) -> str:
        """The way of the session now, "none" without one."""
        current = self._state.current.get("session")
        return "none" if current is None else current.state

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

    async def _look_every(self, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        """One that has no power now, or is too busy to answer, is looked at again later."""
        while True:
            if self._dcu.alive:
                try:
                    await look()
                except (RigError, TimeoutError) as error:
                    _LOG.debug("the concentrator was not looked at: %s", error)
            await asyncio.sleep(seconds)

    async def _sample(self) -> None:
        at_s, waiting = self._clock.now(), await self._dcu.waiting()
        if not self.has_clock:
            self.samples.append(Sample(at_s, waiting, None, None, ""))
            return
        clock = await self._dcu.read_clock()
        self.samples.append(Sample(at_s, waiting, clock.offset_s, clock.uncertainty_s, clock.source))

    async def _ask(self) -> None:
        """By which way it is connected, of one that does not show its events."""
        told = await self._dcu.status()
        way = told["devices"]["uplink"]["way"] if told.get("uplink") else "none"
        self.sessions_resumed = told["counters"]["ways"].get("sessions_resumed", 0)
        if way != self.connected_by:
            self._set("session", way)
            self._trace("uplink.session", by=way)
