# SPDX-License-Identifier: GPL-2.0-only
"""ICMPv6, and the control messages of RPL (RFC 6550) with their options."""

from __future__ import annotations

from typing import Any

from scapy.config import conf
from scapy.fields import (
    BitField,
    ByteEnumField,
    ByteField,
    ConditionalField,
    FieldLenField,
    IntField,
    IP6Field,
    PacketListField,
    ShortField,
    XShortField,
)
from scapy.packet import Packet

from twin.air.scapy_layers.fields import Element, HexField

TYPES = {1: "unreachable", 128: "echo request", 129: "echo reply", 135: "NS", 136: "NA", 155: "RPL"}


class ICMPv6(Packet):
    """ICMPv6 header. The checksum is kept as it is: `helpers.recompute_checksum` makes a new one."""

    name = "ICMPv6"
    fields_desc = [ByteEnumField("type", 155, TYPES), ByteField("code", 0), XShortField("checksum", 0)]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        if self.type in (128, 129):
            return Echo
        return _RPL.get(self.code, conf.raw_layer) if self.type == 155 else conf.raw_layer


class Echo(Packet):
    """Echo request and reply."""

    name = "ICMPv6 echo"
    fields_desc = [XShortField("identifier", 0), ShortField("sequence", 0)]


class RplPad1(Element):
    """One byte of padding."""

    name = "RPL Pad1"
    fields_desc = [ByteField("type", 0)]


class RplOption(Element):
    """Any RPL option: its content as hexadecimal text."""

    name = "RPL option TLV"
    fields_desc = [
        ByteField("type", 1),
        FieldLenField("length", None, fmt="B", length_of="content"),
        HexField("content", "", lambda pkt: pkt.length),
    ]


class RplDodagConfiguration(Element):
    """DODAG configuration."""

    name = "RPL DODAG configuration"
    fields_desc = [
        ByteField("type", 4),
        ByteField("length", 14),
        BitField("flags", 0, 4),
        BitField("authentication", 0, 1),
        BitField("path_control_size", 0, 3),
        ByteField("dio_interval_doublings", 0),
        ByteField("dio_interval_minimum", 0),
        ByteField("dio_redundancy", 0),
        ShortField("max_rank_increase", 0),
        ShortField("min_hop_rank_increase", 0),
        ShortField("objective_code_point", 1),
        ByteField("reserved", 0),
        ByteField("default_lifetime", 0),
        ShortField("lifetime_unit_s", 0),
    ]


class RplTarget(Element):
    """RPL target. `prefix` has as many bytes as the option, in hexadecimal."""

    name = "RPL target"
    fields_desc = [
        ByteField("type", 5),
        FieldLenField("length", None, fmt="B", length_of="prefix", adjust=lambda pkt, x: x + 2),
        ByteField("flags", 0),
        ByteField("prefix_bits", 128),
        HexField("prefix", "", lambda pkt: pkt.length - 2),
    ]


class RplTransit(Element):
    """Transit information; in non-storing mode with the parent's address (hexadecimal)."""

    name = "RPL transit information"
    fields_desc = [
        ByteField("type", 6),
        FieldLenField("length", None, fmt="B", length_of="parent", adjust=lambda pkt, x: x + 4),
        BitField("external", 0, 1),
        BitField("flags", 0, 7),
        ByteField("path_control", 0),
        ByteField("path_sequence", 0),
        ByteField("path_lifetime", 0),
        HexField("parent", "", lambda pkt: pkt.length - 4),
    ]


class RplPrefix(Element):
    """Prefix information."""

    name = "RPL prefix information"
    fields_desc = [
        ByteField("type", 8),
        ByteField("length", 30),
        ByteField("prefix_bits", 64),
        BitField("on_link", 0, 1),
        BitField("autonomous", 0, 1),
        BitField("router_address", 0, 1),
        BitField("reserved1", 0, 5),
        IntField("valid_lifetime_s", 0),
        IntField("preferred_lifetime_s", 0),
        IntField("reserved2", 0),
        IP6Field("prefix", "::"),
    ]


_OPTIONS: dict[tuple[int, int], type[Packet]] = {(4, 14): RplDodagConfiguration, (8, 30): RplPrefix}


def _next_rpl_option(pkt: Any, options: list[Any], current: Any, remain: bytes) -> type[Packet] | None:
    if not remain:
        return None
    if remain[0] == 0:
        return RplPad1
    if len(remain) < 2 or len(remain) < 2 + remain[1]:
        return conf.raw_layer
    if remain[0] == 5 and remain[1] >= 2:
        return RplTarget
    if remain[0] == 6 and remain[1] >= 4:
        return RplTransit
    return _OPTIONS.get((remain[0], remain[1]), RplOption)


def _options() -> PacketListField:
    return PacketListField("options", [], next_cls_cb=_next_rpl_option)


class RplDIS(Packet):
    """DODAG information solicitation."""

    name = "RPL DIS"
    fields_desc = [ByteField("flags", 0), ByteField("reserved", 0), _options()]


class RplDIO(Packet):
    """DODAG information object."""

    name = "RPL DIO"
    fields_desc = [
        ByteField("rpl_instance_id", 0),
        ByteField("dodag_version", 0),
        ShortField("rank", 256),
        BitField("grounded", 1, 1),
        BitField("zero", 0, 1),
        BitField("mode_of_operation", 1, 3),
        BitField("preference", 0, 3),
        ByteField("dtsn", 0),
        ByteField("flags", 0),
        ByteField("reserved", 0),
        IP6Field("dodag_id", "::"),
        _options(),
    ]


class RplDAO(Packet):
    """Destination advertisement object."""

    name = "RPL DAO"
    fields_desc = [
        ByteField("rpl_instance_id", 0),
        BitField("k", 0, 1),
        BitField("d", 0, 1),
        BitField("flags", 0, 6),
        ByteField("reserved", 0),
        ByteField("sequence", 0),
        ConditionalField(IP6Field("dodag_id", "::"), lambda pkt: pkt.d),
        _options(),
    ]


class RplDAOACK(Packet):
    """Acknowledgement of a DAO."""

    name = "RPL DAO-ACK"
    fields_desc = [
        ByteField("rpl_instance_id", 0),
        BitField("d", 0, 1),
        BitField("reserved", 0, 7),
        ByteField("sequence", 0),
        ByteField("status", 0),
        ConditionalField(IP6Field("dodag_id", "::"), lambda pkt: pkt.d),
        _options(),
    ]


_RPL: dict[int, type[Packet]] = {0: RplDIS, 1: RplDIO, 2: RplDAO, 3: RplDAOACK}
