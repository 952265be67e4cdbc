"""Timers of a real-time run that keep their order and distances even when the host is late.

An emulated radio answers within a millisecond of its own time. On a busy host an event loop may be tens of
milliseconds late, and a time-out that was set before the delay would then overtake the answer that was set after it.
Here the time that callbacks see is the time for which they were set: the emulation is late as a whole, never out of
order, and catches up.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

_BATCH = 256
"""Callbacks run in one go before others on the loop get a turn."""


class PacedHandle:
    """One timer that is set."""

    __slots__ = ("args", "callback", "cancelled")

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class PacedTimers:
    """`protocols.ports.Timers` over an asyncio loop: paced by its clock, in the order of their times."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, PacedHandle]] = []
        self._sequence = 0
        self._current: float | None = None
        self._latest = loop.time()
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0

    def time(self) -> float:
        """Seconds on the loop's clock; while callbacks are overdue, the time of the first of them."""
        if self._current is not None:
            return self._current
        now = self._loop.time()
        if self._heap and self._heap[0][0] < now:
            now = self._heap[0][0]
        self._latest = max(now, self._latest)
        return self._latest

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> PacedHandle:
        handle = PacedHandle(callback, args)
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, handle))
        if self._current is None and (self._wake is None or when < self._wake_at):
            self._set_wake()
        return handle

    def _set_wake(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._heap:
            self._wake_at = self._heap[0][0]
            self._wake = self._loop.call_at(self._wake_at, self._run_due)

    def _run_due(self) -> None:
        self._wake = None
        now, heap = self._loop.time(), self._heap
        for _ in range(_BATCH):
            if not heap or heap[0][0] > now:
                break
            when, _, handle = heapq.heappop(heap)
            if handle.cancelled:
                continue
            self._current = self._latest = max(when, self._latest)
            try:
                handle.callback(*handle.args)
            except Exception as error:
                self._loop.call_exception_handler({"message": f"timer {handle.callback!r} failed", "exception": error})
        self._current = None
        self._set_wake()
