"""The network behind the guest's interface `lockstep0`: nothing is there but the grandmaster, where the run has one."""

from __future__ import annotations

import ipaddress
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from dcu.device_config import PTP_EVENT_PORT, PTP_GENERAL_PORT
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.udp import UdpDatagram
from twin.backhaul.ptp import PtpLine
from twin.rigs.lockstep.protocol import Channel, Event, Record

_LOG = logging.getLogger(__name__)
GRANDMASTER = "10.0.4.2"
"""On the network of the address that images/agent/network.c gives the interface."""
SPEC = "RFC 791"
HEADER_BYTES = 20
PROTOCOL_UDP = 17
_VERSION_AND_WORDS = 0x45
_MORE_FRAGMENTS, _OFFSET_MASK = 0x2000, 0x1FFF
_HOPS = 64
_HEADER = struct.Struct(">BBHHHBBH4s4s")


def _complement_sum(header: bytes) -> int:
    """RFC 1071, over an even number of bytes: 2^16 is 1 modulo 65,535."""
    return (0xFFFF - int.from_bytes(header, "big") % 0xFFFF) % 0xFFFF


@dataclass(frozen=True, slots=True)
class Ipv4Packet:
    """A whole packet without options. Addresses have four bytes."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Raises LocalProtocolError if it is longer than a packet may be."""
        size_bytes = HEADER_BYTES + len(self.payload)
        if size_bytes > 0xFFFF:
            raise LocalProtocolError(f"an IPv4 packet of {size_bytes} bytes")
        draft = self._header(size_bytes, 0)
        return self._header(size_bytes, _complement_sum(draft)) + self.payload

    def _header(self, size_bytes: int, checksum: int) -> bytes:
        return _HEADER.pack(
            _VERSION_AND_WORDS, 0, size_bytes, 0, 0, _HOPS, self.protocol, checksum, self.source, self.destination
        )

    @classmethod
    def decode(cls, data: bytes) -> Ipv4Packet:
        """Raises RemoteProtocolError if truncated, of a false length or checksum, with options, or a fragment."""
        if len(data) < HEADER_BYTES:
            raise RemoteProtocolError(f"an IPv4 header of {len(data)} bytes", offset=0, spec=SPEC)
        first, _, size_bytes, _, fragment, _, protocol, _, source, destination = _HEADER.unpack_from(data)
        if first != _VERSION_AND_WORDS:
            raise RemoteProtocolError(
                f"no IPv4 header without options: it begins with {first:#04x}", offset=0, spec=SPEC
            )
        if size_bytes != len(data):
            raise RemoteProtocolError(f"IPv4 length {size_bytes}, have {len(data)}", offset=2, spec=SPEC)
        if fragment & (_MORE_FRAGMENTS | _OFFSET_MASK):
            raise RemoteProtocolError("a fragment of an IPv4 packet", offset=6, spec=SPEC)
        if _complement_sum(data[:HEADER_BYTES]):
            raise RemoteProtocolError("false IPv4 checksum", offset=10, spec=SPEC)
        return cls(source, destination, protocol, data[HEADER_BYTES:])


class NetworkChannel:
    """Carries datagrams between the guest and `line`. Without one nobody answers, as on a network without hosts."""

    def __init__(self, line: PtpLine | None, send: Callable[[Record], None]) -> None:
        self._line = line
        self._send = send
        self._here = ipaddress.IPv4Address(GRANDMASTER).packed
        self._guest: bytes | None = None
        if line is not None:
            line.on_port(self._answered)

    def received(self, record: Record) -> None:
        """A packet of the guest. What is no PTP datagram for the grandmaster goes nowhere."""
        try:
            packet = Ipv4Packet.decode(record.data)
            if packet.destination != self._here or packet.protocol != PROTOCOL_UDP:
                return
            datagram = UdpDatagram.decode(packet.payload, packet.source, packet.destination)
        except RemoteProtocolError as error:
            _LOG.debug("a packet of the guest goes nowhere: %s", error)
            return
        if self._line is not None and datagram.destination_port in (PTP_EVENT_PORT, PTP_GENERAL_PORT):
            self._guest = packet.source
            self._line.send(datagram.payload, is_event=datagram.destination_port == PTP_EVENT_PORT)

    def _answered(self, data: bytes, is_event: bool) -> None:
        if self._guest is None:
            return
        port = PTP_EVENT_PORT if is_event else PTP_GENERAL_PORT
        datagram = UdpDatagram(port, port, data).encode(self._here, self._guest)
        packet = Ipv4Packet(self._here, self._guest, PROTOCOL_UDP, datagram)
        self._send(Record(Channel.NETWORK, Event.DATA, 0, packet.encode()))
