"""Profiles and event logs on flash: captured rows, found by time or number, streamed as they are stored.

A stored row is the capture time (UTC, 4 bytes) and the A-XDR structure of the captured values, whose columns all have
fixed sizes: a selection of columns is a cut through the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meters.firmware.clock import MeterClock
from meters.firmware.row_log import RowLog
from protocols.dlms.data import ArrayStream, Tag, encode, encode_length, octet_string
from protocols.dlms.data import Data as CosemData
from protocols.dlms.objects import Caller, CosemObject, object_key
from protocols.dlms.selective import CaptureObject
from protocols.errors import LocalProtocolError

_TIME_BYTES = 4
CLOCK_BYTES = 14
_NULL = b"\x00"


@dataclass(frozen=True, slots=True)
class Column:
    """One captured attribute, and the size of its A-XDR encoding."""

    source: CaptureObject
    size_bytes: int

    @property
    def is_clock(self) -> bool:
        return self.source.class_id == 8 and self.source.attribute_id == 2


@dataclass(frozen=True, slots=True)
class TableLayout:
    """What a profile stores, the same in every meter of a model: `entries` rows of `columns`."""

    name: str
    columns: tuple[Column, ...]
    entries: int
    first_block: int
    block_count: int

    @property
    def row_bytes(self) -> int:
        return _TIME_BYTES + self._head_bytes + sum(column.size_bytes for column in self.columns)

    @property
    def _head_bytes(self) -> int:
        return 1 + len(encode_length(len(self.columns)))

    def offsets(self) -> list[int]:
        """Where each column begins in a stored row."""
        offsets, at = [], _TIME_BYTES + self._head_bytes
        for column in self.columns:
            offsets.append(at)
            at += column.size_bytes
        return offsets


class Profile:
    """The rows of one profile. `bind` gives it the objects that it captures, once they are all built."""

    def __init__(self, layout: TableLayout, log: RowLog, clock: MeterClock) -> None:
        self.layout = layout
        self._log = log
        self._clock = clock
        self._sources: tuple[CosemObject | None, ...] = ()
        self._head = bytes((Tag.STRUCTURE,)) + encode_length(len(layout.columns))
        self._caller = Caller(client_sap=0)
        self.on_clear: Callable[[], None] | None = None
        self._spans: dict[int, list[int]] = {}
        for sequence, row in log.rows():
            self._note(sequence, int.from_bytes(row[:_TIME_BYTES], "big"))

    def bind(self, find: Callable[[bytes], CosemObject | None]) -> None:
        """`find` gives the object with a key. Raises LocalProtocolError if a captured object is not there."""
        sources = [
            None if column.is_clock else find(object_key(column.source.class_id, column.source.obis))
            for column in self.layout.columns
        ]
        for column, source in zip(self.layout.columns, sources, strict=True):
            if source is None and not column.is_clock:
                raise LocalProtocolError(
                    f"profile {self.layout.name} captures {column.source.obis}, which is not there"
                )
        self._sources = tuple(sources)

    def capture(self, utc_s: float) -> None:
        """Append a row with the values of this moment, which the meter's clock calls `utc_s`."""
        parts = [int(utc_s).to_bytes(_TIME_BYTES, "big"), self._head]
        for column, source in zip(self.layout.columns, self._sources, strict=True):
            if source is None:
                parts.append(encode(octet_string(self._clock.date_time(utc_s).encode())))
                continue
            value = source.read(column.source.attribute_id, None, self._caller)
            if not isinstance(value, CosemData):
                raise LocalProtocolError(f"profile {self.layout.name} cannot capture {source.obis}")
            parts.append(encode(value))
        sequence = self._log.append(b"".join(parts))
        self._note(sequence, int(utc_s))

    def clear(self) -> None:
        self._log.clear()
        self._spans.clear()
        if self.on_clear is not None:
            self.on_clear()

    def sequences(self) -> list[int]:
        """Numbers of the rows that are kept, oldest first: at most `entries` of them."""
        log = self._log
        newest = [sequence for sequence in range(log.first, log.next) if not log.is_hole(sequence)]
        return newest[-self.layout.entries :]

    def __len__(self) -> int:
        return min(len(self._log), self.layout.entries)

    def between(self, start_s: float, end_s: float) -> list[int]:
        """Numbers of the rows captured from `start_s` to `end_s` (UTC), both included, in the order of capture."""
        log = self._log
        if not len(log):
            return []
        least = self.sequences()[0] if len(log) > self.layout.entries else log.first
        found = []
        for block_first, block_end in log.blocks():
            span = self._spans.get(block_first)
            if span is None or span[1] < start_s or span[0] > end_s:
                continue
            for sequence in range(max(block_first, least), block_end):
                row = log.row(sequence)
                if row is not None and start_s <= int.from_bytes(row[:_TIME_BYTES], "big") <= end_s:
                    found.append(sequence)
        return found

    def stream(self, sequences: list[int], columns: tuple[int, ...] | None = None) -> ArrayStream:
        """The rows with these numbers as an array, made while it is sent; all columns, or those with these indices."""
        return ArrayStream(len(sequences), self._rows(sequences, columns))

    def capture_times(self) -> list[int]:
        """UTC seconds of every kept row, oldest first."""
        rows = (self._log.row(sequence) for sequence in self.sequences())
        return [int.from_bytes(row[:_TIME_BYTES], "big") for row in rows if row is not None]

    def _rows(self, sequences: list[int], columns: tuple[int, ...] | None) -> Iterator[bytes]:
        log = self._log
        if columns is None:
            lost = self._head + _NULL * len(self.layout.columns)
            for sequence in sequences:
                row = log.row(sequence)
                # A row that made room for a new one while the answer was on its way leaves nulls behind.
                yield lost if row is None else row[_TIME_BYTES:]
            return
        offsets = self.layout.offsets()
        cuts = [(offsets[index], offsets[index] + self.layout.columns[index].size_bytes) for index in columns]
        head = bytes((Tag.STRUCTURE,)) + encode_length(len(columns))
        for sequence in sequences:
            row = log.row(sequence)
            yield head + (_NULL * len(columns) if row is None else b"".join(row[start:end] for start, end in cuts))

    def _note(self, sequence: int, utc_s: int) -> None:
        """Keep the earliest and latest time of each block, so that a range is found without reading all."""
        block_first = self._log.block_first(sequence)
        span = self._spans.get(block_first)
        if span is None:
            self._spans[block_first] = [utc_s, utc_s]
            kept = {first for first, _ in self._log.blocks()}
            for gone in [first for first in self._spans if first not in kept]:
                del self._spans[gone]
        else:
            span[0] = min(span[0], utc_s)
            span[1] = max(span[1], utc_s)
