"""Long answers and long requests in blocks, without holding an answer in memory (IEC 62056-5-3, block transfer)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from protocols.dlms.set import DataBlock

T = TypeVar("T")

GET_BLOCK_OVERHEAD_BYTES = 12
"""C4 02, invoke id, last, number, choice and a length of 3 bytes."""
PBLOCK_OVERHEAD_BYTES = 11
NORMAL_OVERHEAD_BYTES = 4
LEAST_BLOCK_BYTES = 8
MAX_LONG_REQUEST_BYTES = 0x1_0000


class BlockSource:
    """An answer's bytes, pulled from its maker only as they are sent."""

    __slots__ = ("_buffer", "_chunks", "_ended")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._ended = False

    def fill(self, size_bytes: int) -> int:
        """Have at least `size_bytes` ready if there are as many; returns how many are ready."""
        buffer = self._buffer
        while len(buffer) < size_bytes and not self._ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                buffer += chunk
        return len(buffer)

    def take(self, size_bytes: int) -> bytes:
        """The next `size_bytes`, or what is left."""
        self.fill(size_bytes + 1)
        taken = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return taken

    def rest(self) -> bytes:
        """All that is left, in memory."""
        self._buffer += b"".join(self._chunks)
        self._ended = True
        return self.take(len(self._buffer))

    @property
    def is_exhausted(self) -> bool:
        return self.fill(1) == 0


@dataclass(slots=True)
class LongAnswer:
    """An answer being sent in blocks. `last_apdu` is kept for a client that lost it."""

    source: BlockSource
    invoke_id_and_priority: int
    block_bytes: int
    block_number: int = 0
    last_apdu: bytes = b""
    is_finished: bool = False


class TooLongError(Exception):
    """A request in blocks that grows past what this side takes."""


@dataclass(slots=True)
class LongRequest(Generic[T]):
    """A request being received in blocks. `references` says what it is about."""

    references: T
    is_list: bool
    limit_bytes: int
    content: bytearray = field(default_factory=bytearray)
    block_number: int = 0

    def accept(self, block: DataBlock) -> bool:
        """Take a block. False if its number is neither the next nor a repetition of the last one.

        Raises TooLongError.
        """
        if block.block_number == self.block_number and self.block_number:
            return True
        if block.block_number != self.block_number + 1:
            return False
        if len(self.content) + len(block.content) > self.limit_bytes:
            raise TooLongError
        self.content += block.content
        self.block_number = block.block_number
        return True
