"""Work that the firmware does at round times of its own clock."""

from __future__ import annotations

import math
from collections.abc import Callable

from meters.hardware.rtc import Rtc
from protocols.ports import Cancellable, Timers

Work = Callable[[float], None]
"""Called with the boundary (UTC by the meter's clock) that has come."""

_EARLY_S = 1e-3
"""A timer may wake this much before the boundary by rounding; it is the boundary all the same."""


class _Periodic:
    def __init__(self, scheduler: RtcScheduler, period_s: int, shift_s: Callable[[], int], work: Work) -> None:
        self._scheduler = scheduler
        self._period_s = period_s
        self._shift_s = shift_s
        self._work = work
        self._handle: Cancellable | None = None
        self._boundary_s = 0.0

    def arm(self) -> None:
        """Wait for the next boundary after the clock's present time."""
        self.cancel()
        utc_s = self._scheduler.rtc.read().utc_s
        shift_s = self._shift_s()
        periods = math.floor((utc_s + shift_s + _EARLY_S) / self._period_s) + 1
        self._boundary_s = float(periods * self._period_s - shift_s)
        timers = self._scheduler.timers
        when_s = timers.time() + self._scheduler.rtc.seconds_until(self._boundary_s)
        self._handle = timers.call_at(when_s, self._fire)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        boundary_s = self._boundary_s
        if self._scheduler.rtc.read().utc_s >= boundary_s - _EARLY_S:
            self._scheduler.run(self._work, boundary_s)
        if self._scheduler.running:
            self.arm()


class RtcScheduler:
    """Periodic work, aligned to multiples of its period (of local time, when `shift_s` gives local minus UTC).

    After the clock was set, call `clock_changed`. `guard` runs every piece of work: it is where a power failure in
    the middle of it ends.
    """

    def __init__(self, timers: Timers, rtc: Rtc, guard: Callable[[Callable[[], None]], None]) -> None:
        self.timers = timers
        self.rtc = rtc
        self.running = True
        self._guard = guard
        self._tasks: list[_Periodic] = []

    def every(self, period_s: int, work: Work, *, shift_s: Callable[[], int] = lambda: 0) -> None:
        """Run `work` at every multiple of `period_s`."""
        task = _Periodic(self, period_s, shift_s, work)
        self._tasks.append(task)
        task.arm()

    def run(self, work: Work, boundary_s: float) -> None:
        self._guard(lambda: work(boundary_s))

    def clock_changed(self) -> None:
        for task in self._tasks:
            task.arm()

    def stop(self) -> None:
        self.running = False
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
