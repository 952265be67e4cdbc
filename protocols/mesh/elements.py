"""Information elements of IEEE 802.15.4-2015, 7.4: lists of header and payload elements, and their terminations."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from protocols.errors import LocalProtocolError, RemoteProtocolError

_SPEC = "IEEE 802.15.4-2015, 7.4"

HT1 = b"\x00\x3f"
"""Header termination 1 (element 0x7e): payload elements follow."""
HT2 = b"\x80\x3f"
"""Header termination 2 (element 0x7f): the payload follows."""
PAYLOAD_TERMINATION = b"\x00\xf8"
_HT1_ID = 0x7E
_HT2_ID = 0x7F
_PAYLOAD_TERMINATION_ID = 0xF


class Termination(enum.Enum):
    """What the list of header elements ends with."""

    NONE = b""
    HT1 = HT1
    HT2 = HT2


def encode_header_ie(element_id: int, content: bytes) -> bytes:
    if not 0 <= element_id <= 0xFF or len(content) > 0x7F:
        raise LocalProtocolError(f"header element 0x{element_id:x} with {len(content)} bytes cannot be encoded")
    return (len(content) | element_id << 7).to_bytes(2, "little") + content


def iterate_header_ies(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Element id and content of each header element. Raises RemoteProtocolError."""
    offset, end = 0, len(data)
    while offset < end:
        if offset + 2 > end:
            raise RemoteProtocolError("header element is cut off", offset=offset, spec=_SPEC)
        descriptor = data[offset] | data[offset + 1] << 8
        stop = offset + 2 + (descriptor & 0x7F)
        if descriptor & 0x8000 or stop > end:
            raise RemoteProtocolError("header element is cut off or of the wrong type", offset=offset, spec=_SPEC)
        yield descriptor >> 7 & 0xFF, data[offset + 2 : stop]
        offset = stop


def encode_payload_ie(group_id: int, content: bytes) -> bytes:
    if not 0 <= group_id <= 0xF or len(content) > 0x7FF:
        raise LocalProtocolError(f"payload element 0x{group_id:x} with {len(content)} bytes cannot be encoded")
    return (len(content) | group_id << 11 | 0x8000).to_bytes(2, "little") + content


def iterate_payload_ies(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Group id and content of each payload element, up to the end of `data`. Raises RemoteProtocolError."""
    offset, end = 0, len(data)
    while offset < end:
        if offset + 2 > end:
            raise RemoteProtocolError("payload element is cut off", offset=offset, spec=_SPEC)
        descriptor = data[offset] | data[offset + 1] << 8
        stop = offset + 2 + (descriptor & 0x7FF)
        if not descriptor & 0x8000 or stop > end:
            raise RemoteProtocolError("payload element is cut off or of the wrong type", offset=offset, spec=_SPEC)
        yield descriptor >> 11 & 0xF, data[offset + 2 : stop]
        offset = stop


def walk_header_ies(frame: bytes, offset: int, end: int) -> tuple[int, int, Termination]:
    """Where the elements stop, where the body begins, and what stands between."""
    while offset < end:
        if offset + 2 > end:
            raise RemoteProtocolError("header element is cut off", offset=offset, spec=_SPEC)
        descriptor = frame[offset] | frame[offset + 1] << 8
        if descriptor & 0x8000:
            raise RemoteProtocolError("payload element among the header elements", offset=offset, spec=_SPEC)
        size, element = descriptor & 0x7F, descriptor >> 7 & 0xFF
        if element in (_HT1_ID, _HT2_ID):
            if size:
                raise RemoteProtocolError("header termination has content", offset=offset, spec=_SPEC)
            return offset, offset + 2, Termination.HT1 if element == _HT1_ID else Termination.HT2
        if offset + 2 + size > end:
            raise RemoteProtocolError(f"header element 0x{element:02x} is cut off", offset=offset, spec=_SPEC)
        offset += 2 + size
    if offset > end:
        raise RemoteProtocolError("header elements are cut off", offset=offset, spec=_SPEC)
    return offset, offset, Termination.NONE


def split_payload_ies(body: bytes) -> tuple[bytes, bytes]:
    """Payload elements, and the payload behind their termination, which is in neither. Raises RemoteProtocolError."""
    offset, end = 0, len(body)
    while offset < end:
        if offset + 2 > end:
            raise RemoteProtocolError("payload element is cut off", offset=offset, spec=_SPEC)
        descriptor = body[offset] | body[offset + 1] << 8
        stop = offset + 2 + (descriptor & 0x7FF)
        if not descriptor & 0x8000 or stop > end:
            raise RemoteProtocolError("payload element is cut off or of the wrong type", offset=offset, spec=_SPEC)
        if descriptor >> 11 & 0xF == _PAYLOAD_TERMINATION_ID:
            return body[:offset], body[stop:]
        offset = stop
    return body, b""
