# SPDX-License-Identifier: GPL-2.0-only
"""Information elements of IEEE 802.15.4-2015 and those of Wi-SUN FAN: header, payload and nested ones."""

from __future__ import annotations

from typing import Any

from scapy.config import conf
from scapy.fields import (
    BitField,
    BitFieldLenField,
    ByteEnumField,
    ByteField,
    ConditionalField,
    LEIntField,
    LEShortEnumField,
    LEShortField,
    LEThreeBytesField,
    PacketListField,
    StrLenField,
)
from scapy.packet import Packet

from twin.air.scapy_layers.fields import Element, HexField, LinkAddressField
from twin.air.scapy_layers.lowpan import lowpan_class

FRAME_TYPES = {0: "PA", 1: "PAS", 2: "PC", 3: "PCS", 4: "DATA", 5: "ACK", 6: "EAPOL"}
MULTIPLEX_IDS = {1: "KMP", 0xA0ED: "6LoWPAN"}
_WISUN_HEADER_ID = 0x2A


# header elements: 7-bit length, 8-bit id, type bit 0


def _header_head(element_id: int, length: int | None = None, **content: Any) -> list[Any]:
    last: Any
    if length is None:
        last = BitFieldLenField("length", None, 7, end_tot_size=-2, **content)
    else:
        last = BitField("length", length, 7, end_tot_size=-2)
    return [BitField("type", 0, 1, tot_size=-2), BitField("id", element_id, 8), last]


class HeaderIE(Element):
    """Any header element: its content as hexadecimal text."""

    name = "Header IE"
    fields_desc = [
        *_header_head(0, length_of="content"),
        HexField("content", "", lambda pkt: pkt.length),
    ]


class HeaderTermination1(Element):
    """Payload elements follow."""

    name = "Header termination 1"
    fields_desc = _header_head(0x7E, 0)


class HeaderTermination2(Element):
    """The payload follows."""

    name = "Header termination 2"
    fields_desc = _header_head(0x7F, 0)


class WisunUTT(Element):
    """Unicast timing and frame type."""

    name = "Wi-SUN UTT-IE"
    fields_desc = [
        *_header_head(_WISUN_HEADER_ID, 5),
        ByteField("sub_id", 1),
        ByteEnumField("wisun_type", 4, FRAME_TYPES),
        LEThreeBytesField("ufsi", 0),
    ]


class WisunBT(Element):
    """Broadcast timing."""

    name = "Wi-SUN BT-IE"
    fields_desc = [
        *_header_head(_WISUN_HEADER_ID, 6),
        ByteField("sub_id", 2),
        LEShortField("broadcast_slot", 0),
        LEThreeBytesField("broadcast_offset_ms", 0),
    ]


class WisunFC(Element):
    """Flow control."""

    name = "Wi-SUN FC-IE"
    fields_desc = [
        *_header_head(_WISUN_HEADER_ID, 3),
        ByteField("sub_id", 3),
        ByteField("tx_flow_control", 0),
        ByteField("rx_flow_control", 0),
    ]


class WisunRSL(Element):
    """Received signal level of the frame that is acknowledged: dBm + 174, 255 if unknown."""

    name = "Wi-SUN RSL-IE"
    fields_desc = [*_header_head(_WISUN_HEADER_ID, 2), ByteField("sub_id", 4), ByteField("rsl", 255)]


class WisunEA(Element):
    """Authenticator's EUI-64."""

    name = "Wi-SUN EA-IE"
    fields_desc = [
        *_header_head(_WISUN_HEADER_ID, 9),
        ByteField("sub_id", 9),
        LinkAddressField("eui64", None, lambda pkt: 8),
    ]


_WISUN_HEADER: dict[tuple[int, int], type[Packet]] = {
    (1, 5): WisunUTT,
    (2, 6): WisunBT,
    (3, 3): WisunFC,
    (4, 2): WisunRSL,
    (9, 9): WisunEA,
}


def next_header_ie(pkt: Any, elements: list[Any], current: Any, remain: bytes) -> type[Packet] | None:
    """The class of the next header element, None behind the last (PacketListField.next_cls_cb)."""
    if len(remain) < 2 or isinstance(current, HeaderTermination1 | HeaderTermination2):
        return None
    descriptor = remain[0] | remain[1] << 8
    length, element_id = descriptor & 0x7F, descriptor >> 7 & 0xFF
    if descriptor & 0x8000 or len(remain) < 2 + length:
        return None
    if length == 0 and element_id in (0x7E, 0x7F):
        return HeaderTermination1 if element_id == 0x7E else HeaderTermination2
    if element_id == _WISUN_HEADER_ID and length:
        return _WISUN_HEADER.get((remain[2], length), HeaderIE)
    return HeaderIE


# payload elements: 11-bit length, 4-bit group, type bit 1


class PayloadIE(Packet):
    """Any payload element: its content as hexadecimal text. The next element is its payload."""

    name = "Payload IE"
    fields_desc = [
        BitField("type", 1, 1, tot_size=-2),
        BitField("group", 0, 4),
        BitFieldLenField("length", None, 11, length_of="content", end_tot_size=-2),
        HexField("content", "", lambda pkt: pkt.length),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return payload_ie_class(payload)


class PayloadTermination(Packet):
    """Payload elements end, the payload follows."""

    name = "Payload termination"
    fields_desc = [
        BitField("type", 1, 1, tot_size=-2),
        BitField("group", 0xF, 4),
        BitField("length", 0, 11, end_tot_size=-2),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return conf.raw_layer


class MPX(Packet):
    """Multiplexed data of IEEE 802.15.9, whole frames: 6LoWPAN, or key management with its KMP id.

    It is the last element of its frame: what it carries is its payload. Delete `length` after changing that.
    """

    name = "MPX-IE"
    fields_desc = [
        BitField("type", 1, 1, tot_size=-2),
        BitField("group", 3, 4),
        BitField("length", None, 11, end_tot_size=-2),
        BitField("transaction_id", 0, 5),
        BitField("transfer_type", 0, 3),
        LEShortEnumField("multiplex_id", 0xA0ED, MULTIPLEX_IDS),
        ConditionalField(ByteField("kmp_id", 1), lambda pkt: pkt.multiplex_id == 1),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        if self.length is None:
            size_bytes = len(pkt) - 2 + len(pay)
            pkt = ((pkt[0] | pkt[1] << 8) & ~0x7FF | size_bytes).to_bytes(2, "little") + pkt[2:]
        return pkt + pay

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return lowpan_class(payload) if self.multiplex_id == 0xA0ED else conf.raw_layer


# nested elements of Wi-SUN


class NestedShort(Element):
    """Any short nested element."""

    name = "Wi-SUN nested IE (short)"
    fields_desc = [
        BitField("type", 0, 1, tot_size=-2),
        BitField("sub_id", 0, 7),
        BitFieldLenField("length", None, 8, length_of="content", end_tot_size=-2),
        HexField("content", "", lambda pkt: pkt.length),
    ]


class NestedLong(Element):
    """Any long nested element."""

    name = "Wi-SUN nested IE (long)"
    fields_desc = [
        BitField("type", 1, 1, tot_size=-2),
        BitField("sub_id", 0, 4),
        BitFieldLenField("length", None, 11, length_of="content", end_tot_size=-2),
        HexField("content", "", lambda pkt: pkt.length),
    ]


def _short_head(sub_id: int, length: int) -> list[Any]:
    return [
        BitField("type", 0, 1, tot_size=-2),
        BitField("sub_id", sub_id, 7),
        BitField("length", length, 8, end_tot_size=-2),
    ]


def _long_head(sub_id: int, fixed_bytes: int) -> list[Any]:
    return [
        BitField("type", 1, 1, tot_size=-2),
        BitField("sub_id", sub_id, 4),
        BitFieldLenField(
            "length", None, 11, length_of="channels", adjust=lambda pkt, x: x + fixed_bytes, end_tot_size=-2
        ),
    ]


class WisunUS(Element):
    """Unicast schedule. `channels` is the channel plan, function and hop description, in hexadecimal."""

    name = "Wi-SUN US-IE"
    fields_desc = [
        *_long_head(1, 4),
        ByteField("dwell_interval_ms", 255),
        ByteField("clock_drift_ppm", 255),
        ByteField("timing_accuracy", 0),
        BitField("excluded_channel_control", 0, 2),
        BitField("channel_function", 0, 3),
        BitField("channel_plan", 0, 3),
        HexField("channels", "", lambda pkt: pkt.length - 4),
    ]


class WisunBS(Element):
    """Broadcast schedule. `channels` as in the unicast one."""

    name = "Wi-SUN BS-IE"
    fields_desc = [
        *_long_head(2, 10),
        LEIntField("broadcast_interval_ms", 1020),
        LEShortField("broadcast_schedule_id", 0),
        ByteField("dwell_interval_ms", 255),
        ByteField("clock_drift_ppm", 255),
        ByteField("timing_accuracy", 0),
        BitField("excluded_channel_control", 0, 2),
        BitField("channel_function", 0, 3),
        BitField("channel_plan", 0, 3),
        HexField("channels", "", lambda pkt: pkt.length - 10),
    ]


class WisunPAN(Element):
    """PAN information."""

    name = "Wi-SUN PAN-IE"
    fields_desc = [
        *_short_head(4, 5),
        LEShortField("pan_size", 0),
        LEShortField("routing_cost", 0),
        BitField("fan_tps_version", 1, 3),
        BitField("reserved", 0, 3),
        BitField("routing_method", 1, 1),
        BitField("use_parent_bs", 1, 1),
    ]


class WisunNETNAME(Element):
    """Network name."""

    name = "Wi-SUN NETNAME-IE"
    fields_desc = [
        BitField("type", 0, 1, tot_size=-2),
        BitField("sub_id", 5, 7),
        BitFieldLenField("length", None, 8, length_of="network_name", end_tot_size=-2),
        StrLenField("network_name", b"", length_from=lambda pkt: pkt.length),
    ]


class WisunPANVER(Element):
    """PAN version."""

    name = "Wi-SUN PANVER-IE"
    fields_desc = [*_short_head(6, 2), LEShortField("pan_version", 0)]


class WisunGTKHASH(Element):
    """Hashes of the four group keys."""

    name = "Wi-SUN GTKHASH-IE"
    fields_desc = [
        *_short_head(7, 32),
        HexField("gtk0_hash", "00" * 8, lambda pkt: 8),
        HexField("gtk1_hash", "00" * 8, lambda pkt: 8),
        HexField("gtk2_hash", "00" * 8, lambda pkt: 8),
        HexField("gtk3_hash", "00" * 8, lambda pkt: 8),
    ]


_LONG_MINIMUM = {1: (4, WisunUS), 2: (10, WisunBS)}
_NETNAME_SUB_ID, _PANVER_SUB_ID = 5, 6


def _next_nested(pkt: Any, elements: list[Any], current: Any, remain: bytes) -> type[Packet] | None:
    if len(remain) < 2:
        return conf.raw_layer if remain else None
    descriptor = remain[0] | remain[1] << 8
    if descriptor & 0x8000:
        length, sub_id = descriptor & 0x7FF, descriptor >> 11 & 0xF
        minimum_bytes, known = _LONG_MINIMUM.get(sub_id, (0, NestedLong))
        chosen: type[Packet] = known if length >= minimum_bytes else NestedLong
    else:
        length, sub_id = descriptor & 0xFF, descriptor >> 8
        exact = {(4, 5): WisunPAN, (_PANVER_SUB_ID, 2): WisunPANVER, (7, 32): WisunGTKHASH}
        chosen = WisunNETNAME if sub_id == _NETNAME_SUB_ID else exact.get((sub_id, length), NestedShort)
    return chosen if len(remain) >= 2 + length else conf.raw_layer


class WisunPayload(Packet):
    """Wi-SUN's payload element: a list of nested ones."""

    name = "Wi-SUN WP-IE"
    fields_desc = [
        BitField("type", 1, 1, tot_size=-2),
        BitField("group", 4, 4),
        BitFieldLenField("length", None, 11, length_of="elements", end_tot_size=-2),
        PacketListField("elements", [], next_cls_cb=_next_nested, length_from=lambda pkt: pkt.length),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return payload_ie_class(payload)


def payload_ie_class(payload: bytes) -> type[Packet]:
    """The class for a payload element at the start of `payload`; raw bytes if there is none."""
    if len(payload) < 2:
        return conf.raw_layer
    descriptor = payload[0] | payload[1] << 8
    length, group = descriptor & 0x7FF, descriptor >> 11 & 0xF
    if not descriptor & 0x8000 or len(payload) < 2 + length:
        return conf.raw_layer
    if group == 0xF:
        return PayloadTermination if length == 0 else PayloadIE
    if group == 4:
        return WisunPayload
    if group == 3 and 3 <= length == len(payload) - 2 and payload[2] & 7 == 0:
        is_kmp = payload[3] | payload[4] << 8 == 1
        return MPX if length >= (4 if is_kmp else 3) else PayloadIE
    return PayloadIE
