"""The trickle algorithm (RFC 6206)."""

from __future__ import annotations

import random

from protocols.mesh.timers import TrickleProfile


class Trickle:
    """One trickle timer. Stopped until `start`; the owner calls `handle` when `deadline` has come."""

    __slots__ = ("_counter", "_interval_s", "_is_past_t", "_profile", "_rng", "_started_at", "deadline")

    def __init__(self, profile: TrickleProfile, rng: random.Random) -> None:
        self._profile = profile
        self._rng = rng
        self._interval_s = profile.imin_s
        self._started_at = 0.0
        self._counter = 0
        self._is_past_t = False
        self.deadline: float | None = None
        """When `handle` is due, None while stopped."""

    @property
    def is_running(self) -> bool:
        return self.deadline is not None

    @property
    def is_past_t(self) -> bool:
        """Whether the time to transmit of this interval has come; then `handle` is due at its end."""
        return self._is_past_t

    @property
    def interval_s(self) -> float:
        return self._interval_s

    def start(self, now: float) -> None:
        """Begin with the shortest interval."""
        self._interval_s = self._profile.imin_s
        self._begin_interval(now)

    def stop(self) -> None:
        self.deadline = None

    def reset(self, now: float) -> None:
        """Something inconsistent was heard: back to the shortest interval, unless it runs already (RFC 6206, 4.2.6)."""
        if self.is_running and self._interval_s > self._profile.imin_s:
            self.start(now)

    def hear_consistent(self) -> None:
        self._counter += 1

    def handle(self, now: float) -> bool:
        """Whether it is time to transmit. Does nothing before the deadline."""
        if self.deadline is None or now < self.deadline:
            return False
        if self._is_past_t:
            ended_at = self._started_at + self._interval_s
            self._interval_s = min(self._interval_s * 2, self._profile.imax_s)
            self._begin_interval(ended_at)
            return False
        self._is_past_t = True
        self.deadline = self._started_at + self._interval_s
        return self._profile.k == 0 or self._counter < self._profile.k

    def _begin_interval(self, start: float) -> None:
        self._started_at = start
        self._counter = 0
        self._is_past_t = False
        self.deadline = start + self._rng.uniform(self._interval_s / 2, self._interval_s)
