"""COSEM data types and their values (IEC 62056-5-3, type `Data`). `data` has them together with their encoding."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.lengths import encode_length
from protocols.errors import LocalProtocolError


class Tag(enum.IntEnum):
    NULL = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27
    DELTA_INTEGER = 28
    DELTA_LONG = 29
    DELTA_DOUBLE_LONG = 30
    DELTA_UNSIGNED = 31
    DELTA_LONG_UNSIGNED = 32
    DELTA_DOUBLE_LONG_UNSIGNED = 33
    DONT_CARE = 255


class Data(NamedTuple):
    """One typed value. `value` by tag:

    None for null and don't-care; tuple of Data for array and structure; bool; str of "0" and "1" for bit-string;
    int for all integers, enum and bcd (0 to 99); bytes for octet-string; str for visible and utf8 strings; float;
    DateTime, Date, Time; CompactArray.
    """

    tag: int
    value: Any

    def plain(self) -> Any:
        """The value without its types: arrays and structures as lists."""
        if self.tag in (Tag.ARRAY, Tag.STRUCTURE):
            return [item.plain() for item in self.value]
        if self.tag == Tag.COMPACT_ARRAY:
            return [item.plain() for item in self.value.items]
        return self.value

    def __repr__(self) -> str:
        name = Tag(self.tag).name.lower() if self.tag in TAGS else f"tag_{self.tag}"
        return f"{name}({self.value!r})"


class Encoded(bytes):
    """Bytes of one complete A-XDR value, used as they are: what is stored encoded is not decoded to be sent."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ArrayStream:
    """An array of `count` rows, each the A-XDR bytes of one element, made while the answer is being sent.

    `rows` must yield exactly `count` rows.
    """

    count: int
    rows: Iterator[bytes]

    def chunks(self) -> Iterator[bytes]:
        """The A-XDR encoding, in pieces. Raises LocalProtocolError if the number of rows is not `count`."""
        yield bytes((Tag.ARRAY,)) + encode_length(self.count)
        sent = 0
        for row in self.rows:
            sent += 1
            yield row
        if sent != self.count:
            raise LocalProtocolError(f"an array of {self.count} rows yielded {sent}")


Readable = Data | Encoded | ArrayStream
"""What an object may answer a read with."""


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """Shape of a compact array's elements. `count` is the fixed length of an array; `items` its or a structure's."""

    tag: int
    items: tuple[TypeDescription, ...] = ()
    count: int = 0


@dataclass(frozen=True, slots=True)
class CompactArray:
    """Elements of one shape, sent without their tags."""

    description: TypeDescription
    items: tuple[Data, ...]


NULL = Data(Tag.NULL, None)
DONT_CARE = Data(Tag.DONT_CARE, None)


def array(items: Iterable[Data]) -> Data:
    return Data(Tag.ARRAY, tuple(items))


def structure(*items: Data) -> Data:
    return Data(Tag.STRUCTURE, items)


def boolean(value: bool) -> Data:
    return Data(Tag.BOOLEAN, value)


def bit_string(bits: str) -> Data:
    """`bits` is text of "0" and "1", the first bit first."""
    return Data(Tag.BIT_STRING, bits)


def double_long(value: int) -> Data:
    """32 bits, signed."""
    return Data(Tag.DOUBLE_LONG, value)


def double_long_unsigned(value: int) -> Data:
    """32 bits."""
    return Data(Tag.DOUBLE_LONG_UNSIGNED, value)


def octet_string(value: bytes) -> Data:
    return Data(Tag.OCTET_STRING, value)


def visible_string(value: str) -> Data:
    """ASCII."""
    return Data(Tag.VISIBLE_STRING, value)


def utf8_string(value: str) -> Data:
    return Data(Tag.UTF8_STRING, value)


def bcd(value: int) -> Data:
    """Two decimal digits, 0 to 99."""
    return Data(Tag.BCD, value)


def integer(value: int) -> Data:
    """8 bits, signed."""
    return Data(Tag.INTEGER, value)


def long(value: int) -> Data:
    """16 bits, signed."""
    return Data(Tag.LONG, value)


def unsigned(value: int) -> Data:
    """8 bits."""
    return Data(Tag.UNSIGNED, value)


def long_unsigned(value: int) -> Data:
    """16 bits."""
    return Data(Tag.LONG_UNSIGNED, value)


def compact_array(description: TypeDescription, items: Iterable[Data]) -> Data:
    return Data(Tag.COMPACT_ARRAY, CompactArray(description, tuple(items)))


def long64(value: int) -> Data:
    """64 bits, signed."""
    return Data(Tag.LONG64, value)


def long64_unsigned(value: int) -> Data:
    """64 bits."""
    return Data(Tag.LONG64_UNSIGNED, value)


def enumerated(value: int) -> Data:
    """8 bits."""
    return Data(Tag.ENUM, int(value))


def float32(value: float) -> Data:
    return Data(Tag.FLOAT32, value)


def float64(value: float) -> Data:
    return Data(Tag.FLOAT64, value)


def date_time(value: DateTime) -> Data:
    return Data(Tag.DATE_TIME, value)


def date(value: Date) -> Data:
    return Data(Tag.DATE, value)


def time(value: Time) -> Data:
    return Data(Tag.TIME, value)


TAGS = frozenset(int(tag) for tag in Tag)
