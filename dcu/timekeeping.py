"""How good the concentrator's own time is."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.headend.time_check import TimeSource

WORST_UNCERTAINTY_S = 0.5
"""A clock that may be further off than this sets no other."""
_MOST_MS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TimeQuality:
    """What the clock follows, and how far it may be off; in HOLDOVER, for how long already (s)."""

    source: TimeSource = TimeSource.NETWORK
    holdover_s: float = 0.0
    uncertainty_s: float = 0.0

    def may_set_clocks(self, longest_holdover_s: float) -> bool:
        """Whether others may be set by it: not before it ever had a reference, not long after it lost it, and not while
        it may be off by too much."""
        if self.source is TimeSource.FREE or self.uncertainty_s > WORST_UNCERTAINTY_S:
            return False
        return self.source is not TimeSource.HOLDOVER or self.holdover_s <= longest_holdover_s

    @property
    def uncertainty_ms(self) -> int:
        """The same for a message, which has no infinity."""
        return round(min(1000 * self.uncertainty_s, _MOST_MS))


def system_time() -> TimeQuality:
    """The operating system's clock, kept by whoever keeps it."""
    return TimeQuality()
