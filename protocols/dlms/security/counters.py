"""Invocation counters that are never used twice, whatever the power does.

Values are reserved ahead: the store always holds a number that is above everything used, so that a restart skips at
most one reservation, and flash is written once a reservation and not once a frame.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from protocols.errors import LocalProtocolError

COUNTER_MAX = 0xFFFFFFFF
_REMEMBERED = 64


class CounterStore(Protocol):
    """Non-volatile numbers by name. `save` returns only when the value survives a power cut; a cut inside it leaves
    the old value or the new one."""

    def load(self, name: str) -> int | None: ...

    def save(self, name: str, value: int) -> None: ...


class MemoryCounterStore:
    """A store that forgets with the process: for clients without a disk, and tests."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def load(self, name: str) -> int | None:
        return self.values.get(name)

    def save(self, name: str, value: int) -> None:
        self.values[name] = value


class SendCounter:
    """Counter of what this side protects under one key. `next` never gives the same number twice.

    It begins at 1: there are clients that take 0 for "nothing received yet".
    """

    __slots__ = ("_name", "_next", "_reserve", "_reserved", "_store")

    def __init__(self, store: CounterStore, name: str, *, reserve: int = 256) -> None:
        self._store = store
        self._name = name
        self._reserve = reserve
        self._next = store.load(name) or 1
        self._reserved = self._next

    @property
    def value(self) -> int:
        """The next number to be given."""
        return self._next

    def next(self) -> int:
        """Raises LocalProtocolError when the 32 bits are used up: the key must be changed."""
        value = self._next
        if value >= self._reserved:
            if value > COUNTER_MAX:
                raise LocalProtocolError(f"counter {self._name} is used up: change the key")
            self._save(value)
        self._next = value + 1
        return value

    def _save(self, value: int) -> None:
        reserved = min(value + self._reserve, COUNTER_MAX + 1)
        self._store.save(self._name, reserved)
        self._reserved = reserved

    def advance_to(self, value: int) -> None:
        """Go on from `value` if that is ahead, as after reading the peer's counter."""
        self._next = max(self._next, value)

    def restart(self) -> None:
        """Begin at 1 again, under a new key."""
        self._store.save(self._name, 1)
        self._next = self._reserved = 1


class ReceiveCounter:
    """The least number that a peer may still use under one key."""

    __slots__ = ("_least", "_name", "_passed", "_reserve", "_reserved", "_store", "has_accepted")

    def __init__(self, store: CounterStore, name: str, *, reserve: int = 64) -> None:
        self._store = store
        self._name = name
        self._reserve = reserve
        self._least = store.load(name) or 0
        self._reserved = self._least
        self.has_accepted = False
        """Whether the peer has shown, since this object was made, that it knows the key."""
        self._passed = deque([(self._least - 1, -math.inf)], _REMEMBERED)
        """The last numbers accepted and when, both rising. The first stands for all below it."""

    @property
    def least(self) -> int:
        """The least number that would be accepted: what objects 0.0.43.1.x show."""
        return self._least

    def is_fresh(self, value: int) -> bool:
        return value >= self._least

    def late_s(self, value: int, now: float) -> float:
        """How long `value` has been refused: infinite where it was so before anything that is remembered.

        Short for a frame that the network doubled, or that a later one overtook; whoever recorded one is later.
        """
        oldest, _ = self._passed[0]
        if value <= oldest:
            return math.inf
        return next((now - at_s for passed, at_s in self._passed if value <= passed), 0.0)

    def accept(self, value: int, now: float | None = None) -> None:
        """`value` came (at `now`) in a frame whose tag was right. It and all below are refused from now on, restarts
        included."""
        if value >= self._reserved:
            reserved = min(value + self._reserve, COUNTER_MAX + 1)
            self._store.save(self._name, reserved)
            self._reserved = reserved
        self._least = value + 1
        self._passed.append((value, -math.inf if now is None else now))
        self.has_accepted = True

    def restart(self) -> None:
        """Accept from 0 again, under a new key."""
        self._store.save(self._name, 0)
        self._least = self._reserved = 0
        self._passed.clear()
        self._passed.append((-1, -math.inf))
