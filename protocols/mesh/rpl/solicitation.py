"""When a router asks for DIOs, and when it chooses among those who answered."""

from __future__ import annotations

import random

from protocols.mesh.timers import TimersProfile


class Solicitation:
    """Deadlines of a router without parent. Both are None while it has one."""

    __slots__ = ("_interval_s", "_profile", "_rng", "dis_at", "select_at")

    def __init__(self, profile: TimersProfile, rng: random.Random) -> None:
        self._profile = profile
        self._rng = rng
        self._interval_s = profile.dis_interval_s
        self.dis_at: float | None = None
        """When the next DIS is due."""
        self.select_at: float | None = None
        """When to choose a parent among the candidates."""

    def begin(self, now: float) -> None:
        """Ask soon, at first often. Does nothing if it is under way."""
        if self.dis_at is None:
            self._interval_s = self._profile.dis_interval_s
            self.dis_at = now + self._rng.uniform(0.0, self._interval_s / 2)
            self.select_at = None

    def end(self) -> None:
        self.dis_at = self.select_at = None

    def wait_for_others(self, now: float) -> None:
        """A candidate was heard: others get a little time to be heard too."""
        if self.select_at is None:
            self.select_at = now + self._profile.dis_interval_s / 2

    def next_deadline(self) -> float | None:
        if self.dis_at is None or self.select_at is None:
            return self.select_at if self.dis_at is None else self.dis_at
        return min(self.dis_at, self.select_at)

    def is_time_to_select(self, now: float) -> bool:
        if self.select_at is None or now < self.select_at:
            return False
        self.select_at = None
        return True

    def is_time_to_ask(self, now: float) -> bool:
        """Whether to send a DIS now; the next one is due later, up to the longest interval."""
        if self.dis_at is None or now < self.dis_at:
            return False
        self.dis_at = now + self._interval_s * self._rng.uniform(0.75, 1.0)
        self._interval_s = min(self._interval_s * 2, self._profile.dis_interval_max_s)
        return True
