# SPDX-License-Identifier: GPL-2.0-only
"""Fields and bases that the layers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapy.fields import Field
from scapy.packet import Packet

LinkSize = Callable[[Any], int]


class Element(Packet):
    """A packet that lives in a list and knows its own end: what follows belongs to its neighbours."""

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        return b"", s


def take(data: bytes, size_bytes: int) -> tuple[bytes, bytes]:
    """The first bytes and the rest. Raises ValueError if there are not so many: Scapy then shows raw bytes."""
    if size_bytes < 0 or len(data) < size_bytes:
        raise ValueError(f"need {size_bytes} bytes, have {len(data)}")
    return data[:size_bytes], data[size_bytes:]


class LinkAddressField(Field[Any, bytes]):
    """A link address, little-endian on the air, as text with colons: `02:12:74:01:00:01:01:01` or `ff:ff`."""

    __slots__ = ["_size_of"]

    def __init__(self, name: str, default: str | None, size_of: LinkSize) -> None:
        super().__init__(name, default, fmt="8s")
        self._size_of = size_of

    def i2len(self, pkt: Any, x: Any) -> int:
        return self._size_of(pkt)

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        if val is None:
            return s + bytes(self._size_of(pkt))
        return s + address_bytes(val)[::-1]

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, Any]:
        raw, rest = take(s, self._size_of(pkt))
        return rest, raw[::-1].hex(":")

    def any2i(self, pkt: Any, x: Any) -> Any:
        return x.hex(":") if isinstance(x, bytes) else x


def address_bytes(text: str | None) -> bytes:
    """The bytes of an address written with or without colons; none for None."""
    return b"" if text is None else bytes.fromhex(text.replace(":", ""))


class HexField(Field[Any, bytes]):
    """Bytes as hexadecimal text, as many as `size_of` says, or (None) all that are left."""

    __slots__ = ["_size_of"]

    def __init__(self, name: str, default: str, size_of: LinkSize | None = None) -> None:
        super().__init__(name, default, fmt="H")
        self._size_of = size_of

    def i2len(self, pkt: Any, x: Any) -> int:
        return len(bytes.fromhex(x or ""))

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        return s + bytes.fromhex(val or "")

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, Any]:
        size_bytes = len(s) if self._size_of is None else self._size_of(pkt)
        raw, rest = take(s, size_bytes)
        return rest, raw.hex()

    def any2i(self, pkt: Any, x: Any) -> Any:
        return x.hex() if isinstance(x, bytes) else x


class TrailerField(Field[Any, bytes]):
    """A field of the frame's end, which its layer cuts off before and appends after: no bytes of its own here."""

    def __init__(self, name: str, default: Any) -> None:
        super().__init__(name, default, fmt="H")

    def i2len(self, pkt: Any, x: Any) -> int:
        return 0

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        return s

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, Any]:
        return s, pkt.trailer_value(self.name)
