"""UDP over IPv6 (RFC 768; RFC 8200, 8.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.ipv6 import Protocol, checksum_is_right, upper_layer_checksum

SPEC = "RFC 768"
HEADER_BYTES = 8
PORT_MAX = 0xFFFF

_HEADER = struct.Struct(">HHHH")


@dataclass(frozen=True, slots=True)
class UdpDatagram:
    """A UDP datagram; its checksum is made and checked against the IPv6 addresses."""

    source_port: int
    destination_port: int
    payload: bytes = field(repr=False)

    def encode(self, source: bytes, destination: bytes) -> bytes:
        """Raises LocalProtocolError for a port or a size that does not fit in 16 bits."""
        size_bytes = HEADER_BYTES + len(self.payload)
        if not (0 <= self.source_port <= PORT_MAX and 0 <= self.destination_port <= PORT_MAX):
            raise LocalProtocolError(f"UDP ports {self.source_port}, {self.destination_port}")
        if size_bytes > 0xFFFF:
            raise LocalProtocolError(f"a UDP datagram of {size_bytes} bytes")
        draft = _HEADER.pack(self.source_port, self.destination_port, size_bytes, 0) + self.payload
        # A checksum of zero means "none" and is sent as its one's-complement twin.
        checksum = upper_layer_checksum(source, destination, Protocol.UDP, draft) or 0xFFFF
        return _HEADER.pack(self.source_port, self.destination_port, size_bytes, checksum) + self.payload

    @classmethod
    def decode(cls, data: bytes, source: bytes, destination: bytes) -> UdpDatagram:
        """Raises RemoteProtocolError if truncated, of a false length or with a false or missing checksum."""
        if len(data) < HEADER_BYTES:
            raise RemoteProtocolError(f"a UDP header of {len(data)} bytes", offset=0, spec=SPEC)
        source_port, destination_port, size_bytes, checksum = _HEADER.unpack_from(data)
        if size_bytes != len(data):
            raise RemoteProtocolError(f"UDP length {size_bytes}, have {len(data)}", offset=4, spec=SPEC)
        if checksum == 0 or not checksum_is_right(source, destination, Protocol.UDP, data):
            raise RemoteProtocolError("false UDP checksum", offset=6, spec=SPEC)
        return cls(source_port, destination_port, data[HEADER_BYTES:])
