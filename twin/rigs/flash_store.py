"""The concentrator's `/opt` in a virtual run: records in memory, with the partition's size."""

from __future__ import annotations

from dcu.storage import MemoryStorage, StorageError

OPT_BYTES = 134_700_000
"""Of the reference's `ubi1_0:opt`."""


class OptStorage(MemoryStorage):
    """Refuses what does not fit. A bench fills it, and makes room again: see `twin.rigs.opt.Opt`."""

    def __init__(self, size_bytes: int = OPT_BYTES) -> None:
        super().__init__()
        self._size_bytes = size_bytes
        self._sizes: dict[str, int] = {}
        self._used_bytes = 0
        self._foreign_bytes = 0

    # verbs

    async def fill(self) -> None:
        """Somebody's files take all the room there is."""
        self._foreign_bytes = max(self._size_bytes - self._used_bytes, 0)

    async def clear(self) -> None:
        """They are gone again."""
        self._foreign_bytes = 0

    # the partition

    def write(self, name: str, data: bytes) -> None:
        """A record is written beside its old self before that goes: both must fit."""
        self._take(len(data))
        super().write(name, data)
        self._resized(name, len(data))

    def append(self, name: str, data: bytes) -> None:
        self._take(len(data))
        super().append(name, data)
        self._resized(name, self._sizes.get(name, 0) + len(data))

    def delete(self, name: str) -> None:
        super().delete(name)
        self._resized(name, 0)

    def _take(self, size_bytes: int) -> None:
        if self._used_bytes + self._foreign_bytes + size_bytes > self._size_bytes:
            raise StorageError("no space left on device")

    def _resized(self, name: str, size_bytes: int) -> None:
        self._used_bytes += size_bytes - self._sizes.get(name, 0)
        self._sizes[name] = size_bytes
