"""ICMPv6 (RFC 4443): echo and errors. RPL control messages (type 155) have their codec in `rpl/messages.py`."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

from protocols.errors import RemoteProtocolError
from protocols.mesh.ipv6 import Protocol, checksum_is_right, upper_layer_checksum

SPEC = "RFC 4443"
HEADER_BYTES = 4
MINIMUM_MTU_BYTES = 1280


class Icmpv6Type(enum.IntEnum):
    DESTINATION_UNREACHABLE = 1
    PACKET_TOO_BIG = 2
    TIME_EXCEEDED = 3
    PARAMETER_PROBLEM = 4
    ECHO_REQUEST = 128
    ECHO_REPLY = 129
    NEIGHBOR_SOLICITATION = 135
    NEIGHBOR_ADVERTISEMENT = 136
    RPL_CONTROL = 155
    MPL_CONTROL = 159


class UnreachableCode(enum.IntEnum):
    NO_ROUTE = 0
    ADDRESS = 3
    PORT = 4
    SOURCE_ROUTING = 7
    """Error in source routing header (RFC 6550, 20.18)."""


@dataclass(frozen=True, slots=True)
class Icmpv6Message:
    """Any ICMPv6 message: type, code and what follows the checksum."""

    type: int
    code: int
    body: bytes = field(repr=False)

    @property
    def is_error(self) -> bool:
        return self.type < 128

    def encode(self, source: bytes, destination: bytes) -> bytes:
        draft = bytes((self.type, self.code, 0, 0)) + self.body
        checksum = upper_layer_checksum(source, destination, Protocol.ICMPV6, draft)
        return draft[:2] + checksum.to_bytes(2, "big") + self.body

    @classmethod
    def decode(cls, data: bytes, source: bytes, destination: bytes) -> Icmpv6Message:
        """Raises RemoteProtocolError if truncated or with a false checksum."""
        if len(data) < HEADER_BYTES:
            raise RemoteProtocolError(f"an ICMPv6 header of {len(data)} bytes", offset=0, spec=SPEC)
        if not checksum_is_right(source, destination, Protocol.ICMPV6, data):
            raise RemoteProtocolError("false ICMPv6 checksum", offset=2, spec=SPEC)
        return cls(data[0], data[1], data[HEADER_BYTES:])


_ECHO = struct.Struct(">HH")


@dataclass(frozen=True, slots=True)
class Echo:
    """The body of an echo request or reply (RFC 4443, 4)."""

    identifier: int
    sequence: int
    payload: bytes = field(repr=False)

    def encode(self) -> bytes:
        return _ECHO.pack(self.identifier, self.sequence) + self.payload

    @classmethod
    def decode(cls, body: bytes) -> Echo:
        """Raises RemoteProtocolError if truncated."""
        if len(body) < _ECHO.size:
            raise RemoteProtocolError(f"an echo body of {len(body)} bytes", offset=HEADER_BYTES, spec=SPEC)
        identifier, sequence = _ECHO.unpack_from(body)
        return cls(identifier, sequence, body[_ECHO.size :])


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of an error message: 4 bytes of parameter, then as much of the offending packet as fits."""

    parameter: int
    invoking_packet: bytes = field(repr=False)

    def encode(self) -> bytes:
        # An error must fit in the minimum MTU with its own headers (RFC 4443, 2.4 (c)).
        room = MINIMUM_MTU_BYTES - 40 - HEADER_BYTES - 4
        return self.parameter.to_bytes(4, "big") + self.invoking_packet[:room]

    @classmethod
    def decode(cls, body: bytes) -> ErrorBody:
        """Raises RemoteProtocolError if truncated."""
        if len(body) < 4:
            raise RemoteProtocolError(f"an error body of {len(body)} bytes", offset=HEADER_BYTES, spec=SPEC)
        return cls(int.from_bytes(body[:4], "big"), body[4:])
