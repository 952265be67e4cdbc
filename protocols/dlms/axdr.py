"""A-XDR of COSEM data, both directions (IEC 61334-6)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from protocols.cursor import Reader
from protocols.dlms.data_types import TAGS, ArrayStream, CompactArray, Data, Encoded, Readable, Tag, TypeDescription
from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.lengths import decode_length, encode_length
from protocols.errors import LocalProtocolError, RemoteProtocolError

SPEC = "IEC 62056-5-3, Data"
_MAX_DEPTH = 16

_INTEGERS = {
    Tag.DOUBLE_LONG: ">i",
    Tag.DOUBLE_LONG_UNSIGNED: ">I",
    Tag.INTEGER: ">b",
    Tag.LONG: ">h",
    Tag.UNSIGNED: ">B",
    Tag.LONG_UNSIGNED: ">H",
    Tag.LONG64: ">q",
    Tag.LONG64_UNSIGNED: ">Q",
    Tag.ENUM: ">B",
    Tag.DELTA_INTEGER: ">b",
    Tag.DELTA_LONG: ">h",
    Tag.DELTA_DOUBLE_LONG: ">i",
    Tag.DELTA_UNSIGNED: ">B",
    Tag.DELTA_LONG_UNSIGNED: ">H",
    Tag.DELTA_DOUBLE_LONG_UNSIGNED: ">I",
}
_FLOATS = {Tag.FLOAT32: ">f", Tag.FLOAT64: ">d"}
_FIXED: dict[int, struct.Struct] = {int(tag): struct.Struct(form) for tag, form in (_INTEGERS | _FLOATS).items()}
_PACK_TAGGED: dict[int, Callable[..., bytes]] = {
    int(tag): struct.Struct(">B" + form[1:]).pack for tag, form in (_INTEGERS | _FLOATS).items()
}
_UNPACK: dict[int, tuple[Callable[..., tuple[Any, ...]], int]] = {
    tag: (form.unpack, form.size) for tag, form in _FIXED.items()
}


# encoding


def encode(data: Data | Encoded) -> bytes:
    """The A-XDR bytes. Raises LocalProtocolError if a value does not fit its type."""
    if isinstance(data, Encoded):
        return data
    tag, value = data
    pack = _PACK_TAGGED.get(tag)
    if pack is not None:
        try:
            return pack(tag, value)
        except (struct.error, OverflowError) as error:
            raise LocalProtocolError(f"{value!r} does not fit {data!r}") from error
    return bytes((tag,)) + _encode_content(tag, value)


def chunks(value: Readable) -> Iterator[bytes]:
    """The A-XDR bytes of any readable, in pieces."""
    if isinstance(value, ArrayStream):
        return value.chunks()
    return iter((encode(value),))


def _encode_content(tag: int, value: Any) -> bytes:
    form = _FIXED.get(tag)
    try:
        if form is not None:
            return form.pack(value)
        return _ENCODERS[tag](value)
    except (struct.error, OverflowError, TypeError, AttributeError, ValueError) as error:
        raise LocalProtocolError(f"{value!r} is no value for tag {tag}") from error
    except KeyError as error:
        raise LocalProtocolError(f"there is no data type with tag {tag}") from error


def _encode_items(items: tuple[Data, ...]) -> bytes:
    return encode_length(len(items)) + b"".join(map(encode, items))


def _encode_bits(bits: str) -> bytes:
    if bits.strip("01"):
        raise ValueError("a bit string is written with 0 and 1")
    padded = bits + "0" * (-len(bits) % 8)
    return encode_length(len(bits)) + int("1" + padded, 2).to_bytes(len(padded) // 8 + 1, "big")[1:]


def _encode_bytes(value: bytes) -> bytes:
    return encode_length(len(value)) + value


def _encode_bcd(value: int) -> bytes:
    if not 0 <= value <= 99:
        raise ValueError("two decimal digits")
    return bytes((value // 10 << 4 | value % 10,))


def _encode_compact_array(value: CompactArray) -> bytes:
    content = b"".join(_encode_compact(value.description, item) for item in value.items)
    if value.items and len(content) < len(value.items):
        raise ValueError("elements of a compact array must take room")
    return _encode_description(value.description) + encode_length(len(content)) + content


def _encode_description(description: TypeDescription) -> bytes:
    head = bytes((description.tag,))
    if description.tag == Tag.ARRAY:
        (item,) = description.items
        return head + struct.pack(">H", description.count) + _encode_description(item)
    if description.tag == Tag.STRUCTURE:
        items = b"".join(map(_encode_description, description.items))
        return head + encode_length(len(description.items)) + items
    return head


def _encode_compact(description: TypeDescription, data: Data) -> bytes:
    if data.tag != description.tag:
        raise ValueError(f"{data!r} where the compact array has tag {description.tag}")
    if data.tag == Tag.ARRAY:
        if len(data.value) != description.count:
            raise ValueError(f"{len(data.value)} elements where the compact array has {description.count}")
        return b"".join(_encode_compact(description.items[0], item) for item in data.value)
    if data.tag == Tag.STRUCTURE:
        pairs = zip(description.items, data.value, strict=True)
        return b"".join(_encode_compact(item, value) for item, value in pairs)
    return _encode_content(data.tag, data.value)


_ENCODERS: dict[int, Callable[[Any], bytes]] = {
    Tag.NULL: lambda _: b"",
    Tag.DONT_CARE: lambda _: b"",
    Tag.ARRAY: _encode_items,
    Tag.STRUCTURE: _encode_items,
    Tag.BOOLEAN: lambda value: b"\x01" if value else b"\x00",
    Tag.BIT_STRING: _encode_bits,
    Tag.OCTET_STRING: _encode_bytes,
    Tag.VISIBLE_STRING: lambda value: _encode_bytes(value.encode("ascii")),
    Tag.UTF8_STRING: lambda value: _encode_bytes(value.encode("utf-8")),
    Tag.BCD: _encode_bcd,
    Tag.DATE_TIME: DateTime.encode,
    Tag.DATE: Date.encode,
    Tag.TIME: Time.encode,
    Tag.COMPACT_ARRAY: _encode_compact_array,
}


# decoding


def decode(raw: bytes) -> Data:
    """One value that takes all of `raw`. Raises RemoteProtocolError."""
    reader = Reader(raw, spec=SPEC)
    data = decode_from(reader)
    reader.expect_end()
    return data


def decode_from(reader: Reader, depth: int = 0) -> Data:
    """The next value of `reader`. Raises RemoteProtocolError if truncated, unknown or nested deeper than 16."""
    tag = reader.u8()
    return Data(tag, _decode_content(tag, reader, depth))


def _decode_content(tag: int, reader: Reader, depth: int) -> Any:
    fixed = _UNPACK.get(tag)
    if fixed is not None:
        unpack, size_bytes = fixed
        return unpack(reader.take(size_bytes))[0]
    decoder = _DECODERS.get(tag)
    if decoder is None:
        raise reader.error(f"there is no data type with tag {tag}")
    return decoder(reader, depth)


def _decode_items(reader: Reader, depth: int) -> tuple[Data, ...]:
    if depth >= _MAX_DEPTH:
        raise reader.error(f"nested deeper than {_MAX_DEPTH}")
    count = decode_length(reader)
    if count > reader.remaining:
        raise reader.error(f"{count} elements in {reader.remaining} bytes")
    return tuple([decode_from(reader, depth + 1) for _ in range(count)])


def _decode_bits(reader: Reader, _: int) -> str:
    count = decode_length(reader)
    size_bytes = (count + 7) // 8
    raw = reader.take(size_bytes)
    return format(int.from_bytes(b"\x01" + raw, "big"), "b")[1 : count + 1]


def _decode_bytes(reader: Reader, _: int) -> bytes:
    return reader.take(decode_length(reader))


def _decode_text(encoding: str) -> Callable[[Reader, int], str]:
    def decoder(reader: Reader, _: int) -> str:
        raw = reader.take(decode_length(reader))
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as error:
            raise reader.error(f"a string that is not {encoding}") from error

    return decoder


def _decode_bcd(reader: Reader, _: int) -> int:
    raw = reader.u8()
    if raw >> 4 > 9 or raw & 0x0F > 9:
        raise reader.error(f"0x{raw:02X} is not two decimal digits")
    return (raw >> 4) * 10 + (raw & 0x0F)


def _decode_boolean(reader: Reader, _: int) -> bool:
    return reader.u8() != 0


def _decode_compact_array(reader: Reader, depth: int) -> CompactArray:
    description = _decode_description(reader, depth)
    content = reader.sub(decode_length(reader))
    if _least_size_bytes(description) == 0 and content.remaining:
        raise content.error("an element of a compact array takes no room")
    items = []
    while content.remaining:
        items.append(_decode_compact(description, content, depth + 1))
    return CompactArray(description, tuple(items))


def _least_size_bytes(description: TypeDescription) -> int:
    """The least that an element takes. Arrays of nothing count as nothing, however many."""
    if description.tag == Tag.ARRAY:
        return description.count * _least_size_bytes(description.items[0])
    if description.tag == Tag.STRUCTURE:
        return sum(map(_least_size_bytes, description.items))
    if description.tag in (Tag.NULL, Tag.DONT_CARE):
        return 0
    return 1


def _decode_description(reader: Reader, depth: int) -> TypeDescription:
    if depth >= _MAX_DEPTH:
        raise reader.error(f"nested deeper than {_MAX_DEPTH}")
    tag = reader.u8()
    if tag == Tag.ARRAY:
        count = reader.u16()
        item = _decode_description(reader, depth + 1)
        if _least_size_bytes(item) == 0:
            raise reader.error("an array of elements that take no room")  # a few bytes would make any number of them
        return TypeDescription(tag, (item,), count)
    if tag == Tag.STRUCTURE:
        count = decode_length(reader)
        if count > reader.remaining:
            raise reader.error(f"{count} elements in {reader.remaining} bytes")
        return TypeDescription(tag, tuple(_decode_description(reader, depth + 1) for _ in range(count)))
    if tag not in TAGS or tag == Tag.COMPACT_ARRAY:
        raise reader.error(f"no compact array has elements with tag {tag}")
    return TypeDescription(tag)


def _decode_compact(description: TypeDescription, reader: Reader, depth: int) -> Data:
    tag = description.tag
    if tag == Tag.ARRAY:
        if description.count > reader.remaining:
            raise reader.error(f"{description.count} elements in {reader.remaining} bytes")
        items = description.items[0]
        return Data(tag, tuple(_decode_compact(items, reader, depth + 1) for _ in range(description.count)))
    if tag == Tag.STRUCTURE:
        return Data(tag, tuple(_decode_compact(item, reader, depth + 1) for item in description.items))
    return Data(tag, _decode_content(tag, reader, depth))


def _located(decoder: Callable[[bytes], Any], size_bytes: int) -> Callable[[Reader, int], Any]:
    def located(reader: Reader, _: int) -> Any:
        raw = reader.take(size_bytes)
        try:
            return decoder(raw)
        except RemoteProtocolError as error:
            raise reader.error(str(error)) from error

    return located


_DECODERS: dict[int, Callable[[Reader, int], Any]] = {
    Tag.NULL: lambda _reader, _depth: None,
    Tag.DONT_CARE: lambda _reader, _depth: None,
    Tag.ARRAY: _decode_items,
    Tag.STRUCTURE: _decode_items,
    Tag.BOOLEAN: _decode_boolean,
    Tag.BIT_STRING: _decode_bits,
    Tag.OCTET_STRING: _decode_bytes,
    Tag.VISIBLE_STRING: _decode_text("ascii"),
    Tag.UTF8_STRING: _decode_text("utf-8"),
    Tag.BCD: _decode_bcd,
    Tag.DATE_TIME: _located(DateTime.decode, 12),
    Tag.DATE: _located(Date.decode, 5),
    Tag.TIME: _located(Time.decode, 4),
    Tag.COMPACT_ARRAY: _decode_compact_array,
}


def skip(reader: Reader, depth: int = 0) -> None:
    """Move past the next value without making it. Raises RemoteProtocolError as `decode_from` does."""
    tag = reader.u8()
    fixed = _UNPACK.get(tag)
    if fixed is not None:
        reader.take(fixed[1])
    elif tag in (Tag.ARRAY, Tag.STRUCTURE):
        if depth >= _MAX_DEPTH:
            raise reader.error(f"nested deeper than {_MAX_DEPTH}")
        for _ in range(decode_length(reader)):
            skip(reader, depth + 1)
    else:
        _decode_content(tag, reader, depth)
