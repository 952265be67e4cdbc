"""The little of BER that ACSE needs: tag, length, value (ITU-T X.690, definite lengths)."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.cursor import Reader
from protocols.dlms.data import decode_length, encode_length


def tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + encode_length(len(content)) + content


def read_tlv(reader: Reader) -> tuple[int, Reader]:
    """The next tag and a reader over its content. Raises RemoteProtocolError if truncated."""
    tag = reader.u8()
    return tag, reader.sub(decode_length(reader))


def read_all(reader: Reader) -> Iterator[tuple[int, Reader]]:
    """Every tag and content to the end of `reader`."""
    while reader.remaining:
        yield read_tlv(reader)


def read_only(reader: Reader, tag: int) -> Reader:
    """The content of the one element that `reader` holds, which must have this tag."""
    found, content = read_tlv(reader)
    if found != tag:
        raise reader.error(f"tag 0x{found:02X} where 0x{tag:02X} is due")
    reader.expect_end()
    return content


def read_integer(reader: Reader) -> int:
    """Content of an INTEGER of at most 4 bytes."""
    raw = reader.rest()
    if not 1 <= len(raw) <= 4:
        raise reader.error(f"an integer of {len(raw)} bytes")
    return int.from_bytes(raw, "big", signed=True)
