"""Counters that must never repeat a value, over power cuts too: frame counters and invocation counters.

A block is reserved on storage before its first value is used. A restart goes on behind the last reserved block, so
values are skipped, never used twice, and storage is written once per block instead of once per value.
"""

from __future__ import annotations

import re

from dcu.storage import Storage
from protocols.errors import LocalProtocolError

_FRAME_COUNTER_MAX = 0xFFFFFFFF


class StoredCounters:
    """The numbers of `protocols.dlms.security.counters` (its `CounterStore`) as records of a `Storage`.

    `owner` tells those of one meter from those of another.
    """

    def __init__(self, storage: Storage, owner: str = "own") -> None:
        self._storage = storage
        self._prefix = f"counter.{owner}."

    def load(self, name: str) -> int | None:
        stored = self._storage.read(self._record(name))
        return None if stored is None else int.from_bytes(stored, "big")

    def save(self, name: str, value: int) -> None:
        self._storage.write(self._record(name), value.to_bytes(8, "big"))

    def _record(self, name: str) -> str:
        return self._prefix + re.sub("[^a-z0-9._-]", "-", name.lower())


class ClientCounters:
    """A DLMS client's counters for one meter: its own on storage, the meter's in memory.

    High-level authentication makes every association begin with a proof over a challenge of ours, in an answer under
    the meter's present counter; whatever the meter had sent before is a replay from then on. So its counter need not
    be stored, and a restart cannot take the meter's next answers for replays.
    """

    def __init__(self, storage: Storage, owner: str) -> None:
        self._own = StoredCounters(storage, owner)
        self._meters: dict[str, int] = {}

    def load(self, name: str) -> int | None:
        return self._own.load(name) if name.startswith("send") else self._meters.get(name)

    def save(self, name: str, value: int) -> None:
        if name.startswith("send"):
            self._own.save(name, value)
        else:
            self._meters[name] = value


class FrameCounterReserve:
    """Frame counters that a radio may use without asking: `first` at this start, then what `note` allows.

    A restart begins at `reserved`. The radio counts by itself and reports late, so `margin` values beyond its last
    report are always reserved. None below `least` is ever given.
    """

    def __init__(self, storage: Storage, name: str, *, block: int, margin: int, least: int = 0) -> None:
        self._counters = StoredCounters(storage)
        self._name = name
        self._block = block
        self._margin = margin
        self.first = self.reserved = max(self._counters.load(name) or 0, least)
        self.note(self.first)

    def note(self, used: int) -> None:
        """The radio has used `used`. Raises LocalProtocolError near the end: the link key has to be changed."""
        needed = used + self._margin
        if needed > _FRAME_COUNTER_MAX:
            raise LocalProtocolError(f"{self._name} is used up: the link key must be changed")
        if needed > self.reserved:
            self.reserved = min(needed + self._block, _FRAME_COUNTER_MAX)
            self._counters.save(self._name, self.reserved)
