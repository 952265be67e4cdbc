# SPDX-License-Identifier: GPL-2.0-only
"""IPv6 without compression: header, option headers, the RPL and MPL options, the RPL source routing header, UDP.

Scapy's own IPv6 layers work out lengths and next headers; these show and keep what is on the air.
"""

from __future__ import annotations

from typing import Any

from scapy.config import conf
from scapy.fields import (
    BitField,
    ByteField,
    FieldLenField,
    IP6Field,
    PacketListField,
    ShortField,
    XByteField,
    XShortField,
)
from scapy.packet import Packet

from twin.air.scapy_layers.fields import Element, HexField
from twin.air.scapy_layers.icmpv6 import ICMPv6

_SEED_BYTES = (0, 2, 8, 16)


class OptionPad1(Element):
    """One byte of padding."""

    name = "Pad1"
    fields_desc = [XByteField("type", 0)]


class Option(Element):
    """Any option: its content as hexadecimal text."""

    name = "IPv6 option"
    fields_desc = [
        XByteField("type", 1),
        FieldLenField("length", None, fmt="B", length_of="content"),
        HexField("content", "", lambda pkt: pkt.length),
    ]


class RPI(Element):
    """RPL option (RFC 6553): type 0x63, or 0x23 as RFC 9008 renumbers it."""

    name = "RPL option"
    fields_desc = [
        XByteField("type", 0x23),
        FieldLenField("length", None, fmt="B", length_of="sub_tlvs", adjust=lambda pkt, x: x + 4),
        BitField("down", 0, 1),
        BitField("rank_error", 0, 1),
        BitField("forwarding_error", 0, 1),
        BitField("reserved", 0, 5),
        ByteField("rpl_instance_id", 0),
        ShortField("sender_rank", 0),
        HexField("sub_tlvs", "", lambda pkt: pkt.length - 4),
    ]


class MPLOption(Element):
    """MPL option (RFC 7731): type 0x6d. `seed_id` is as long as `s` says: 0, 2, 8 or 16 bytes."""

    name = "MPL option"
    fields_desc = [
        XByteField("type", 0x6D),
        FieldLenField("length", None, fmt="B", length_of="seed_id", adjust=lambda pkt, x: x + 2),
        BitField("s", 0, 2),
        BitField("m", 0, 1),
        BitField("v", 0, 1),
        BitField("reserved", 0, 4),
        ByteField("sequence", 0),
        HexField("seed_id", "", lambda pkt: _SEED_BYTES[pkt.s]),
    ]


def next_option(pkt: Any, options: list[Any], current: Any, remain: bytes) -> type[Packet] | None:
    """The class of the next option (PacketListField.next_cls_cb)."""
    if not remain:
        return None
    if remain[0] == 0:
        return OptionPad1
    if len(remain) < 2 or len(remain) < 2 + remain[1]:
        return conf.raw_layer
    if remain[0] in (0x63, 0x23) and remain[1] >= 4:
        return RPI
    if remain[0] == 0x6D and remain[1] >= 2 and remain[1] == 2 + _SEED_BYTES[remain[2] >> 6]:
        return MPLOption
    return Option


class _Chained(Packet):
    """A header that names the next one."""

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return next_header_class(self.next_header)


class IPv6(_Chained):
    """IPv6 header. Nothing is worked out when it is built but the payload's length where it is None."""

    name = "IPv6"
    fields_desc = [
        BitField("version", 6, 4),
        BitField("traffic_class", 0, 8),
        BitField("flow_label", 0, 20),
        ShortField("payload_bytes", None),
        ByteField("next_header", 59),
        ByteField("hop_limit", 64),
        IP6Field("source", "::"),
        IP6Field("destination", "::"),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        if self.payload_bytes is None:
            pkt = pkt[:4] + len(pay).to_bytes(2, "big") + pkt[6:]
        return pkt + pay


class _Options(_Chained):
    name = "IPv6 options header"
    fields_desc = [
        ByteField("next_header", 59),
        FieldLenField("length", None, fmt="B", length_of="options", adjust=lambda pkt, x: (x + 2) // 8 - 1),
        PacketListField("options", [], next_cls_cb=next_option, length_from=lambda pkt: 8 * pkt.length + 6),
    ]


class HopByHop(_Options):
    """Hop-by-hop options. `length` counts units of 8 bytes after the first; pad the options yourself."""

    name = "IPv6 hop-by-hop options"


class DestinationOptions(_Options):
    """Destination options."""

    name = "IPv6 destination options"


class SourceRouting(_Chained):
    """RPL source routing header, type 3 (RFC 6554); `addresses` as in `NhcRouting`."""

    name = "IPv6 RPL source routing header"
    fields_desc = [
        ByteField("next_header", 59),
        FieldLenField("length", None, fmt="B", length_of="addresses", adjust=lambda pkt, x: x // 8),
        ByteField("routing_type", 3),
        ByteField("segments_left", 0),
        BitField("cmpr_i", 0, 4),
        BitField("cmpr_e", 0, 4),
        BitField("pad", 0, 4),
        BitField("reserved", 0, 20),
        HexField("addresses", "", lambda pkt: 8 * pkt.length),
    ]


class UDP(Packet):
    """UDP header. Nothing is worked out but the length where it is None."""

    name = "UDP"
    fields_desc = [
        ShortField("sport", 0),
        ShortField("dport", 4059),
        ShortField("length", None),
        XShortField("checksum", 0),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        if self.length is None:
            pkt = pkt[:4] + (8 + len(pay)).to_bytes(2, "big") + pkt[6:]
        return pkt + pay


_NEXT: dict[int, type[Packet]] = {
    0: HopByHop,
    17: UDP,
    41: IPv6,
    43: SourceRouting,
    58: ICMPv6,
    60: DestinationOptions,
}


def next_header_class(protocol: int) -> type[Packet]:
    """The class for an IPv6 next-header number; raw bytes for others."""
    return _NEXT.get(protocol, conf.raw_layer)
