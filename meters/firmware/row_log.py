"""A ring of rows of one size on flash: profiles and event logs. The oldest block is erased to make room.

Rows have sequence numbers that never repeat. A row counts only if its checksum is right; a torn one leaves a hole in
the numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from meters.firmware.partitions import PartitionView, StorageError
from meters.hardware.flash import FlashError
from protocols.errors import LocalProtocolError

_HEADER = struct.Struct(">4sHHI")
_MAGIC = b"OARL"
_HEADER_BYTES = 16
_CHECK_BYTES = 4


def rows_per_block(block_bytes: int, row_bytes: int) -> int:
    """How many rows of that size a block holds."""
    return (block_bytes - _HEADER_BYTES) // (row_bytes + _CHECK_BYTES)


@dataclass(slots=True)
class _Block:
    """A block with rows: its number, and the sequence number of its first slot."""

    number: int
    first: int


class RowLog:
    """Rows of `row_bytes` in the blocks `first_block` to `first_block + block_count` of a partition.

    Raises StorageError from `append` when no good block is left.
    """

    def __init__(self, view: PartitionView, *, row_bytes: int, first_block: int = 0, block_count: int | None = None):
        self._view = view
        self.row_bytes = row_bytes
        self._slot_bytes = row_bytes + _CHECK_BYTES
        self._slots = rows_per_block(view.block_bytes, row_bytes)
        self._first_block = first_block
        self._block_count = view.block_count - first_block if block_count is None else block_count
        if (
            row_bytes < 1
            or self._slots < 1
            or self._block_count < 2
            or first_block + self._block_count > view.block_count
        ):
            raise LocalProtocolError(f"partition {view.partition.name} has no room for a log of {row_bytes}-byte rows")
        self._blocks: list[_Block] = []
        # Lists, as both are nearly always empty, and a meter has many logs.
        self._holes: list[int] = []
        self._bad: list[int] = []
        self._next = 0
        self._mount()

    @property
    def capacity(self) -> int:
        """Rows that are kept for certain, however old the ring is."""
        return (self._block_count - 1) * self._slots

    @property
    def first(self) -> int:
        """Sequence number of the oldest slot that is kept; equals `next` while the log is empty."""
        return self._blocks[0].first if self._blocks else self._next

    @property
    def next(self) -> int:
        """Sequence number that the next row gets."""
        return self._next

    def __len__(self) -> int:
        return self._next - self.first - len(self._holes)

    def append(self, row: bytes) -> int:
        """Returns the row's sequence number, when it survives a power cut."""
        if len(row) != self.row_bytes:
            raise LocalProtocolError(f"a row of {len(row)} bytes in a log of {self.row_bytes}")
        for _ in range(self._block_count):
            if not self._blocks or self._next - self._blocks[-1].first >= self._slots:
                self._open_block()
            sequence = self._next
            self._next += 1
            try:
                self._program(self._offset(self._blocks[-1], sequence), row + self._check(sequence, row))
            except FlashError:
                # What the block holds can still be read; it takes no more rows.
                self._holes.append(sequence)
                self._bad.append(self._blocks[-1].number)
                self._open_block()
                continue
            return sequence
        raise StorageError(f"partition {self._view.partition.name}: no row can be written")

    def row(self, sequence: int) -> bytes | None:
        """The row with that number, None if there is none, or its checksum is wrong."""
        block = self._block_of(sequence)
        if block is None or sequence in self._holes:
            return None
        raw = self._view.read(self._offset(block, sequence), self._slot_bytes)
        row = raw[: self.row_bytes]
        return row if raw[self.row_bytes :] == self._check(sequence, row) else None

    def rows(self, start: int | None = None, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Sequence number and row, oldest first, from `start` to before `end`."""
        sequence = self.first if start is None else max(start, self.first)
        stop = self._next if end is None else min(end, self._next)
        while sequence < stop:
            row = self.row(sequence)
            if row is not None:
                yield sequence, row
            sequence += 1

    def is_hole(self, sequence: int) -> bool:
        """Whether this number was used up by a row that power or a bad block destroyed."""
        return sequence in self._holes

    def blocks(self) -> list[tuple[int, int]]:
        """First number, and the one behind the last, of each block with rows, oldest first."""
        ends = [block.first for block in self._blocks[1:]] + [self._next]
        return [
            (block.first, min(end, block.first + self._slots)) for block, end in zip(self._blocks, ends, strict=True)
        ]

    def block_first(self, sequence: int) -> int:
        """First number of the block with this row. Raises LocalProtocolError if there is no such row."""
        block = self._block_of(sequence)
        if block is None:
            raise LocalProtocolError(f"no row {sequence}")
        return block.first

    def clear(self) -> None:
        """Forget every row. Sequence numbers go on; the oldest rows go first, should power fail."""
        self._open_block()
        for block in self._blocks[:-1]:
            self._retire(block)
        self._holes.clear()

    # inside

    def _mount(self) -> None:
        for number in range(self._first_block, self._first_block + self._block_count):
            first = self._read_header(number)
            if first is not None:
                self._blocks.append(_Block(number, first))
        self._blocks.sort(key=lambda block: block.first)
        for index in range(len(self._blocks) - 1, 0, -1):
            if self._blocks[index].first - self._blocks[index - 1].first > self._slots:
                # A bad block cannot be erased: what it held has been given up for newer rows long since.
                del self._blocks[:index]
                break
        for index, block in enumerate(self._blocks):
            following = self._blocks[index + 1].first if index + 1 < len(self._blocks) else None
            self._next = self._scan(block, following)

    def _scan(self, block: _Block, following: int | None) -> int:
        """Note the holes of a block. Returns the sequence number behind its last used slot."""
        content = self._view.read(block.number * self._view.block_bytes, self._view.block_bytes)
        empty = b"\xff" * self._slot_bytes
        used = self._slots if following is None else min(self._slots, following - block.first)
        slots = [
            content[_HEADER_BYTES + slot * self._slot_bytes : _HEADER_BYTES + (slot + 1) * self._slot_bytes]
            for slot in range(used)
        ]
        if following is None:
            while slots and slots[-1] == empty:
                slots.pop()
        for sequence, raw in enumerate(slots, block.first):
            if raw[self.row_bytes :] != self._check(sequence, raw[: self.row_bytes]):
                self._holes.append(sequence)
        return block.first + len(slots)

    def _read_header(self, number: int) -> int | None:
        raw = self._view.read(number * self._view.block_bytes, _HEADER.size + 4)
        magic, row_bytes, _, first = _HEADER.unpack_from(raw)
        good = magic == _MAGIC and zlib.crc32(raw[: _HEADER.size]) == int.from_bytes(raw[_HEADER.size :], "big")
        # A log of other rows is of another layout: its blocks are free.
        return int(first) if good and row_bytes == self.row_bytes else None

    def _open_block(self) -> None:
        """Erase the block behind the newest, and begin it."""
        last = self._blocks[-1].number if self._blocks else self._first_block - 1
        for step in range(1, self._block_count + 1):
            number = self._first_block + (last - self._first_block + step) % self._block_count
            if number in self._bad:
                continue
            for block in [item for item in self._blocks if item.number == number]:
                self._blocks.remove(block)
                lost = range(block.first, block.first + self._slots)
                self._holes = [sequence for sequence in self._holes if sequence not in lost]
            try:
                self._view.erase(number)
                header = _HEADER.pack(_MAGIC, self.row_bytes, 0, self._next)
                self._program(number * self._view.block_bytes, header + zlib.crc32(header).to_bytes(4, "big"))
            except FlashError:
                self._bad.append(number)
                continue
            self._blocks.append(_Block(number, self._next))
            return
        raise StorageError(f"partition {self._view.partition.name} has no good block left")

    def _retire(self, block: _Block) -> None:
        self._blocks.remove(block)
        try:
            self._view.erase(block.number)
        except FlashError:
            self._bad.append(block.number)

    def _program(self, offset_bytes: int, data: bytes) -> None:
        self._view.program(offset_bytes, data)
        if self._view.read(offset_bytes, len(data)) != data:
            raise FlashError(f"{len(data)} bytes at {offset_bytes:#x} do not read back")

    def _block_of(self, sequence: int) -> _Block | None:
        if sequence >= self._next:
            return None
        return next((block for block in reversed(self._blocks) if sequence >= block.first), None)

    def _offset(self, block: _Block, sequence: int) -> int:
        return block.number * self._view.block_bytes + _HEADER_BYTES + (sequence - block.first) * self._slot_bytes

    @staticmethod
    def _check(sequence: int, row: bytes) -> bytes:
        return zlib.crc32(sequence.to_bytes(4, "big") + row).to_bytes(_CHECK_BYTES, "big")
