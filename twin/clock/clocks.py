"""The two clocks of a run behind one interface."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from protocols.ports import Timers
from twin.clock.leaps import LeapSeconds
from twin.clock.paced import PacedTimers
from twin.clock.virtual import VirtualLoop, run_virtual

T = TypeVar("T")


class ClockKind(enum.StrEnum):
    VIRTUAL = "virtual"
    REAL = "real"


class RunClock(Protocol):
    """The time of one run. `loop` is where everything waits."""

    kind: ClockKind
    leaps: LeapSeconds
    """Leap seconds of the simulated world; a run may insert one."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def timers(self) -> Timers:
        """What emulated parts wait on: the loop itself in virtual time, ordered timers over it in real time."""
        ...

    def now(self) -> float:
        """Seconds since the run began."""
        ...

    def utc_s(self) -> float:
        """True time of the simulated world, as seconds since 1970-01-01 UTC, leap seconds not counted."""
        ...

    def uniform_s(self) -> float:
        """The same without the steps of leap seconds that came since the run began."""
        ...

    async def reach_start(self) -> None:
        """Until the run's zero, where what has to be ready then was given a lead."""
        ...

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end on this clock."""
        ...


class VirtualClock:
    """Time jumps to the next timer; `start_utc` is at zero, and the loop begins `lead_s` before it."""

    kind = ClockKind.VIRTUAL

    def __init__(self, start_utc: datetime, lead_s: float = 0.0) -> None:
        self._loop = VirtualLoop(0.0 - lead_s)
        self._start_s = start_utc.astimezone(UTC).timestamp()
        self.leaps = LeapSeconds()

    @property
    def loop(self) -> VirtualLoop:
        return self._loop

    @property
    def timers(self) -> Timers:
        return self._loop

    def now(self) -> float:
        return self._loop.time()

    def utc_s(self) -> float:
        return self.leaps.utc_s(self._start_s + self._loop.time())

    def uniform_s(self) -> float:
        return self._start_s + self._loop.time()

    async def reach_start(self) -> None:
        if self._loop.time() < 0.0:
            await asyncio.sleep(-self._loop.time())

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return run_virtual(main, self._loop)


class RealClock:
    """The host's time. `now` counts from the construction, `utc_s` is the host's wall clock at that moment plus it."""

    kind = ClockKind.REAL

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._timers = PacedTimers(self._loop)
        self._zero_s = self._loop.time()
        self._start_s = time.time()
        self.leaps = LeapSeconds()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def timers(self) -> Timers:
        return self._timers

    def now(self) -> float:
        return self._loop.time() - self._zero_s

    def utc_s(self) -> float:
        return self.leaps.utc_s(self._start_s + self.now())

    def uniform_s(self) -> float:
        return self._start_s + self.now()

    async def reach_start(self) -> None:
        """At once: real time has begun."""

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            return runner.run(main)
