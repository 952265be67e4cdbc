"""What a node does with packets that are for itself: UDP to its ports, ICMPv6 echo, RPL, errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.core import NodeCore
from protocols.mesh.events import DatagramReceived, DropReason, EchoReplyReceived
from protocols.mesh.icmpv6 import Echo, Icmpv6Message, Icmpv6Type
from protocols.mesh.ipv6 import ADDRESS_BYTES, Ipv6Packet, Protocol, is_link_local, is_multicast
from protocols.mesh.routing import Routing
from protocols.mesh.udp import PORT_MAX, UdpDatagram

if TYPE_CHECKING:
    from protocols.mesh.forwarding import Forwarder

UDP_PAYLOAD_MAX_BYTES = 1400
"""With IPv6, UDP and RPL headers and a long source route, this still fits in what fragments can say."""


_decode_icmpv6 = functools.lru_cache(maxsize=64)(Icmpv6Message.decode)
"""Most of them are multicasts, which every neighbour decodes."""


class LocalDelivery:
    """The upper layers of one node. `link_source` and `is_broadcast` are those of the frame that is worked on."""

    def __init__(self, core: NodeCore, routing: Routing) -> None:
        self._core = core
        self._routing = routing
        self.forwarder: Forwarder
        self.ports: set[int] = set()
        self.own_ports: dict[int, Callable[[bytes, bytes], None]] = {}
        """Ports of the stack itself: called with source address and payload."""
        self.link_source = b""
        self.is_broadcast = False
        self._datagram_id = 0

    # out

    def _source_for(self, destination: bytes) -> bytes | None:
        if len(destination) != ADDRESS_BYTES:
            raise LocalProtocolError(f"an IPv6 address has 16 bytes, not {len(destination)}")
        on_link = is_link_local(destination) or (is_multicast(destination) and destination[1] & 0x0F == 2)
        return self._core.link_local_address if on_link else self._core.address

    def _next_id(self) -> int:
        self._datagram_id += 1
        return self._datagram_id

    def make_udp(
        self, source_port: int, destination: bytes, destination_port: int, payload: bytes
    ) -> tuple[int, Ipv6Packet | None]:
        """Datagram identifier and packet; None while the node has no address to send from."""
        if len(payload) > UDP_PAYLOAD_MAX_BYTES:
            raise LocalProtocolError(f"a UDP payload of {len(payload)} bytes, at most {UDP_PAYLOAD_MAX_BYTES}")
        if not (0 < source_port <= PORT_MAX and 0 < destination_port <= PORT_MAX):
            raise LocalProtocolError(f"UDP ports {source_port}, {destination_port}")
        source = self._source_for(destination)
        if source is None:
            return self._next_id(), None
        data = UdpDatagram(source_port, destination_port, payload).encode(source, destination)
        return self._next_id(), Ipv6Packet(source, destination, Protocol.UDP, data)

    def make_echo(
        self, destination: bytes, identifier: int, sequence: int, payload: bytes
    ) -> tuple[int, Ipv6Packet | None]:
        """As `make_udp`, for an echo request."""
        if len(payload) > UDP_PAYLOAD_MAX_BYTES:
            raise LocalProtocolError(f"an echo payload of {len(payload)} bytes, at most {UDP_PAYLOAD_MAX_BYTES}")
        source = self._source_for(destination)
        if source is None:
            return self._next_id(), None
        body = Echo(identifier & 0xFFFF, sequence & 0xFFFF, payload).encode()
        data = Icmpv6Message(Icmpv6Type.ECHO_REQUEST, 0, body).encode(source, destination)
        return self._next_id(), Ipv6Packet(source, destination, Protocol.ICMPV6, data)

    # in

    def deliver(self, packet: Ipv6Packet, age_s: float = 0.0) -> None:
        """A packet for this node. Raises RemoteProtocolError for what is malformed in it."""
        if packet.protocol == Protocol.UDP:
            self._deliver_udp(packet, age_s)
        elif packet.protocol == Protocol.ICMPV6:
            self._deliver_icmpv6(packet)
        else:
            self._core.counters[DropReason.UNSUPPORTED] += 1

    def _deliver_udp(self, packet: Ipv6Packet, age_s: float) -> None:
        datagram = UdpDatagram.decode(packet.payload, packet.source, packet.destination)
        if datagram.destination_port in self.own_ports:
            self.own_ports[datagram.destination_port](packet.source, datagram.payload)
            return
        if datagram.destination_port not in self.ports:
            self._core.counters[DropReason.NO_LISTENER] += 1
            self.forwarder.port_unreachable(packet)
            return
        self._core.events.append(
            DatagramReceived(
                source=packet.source,
                source_port=datagram.source_port,
                destination=packet.destination,
                destination_port=datagram.destination_port,
                payload=datagram.payload,
                age_s=age_s,
            )
        )

    def _deliver_icmpv6(self, packet: Ipv6Packet) -> None:
        message = _decode_icmpv6(packet.payload, packet.source, packet.destination)
        if message.type == Icmpv6Type.RPL_CONTROL:
            self._routing.receive(packet, message, self.link_source, is_broadcast=self.is_broadcast)
        elif message.type in (Icmpv6Type.NEIGHBOR_SOLICITATION, Icmpv6Type.NEIGHBOR_ADVERTISEMENT):
            self._routing.neighbour_discovery.receive(packet, message, self.link_source)
        elif message.type == Icmpv6Type.MPL_CONTROL:
            self.forwarder.mpl.receive_control(packet, message)
        elif message.type == Icmpv6Type.ECHO_REQUEST:
            self._answer_echo(packet, message)
        elif message.type == Icmpv6Type.ECHO_REPLY:
            echo = Echo.decode(message.body)
            event = EchoReplyReceived(packet.source, echo.identifier, echo.sequence, echo.payload)
            self._core.events.append(event)
        elif message.is_error:
            self.forwarder.handle_error(packet, message)
        else:
            self._core.counters[DropReason.UNSUPPORTED] += 1

    def _answer_echo(self, packet: Ipv6Packet, message: Icmpv6Message) -> None:
        source = self._source_for(packet.source) if is_multicast(packet.destination) else packet.destination
        if source is None:
            raise RemoteProtocolError("an echo request that cannot be answered")
        Echo.decode(message.body)
        data = Icmpv6Message(Icmpv6Type.ECHO_REPLY, 0, message.body).encode(source, packet.source)
        self._core.counters["echo_answered"] += 1
        self.forwarder.originate(Ipv6Packet(source, packet.source, Protocol.ICMPV6, data))
