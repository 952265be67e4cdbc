"""IPv6 packets (RFC 8200), their extension headers, addresses and the internet checksum.

Addresses are 16 bytes. Extension headers are kept apart from the upper layer, as forwarding rewrites them.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass, field, replace

from protocols.errors import LocalProtocolError, RemoteProtocolError

SPEC = "RFC 8200"
HEADER_BYTES = 40
ADDRESS_BYTES = 16
DEFAULT_HOP_LIMIT = 64

UNSPECIFIED = bytes(16)
LINK_LOCAL_PREFIX = bytes.fromhex("fe80000000000000")
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
LINK_MPL_FORWARDERS = bytes.fromhex("ff0200000000000000000000000000fc")
ALL_MPL_FORWARDERS = bytes.fromhex("ff0300000000000000000000000000fc")
ALL_RPL_NODES = bytes.fromhex("ff02000000000000000000000000001a")

_HEADER = struct.Struct(">IHBB16s16s")


class Protocol(enum.IntEnum):
    """Next-header values that this stack knows."""

    HOP_BY_HOP = 0
    UDP = 17
    IPV6 = 41
    ROUTING = 43
    FRAGMENT = 44
    ICMPV6 = 58
    NO_NEXT_HEADER = 59
    DESTINATION_OPTIONS = 60
    MOBILITY = 135


# Headers that carry their length in units of 8 bytes and are walked through to find the upper layer.
EXTENSION_PROTOCOLS = frozenset(
    (Protocol.HOP_BY_HOP, Protocol.ROUTING, Protocol.DESTINATION_OPTIONS, Protocol.MOBILITY)
)


def interface_identifier(link_address: bytes) -> bytes:
    """The modified EUI-64 of a link address (RFC 4291, appendix A; RFC 6282, 3.2.2 for 16-bit addresses)."""
    if len(link_address) == 8:
        return bytes((link_address[0] ^ 2,)) + link_address[1:]
    if len(link_address) == 2:
        return b"\x00\x00\x00\xff\xfe\x00" + link_address
    raise LocalProtocolError(f"a link address has 2 or 8 bytes, not {len(link_address)}")


def eui64_of(address: bytes) -> bytes:
    """The EUI-64 from which an address was made by `interface_identifier`."""
    return bytes((address[8] ^ 2,)) + address[9:]


def link_local(link_address: bytes) -> bytes:
    return LINK_LOCAL_PREFIX + interface_identifier(link_address)


def is_link_local(address: bytes) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_multicast(address: bytes) -> bool:
    return address[0] == 0xFF


def is_beyond_link(address: bytes) -> bool:
    """Whether a multicast address is of realm-local scope or wider (RFC 7346)."""
    return address[0] == 0xFF and address[1] & 0x0F >= 3


def address_text(address: bytes) -> str:
    """As RFC 5952 writes it."""
    return str(ipaddress.IPv6Address(address))


def address_bytes(text: str) -> bytes:
    """Raises ValueError if `text` is not an IPv6 address."""
    return ipaddress.IPv6Address(text).packed


@dataclass(frozen=True, slots=True)
class ExtensionHeader:
    """An extension header without its next-header and length bytes: `body` has 8n + 6 bytes."""

    protocol: int
    body: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.body) + 2

    def encode(self, next_header: int) -> bytes:
        if len(self.body) % 8 != 6:
            raise LocalProtocolError(f"an extension header of {self.size_bytes} bytes is not a multiple of 8")
        return bytes((next_header, self.size_bytes // 8 - 1)) + self.body


@dataclass(frozen=True, slots=True)
class Ipv6Packet:
    """An IPv6 packet: fixed header, extension headers in order, and the upper layer `payload` of `protocol`."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes = field(repr=False)
    hop_limit: int = DEFAULT_HOP_LIMIT
    traffic_class: int = 0
    flow_label: int = 0
    extensions: tuple[ExtensionHeader, ...] = ()

    @property
    def size_bytes(self) -> int:
        extensions = self.extensions
        size = HEADER_BYTES + len(self.payload)
        return size + sum(extension.size_bytes for extension in extensions) if extensions else size

    def encode(self, datagram_bytes: int | None = None) -> bytes:
        """The packet's bytes. `datagram_bytes` is the size to claim when `payload` holds the beginning only."""
        extensions = self.extensions
        protocols = [*(extension.protocol for extension in extensions), self.protocol]
        chain = b"".join(
            extension.encode(next_header) for extension, next_header in zip(extensions, protocols[1:], strict=True)
        )
        payload_bytes = len(chain) + len(self.payload) if datagram_bytes is None else datagram_bytes - HEADER_BYTES
        if payload_bytes > 0xFFFF:
            raise LocalProtocolError(f"an IPv6 payload of {payload_bytes} bytes")
        word = 0x6000_0000 | self.traffic_class << 20 | self.flow_label
        header = _HEADER.pack(word, payload_bytes, protocols[0], self.hop_limit, self.source, self.destination)
        return header + chain + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Ipv6Packet:
        """Raises RemoteProtocolError if the bytes are not one whole IPv6 packet."""
        if len(data) < HEADER_BYTES:
            raise RemoteProtocolError(f"an IPv6 header of {len(data)} bytes", offset=0, spec=SPEC)
        word, payload_bytes, protocol, hop_limit, source, destination = _HEADER.unpack_from(data)
        if word >> 28 != 6:
            raise RemoteProtocolError(f"IP version {word >> 28}", offset=0, spec=SPEC)
        if payload_bytes != len(data) - HEADER_BYTES:
            have = len(data) - HEADER_BYTES
            raise RemoteProtocolError(f"payload length {payload_bytes}, have {have}", offset=4, spec=SPEC)
        extensions, protocol, offset = _decode_extensions(data, protocol)
        return cls(
            source=source,
            destination=destination,
            protocol=protocol,
            payload=data[offset:],
            hop_limit=hop_limit,
            traffic_class=word >> 20 & 0xFF,
            flow_label=word & 0xF_FFFF,
            extensions=extensions,
        )

    def with_extension(self, extension: ExtensionHeader) -> Ipv6Packet:
        """This packet with one extension header more, before the others if it is hop-by-hop, else after."""
        if extension.protocol == Protocol.HOP_BY_HOP:
            return replace(self, extensions=(extension, *self.extensions))
        return replace(self, extensions=(*self.extensions, extension))

    def extension(self, protocol: int) -> ExtensionHeader | None:
        """The first extension header of that protocol."""
        for extension in self.extensions:
            if extension.protocol == protocol:
                return extension
        return None

    def replacing(self, old: ExtensionHeader, new: ExtensionHeader) -> tuple[ExtensionHeader, ...]:
        """The extension headers with one of them exchanged."""
        return tuple(new if extension is old else extension for extension in self.extensions)


def _decode_extensions(data: bytes, protocol: int) -> tuple[tuple[ExtensionHeader, ...], int, int]:
    """Extension headers, upper protocol and its offset in a packet whose fixed header says `protocol`."""
    if protocol not in EXTENSION_PROTOCOLS:
        return (), protocol, HEADER_BYTES
    offset = HEADER_BYTES
    found: list[ExtensionHeader] = []
    while protocol in EXTENSION_PROTOCOLS:
        if protocol == Protocol.HOP_BY_HOP and found:
            raise RemoteProtocolError("hop-by-hop options are not first", offset=offset, spec=SPEC)
        if len(data) - offset < 8:
            raise RemoteProtocolError("truncated extension header", offset=offset, spec=SPEC)
        size_bytes = (data[offset + 1] + 1) * 8
        if len(data) - offset < size_bytes:
            raise RemoteProtocolError(
                f"extension header of {size_bytes} bytes, have {len(data) - offset}", offset=offset, spec=SPEC
            )
        found.append(ExtensionHeader(protocol, data[offset + 2 : offset + size_bytes]))
        protocol = data[offset]
        offset += size_bytes
    return tuple(found), protocol, offset


def _pseudo_header_sum(source: bytes, destination: bytes, protocol: int, size_bytes: int) -> int:
    return int.from_bytes(source, "big") + int.from_bytes(destination, "big") + protocol + size_bytes


def upper_layer_checksum(source: bytes, destination: bytes, protocol: int, message: bytes) -> int:
    """Internet checksum (RFC 1071) of a message whose checksum field is zero, with the pseudo-header of RFC 8200, 8.1.

    2^16 is 1 modulo 65,535, so the one's-complement sum of 16-bit words is the whole number modulo 65,535.
    """
    padded = message if len(message) % 2 == 0 else message + b"\x00"
    total = _pseudo_header_sum(source, destination, protocol, len(message)) + int.from_bytes(padded, "big")
    return (0xFFFF - total % 0xFFFF) % 0xFFFF


def checksum_is_right(source: bytes, destination: bytes, protocol: int, message: bytes) -> bool:
    """Whether a message with its checksum field filled in sums up to zero."""
    padded = message if len(message) % 2 == 0 else message + b"\x00"
    total = _pseudo_header_sum(source, destination, protocol, len(message)) + int.from_bytes(padded, "big")
    return total % 0xFFFF == 0
