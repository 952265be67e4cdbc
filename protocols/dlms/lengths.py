"""Lengths as A-XDR and BER write them alike."""

from __future__ import annotations

from protocols.cursor import Reader


def encode_length(length: int) -> bytes:
    """A-XDR length: one byte below 128, else the number of bytes and the length."""
    if length < 0x80:
        return bytes((length,))
    size_bytes = (length.bit_length() + 7) // 8
    return bytes((0x80 | size_bytes,)) + length.to_bytes(size_bytes, "big")


def decode_length(reader: Reader) -> int:
    """Raises RemoteProtocolError above four bytes of length."""
    first = reader.u8()
    if first < 0x80:
        return first
    size_bytes = first & 0x7F
    if not 1 <= size_bytes <= 4:
        raise reader.error(f"a length of {size_bytes} bytes")
    return int.from_bytes(reader.take(size_bytes), "big")
