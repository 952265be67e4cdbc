"""Work that the firmware does at round times of its own clock."""

from __future__ import annotations

import math
from collections.abc import Callable

from meters.hardware.rtc import Rtc
from protocols.ports import Cancellable, Timers

Work = Callable[[float], None]
"""Called with the moment (UTC by the meter's clock) that has come."""
Following = Callable[[float], float | None]
"""The next moment after the given one (UTC by the meter's clock), None if there is none."""

_EARLY_S = 1e-3
"""A timer may wake this much before its moment by rounding; the moment has come all the same."""
_LONGEST_WAIT_S = 30 * 86_400.0


class _Task:
    __slots__ = ("due_s", "following", "ran_s", "work")

    def __init__(self, following: Following, work: Work) -> None:
        self.following = following
        self.work = work
        self.due_s: float | None = None
        self.ran_s: float | None = None
        """The last moment that it ran for."""

    def look_from(self, now_s: float) -> None:
        """Find the next moment after `now_s`; not once more the one that a timer has run a little early."""
        due_s, ran_s = self.following(now_s), self.ran_s
        if due_s is not None and ran_s is not None and max(due_s - now_s, abs(due_s - ran_s)) <= _EARLY_S:
            due_s = self.following(due_s)
        self.due_s = due_s


class RtcScheduler:
    """Runs tasks when the RTC reaches their moments; those of the same moment in the order of their registration.

    What a jump of the clock leaps over is not made up for. After the clock was set, call `clock_changed`. `guard`
    runs every piece of work: it is where a power failure in the middle of it ends.
    """

    def __init__(self, timers: Timers, rtc: Rtc, guard: Callable[[Callable[[], None]], None]) -> None:
        self._timers = timers
        self._rtc = rtc
        self._guard = guard
        self._tasks: list[_Task] = []
        self._handle: Cancellable | None = None
        self._running = True

    def every(self, period_s: int, work: Work, *, shift_s: Callable[[], int] = lambda: 0) -> None:
        """Run `work` at every multiple of `period_s`, of local time when `shift_s` gives local minus UTC."""

        def following(utc_s: float) -> float:
            shift = shift_s()
            return float((math.floor((utc_s + shift) / period_s) + 1) * period_s - shift)

        self.at(following, work)

    def at(self, following: Following, work: Work) -> None:
        """Run `work` at every moment that `following` names."""
        if not self._tasks:
            self._rtc.on_moved.append(self.clock_changed)
        task = _Task(following, work)
        task.look_from(self._rtc.read().utc_s)
        self._tasks.append(task)
        self._arm()

    def clock_changed(self) -> None:
        """The clock has jumped, or what moments depend on has changed: find every task's next one again."""
        now_s = self._rtc.read().utc_s
        for task in self._tasks:
            task.look_from(now_s)
        self._arm()

    def stop(self) -> None:
        self._running = False
        if self._tasks:
            self._rtc.on_moved.remove(self.clock_changed)
        self._tasks.clear()
        self._cancel()

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        self._cancel()
        moments = [task.due_s for task in self._tasks if task.due_s is not None]
        if moments:
            wait_s = min(self._rtc.seconds_until(min(moments)), _LONGEST_WAIT_S)
            self._handle = self._timers.call_at(self._timers.time() + wait_s, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now_s = self._rtc.read().utc_s + _EARLY_S
        for task in list(self._tasks):
            due_s = task.due_s
            if due_s is None or due_s > now_s or not self._running:
                continue
            task.ran_s, task.due_s = due_s, task.following(max(due_s, now_s - _EARLY_S))
            self._run(task.work, due_s)
        if self._running:
            self._arm()

    def _run(self, work: Work, due_s: float) -> None:
        self._guard(lambda: work(due_s))
