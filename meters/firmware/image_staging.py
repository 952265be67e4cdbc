"""The staging partition: image blocks as they come in, in any order, and which of them are there.

The first erase block has one bit for each image block; the bit is cleared when the block has been written. A block that
was being written when the power went is not marked, and is written again: the same bytes over a part of them.
"""

from __future__ import annotations

from meters.firmware.partitions import PartitionView


class StagingArea:
    """Blocks of `block_bytes` of an image of `size_bytes`. Raises FlashError on a bad erase block."""

    def __init__(self, view: PartitionView, *, size_bytes: int, block_bytes: int) -> None:
        self._view = view
        self.size_bytes = size_bytes
        self.block_bytes = block_bytes
        self.block_count = -(-size_bytes // block_bytes)
        self._missing = bytearray(view.read(0, -(-self.block_count // 8)))
        self._missing_count = sum(self._is_missing(number) for number in range(self.block_count))

    @classmethod
    def capacity_bytes(cls, view: PartitionView, block_bytes: int) -> int:
        """How big an image can be."""
        return min(view.size_bytes - view.block_bytes, 8 * view.block_bytes * block_bytes)

    @classmethod
    def begin(cls, view: PartitionView, *, size_bytes: int, block_bytes: int) -> StagingArea:
        """Erase what was there."""
        for block in range(1 + -(-size_bytes // view.block_bytes)):
            if not view.is_erased(block):
                view.erase(block)
        return cls(view, size_bytes=size_bytes, block_bytes=block_bytes)

    @property
    def is_complete(self) -> bool:
        return self._missing_count == 0

    @property
    def first_missing(self) -> int:
        """Its number; the number of blocks if none is missing."""
        return next((number for number in range(self.block_count) if self._is_missing(number)), self.block_count)

    def bits(self) -> str:
        """One character for each block: 1 if it is there."""
        return "".join("0" if self._is_missing(number) else "1" for number in range(self.block_count))

    def length_of(self, number: int) -> int:
        """Bytes that block has: the last one is shorter."""
        return min(self.block_bytes, self.size_bytes - number * self.block_bytes)

    def write(self, number: int, data: bytes) -> bool:
        """Store a block; False if it was there already. It survives a power cut when this returns."""
        if not self._is_missing(number):
            return False
        self._view.program(self._view.block_bytes + number * self.block_bytes, data)
        index, bit = divmod(number, 8)
        left = self._missing[index] & ~(0x80 >> bit)
        self._view.program(index, bytes((left,)))
        self._missing[index] = left
        self._missing_count -= 1
        return True

    def image(self) -> bytes:
        return self._view.read(self._view.block_bytes, self.size_bytes)

    def _is_missing(self, number: int) -> bool:
        return bool(self._missing[number // 8] & 0x80 >> number % 8)
