"""Address compression of LOWPAN_IPHC (RFC 6282, 3.1.1 and 3.2), each mode's two directions side by side."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError
from protocols.mesh.ipv6 import LINK_LOCAL_PREFIX, UNSPECIFIED

_SHORT_IID = b"\x00\x00\x00\xff\xfe\x00"


@dataclass(frozen=True, slots=True)
class Context:
    """A prefix that both ends know by a number (RFC 6282, 3.1.2). Bits of `prefix` after `prefix_bits` are zero."""

    prefix: bytes
    prefix_bits: int = 64

    def __post_init__(self) -> None:
        if len(self.prefix) != 16 or not 0 <= self.prefix_bits <= 128:
            raise LocalProtocolError("a context has a prefix of 16 bytes and a length of 0 to 128 bits")
        if int.from_bytes(self.prefix, "big") & (1 << 128 - self.prefix_bits) - 1:
            raise LocalProtocolError("a context's prefix has bits beyond its length")

    @classmethod
    def of_prefix(cls, prefix: bytes) -> Context:
        """A /64 context from the 8 bytes of a prefix."""
        return cls(prefix + bytes(16 - len(prefix)), 8 * len(prefix))

    def join(self, low_bytes: bytes) -> bytes:
        """An address from this prefix and the low bytes; bits that both give are the prefix's (RFC 6282, 3.1.1)."""
        mask = (1 << 128 - self.prefix_bits) - 1
        low = int.from_bytes(low_bytes, "big") & mask
        return (int.from_bytes(self.prefix, "big") | low).to_bytes(16, "big")


class Contexts:
    """The context table of one node: sixteen places, context 0 is the PAN's own prefix."""

    __slots__ = ("_by_id", "_snapshot")

    def __init__(self, by_id: dict[int, Context] | None = None) -> None:
        self._snapshot: tuple[tuple[int, Context], ...] | None = None
        self._by_id: dict[int, Context] = {}
        for identifier, context in (by_id or {}).items():
            self.set(identifier, context)

    def set(self, identifier: int, context: Context) -> None:
        if not 0 <= identifier <= 15:
            raise LocalProtocolError(f"context identifier {identifier} is not in 0..15")
        self._snapshot = None
        self._by_id[identifier] = context

    def get(self, identifier: int) -> Context | None:
        return self._by_id.get(identifier)

    def clear(self) -> None:
        self._snapshot = None
        self._by_id.clear()

    def items(self) -> list[tuple[int, Context]]:
        return sorted(self._by_id.items())

    def snapshot(self) -> tuple[tuple[int, Context], ...]:
        """The table as it is now, as a key for what is computed from it."""
        if self._snapshot is None:
            self._snapshot = tuple(self.items())
        return self._snapshot


@dataclass(frozen=True, slots=True)
class CompressedAddress:
    """How one address goes out: `stateful` is SAC or DAC, `mode` SAM or DAM, `context` the one it refers to."""

    stateful: bool
    mode: int
    inline: bytes
    context: int = 0


_LINK_LOCAL = Context(LINK_LOCAL_PREFIX + bytes(8), 64)
_STATELESS_UNSPECIFIED = CompressedAddress(True, 0, b"")


def compress_unicast(address: bytes, derived_iid: bytes, contexts: Contexts, *, is_source: bool) -> CompressedAddress:
    """The shortest form. `derived_iid` is the interface identifier of the encapsulating header's address."""
    if address == UNSPECIFIED and is_source:
        return _STATELESS_UNSPECIFIED
    if address[:8] == LINK_LOCAL_PREFIX:
        return _compress_iid(address, derived_iid, _LINK_LOCAL, stateful=False, identifier=0)
    for identifier, context in contexts.items():
        if context.join(address) == address and context.join(bytes(8) + address[8:]) == address:
            return _compress_iid(address, derived_iid, context, stateful=True, identifier=identifier)
    return CompressedAddress(False, 0, address)


def _compress_iid(
    address: bytes, derived_iid: bytes, context: Context, *, stateful: bool, identifier: int
) -> CompressedAddress:
    if context.join(bytes(8) + derived_iid) == address:
        return CompressedAddress(stateful, 3, b"", identifier)
    if context.join(bytes(8) + _SHORT_IID + address[14:]) == address:
        return CompressedAddress(stateful, 2, address[14:], identifier)
    return CompressedAddress(stateful, 1, address[8:], identifier)


def decompress_unicast(
    reader: Reader, *, stateful: bool, mode: int, derived_iid: bytes, context: Context | None, is_source: bool
) -> bytes:
    """The address for SAC/SAM or, with M = 0, DAC/DAM. Raises RemoteProtocolError."""
    if stateful and mode == 0:
        if is_source:
            return UNSPECIFIED
        raise reader.error("destination mode DAC=1, DAM=00 is reserved")
    if mode == 0:
        return reader.take(16)
    if not stateful:
        context = _LINK_LOCAL
    if context is None:
        raise reader.error("an address refers to a context that is not known")
    if mode == 1:
        low_bytes = reader.take(8)
    elif mode == 2:
        low_bytes = _SHORT_IID + reader.take(2)
    else:
        low_bytes = derived_iid
    return context.join(low_bytes)


def compress_multicast(address: bytes, contexts: Contexts) -> CompressedAddress:
    """The shortest form of a multicast destination (M = 1)."""
    if address[:15] == b"\xff\x02" + bytes(13):
        return CompressedAddress(False, 3, address[15:])
    if address[2:13] == bytes(11):
        return CompressedAddress(False, 2, address[1:2] + address[13:])
    if address[2:11] == bytes(9):
        return CompressedAddress(False, 1, address[1:2] + address[11:])
    for identifier, context in contexts.items():
        # Unicast-prefix-based (RFC 3306, 3956): flags and scope, RIID, prefix length, prefix, group.
        if context.prefix_bits <= 64 and address[3:12] == bytes((context.prefix_bits,)) + context.prefix[:8]:
            return CompressedAddress(True, 0, address[1:3] + address[12:], identifier)
    return CompressedAddress(False, 0, address)


def decompress_multicast(reader: Reader, *, stateful: bool, mode: int, context: Context | None) -> bytes:
    """The multicast destination for DAC/DAM with M = 1. Raises RemoteProtocolError."""
    if not stateful:
        if mode == 0:
            address = reader.take(16)
            if address[0] != 0xFF:
                raise reader.error("a multicast destination that is none")
            return address
        if mode == 3:
            return b"\xff\x02" + bytes(13) + reader.take(1)
        group_bytes = 5 if mode == 1 else 3
        scope = reader.take(1)
        return b"\xff" + scope + bytes(14 - group_bytes) + reader.take(group_bytes)
    if mode != 0:
        raise reader.error(f"multicast mode DAC=1, DAM={mode:02b} is reserved")
    if context is None or context.prefix_bits > 64:
        raise reader.error("a multicast address refers to a context that is not known")
    head, group = reader.take(2), reader.take(4)
    return b"\xff" + head + bytes((context.prefix_bits,)) + context.prefix[:8] + group
