"""How good the concentrator's own time is."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.headend.time_check import TimeSource


@dataclass(frozen=True, slots=True)
class TimeQuality:
    """What the clock follows; in HOLDOVER, for how long already (s)."""

    source: TimeSource = TimeSource.NETWORK
    holdover_s: float = 0.0

    def may_set_clocks(self, longest_holdover_s: float) -> bool:
        """Whether others may be set by it: not before it ever had a reference, and not long after it lost it."""
        if self.source is TimeSource.HOLDOVER:
            return self.holdover_s <= longest_holdover_s
        return self.source is not TimeSource.FREE


def system_time() -> TimeQuality:
    """The operating system's clock, kept by whoever keeps it."""
    return TimeQuality()
