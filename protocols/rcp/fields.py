"""Fields of RCP messages: packing with our own mistakes named as such, unpacking with the peer's."""

from __future__ import annotations

import enum
import functools
import struct
from typing import Any

from protocols.errors import LocalProtocolError, RemoteProtocolError

SPEC = "RCP 1"
NOBODY = bytes(8)
HAS_DESTINATION = 0x01


def pack(layout: struct.Struct, *values: object) -> bytes:
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise LocalProtocolError(f"a field of an RCP message is out of range: {error}") from error


def fixed(value: bytes, size_bytes: int) -> bytes:
    if len(value) != size_bytes:
        raise LocalProtocolError(f"a field of an RCP message has {len(value)} bytes, not {size_bytes}")
    return value


def unpack(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    """All fields after the type byte of a message of fixed size."""
    if len(data) != layout.size:
        raise RemoteProtocolError(f"message has {len(data)} bytes, not {layout.size}", offset=0, spec=SPEC)
    return layout.unpack(data)[1:]


def unpack_head(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    """The fields after the type byte that precede the variable part."""
    if len(data) < layout.size:
        raise RemoteProtocolError(f"message has {len(data)} bytes, not {layout.size} or more", offset=0, spec=SPEC)
    return layout.unpack_from(data)[1:]


@functools.cache
def _members(kind: type[enum.IntEnum]) -> dict[int, Any]:
    return {int(item): item for item in kind}


def member(kind: type[enum.IntEnum], value: int) -> Any:
    found = _members(kind).get(value)
    if found is None:
        raise RemoteProtocolError(f"{value} is not a valid {kind.__name__}", spec=SPEC)
    return found


def boolean(value: int) -> bool:
    if value > 1:
        raise RemoteProtocolError(f"a flag is {value}, neither 0 nor 1", spec=SPEC)
    return value == 1


def cut(data: bytes, head_bytes: int, ies_bytes: int) -> tuple[bytes, bytes]:
    """Payload elements and payload after a head that declares the elements' length."""
    end = head_bytes + ies_bytes
    if end > len(data):
        raise RemoteProtocolError(
            f"{ies_bytes} bytes of elements declared, have {len(data) - head_bytes}", offset=head_bytes, spec=SPEC
        )
    return data[head_bytes:end], data[end:]


def decode_destination(flags: int, address: bytes) -> bytes | None:
    if flags & ~HAS_DESTINATION or (not flags and address != NOBODY):
        raise RemoteProtocolError("flags and destination disagree", spec=SPEC)
    return address if flags else None
