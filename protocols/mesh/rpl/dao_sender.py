"""When a router sends its DAO: delayed, repeated until acknowledged, refreshed before its lifetime ends."""

from __future__ import annotations

import enum
import random

from protocols.mesh.rpl import lollipop
from protocols.mesh.timers import TimersProfile

_BACKOFF_DOUBLINGS_MAX = 5


class DaoState(enum.Enum):
    IDLE = "idle"
    """Nothing to advertise."""
    DELAYED = "delayed"
    WAITING = "waiting for the DAO-ACK"
    CONFIRMED = "confirmed"


class DaoOutcome(enum.Enum):
    NOTHING = enum.auto()
    SEND = enum.auto()
    """The owner sends a DAO with `sequence` and `path_sequence`."""
    FAILED = enum.auto()
    """No DAO-ACK after all retries; a DAO is scheduled with a growing delay."""


class DaoSender:
    """Sequence numbers and deadlines of one router's DAOs. A repeated DAO keeps both its numbers."""

    def __init__(self, profile: TimersProfile, rng: random.Random) -> None:
        self._profile = profile
        self._rng = rng
        self.state = DaoState.IDLE
        self.deadline: float | None = None
        self.sequence = rng.randrange(128)
        self.path_sequence = lollipop.INITIAL - 1
        self._retries = 0
        self._failures = 0

    def schedule(self, now: float, longest_delay_s: float) -> None:
        """Send a DAO within that time; one that is already due earlier stays."""
        when = now + self._rng.uniform(0.0, longest_delay_s)
        if self.state is DaoState.DELAYED and self.deadline is not None and self.deadline <= when:
            return
        self.state = DaoState.DELAYED
        self.deadline = when

    def stop(self) -> None:
        self.state = DaoState.IDLE
        self.deadline = None
        self._failures = 0

    def handle(self, now: float) -> DaoOutcome:
        if self.deadline is None or now < self.deadline:
            return DaoOutcome.NOTHING
        if self.state is DaoState.WAITING:
            self._retries += 1
            if self._retries > self._profile.dao_retries:
                return self._fail(now)
        else:
            self.sequence = lollipop.increment(self.sequence)
            self.path_sequence = lollipop.increment(self.path_sequence)
            self._retries = 0
            self.state = DaoState.WAITING
        self.deadline = now + self._profile.dao_ack_timeout_s * (1 << self._retries) * self._rng.uniform(1.0, 1.25)
        return DaoOutcome.SEND

    def _fail(self, now: float) -> DaoOutcome:
        self._failures += 1
        longest_s = self._profile.dao_ack_timeout_s * (1 << min(self._failures, _BACKOFF_DOUBLINGS_MAX))
        self.state = DaoState.DELAYED
        self.deadline = now + self._rng.uniform(longest_s / 2, longest_s)
        return DaoOutcome.FAILED

    def acknowledge(self, sequence: int, now: float, refresh_s: float) -> bool:
        """Whether this answers the DAO that waits."""
        if self.state is not DaoState.WAITING or sequence != self.sequence:
            return False
        self.state = DaoState.CONFIRMED
        self._failures = 0
        self.deadline = now + refresh_s * self._rng.uniform(0.9, 1.0)
        return True
