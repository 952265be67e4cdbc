"""Frame counters that were heard, kept by the host so that a radio without memory refuses replays after a power cut."""

from __future__ import annotations

from collections import OrderedDict

from protocols.cursor import Reader
from protocols.errors import RemoteProtocolError
from protocols.mesh.key_ring import key_hash
from protocols.rcp.messages import SetReplayFloor

_SOURCE_BYTES = 8
_HASH_BYTES = 8
_VERSION = 1
CAPACITY = 32


class ReplayFloors:
    """The next acceptable counter by neighbour and key, for the `capacity` neighbours that were heard last.

    Floors go with the key's hash: those under a key that was replaced say nothing about the new one.
    """

    def __init__(self, stored: bytes = b"", *, capacity: int = CAPACITY) -> None:
        """Raises nothing: what cannot be read is as if nothing had been stored."""
        self._capacity = capacity
        self._floors: OrderedDict[tuple[bytes, int], int] = OrderedDict()
        self._hashes: dict[int, bytes] = {}
        if stored:
            try:
                self._decode(stored)
            except RemoteProtocolError:
                self._floors.clear()
                self._hashes.clear()

    def note(self, source: bytes, key_index: int, frame_counter: int) -> None:
        """An authentic frame was received."""
        entry = (source, key_index)
        if frame_counter >= self._floors.get(entry, 0):
            self._floors[entry] = frame_counter + 1
        self._floors.move_to_end(entry)
        if len(self._floors) > self._capacity:
            self._floors.popitem(last=False)

    def for_key(self, index: int, key: bytes) -> list[SetReplayFloor]:
        """What to tell the radio after this key. Floors under another key of the same index are forgotten."""
        name = key_hash(key)
        if self._hashes.get(index, name) != name:
            for entry in [entry for entry in self._floors if entry[1] == index]:
                del self._floors[entry]
        self._hashes[index] = name
        return [
            SetReplayFloor(source, index, floor) for (source, known), floor in self._floors.items() if known == index
        ]

    def encode(self) -> bytes:
        """For `stored` at the next start."""
        hashes = b"".join(bytes((index,)) + name for index, name in sorted(self._hashes.items()))
        floors = b"".join(
            source + bytes((index,)) + floor.to_bytes(4, "big") for (source, index), floor in self._floors.items()
        )
        return bytes((_VERSION, len(self._hashes))) + hashes + floors

    def _decode(self, stored: bytes) -> None:
        reader = Reader(stored)
        if reader.u8() != _VERSION:
            raise reader.error("floors of another version")
        for _ in range(reader.u8()):
            index = reader.u8()
            self._hashes[index] = reader.take(_HASH_BYTES)
        while reader.remaining:
            source, index = reader.take(_SOURCE_BYTES), reader.u8()
            self._floors[source, index] = reader.u32()
