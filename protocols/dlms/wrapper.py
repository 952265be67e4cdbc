"""The wrapper sublayer over UDP and TCP, port 4059 (IEC 62056-47)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from protocols.errors import LocalProtocolError, RemoteProtocolError

PORT = 4059
VERSION = 1
HEADER_BYTES = 8
_HEADER = struct.Struct(">HHHH")
_SPEC = "IEC 62056-47"


@dataclass(frozen=True, slots=True)
class Wpdu:
    """One APDU with its ports: the client's and the server's SAP, by direction."""

    source_port: int
    destination_port: int
    apdu: bytes

    def encode(self) -> bytes:
        """Raises LocalProtocolError if the APDU is longer than 65535 bytes."""
        try:
            return _HEADER.pack(VERSION, self.source_port, self.destination_port, len(self.apdu)) + self.apdu
        except struct.error as error:
            raise LocalProtocolError(f"a WPDU cannot carry {len(self.apdu)} bytes") from error

    @classmethod
    def decode(cls, datagram: bytes) -> Wpdu:
        """From one whole datagram. Raises RemoteProtocolError on another version or length."""
        if len(datagram) < HEADER_BYTES:
            raise RemoteProtocolError(f"a WPDU of {len(datagram)} bytes", spec=_SPEC)
        version, source_port, destination_port, length = _HEADER.unpack_from(datagram)
        if version != VERSION:
            raise RemoteProtocolError(f"wrapper version {version}", offset=0, spec=_SPEC)
        if length != len(datagram) - HEADER_BYTES:
            raise RemoteProtocolError(f"length {length}, {len(datagram) - HEADER_BYTES} bytes follow", spec=_SPEC)
        return cls(source_port, destination_port, datagram[HEADER_BYTES:])


class WrapperDecoder:
    """Takes a TCP stream as it comes, gives whole WPDUs.

    Raises RemoteProtocolError once the stream is out of step (another version, a longer APDU than
    `max_apdu_bytes`): the connection must then be closed.
    """

    def __init__(self, max_apdu_bytes: int = 0xFFFF) -> None:
        self._buffer = bytearray()
        self._max_apdu_bytes = max_apdu_bytes

    def feed(self, data: bytes) -> list[Wpdu]:
        buffer = self._buffer
        buffer += data
        wpdus = []
        while len(buffer) >= HEADER_BYTES:
            version, source_port, destination_port, length = _HEADER.unpack_from(buffer)
            if version != VERSION:
                raise RemoteProtocolError(f"wrapper version {version}", spec=_SPEC)
            if length > self._max_apdu_bytes:
                raise RemoteProtocolError(f"an APDU of {length} bytes, {self._max_apdu_bytes} at most", spec=_SPEC)
            end = HEADER_BYTES + length
            if len(buffer) < end:
                break
            wpdus.append(Wpdu(source_port, destination_port, bytes(buffer[HEADER_BYTES:end])))
            del buffer[:end]
        return wpdus
