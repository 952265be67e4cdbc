"""Watching a value once a second against thresholds, with times that it must stay beyond them."""

from __future__ import annotations

from collections.abc import Callable

from protocols.ports import Cancellable, Timers

SAMPLE_S = 1.0


class ThresholdWatch:
    """Calls `on_over` after the value has been above `threshold` for `over_s`, `on_under` after it has been at or
    below it for `under_s` again. Idle, and free, while `threshold` is None."""

    def __init__(
        self,
        timers: Timers,
        guard: Callable[[Callable[[], None]], None],
        read: Callable[[], float],
        on_over: Callable[[], None],
        on_under: Callable[[], None],
    ) -> None:
        self._timers = timers
        self._guard = guard
        self._read = read
        self._on_over = on_over
        self._on_under = on_under
        self._handle: Cancellable | None = None
        self._since_s: float | None = None
        self.threshold: float | None = None
        self.over_s = 0.0
        self.under_s = 0.0
        self.is_over = False

    def configure(self, threshold: float | None, *, over_s: float = 0.0, under_s: float = 0.0) -> None:
        self.threshold, self.over_s, self.under_s = threshold, over_s, under_s
        self._since_s = None
        if threshold is None:
            self.stop()
            self.is_over = False
        elif self._handle is None:
            self._arm()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        self._handle = self._timers.call_at(self._timers.time() + SAMPLE_S, self._sample)

    def _sample(self) -> None:
        self._arm()
        self._guard(self._look)

    def _look(self) -> None:
        if self.threshold is None:
            return
        over = self._read() > self.threshold
        if over == self.is_over:
            self._since_s = None
            return
        now_s = self._timers.time()
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s >= (self.over_s if over else self.under_s):
            self.is_over, self._since_s = over, None
            (self._on_over if over else self._on_under)()
