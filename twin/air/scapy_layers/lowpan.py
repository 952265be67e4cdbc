# SPDX-License-Identifier: GPL-2.0-only
"""6LoWPAN: dispatches, fragments (RFC 4944), header compression IPHC and NHC (RFC 6282)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapy.config import conf
from scapy.fields import (
    BitField,
    ByteField,
    ConditionalField,
    Field,
    FieldLenField,
    PacketListField,
    XByteField,
    XShortField,
)
from scapy.packet import Packet

from twin.air.scapy_layers.fields import HexField, take
from twin.air.scapy_layers.ipv6 import IPv6, next_header_class, next_option

_HOP_LIMITS = {1: 1, 2: 64, 3: 255}
_SOURCE_BYTES = {(0, 0): 16, (0, 1): 8, (0, 2): 2, (0, 3): 0, (1, 0): 0, (1, 1): 8, (1, 2): 2, (1, 3): 0}
_UNICAST_BYTES = {(0, 0): 16, (0, 1): 8, (0, 2): 2, (0, 3): 0, (1, 1): 8, (1, 2): 2, (1, 3): 0}
_MULTICAST_BYTES = {(0, 0): 16, (0, 1): 6, (0, 2): 4, (0, 3): 1, (1, 0): 6}


def lowpan_class(payload: bytes) -> type[Packet]:
    """The class for what a 6LoWPAN dispatch begins; raw bytes for dispatches that are not known here."""
    dispatch = payload[0] if payload else 0
    if dispatch == 0x41:
        return UncompressedIPv6
    if dispatch >> 5 == 0b011 and len(payload) >= 2:
        return IPHC
    if dispatch >> 3 == 0b11000:
        return Frag1
    if dispatch >> 3 == 0b11100:
        return FragN
    return conf.raw_layer


def nhc_class(payload: bytes) -> type[Packet]:
    """The class for a compressed next header."""
    encoding = payload[0] if payload else 0
    if encoding >> 3 == 0b11110:
        return NhcUDP
    if encoding >> 4 != 0b1110:
        return conf.raw_layer
    return {0: NhcHopByHop, 1: NhcRouting, 3: NhcDestinationOptions, 7: NhcIPv6}.get(encoding >> 1 & 7, NhcExtension)


class UncompressedIPv6(Packet):
    """Dispatch 0x41: an IPv6 header as it is."""

    name = "6LoWPAN uncompressed IPv6"
    fields_desc = [XByteField("dispatch", 0x41)]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return IPv6


class Frag1(Packet):
    """First fragment."""

    name = "6LoWPAN first fragment"
    fields_desc = [
        BitField("dispatch", 0b11000, 5),
        BitField("datagram_bytes", 0, 11),
        XShortField("datagram_tag", 0),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return lowpan_class(payload)


class FragN(Packet):
    """Later fragment. The offset counts units of 8 bytes."""

    name = "6LoWPAN fragment"
    fields_desc = [
        BitField("dispatch", 0b11100, 5),
        BitField("datagram_bytes", 0, 11),
        XShortField("datagram_tag", 0),
        ByteField("datagram_offset", 0),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return conf.raw_layer


def _inline(condition: Callable[[Any], bool], field: Any) -> ConditionalField:
    return ConditionalField(field, condition)


class IPHC(Packet):
    """Compressed IPv6 header. `source_inline` and `destination_inline` are what is carried of the addresses, in hex;
    `helpers.ipv6_addresses` gives the whole ones.

    ECN and DSCP are fields of their own, because RFC 6282 carries them in another order than IPv6's traffic class.
    """

    name = "6LoWPAN IPHC"
    fields_desc = [
        BitField("dispatch", 0b011, 3),
        BitField("tf", 3, 2),
        BitField("nh", 1, 1),
        BitField("hlim", 2, 2),
        BitField("cid", 0, 1),
        BitField("sac", 0, 1),
        BitField("sam", 3, 2),
        BitField("m", 0, 1),
        BitField("dac", 0, 1),
        BitField("dam", 3, 2),
        _inline(lambda pkt: pkt.cid, BitField("source_context", 0, 4)),
        _inline(lambda pkt: pkt.cid, BitField("destination_context", 0, 4)),
        _inline(lambda pkt: pkt.tf != 3, BitField("ecn", 0, 2)),
        _inline(lambda pkt: pkt.tf in (0, 2), BitField("dscp", 0, 6)),
        _inline(lambda pkt: pkt.tf == 0, BitField("tf_reserved", 0, 4)),
        _inline(lambda pkt: pkt.tf == 1, BitField("tf_reserved_short", 0, 2)),
        _inline(lambda pkt: pkt.tf < 2, BitField("flow_label", 0, 20)),
        _inline(lambda pkt: not pkt.nh, ByteField("next_header", 58)),
        _inline(lambda pkt: pkt.hlim == 0, ByteField("inline_hop_limit", 64)),
        HexField("source_inline", "", lambda pkt: _SOURCE_BYTES[pkt.sac, pkt.sam]),
        HexField(
            "destination_inline",
            "",
            lambda pkt: (_MULTICAST_BYTES if pkt.m else _UNICAST_BYTES)[pkt.dac, pkt.dam],
        ),
    ]

    @property
    def hop_limit(self) -> int:
        """The hop limit, wherever it is carried."""
        return int(self.inline_hop_limit) if self.hlim == 0 else _HOP_LIMITS[self.hlim]

    @property
    def traffic_class(self) -> int:
        """The traffic class as IPv6 has it: DSCP, then ECN."""
        return ((self.dscp or 0) << 2 | (self.ecn or 0)) if self.tf != 3 else 0

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return nhc_class(payload) if self.nh else next_header_class(self.next_header)


class _PortField(Field[Any, int]):
    """A UDP port in 16, 8 (0xf0..) or 4 (0xf0b.) bits, by the header's mode."""

    __slots__ = ["_bits_of_mode", "_is_first"]

    def __init__(self, name: str, default: int, bits_of_mode: tuple[int, int, int, int]) -> None:
        super().__init__(name, default, fmt="H")
        self._bits_of_mode = bits_of_mode
        self._is_first = name == "sport"

    def i2len(self, pkt: Any, x: Any) -> int:
        return 2

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        bits = self._bits_of_mode[pkt.port_mode]
        if bits == 16:
            return s + int(val).to_bytes(2, "big")
        if bits == 8:
            return s + bytes((val & 0xFF,))
        return s + bytes(((val & 0xF) << 4,)) if self._is_first else s[:-1] + bytes((s[-1] | val & 0xF,))

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, Any]:
        bits = self._bits_of_mode[pkt.port_mode]
        raw, rest = take(s, 2 if bits == 16 else 1)
        if bits == 16:
            return rest, int.from_bytes(raw, "big")
        if bits == 8:
            return rest, 0xF000 | raw[0]
        return (s, 0xF0B0 | raw[0] >> 4) if self._is_first else (rest, 0xF0B0 | raw[0] & 0xF)


class NhcUDP(Packet):
    """Compressed UDP header. `port_mode` says how short the ports are; a port that does not fit loses its top bits."""

    name = "NHC UDP"
    fields_desc = [
        BitField("encoding", 0b11110, 5),
        BitField("checksum_elided", 0, 1),
        BitField("port_mode", 0, 2),
        _PortField("sport", 0, (16, 16, 8, 4)),
        _PortField("dport", 4059, (16, 8, 16, 4)),
        _inline(lambda pkt: not pkt.checksum_elided, XShortField("checksum", 0)),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return conf.raw_layer


def _nhc_head(extension_id: int) -> list[Any]:
    return [
        BitField("encoding", 0b1110, 4),
        BitField("extension_id", extension_id, 3),
        BitField("nh", 1, 1),
        _inline(lambda pkt: not pkt.nh, ByteField("next_header", 58)),
    ]


class _NhcChained(Packet):
    """A compressed extension header, followed by the next one."""

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return nhc_class(payload) if self.nh else next_header_class(self.next_header)


class NhcExtension(_NhcChained):
    """Any compressed extension header."""

    name = "NHC extension header"
    fields_desc = [
        *_nhc_head(2),
        FieldLenField("length", None, fmt="B", length_of="content"),
        HexField("content", "", lambda pkt: pkt.length),
    ]


class NhcHopByHop(_NhcChained):
    """Compressed hop-by-hop options: the RPL option, the MPL option."""

    name = "NHC hop-by-hop options"
    fields_desc = [
        *_nhc_head(0),
        FieldLenField("length", None, fmt="B", length_of="options"),
        PacketListField("options", [], next_cls_cb=next_option, length_from=lambda pkt: pkt.length),
    ]


class NhcDestinationOptions(_NhcChained):
    """Compressed destination options."""

    name = "NHC destination options"
    fields_desc = [
        *_nhc_head(3),
        FieldLenField("length", None, fmt="B", length_of="options"),
        PacketListField("options", [], next_cls_cb=next_option, length_from=lambda pkt: pkt.length),
    ]


class NhcRouting(_NhcChained):
    """Compressed RPL source routing header, type 3 (RFC 6554). `addresses` are the segments with their common
    prefixes left out, and the padding, in hexadecimal; `helpers.segments` takes them apart."""

    name = "NHC source routing header"
    fields_desc = [
        *_nhc_head(1),
        FieldLenField("length", None, fmt="B", length_of="addresses", adjust=lambda pkt, x: x + 6),
        ByteField("routing_type", 3),
        ByteField("segments_left", 0),
        BitField("cmpr_i", 0, 4),
        BitField("cmpr_e", 0, 4),
        BitField("pad", 0, 4),
        BitField("reserved", 0, 20),
        HexField("addresses", "", lambda pkt: pkt.length - 6),
    ]


class NhcIPv6(Packet):
    """Compressed IPv6 in IPv6: another IPHC follows."""

    name = "NHC IPv6"
    fields_desc = [
        BitField("encoding", 0b1110, 4),
        BitField("extension_id", 7, 3),
        BitField("nh", 0, 1),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return lowpan_class(payload)
