"""What RPL carries in IPv6 extension headers: the RPL option (RFC 6553) and the source routing header (RFC 6554)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.ipv6 import ExtensionHeader, Protocol

OPTION_RPL = 0x63
ROUTING_TYPE_SOURCE_ROUTE = 3
_PAD1 = 0
_RPL_OPTION_BYTES = 4
_SPEC_OPTION = "RFC 6553"
_SPEC_ROUTE = "RFC 6554"


@dataclass(frozen=True, slots=True)
class RplOption:
    """RPL packet information (RFC 6553, 3). `sender_rank` is DAGRank of the forwarding router, 0 from the source."""

    instance_id: int
    sender_rank: int
    down: bool = False
    rank_error: bool = False
    forwarding_error: bool = False

    def encode(self) -> ExtensionHeader:
        """A hop-by-hop header that holds this option alone; it needs no padding."""
        flags = self.down << 7 | self.rank_error << 6 | self.forwarding_error << 5
        option = bytes((OPTION_RPL, _RPL_OPTION_BYTES, flags, self.instance_id)) + self.sender_rank.to_bytes(2, "big")
        return ExtensionHeader(Protocol.HOP_BY_HOP, option)

    @classmethod
    def decode(cls, header: ExtensionHeader) -> RplOption | None:
        """The RPL option of a hop-by-hop header, None without one.

        Raises RemoteProtocolError if truncated or if an option that this node does not know forbids to go on
        (RFC 8200, 4.2).
        """
        reader = Reader(header.body, spec=_SPEC_OPTION)
        found: RplOption | None = None
        while reader.remaining:
            kind = reader.u8()
            if kind == _PAD1:
                continue
            body = reader.sub(reader.u8())
            if kind == OPTION_RPL:
                if body.remaining != _RPL_OPTION_BYTES:
                    raise body.error("an RPL option with elements of its own")
                flags, instance_id, rank = body.u8(), body.u8(), body.u16()
                found = cls(instance_id, rank, bool(flags & 0x80), bool(flags & 0x40), bool(flags & 0x20))
            elif kind >> 6:
                raise body.error(f"hop-by-hop option 0x{kind:02x} is not known and may not be skipped")
        return found

    def write_into(self, header: ExtensionHeader) -> ExtensionHeader:
        """The hop-by-hop header with its RPL option overwritten by this one; other options stay."""
        body, offset = header.body, 0
        while body[offset] != OPTION_RPL:
            offset += 1 if body[offset] == _PAD1 else 2 + body[offset + 1]
        option = self.encode().body
        return ExtensionHeader(header.protocol, body[:offset] + option + body[offset + len(option) :])


@dataclass(frozen=True, slots=True)
class SourceRoute:
    """Source routing header (RFC 6554, 3). `addresses` are all of it; `segments_left` of them are still ahead."""

    segments_left: int
    addresses: tuple[bytes, ...]

    def encode(self, destination: bytes) -> ExtensionHeader:
        """As it goes out in a packet to `destination`, whose leading bytes the addresses leave out.

        Raises LocalProtocolError if there is no address, or more than one header can hold.
        """
        if not self.addresses or not 0 <= self.segments_left <= len(self.addresses):
            raise LocalProtocolError(f"{self.segments_left} segments left of {len(self.addresses)}")
        elided_inner = min((_common_bytes(a, destination) for a in self.addresses[:-1]), default=15)
        elided_last = _common_bytes(self.addresses[-1], destination)
        if len(self.addresses) == 1:
            elided_inner = elided_last
        route = b"".join(address[elided_inner:] for address in self.addresses[:-1])
        route += self.addresses[-1][elided_last:]
        padding = -len(route) % 8
        if (6 + len(route) + padding + 2) // 8 - 1 > 0xFF:
            raise LocalProtocolError(f"a source route of {len(self.addresses)} hops is too long")
        head = bytes((ROUTING_TYPE_SOURCE_ROUTE, self.segments_left, elided_inner << 4 | elided_last, padding << 4))
        return ExtensionHeader(Protocol.ROUTING, head + bytes(2) + route + bytes(padding))

    @classmethod
    def decode(cls, header: ExtensionHeader, destination: bytes) -> SourceRoute:
        """Raises RemoteProtocolError if it is of another type, or sizes and segments disagree."""
        reader = Reader(header.body, spec=_SPEC_ROUTE)
        kind, segments_left, elided, padding = reader.take(4)
        reader.take(2)
        if kind != ROUTING_TYPE_SOURCE_ROUTE:
            raise RemoteProtocolError(f"routing type {kind}", offset=0, spec=_SPEC_ROUTE)
        elided_inner, elided_last, padding = elided >> 4, elided & 0x0F, padding >> 4
        route = reader.sub(reader.remaining - padding)
        inner_bytes, last_bytes = 16 - elided_inner, 16 - elided_last
        count, odd = divmod(route.remaining - last_bytes, inner_bytes)
        if route.remaining < last_bytes or odd or padding > 7:
            raise route.error("the addresses do not fill the header")
        addresses = [destination[:elided_inner] + route.take(inner_bytes) for _ in range(count)]
        addresses.append(destination[:elided_last] + route.take(last_bytes))
        if segments_left > len(addresses):
            raise RemoteProtocolError(f"{segments_left} segments left of {len(addresses)}", offset=1, spec=_SPEC_ROUTE)
        return cls(segments_left, tuple(addresses))

    def advance(self, destination: bytes) -> tuple[SourceRoute, bytes]:
        """The header and the destination for the next hop: they change places (RFC 6554, 4.2)."""
        index = len(self.addresses) - self.segments_left
        following = self.addresses[index]
        addresses = (*self.addresses[:index], destination, *self.addresses[index + 1 :])
        return replace(self, segments_left=self.segments_left - 1, addresses=addresses), following


def _common_bytes(a: bytes, b: bytes) -> int:
    """Length of the common beginning, at most 15."""
    count = 0
    while count < 15 and a[count] == b[count]:
        count += 1
    return count
