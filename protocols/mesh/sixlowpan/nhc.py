"""Next-header compression LOWPAN_NHC (RFC 6282, 4): UDP and IPv6 extension headers."""

from __future__ import annotations

from typing import NamedTuple

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError
from protocols.mesh.ipv6 import ExtensionHeader, Protocol, upper_layer_checksum

UDP_HEADER_BYTES = 8

_UDP_ID = 0xF0
_UDP_ID_MASK = 0xF8
_UDP_CHECKSUM_ELIDED = 0x04
_EXTENSION_ID = 0xE0
_EXTENSION_ID_MASK = 0xF0
_NEXT_HEADER_COMPRESSED = 0x01

# Extension header identifiers (RFC 6282, 4.2). 5 and 6 are reserved.
EID_FRAGMENT = 2
EID_IPV6 = 7
_EID = {
    Protocol.HOP_BY_HOP: 0,
    Protocol.ROUTING: 1,
    Protocol.DESTINATION_OPTIONS: 3,
    Protocol.MOBILITY: 4,
}
_PROTOCOL = {eid: protocol for protocol, eid in _EID.items()}

_PADDED = (Protocol.HOP_BY_HOP, Protocol.DESTINATION_OPTIONS)


def is_udp(nhc: int) -> bool:
    return nhc & _UDP_ID_MASK == _UDP_ID


def is_extension(nhc: int) -> bool:
    return nhc & _EXTENSION_ID_MASK == _EXTENSION_ID


def compress_udp_header(udp: bytes) -> bytes:
    """The NHC form of the 8-byte header at the start of `udp`: length elided, checksum carried."""
    source, destination = udp[0:2], udp[2:4]
    checksum = udp[6:8]
    if source[0] == destination[0] == 0xF0 and source[1] & 0xF0 == destination[1] & 0xF0 == 0xB0:
        return bytes((_UDP_ID | 3, (source[1] & 0x0F) << 4 | destination[1] & 0x0F)) + checksum
    if source[0] == 0xF0:
        return bytes((_UDP_ID | 2, source[1])) + destination + checksum
    if destination[0] == 0xF0:
        return bytes((_UDP_ID | 1,)) + source + destination[1:] + checksum
    return bytes((_UDP_ID,)) + source + destination + checksum


class UdpFields(NamedTuple):
    """What a compressed UDP header says. `checksum` is None where it was elided."""

    source_port: bytes
    destination_port: bytes
    checksum: bytes | None

    def build(self, payload: bytes, size_bytes: int, source: bytes, destination: bytes) -> bytes:
        """The UDP header with `size_bytes` in its length field, and the payload, which may be the first part only."""
        head = self.source_port + self.destination_port + size_bytes.to_bytes(2, "big")
        checksum = self.checksum
        if checksum is None:
            draft = head + b"\x00\x00" + payload
            checksum = (upper_layer_checksum(source, destination, Protocol.UDP, draft) or 0xFFFF).to_bytes(2, "big")
        return head + checksum + payload


def decompress_udp_header(reader: Reader) -> UdpFields:
    """Raises RemoteProtocolError if truncated or not UDP."""
    nhc = reader.u8()
    if not is_udp(nhc):
        raise reader.error(f"next-header encoding 0x{nhc:02x} is not UDP")
    mode = nhc & 3
    if mode == 3:
        ports = reader.u8()
        source, destination = bytes((0xF0, 0xB0 | ports >> 4)), bytes((0xF0, 0xB0 | ports & 0x0F))
    elif mode == 2:
        source, destination = b"\xf0" + reader.take(1), reader.take(2)
    elif mode == 1:
        source, destination = reader.take(2), b"\xf0" + reader.take(1)
    else:
        source, destination = reader.take(2), reader.take(2)
    return UdpFields(source, destination, None if nhc & _UDP_CHECKSUM_ELIDED else reader.take(2))


def can_compress(extension: ExtensionHeader) -> bool:
    """The length byte counts single bytes, which bounds what it can carry."""
    return extension.protocol in _EID and len(_without_padding(extension)) <= 0xFF


def compress_extension(extension: ExtensionHeader, next_header: int | None) -> bytes:
    """The NHC form; `next_header` None says that what follows is compressed too."""
    eid = _EID.get(Protocol(extension.protocol))
    if eid is None:
        raise LocalProtocolError(f"extension header {extension.protocol} has no NHC form")
    body = _without_padding(extension)
    head = _EXTENSION_ID | eid << 1
    if next_header is None:
        return bytes((head | _NEXT_HEADER_COMPRESSED, len(body))) + body
    return bytes((head, next_header, len(body))) + body


def decompress_extension(reader: Reader) -> tuple[ExtensionHeader, int | None]:
    """The extension header and the next header, None if that is compressed. Raises RemoteProtocolError."""
    nhc = reader.u8()
    protocol = _PROTOCOL.get(nhc >> 1 & 7) if is_extension(nhc) else None
    if protocol is None:
        raise reader.error(f"next-header encoding 0x{nhc:02x} is not known")
    next_header = None if nhc & _NEXT_HEADER_COMPRESSED else reader.u8()
    body = reader.take(reader.u8())
    missing = (6 - len(body)) % 8
    if missing:
        if protocol not in _PADDED:
            raise reader.error(f"an extension header of {len(body) + 2} bytes is not a multiple of 8")
        body += bytes(1) if missing == 1 else bytes((1, missing - 2)) + bytes(missing - 2)
    return ExtensionHeader(protocol, body), next_header


def _without_padding(extension: ExtensionHeader) -> bytes:
    """The body without a single trailing Pad1 or PadN, which the decompressor restores (RFC 6282, 4.2)."""
    body = extension.body
    if extension.protocol not in _PADDED:
        return body
    offset, last = 0, 0
    while offset < len(body):
        last = offset
        offset += 1 if body[offset] == 0 else 2 + (body[offset + 1] if offset + 1 < len(body) else 0)
    pad = body[last:]
    canonical = pad == b"\x00" or (pad[0] == 1 and pad == bytes((1, len(pad) - 2)) + bytes(len(pad) - 2))
    if offset != len(body) or not canonical or len(pad) > 7 or (6 - last) % 8 != len(pad):
        return body
    return body[:last]
