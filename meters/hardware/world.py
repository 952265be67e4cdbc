"""What emulated hardware sees of the simulated world: its time."""

from __future__ import annotations

from typing import Protocol


class World(Protocol):
    """Time of the run; `twin.clock.RunClock` is one."""

    def now(self) -> float:
        """Seconds since the run began, monotonic."""
        ...

    def utc_s(self) -> float:
        """True time, seconds since 1970-01-01 UTC, leap seconds not counted."""
        ...
