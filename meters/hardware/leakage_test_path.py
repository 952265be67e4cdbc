"""The path by which an open line is tested for leakage: a resistor from the supply side around the relay's L pole.

With both poles open, the only way back for its current is through earth. So appliances do not show, and leaks do.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Polarity(enum.Enum):
    POSITIVE = 1
    NEGATIVE = -1


@dataclass(frozen=True, slots=True)
class Leak:
    """Resistance from the line to earth. A rectifying one conducts one way only. None of them is a healthy line."""

    ohms: float
    conducts: tuple[Polarity, ...] = (Polarity.POSITIVE, Polarity.NEGATIVE)

    def __post_init__(self) -> None:
        if not self.ohms >= 0.0:
            raise ValueError(f"a leak's resistance must be 0 ohm or more, is {self.ohms}")


class LeakageTestPath:
    """Test path of a meter's lines. `set_leak` and `break_path` are the bench's."""

    def __init__(self, lines: int, series_ohms: float = 100e3, test_v: float = 230.0) -> None:
        self.series_ohms = series_ohms
        self.test_v = test_v
        self._leaks: list[Leak | None] = [None] * lines
        self._applied = [False] * lines
        self._broken = [False] * lines

    def set_leak(self, line: int, leak: Leak | None) -> None:
        self._leaks[line] = leak

    def break_path(self, line: int, broken: bool = True) -> None:
        self._broken[line] = broken

    def apply(self, line: int, on: bool) -> None:
        """Close or open the test switch of one line."""
        self._applied[line] = on

    def measure_ma(self, line: int, polarity: Polarity) -> float | None:
        """Test current in mA in one polarity; None where nothing can be measured."""
        if not self._applied[line] or self._broken[line]:
            return None
        leak = self._leaks[line]
        if leak is None or polarity not in leak.conducts:
            return 0.0
        return polarity.value * self.test_v / (self.series_ohms + leak.ohms) * 1000.0
