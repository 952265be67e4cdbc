"""The crystal that a concentrator's processor counts time with."""

from __future__ import annotations

import math
from collections.abc import Callable


class Oscillator:
    """Counts seconds at its own rate: `ppm` too fast, and swinging by `swing_ppm` with the temperature of the day.

    `now` is true elapsed time in seconds. A bench changes the rate while it runs; the count never jumps.
    """

    def __init__(self, now: Callable[[], float], *, ppm: float = 0.0, swing_ppm: float = 0.0) -> None:
        self._now = now
        self._ppm = ppm
        self._swing_ppm = swing_ppm
        self._since_s = now()
        self._counted_s = 0.0

    @property
    def is_perfect(self) -> bool:
        """It counts true seconds."""
        return self._ppm == self._swing_ppm == 0.0

    @property
    def ppm(self) -> float:
        """The rate now, swing included."""
        return self._ppm + self._swing_ppm * math.sin(_DAY_RAD_S * self._now())

    def read_s(self) -> float:
        """The count, in seconds of this crystal."""
        return self.count_s(self._now())

    def when_s(self, count_s: float) -> float:
        """At which true time the count is `count_s`, by the rate that it has now."""
        found_s = self._since_s + count_s - self._counted_s
        for _ in range(_REFINEMENTS):
            found_s += count_s - self.count_s(found_s)
        return found_s

    def count_s(self, at_s: float) -> float:
        """The count at a true time after the last change of the rate."""
        elapsed = at_s - self._since_s
        swing = self._swing_ppm * (math.cos(_DAY_RAD_S * self._since_s) - math.cos(_DAY_RAD_S * at_s)) / _DAY_RAD_S
        return self._counted_s + elapsed + 1e-6 * (self._ppm * elapsed + swing)

    def retune(self, ppm: float) -> None:
        """From now on it runs at another rate."""
        self._counted_s, self._since_s = self.read_s(), self._now()
        self._ppm = ppm


_REFINEMENTS = 3
"""Each leaves a ten-thousandth of the error at most, for rates that are off by less than 100 ppm."""
_DAY_RAD_S = 2 * math.pi / 86_400
