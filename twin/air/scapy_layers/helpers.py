# SPDX-License-Identifier: GPL-2.0-only
"""What people ask of a dissected frame: whole addresses, the IPv6 packet, source routes, checksums made anew."""

from __future__ import annotations

from collections.abc import Mapping

from scapy.packet import Packet

from protocols.mesh.ipv6 import Ipv6Packet, address_bytes, address_text, interface_identifier, upper_layer_checksum
from protocols.mesh.sixlowpan.addresses import Context, Contexts
from protocols.mesh.sixlowpan.iphc import compress, decompress
from twin.air.scapy_layers import fields
from twin.air.scapy_layers.dot15d4 import Dot15d4
from twin.air.scapy_layers.icmpv6 import ICMPv6
from twin.air.scapy_layers.ipv6 import UDP, IPv6, SourceRouting
from twin.air.scapy_layers.lowpan import IPHC, NhcRouting, NhcUDP, UncompressedIPv6, lowpan_class

Prefixes = Mapping[int, bytes]
"""Prefixes (8 bytes) of the address contexts, by context id; 0 is the PAN's own."""

_UDP, _ICMPV6 = 17, 58


def _contexts(prefixes: Prefixes | None) -> Contexts:
    return Contexts({identifier: Context.of_prefix(prefix) for identifier, prefix in (prefixes or {}).items()})


def _interface_ids(packet: Packet) -> tuple[bytes, bytes]:
    """Interface identifiers of the link addresses of the frame around `packet`; zeros where it has none."""
    frame = packet.getlayer(Dot15d4)
    identifiers = []
    for name in ("source", "destination"):
        address = b"" if frame is None else fields.address_bytes(frame.fields.get(name))
        identifiers.append(interface_identifier(address) if len(address) in (2, 8) else bytes(8))
    return identifiers[0], identifiers[1]


def _datagram(packet: Packet, prefixes: Prefixes | None) -> Ipv6Packet | None:
    layer = packet.getlayer(IPHC) or packet.getlayer(UncompressedIPv6)
    if layer is None:
        return None
    return decompress(bytes(layer), *_interface_ids(packet), _contexts(prefixes))


def to_ipv6(packet: Packet, prefixes: Prefixes | None = None) -> IPv6 | None:
    """The IPv6 packet that a frame carries whole; None if it carries none.

    Raises RemoteProtocolError if it cannot be decompressed, for one because a context is not in `prefixes`.
    """
    datagram = _datagram(packet, prefixes)
    return None if datagram is None else IPv6(datagram.encode())


def from_ipv6(
    packet: Packet | bytes,
    source: str,
    destination: str | None,
    prefixes: Prefixes | None = None,
) -> Packet:
    """The 6LoWPAN layers of an IPv6 packet between two link addresses (a broadcast if `destination` is None)."""
    identifiers = [
        bytes(8) if address is None else interface_identifier(fields.address_bytes(address))
        for address in (source, destination)
    ]
    compressed = compress(Ipv6Packet.decode(bytes(packet)), identifiers[0], identifiers[1], _contexts(prefixes))
    data = compressed.header + compressed.payload
    return lowpan_class(data)(data)


def ipv6_addresses(packet: Packet, prefixes: Prefixes | None = None) -> tuple[str, str] | None:
    """Source and destination of the IPv6 packet in a frame, as text; None if it carries none."""
    datagram = _datagram(packet, prefixes)
    return None if datagram is None else (address_text(datagram.source), address_text(datagram.destination))


def segments(packet: Packet, destination: str) -> list[str] | None:
    """The addresses of the source routing header, whole, in order; None if there is none.

    `destination` is that of the IPv6 header: its first bytes are those that the header leaves out.
    """
    header = packet.getlayer(NhcRouting) or packet.getlayer(SourceRouting)
    if header is None:
        return None
    prefix = address_bytes(destination)
    data = bytes.fromhex(header.addresses)
    data = data[: len(data) - header.pad]
    last_bytes, other_bytes = 16 - header.cmpr_e, 16 - header.cmpr_i
    found = []
    while len(data) > last_bytes:
        found.append(address_text(prefix[: header.cmpr_i] + data[:other_bytes]))
        data = data[other_bytes:]
    if data:
        found.append(address_text(prefix[: header.cmpr_e] + data))
    return found


def recompute_checksum(packet: Packet, prefixes: Prefixes | None = None) -> None:
    """Make the UDP or ICMPv6 checksum of a frame fit again, in place, after an edit. Does nothing without one."""
    datagram = _datagram(packet, prefixes)
    if datagram is None:
        return
    destination = segments(packet, address_text(datagram.destination))
    final = address_bytes(destination[-1]) if destination and _segments_left(packet) else datagram.destination
    for kind, protocol, at in ((NhcUDP, _UDP, 6), (UDP, _UDP, 6), (ICMPv6, _ICMPV6, 2)):
        layer = packet.getlayer(kind)
        if layer is not None and datagram.protocol == protocol:
            message = datagram.payload[:at] + b"\0\0" + datagram.payload[at + 2 :]
            layer.checksum = upper_layer_checksum(datagram.source, final, protocol, message) or 0xFFFF
            return


def _segments_left(packet: Packet) -> int:
    header = packet.getlayer(NhcRouting) or packet.getlayer(SourceRouting)
    return 0 if header is None else int(header.segments_left)
