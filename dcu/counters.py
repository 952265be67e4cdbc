"""Counters that must never repeat a value, over power cuts too: frame counters and invocation counters.

A block is reserved on storage before its first value is used. A restart goes on behind the last reserved block, so
values are skipped, never used twice, and storage is written once per block instead of once per value.
"""

from __future__ import annotations

from dcu.storage import Storage
from protocols.errors import LocalProtocolError

_MAXIMUM = 0xFFFFFFFF


class ReservedCounter:
    """A 32-bit counter under one record of a `Storage`.

    Raises LocalProtocolError when the counter is used up: the key that it belongs to has to be changed first.
    """

    def __init__(self, storage: Storage, name: str, *, block: int = 1024, first: int = 1) -> None:
        self._storage = storage
        self._name = name
        self._block = block
        stored = storage.read(name)
        self._next = first if stored is None else max(first, int.from_bytes(stored, "big"))
        self._reserved_to = self._next

    @property
    def value(self) -> int:
        """The next value that `take` gives."""
        return self._next

    def take(self) -> int:
        """A value never given before."""
        value = self._next
        self.reserve(value + 1)
        self._next = value + 1
        return value

    def advance_to(self, value: int) -> None:
        """Let the next value be at least `value`."""
        if value > self._next:
            self.reserve(value)
            self._next = value

    def reserve(self, value: int) -> None:
        """Make sure that a restart begins at or above `value`."""
        if value > _MAXIMUM:
            raise LocalProtocolError(f"counter {self._name} is used up")
        if value > self._reserved_to:
            reserved_to = min(value + self._block, _MAXIMUM)
            self._storage.write(self._name, reserved_to.to_bytes(4, "big"))
            self._reserved_to = reserved_to
