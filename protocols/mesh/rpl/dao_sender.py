"""When a router sends its DAO: delayed, repeated until acknowledged, refreshed before its lifetime ends."""

from __future__ import annotations

import enum
import math
import random

from protocols.mesh.rpl import lollipop
from protocols.mesh.timers import TimersProfile

_BACKOFF_DOUBLINGS_MAX = 5
_HOLD_DOUBLINGS_MAX = 4
_CALM_WAITS = 16
"""Acknowledgement waits without a new DAO after which a node's parents count as settled."""
_CIRCLE = 128
_LIFE_LEAP = 37
"""Between the first DAO sequences of two lives: odd, so that 128 lives in a row begin at different ones."""


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
    REFRESH = enum.auto()
    """As SEND, but the DAO asks for no acknowledgement."""
    FAILED = enum.auto()
    """No DAO-ACK after all retries; a DAO is scheduled with a growing delay."""


class DaoSender:
    """Sequence numbers and deadlines of one router's DAOs. A repeated DAO keeps both its numbers.

    `start_count` is how often the device has started; it sets where the DAO sequence begins, by which the root sees a
    restart. One that does not count its starts (0) begins anywhere.
    """

    def __init__(self, profile: TimersProfile, rng: random.Random, *, start_count: int = 0) -> None:
        self._profile = profile
        self._rng = rng
        self.state = DaoState.IDLE
        self.deadline: float | None = None
        self.sequence = start_count * _LIFE_LEAP % _CIRCLE if start_count else rng.randrange(_CIRCLE)
        self.path_sequence = lollipop.INITIAL - 1
        self._retries = 0
        self._failures = 0
        self._is_refresh = False
        self._sent_at = -math.inf
        self._sent_in_a_row = 0
        self._not_before = -math.inf
        self._refresh_at: float | None = None
        """When what the root has acknowledged must be told it again, however often it asks meanwhile."""

    def schedule(self, now: float, longest_delay_s: float, *, is_refresh: bool = False) -> None:
        """Send a DAO within that time; one that is already due earlier stays.

        `is_refresh`: the root has asked everybody. Who has nothing new to tell asks for no acknowledgement then: that
        halves what goes over the air around the root at its busiest, and a DAO that is lost takes nothing from what
        the root knew. Whatever is scheduled, what the root has acknowledged is refreshed when it is due.
        """
        if self.state is DaoState.CONFIRMED:
            self._is_refresh = is_refresh
        elif not is_refresh:
            self._is_refresh = False
        when = max(now + self._rng.uniform(0.0, longest_delay_s), self._not_before)
        if self._refresh_at is not None and now < self._refresh_at:
            when = min(when, self._refresh_at)
        if self.state is DaoState.DELAYED and self.deadline is not None and self.deadline <= when:
            return
        self.state = DaoState.DELAYED
        self.deadline = when

    def stop(self) -> None:
        self.state = DaoState.IDLE
        self.deadline = None
        self._failures = 0

    def handle(self, now: float, network_size: int) -> DaoOutcome:
        """What is due. An answer takes longer in a larger network (`TimersProfile.dao_ack_wait_s`)."""
        if self.deadline is None or now < self.deadline:
            return DaoOutcome.NOTHING
        wait_s = self._profile.dao_ack_wait_s(network_size)
        if self.state is DaoState.WAITING:
            self._retries += 1
            if self._retries > self._profile.dao_retries:
                return self._fail(now, wait_s)
        else:
            self.sequence = lollipop.increment(self.sequence)
            self.path_sequence = lollipop.increment(self.path_sequence)
            self._retries = 0
            self._hold_back(now, wait_s)
            is_refresh, self._is_refresh = self._is_refresh and not self._must_refresh(now), False
            if is_refresh:
                self.state, self.deadline = DaoState.CONFIRMED, self._refresh_at
                return DaoOutcome.REFRESH
            self.state = DaoState.WAITING
        self.deadline = now + wait_s * (1 << self._retries) * self._rng.uniform(1.0, 1.25)
        return DaoOutcome.SEND

    def _must_refresh(self, now: float) -> bool:
        """Whether the root will soon forget what it has acknowledged: only another answer proves that it does not."""
        return self._refresh_at is not None and now >= self._refresh_at

    def _hold_back(self, now: float, wait_s: float) -> None:
        """Two DAOs may follow each other at once; a node whose parents go on changing tells it ever less often.

        In a mesh with too much on the air, links fail, and each change of parents would be another message on its way
        through it.
        """
        if now - self._sent_at > wait_s * _CALM_WAITS:
            self._sent_in_a_row = 0
        self._sent_at = now
        self._not_before = now + wait_s * ((1 << min(self._sent_in_a_row, _HOLD_DOUBLINGS_MAX)) - 1)
        self._sent_in_a_row += 1

    def _fail(self, now: float, wait_s: float) -> DaoOutcome:
        self._failures += 1
        longest_s = wait_s * (1 << min(self._failures, _BACKOFF_DOUBLINGS_MAX))
        self.state = DaoState.DELAYED
        self.deadline = now + self._rng.uniform(longest_s / 2, longest_s)
        return DaoOutcome.FAILED

    def acknowledge(self, sequence: int, now: float, refresh_s: float) -> bool:
        """Whether this answers the DAO that waits."""
        if self.state is not DaoState.WAITING or sequence != self.sequence:
            return False
        self.state = DaoState.CONFIRMED
        self._failures = 0
        self.deadline = self._refresh_at = now + refresh_s * self._rng.uniform(0.9, 1.0)
        return True
