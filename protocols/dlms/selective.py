"""Selective access to a profile's buffer: by range and by entry (IEC 62056-6-2, class 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.dlms.data import (
    Data,
    Tag,
    array,
    double_long_unsigned,
    integer,
    long_unsigned,
    octet_string,
    structure,
)
from protocols.dlms.obis import ObisCode
from protocols.errors import RemoteProtocolError

_SPEC = "IEC 62056-6-2, class 7"
BY_RANGE = 1
BY_ENTRY = 2


@dataclass(frozen=True, slots=True)
class CaptureObject:
    """One column of a profile: attribute `attribute_id` of an object; `data_index` 0 is the whole attribute."""

    class_id: int
    obis: ObisCode
    attribute_id: int
    data_index: int = 0

    def to_data(self) -> Data:
        return structure(
            long_unsigned(self.class_id),
            octet_string(bytes(self.obis)),
            integer(self.attribute_id),
            long_unsigned(self.data_index),
        )

    @classmethod
    def from_data(cls, data: Data) -> CaptureObject:
        """Raises RemoteProtocolError if `data` is not a capture_object_definition."""
        shape = (Tag.LONG_UNSIGNED, Tag.OCTET_STRING, Tag.INTEGER, Tag.LONG_UNSIGNED)
        class_id, obis, attribute_id, data_index = _fields(data, shape)
        if len(obis) != 6:
            raise RemoteProtocolError(f"a logical name of {len(obis)} bytes", spec=_SPEC)
        return cls(class_id, ObisCode(obis), attribute_id, data_index)


@dataclass(frozen=True, slots=True)
class RangeDescriptor:
    """Rows whose column `restricting` lies from `start` to `end`, both included; all columns if `columns` is empty."""

    restricting: CaptureObject
    start: Data
    end: Data
    columns: tuple[CaptureObject, ...] = ()

    selector_id = BY_RANGE

    def to_data(self) -> Data:
        columns = array(column.to_data() for column in self.columns)
        return structure(self.restricting.to_data(), self.start, self.end, columns)

    @classmethod
    def from_data(cls, data: Data) -> RangeDescriptor:
        """Raises RemoteProtocolError if `data` is not a range_descriptor."""
        if data.tag != Tag.STRUCTURE or len(data.value) != 4 or data.value[3].tag != Tag.ARRAY:
            raise RemoteProtocolError("not a range_descriptor", spec=_SPEC)
        restricting, start, end, columns = data.value
        selected = tuple(CaptureObject.from_data(item) for item in columns.value)
        return cls(CaptureObject.from_data(restricting), start, end, selected)


@dataclass(frozen=True, slots=True)
class EntryDescriptor:
    """Rows `from_entry` to `to_entry` (from 1; 0 is the last) and columns `from_column` to `to_column` likewise."""

    from_entry: int = 1
    to_entry: int = 0
    from_column: int = 1
    to_column: int = 0

    selector_id = BY_ENTRY

    def to_data(self) -> Data:
        return structure(
            double_long_unsigned(self.from_entry),
            double_long_unsigned(self.to_entry),
            long_unsigned(self.from_column),
            long_unsigned(self.to_column),
        )

    @classmethod
    def from_data(cls, data: Data) -> EntryDescriptor:
        """Raises RemoteProtocolError if `data` is not an entry_descriptor."""
        shape = (Tag.DOUBLE_LONG_UNSIGNED, Tag.DOUBLE_LONG_UNSIGNED, Tag.LONG_UNSIGNED, Tag.LONG_UNSIGNED)
        return cls(*_fields(data, shape))


@dataclass(frozen=True, slots=True)
class RawSelector:
    """A selector as it came, for a class that gives its ids another meaning."""

    selector_id: int
    data: Data

    def to_data(self) -> Data:
        return self.data


Selector = RangeDescriptor | EntryDescriptor | RawSelector


def profile_selector(selector: Selector) -> RangeDescriptor | EntryDescriptor:
    """The selector as class 7 reads it. Raises RemoteProtocolError for an id or a shape that it does not know."""
    if not isinstance(selector, RawSelector):
        return selector
    if selector.selector_id == BY_RANGE:
        return RangeDescriptor.from_data(selector.data)
    if selector.selector_id == BY_ENTRY:
        return EntryDescriptor.from_data(selector.data)
    raise RemoteProtocolError(f"access selector {selector.selector_id}", spec=_SPEC)


def _fields(data: Data, shape: tuple[Tag, ...]) -> tuple[Any, ...]:
    if data.tag != Tag.STRUCTURE or tuple(item.tag for item in data.value) != shape:
        raise RemoteProtocolError(f"not a structure of {', '.join(tag.name for tag in shape)}", spec=_SPEC)
    return tuple(item.value for item in data.value)
