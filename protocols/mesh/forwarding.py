"""The IPv6 layer of one mesh node: next hops, source routes, the RPL option, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from protocols.errors import RemoteProtocolError
from protocols.mesh.core import NodeCore
from protocols.mesh.events import DropReason
from protocols.mesh.icmpv6 import ErrorBody, Icmpv6Message, Icmpv6Type, UnreachableCode
from protocols.mesh.ipv6 import (
    ALL_MPL_FORWARDERS,
    ALL_NODES,
    ALL_RPL_NODES,
    LINK_MPL_FORWARDERS,
    UNSPECIFIED,
    ExtensionHeader,
    Ipv6Packet,
    Protocol,
    eui64_of,
    is_beyond_link,
    is_link_local,
    is_multicast,
)
from protocols.mesh.mpl.forwarder import Deliver, MplForwarder
from protocols.mesh.routing import Routing
from protocols.mesh.rpl.headers import RplOption, SourceRoute
from protocols.mesh.transmit_queue import Outgoing

_ERRORS_PER_S = 10.0
_ERROR_BURST = 16.0
"""Token bucket of ICMPv6 errors (RFC 4443, 2.4 (f)): as many as a queue for one dead neighbour may hold."""

Submit = Callable[[Outgoing], None]


class Forwarder:
    """Routes packets of this node and of others. `submit` queues for the radio, `deliver` takes what is its own."""

    def __init__(self, core: NodeCore, routing: Routing, submit: Submit, deliver: Deliver) -> None:
        self._core = core
        self._routing = routing
        self._submit = submit
        self._deliver = deliver
        self.mpl = MplForwarder(core, lambda packet: submit(Outgoing(packet, None)), deliver)
        self._error_tokens = _ERROR_BURST
        self._tokens_at = 0.0

    # packets of this node

    def originate(self, packet: Ipv6Packet, datagram_id: int | None = None, *, link: bytes | None = None) -> None:
        """Send a packet that this node made. `link` names the neighbour for a link-local unicast."""
        destination = packet.destination
        if is_multicast(destination):
            if is_beyond_link(destination):
                self.mpl.originate(packet)
            else:
                self._submit(Outgoing(packet, None, datagram_id=datagram_id))
        elif link is not None or is_link_local(destination):
            self._submit(Outgoing(packet, link or eui64_of(destination), datagram_id=datagram_id))
        elif self._core.is_mine(destination):
            self._deliver(packet)
        elif self._routing.is_root:
            self._send_down(packet, datagram_id)
        elif self._core.address is None:
            self._core.drop(DropReason.NOT_JOINED, datagram_id)
        else:
            self._send_up(packet, datagram_id)

    def _send_up(self, packet: Ipv6Packet, datagram_id: int | None) -> None:
        """To the root directly; to any other node within a packet to the root, who knows the way (RFC 9008, 8)."""
        root = self._routing.root_address
        address = self._core.address
        if root is None or address is None:
            self._core.drop(DropReason.NOT_JOINED, datagram_id)
            return
        if packet.destination != root:
            packet = Ipv6Packet(address, root, Protocol.IPV6, packet.encode())
        option = RplOption(self._routing.instance_id, sender_rank=0)
        self._submit(Outgoing(packet.with_extension(option.encode()), upward=True, datagram_id=datagram_id))

    def _send_down(self, packet: Ipv6Packet, datagram_id: int | None) -> None:
        """Root only: by source route. Packets of others are carried within one of the root's."""
        hops = None
        if packet.destination[:8] == (self._core.address or b"")[:8]:
            hops = self._routing.route(eui64_of(packet.destination))
        if hops is None:
            self._core.drop(DropReason.NO_ROUTE, datagram_id)
            self._send_error(packet, Icmpv6Type.DESTINATION_UNREACHABLE, UnreachableCode.NO_ROUTE)
            return
        address = self._core.address
        if len(hops) > 1:
            if packet.source != address and address is not None:
                packet = Ipv6Packet(address, packet.destination, Protocol.IPV6, packet.encode())
            prefix = packet.destination[:8]
            addresses = tuple(prefix + bytes((hop[0] ^ 2,)) + hop[1:] for hop in hops)
            route = SourceRoute(len(hops) - 1, addresses[1:])
            packet = replace(packet, destination=addresses[0]).with_extension(route.encode(addresses[0]))
        self._submit(Outgoing(packet, hops[0], datagram_id=datagram_id))

    def reroute(self, outgoing: Outgoing) -> bool:
        """Root only: send a packet whose first hop failed by another way; False if there is none."""
        packet = without_route(outgoing.packet) if outgoing.packet is not None else None
        if packet is None or self._routing.route(eui64_of(packet.destination)) is None:
            return False
        self._core.counters["rerouted"] += 1
        self._send_down(packet, outgoing.datagram_id)
        return True

    # packets from the air

    def receive(self, packet: Ipv6Packet, link_source: bytes) -> None:
        """A packet that a neighbour sent. Raises RemoteProtocolError for what is malformed in it."""
        destination = packet.destination
        if is_multicast(packet.source) or packet.source == UNSPECIFIED:
            raise RemoteProtocolError("a source address that nobody has")
        if is_multicast(destination):
            if destination in (ALL_NODES, ALL_RPL_NODES, LINK_MPL_FORWARDERS):
                self._deliver(packet)
            elif destination == ALL_MPL_FORWARDERS:
                self.mpl.receive(packet)
            else:
                self._core.counters[DropReason.UNSUPPORTED] += 1
            return
        checked = self._check_rank(packet, link_source)
        if checked is None:
            return
        if not self._core.is_mine(destination):
            self._forward(checked, link_source)
        elif (header := checked.extension(Protocol.ROUTING)) is not None:
            self._follow_route(checked, header)
        elif checked.protocol == Protocol.IPV6:
            self._decapsulate(checked)
        else:
            self._deliver(checked)

    def _check_rank(self, packet: Ipv6Packet, link_source: bytes) -> Ipv6Packet | None:
        """Loop detection by the RPL option (RFC 6550, 11.2.2.2), written anew for the next hop; None: dropped."""
        header = packet.extension(Protocol.HOP_BY_HOP)
        option = RplOption.decode(header) if header is not None else None
        if header is None or option is None:
            return packet
        rank = self._routing.dag_rank
        if not option.down and link_source == self._routing.parent:
            self._routing.parent_sends_up()
        if option.sender_rank and (option.sender_rank > rank if option.down else option.sender_rank < rank):
            self._core.counters["rank_inconsistency"] += 1
            if option.rank_error:
                self._routing.rank_is_inconsistent()
                self._core.drop(DropReason.LOOP)
                return None
            option = replace(option, rank_error=True)
        rewritten = replace(option, sender_rank=rank).write_into(header)
        return replace(packet, extensions=packet.replacing(header, rewritten))

    def _forward(self, packet: Ipv6Packet, link_source: bytes) -> None:
        if is_link_local(packet.destination) or is_link_local(packet.source):
            self._core.drop(DropReason.NO_ROUTE)
        elif (aged := self._age(packet)) is None:
            return
        elif self._routing.is_root:
            self._send_down(aged, None)
        elif self._core.address is None:
            self._core.drop(DropReason.NOT_JOINED)
        else:
            self._core.counters["forwarded_up"] += 1
            if self._routing.parent is None:
                self._routing.poison(link_source)
            self._submit(Outgoing(aged, upward=True))

    def _age(self, packet: Ipv6Packet) -> Ipv6Packet | None:
        """The packet with its hop limit less by one; None: that was the last."""
        if packet.hop_limit <= 1:
            self._core.drop(DropReason.HOP_LIMIT)
            self._send_error(packet, Icmpv6Type.TIME_EXCEEDED, 0)
            return None
        return replace(packet, hop_limit=packet.hop_limit - 1)

    def _follow_route(self, packet: Ipv6Packet, header: ExtensionHeader) -> None:
        """The next segment of a source route (RFC 6554, 4.2), or delivery at its end."""
        route = SourceRoute.decode(header, packet.destination)
        if route.segments_left == 0:
            if packet.protocol == Protocol.IPV6:
                self._decapsulate(packet)
            else:
                self._deliver(packet)
            return
        if any(is_multicast(address) for address in route.addresses):
            raise RemoteProtocolError("a multicast address in a source route", spec="RFC 6554, 4.2")
        ahead = route.addresses[len(route.addresses) - route.segments_left :]
        if any(self._core.is_mine(address) for address in ahead):
            self._core.drop(DropReason.LOOP)
            return
        aged = self._age(packet)
        if aged is None:
            return
        advanced, following = route.advance(packet.destination)
        extensions = aged.replacing(header, advanced.encode(following))
        self._core.counters["forwarded_down"] += 1
        self._submit(Outgoing(replace(aged, destination=following, extensions=extensions), eui64_of(following)))

    def _decapsulate(self, packet: Ipv6Packet) -> None:
        inner = Ipv6Packet.decode(packet.payload)
        if self._core.is_mine(inner.destination):
            if inner.protocol == Protocol.IPV6 or inner.extension(Protocol.ROUTING) is not None:
                raise RemoteProtocolError("a tunnel or a source route within a tunnel")
            self._deliver(inner)
        elif self._routing.is_root:
            aged = self._age(inner)
            if aged is not None:
                self._send_down(aged, None)
        else:
            self._core.drop(DropReason.UNSUPPORTED)

    # errors

    def hop_failed(self, packet: Ipv6Packet) -> None:
        """The next hop of a source-routed packet does not acknowledge: tell its source."""
        self._send_error(packet, Icmpv6Type.DESTINATION_UNREACHABLE, UnreachableCode.SOURCE_ROUTING)

    def port_unreachable(self, packet: Ipv6Packet) -> None:
        self._send_error(packet, Icmpv6Type.DESTINATION_UNREACHABLE, UnreachableCode.PORT)

    def _send_error(self, packet: Ipv6Packet, kind: Icmpv6Type, code: int) -> None:
        """An ICMPv6 error to the packet's source, unless RFC 4443, 2.4 (e) and (f) forbid it."""
        source, now = self._core.address, self._core.now
        about_error = packet.protocol == Protocol.ICMPV6 and packet.payload[:1] < b"\x80"
        if source is None or about_error or self._core.is_mine(packet.source) or is_multicast(packet.destination):
            return
        self._error_tokens = min(_ERROR_BURST, self._error_tokens + (now - self._tokens_at) * _ERRORS_PER_S)
        self._tokens_at = now
        if self._error_tokens < 1.0:
            self._core.counters["icmp_errors_limited"] += 1
            return
        self._error_tokens -= 1.0
        self._core.counters["icmp_errors_sent"] += 1
        message = Icmpv6Message(kind, code, ErrorBody(0, packet.encode()).encode())
        payload = message.encode(source, packet.source)
        self.originate(Ipv6Packet(source, packet.source, Protocol.ICMPV6, payload))

    def handle_error(self, packet: Ipv6Packet, message: Icmpv6Message) -> None:
        """An ICMPv6 error for this node. The root learns from it which hop failed, and sends the packet another way."""
        self._core.counters["icmp_errors_received"] += 1
        is_route_error = (message.type, message.code) == (
            Icmpv6Type.DESTINATION_UNREACHABLE,
            UnreachableCode.SOURCE_ROUTING,
        )
        if not is_route_error or not self._routing.is_root:
            return
        invoking = ErrorBody.decode(message.body).invoking_packet
        if len(invoking) < 40 or invoking[8:24] != self._core.address:
            raise RemoteProtocolError("a source routing error about a packet of somebody else")
        self._routing.hop_failed(eui64_of(packet.source), eui64_of(invoking[24:40]))
        if len(invoking) == 40 + int.from_bytes(invoking[4:6], "big"):
            original = without_route(Ipv6Packet.decode(invoking))
            if self._routing.route(eui64_of(original.destination)) is not None:
                self._core.counters["rerouted"] += 1
                self._send_down(original, None)
                return
        self._core.drop(DropReason.NO_ACK)


def without_route(packet: Ipv6Packet) -> Ipv6Packet:
    """A source-routed packet as it was before: to its last address, without the routing header."""
    header = packet.extension(Protocol.ROUTING)
    if header is None:
        return packet
    route = SourceRoute.decode(header, packet.destination)
    destination = route.addresses[-1] if route.segments_left else packet.destination
    extensions = tuple(extension for extension in packet.extensions if extension is not header)
    return replace(packet, destination=destination, extensions=extensions)
