"""The group keys of one node: which it has, and which it sends under."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from protocols.mesh.config import LinkKey

GTK_COUNT = 4
"""Group keys that a PAN configuration tells of, indices 1 to 4."""
_HASH_BYTES = 8
NO_HASH = bytes(_HASH_BYTES)


def key_hash(key: bytes) -> bytes:
    """As the GTKHASH element tells it: the last 8 bytes of SHA-256 of the key."""
    return hashlib.sha256(key).digest()[-_HASH_BYTES:]


class KeyRing:
    """`installed` and `removed` tell the radio."""

    def __init__(
        self,
        keys: Iterable[LinkKey],
        active_index: int,
        installed: Callable[[int, bytes], None],
        removed: Callable[[int], None],
    ) -> None:
        self._keys = {key.index: key.key for key in keys}
        self.active_index = active_index
        """The one that frames are sent under; only meaningful while there is such a key."""
        self._installed = installed
        self._removed = removed

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def indices(self) -> frozenset[int]:
        return frozenset(self._keys)

    def items(self) -> list[tuple[int, bytes]]:
        """Index and key, the oldest first."""
        return list(self._keys.items())

    def install(self, index: int, key: bytes) -> bool:
        """Returns whether it is new. One that is there already is not installed again."""
        if self._keys.get(index) == key:
            return False
        self._keys[index] = key
        if self.active_index not in self._keys:
            self.active_index = index
        self._installed(index, key)
        return True

    def remove(self, index: int) -> None:
        if self._keys.pop(index, None) is not None:
            self._removed(index)

    def clear(self) -> None:
        for index in sorted(self._keys):
            self.remove(index)

    def adopt(self, index: int) -> None:
        """Send under that key from now on, if it is there."""
        if index in self._keys:
            self.active_index = index

    def hashes(self) -> tuple[bytes, ...]:
        """For the GTKHASH element: zeros where there is no key."""
        return tuple(
            key_hash(self._keys[index]) if index in self._keys else NO_HASH for index in range(1, GTK_COUNT + 1)
        )

    def compare(self, hashes: tuple[bytes, ...]) -> tuple[frozenset[int], frozenset[int]]:
        """Against the hashes of a PAN configuration: indices that are missing or differ here, and such that are no
        more."""
        mine = self.hashes()
        told = list(enumerate(zip(mine, hashes, strict=True), 1))
        missing = frozenset(index for index, (own, heard) in told if heard not in (NO_HASH, own))
        stale = frozenset(index for index, (own, heard) in told if heard == NO_HASH != own)
        return missing, stale
