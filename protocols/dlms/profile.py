"""A profile's buffer read in part: rows by range or by entry, some of the columns, made as they are sent.

What a profile keeps is its rows as A-XDR structures; a selection finds the rows that are asked for, and cuts the
columns out of their bytes without making values of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from protocols.cursor import Reader
from protocols.dlms.data import ArrayStream, Data, Tag, decode, encode_length, skip
from protocols.dlms.date_time import YEAR_NOT_SPECIFIED, DateTime, instant_s
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.objects import AccessDenied
from protocols.dlms.selective import CaptureObject, EntryDescriptor, RangeDescriptor, Selector, profile_selector
from protocols.errors import RemoteProtocolError

_CLOCK = 8
_TIME_AS_OCTETS = bytes((Tag.OCTET_STRING, 12))
_FIXED_BYTES = {
    Tag.NULL: 1,
    Tag.BOOLEAN: 2,
    Tag.DOUBLE_LONG: 5,
    Tag.DOUBLE_LONG_UNSIGNED: 5,
    Tag.BCD: 2,
    Tag.INTEGER: 2,
    Tag.LONG: 3,
    Tag.UNSIGNED: 2,
    Tag.LONG_UNSIGNED: 3,
    Tag.LONG64: 9,
    Tag.LONG64_UNSIGNED: 9,
    Tag.ENUM: 2,
    Tag.FLOAT32: 5,
    Tag.FLOAT64: 9,
    Tag.DATE_TIME: 13,
    Tag.DATE: 6,
    Tag.TIME: 5,
}
_SIZES = tuple(_FIXED_BYTES.get(Tag(tag), 0) if tag in set(Tag) else 0 for tag in range(256))


class ProfileRows(Protocol):
    """Rows of a profile, the first one first in the order of its sort method. Each is an A-XDR structure with one
    element a column."""

    def __len__(self) -> int: ...

    def row(self, index: int) -> bytes:
        """The row at `index`, from 0."""
        ...


def select(rows: ProfileRows, columns: Sequence[CaptureObject], selector: Selector | None) -> ArrayStream:
    """The rows and columns that `selector` asks for; everything if it is None.

    Raises AccessDenied if it names a column that the profile does not have, RemoteProtocolError if it is malformed.
    """
    if selector is None:
        return ArrayStream(len(rows), (rows.row(index) for index in range(len(rows))))
    chosen = profile_selector(selector)
    if isinstance(chosen, EntryDescriptor):
        return _by_entry(rows, columns, chosen)
    return _by_range(rows, columns, chosen)


def _by_entry(rows: ProfileRows, columns: Sequence[CaptureObject], chosen: EntryDescriptor) -> ArrayStream:
    first, last = chosen.from_entry, chosen.to_entry or len(rows)
    first_column, last_column = chosen.from_column, chosen.to_column or len(columns)
    if first < 1 or first_column < 1 or first_column > len(columns) or last_column > len(columns):
        raise AccessDenied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED, "no such column")
    wanted = range(first - 1, min(last, len(rows)))
    kept = range(first_column - 1, last_column)
    if len(kept) == len(columns):
        return ArrayStream(len(wanted), (rows.row(index) for index in wanted))
    return ArrayStream(len(wanted), (cut_row(rows.row(index), kept) for index in wanted))


def _by_range(rows: ProfileRows, columns: Sequence[CaptureObject], chosen: RangeDescriptor) -> ArrayStream:
    restricting = _column(columns, chosen.restricting)
    is_clock = chosen.restricting.class_id == _CLOCK
    start, end = _bound(chosen.start, is_clock=is_clock), _bound(chosen.end, is_clock=is_clock)
    runs = _runs(rows, restricting, start, end, is_clock=is_clock)
    count = sum(len(run) for run in runs)
    if not chosen.columns:
        return ArrayStream(count, (rows.row(index) for run in runs for index in run))
    kept = [_column(columns, column) for column in chosen.columns]
    return ArrayStream(count, (cut_row(rows.row(index), kept) for run in runs for index in run))


def _runs(rows: ProfileRows, column: int, start: float | None, end: float | None, *, is_clock: bool) -> list[range]:
    """The matching rows as runs of neighbours.

    Every row is looked at: after the clock has been set back, rows are not in the order of their times.
    """
    runs: list[range] = []
    first = None
    for index in range(len(rows)):
        row = rows.row(index)
        if is_clock and column == 0 and row[2:4] == _TIME_AS_OCTETS:  # the usual case, without cutting the row up
            value: float | None = instant_s(row[4:16])
        else:
            value = _comparable(element(row, column), is_clock=is_clock)
        inside = value is not None and (start is None or value >= start) and (end is None or value <= end)
        if inside and first is None:
            first = index
        elif not inside and first is not None:
            runs.append(range(first, index))
            first = None
    if first is not None:
        runs.append(range(first, len(rows)))
    return runs


def _column(columns: Sequence[CaptureObject], wanted: CaptureObject) -> int:
    for index, column in enumerate(columns):
        if column == wanted:
            return index
    raise AccessDenied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED, f"the profile has no column {wanted}")


def _bound(data: Data, *, is_clock: bool) -> float | None:
    """A bound as a number, None if it is open. Raises RemoteProtocolError if it can be no bound."""
    if data.tag == Tag.NULL:
        return None
    if not is_clock:
        if isinstance(data.value, bool) or not isinstance(data.value, int | float):
            raise RemoteProtocolError(f"{data!r} is no bound of a range")
        return data.value
    value = data.value
    moment = DateTime.decode(value) if isinstance(value, bytes) else value
    if not isinstance(moment, DateTime):
        raise RemoteProtocolError(f"{data!r} is no bound of a range of time")
    if moment.date.year == YEAR_NOT_SPECIFIED:
        return None
    return moment.to_utc_s()


def _comparable(encoded: bytes, *, is_clock: bool) -> float | None:
    """A stored value as a number; None if it has none (null data, a time that is not specified)."""
    if not is_clock:
        value = decode(encoded).value
        return value if isinstance(value, int | float) else None
    if encoded[0] == Tag.OCTET_STRING and len(encoded) == 14:
        return instant_s(encoded[2:])
    if encoded[0] == Tag.DATE_TIME:
        return instant_s(encoded[1:])
    return None


# rows as bytes


def elements(row: bytes) -> list[bytes]:
    """The encoded elements of an encoded structure. Raises RemoteProtocolError if `row` is none."""
    if len(row) < 2 or row[0] != Tag.STRUCTURE or row[1] > 127:
        raise RemoteProtocolError("a row that is not a structure of at most 127 elements")
    found, offset = [], 2
    for _ in range(row[1]):
        size_bytes = (_SIZES[row[offset]] if offset < len(row) else 0) or _size_bytes(row, offset)
        found.append(row[offset : offset + size_bytes])
        offset += size_bytes
    if offset != len(row):
        raise RemoteProtocolError(f"a row of {len(row)} bytes whose elements end at {offset}")
    return found


def element(row: bytes, index: int) -> bytes:
    """One encoded element of an encoded structure. Raises RemoteProtocolError if it has none there."""
    if index == 0 and len(row) > 2 and row[0] == Tag.STRUCTURE:  # the time column, usually
        size_bytes = _SIZES[row[2]] or _size_bytes(row, 2)
        return row[2 : 2 + size_bytes]
    found = elements(row)
    if index >= len(found):
        raise RemoteProtocolError(f"a row of {len(found)} elements has no {index + 1}th")
    return found[index]


def _size_bytes(row: bytes, offset: int) -> int:
    reader = Reader(row, offset=offset)
    skip(reader)
    return reader.offset - offset


def cut_row(row: bytes, kept: Sequence[int]) -> bytes:
    """The row with only these columns, in this order."""
    found = elements(row)
    return bytes((Tag.STRUCTURE,)) + encode_length(len(kept)) + b"".join([found[index] for index in kept])


class ListedRows:
    """Rows that are in memory."""

    def __init__(self, rows: Sequence[bytes]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rows)

    def row(self, index: int) -> bytes:
        return self._rows[index]
