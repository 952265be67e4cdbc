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
    def ppm(self) -> float:
        """The rate now, swing included."""
        return self._ppm + self._swing_ppm * math.sin(_DAY_RAD_S * self._now())

    def read_s(self) -> float:
        """The count, in seconds of this crystal."""
        now = self._now()
        elapsed = now - self._since_s
        swing = self._swing_ppm * (math.cos(_DAY_RAD_S * self._since_s) - math.cos(_DAY_RAD_S * now)) / _DAY_RAD_S
        return self._counted_s + elapsed + 1e-6 * (self._ppm * elapsed + swing)

    def retune(self, ppm: float) -> None:
        """From now on it runs at another rate."""
        self._counted_s, self._since_s = self.read_s(), self._now()
        self._ppm = ppm


_DAY_RAD_S = 2 * math.pi / 86_400
