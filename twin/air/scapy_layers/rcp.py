# SPDX-License-Identifier: GPL-2.0-only
"""The serial protocol between a host and its radio: frames and messages of `protocols.rcp`."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from scapy.config import conf
from scapy.fields import (
    ByteEnumField,
    ByteField,
    FieldLenField,
    IntField,
    LongField,
    ShortField,
    SignedShortField,
    XByteField,
    XShortField,
)
from scapy.packet import Packet

from twin.air.scapy_layers.elements import FRAME_TYPES
from twin.air.scapy_layers.fields import HexField, TrailerField

_FLAG, _ESCAPE = b"\x7e", b"\x7d"
STATUS = {
    0: "OK",
    1: "NO_ACK",
    2: "CHANNEL_ACCESS_FAILURE",
    3: "QUEUE_FULL",
    4: "FRAME_TOO_LONG",
    5: "NO_KEY",
    6: "NOT_CONFIGURED",
    7: "NO_SCHEDULE",
    8: "INVALID",
}


def _eight(name: str) -> HexField:
    return HexField(name, "00" * 8, lambda pkt: 8)


class RcpFrame(Packet):
    """One frame on the serial line, flags and octet stuffing taken off. `fcs` None is worked out when built."""

    name = "RCP frame"
    __slots__ = ["_trailer"]
    fields_desc = [TrailerField("fcs", None)]

    def pre_dissect(self, s: bytes) -> bytes:
        content = _unstuff(s.strip(_FLAG))
        message, fcs = content[:-4], content[-4:]
        self._trailer = {"fcs": None if fcs == _fcs(message) else fcs.hex()}
        return message

    def trailer_value(self, name: str) -> Any:
        return self._trailer[name]

    def do_dissect(self, s: bytes) -> bytes:
        rest = super().do_dissect(s)
        self.raw_packet_cache = None
        return rest

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return MESSAGES.get(payload[0], conf.raw_layer) if payload else conf.raw_layer

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        content = pay + (_fcs(pay) if self.fcs is None else bytes.fromhex(self.fcs))
        stuffed = content.replace(_ESCAPE, b"\x7d\x5d").replace(_FLAG, b"\x7d\x5e")
        return _FLAG + stuffed + _FLAG


def _fcs(message: bytes) -> bytes:
    return crc32(message).to_bytes(4, "little")


def _unstuff(stuffed: bytes) -> bytes:
    first, *others = stuffed.split(_ESCAPE)
    return first + b"".join(bytes((piece[0] ^ 0x20,)) + piece[1:] if piece else b"" for piece in others)


class RcpReset(Packet):
    """Host to radio: forget everything."""

    name = "RCP Reset"
    fields_desc = [XByteField("type", 0x01), ByteField("version", 1)]


class RcpConfigure(Packet):
    """Host to radio: identity and hopping."""

    name = "RCP Configure"
    fields_desc = [
        XByteField("type", 0x02),
        _eight("eui64"),
        XShortField("pan_id", 0xFFFF),
        ShortField("max_psdu_bytes", 2047),
        ByteField("plan", 1),
        ByteField("fsk_mode", 1),
        ByteEnumField("channel_function", 0, {0: "FIXED", 2: "DH1CF"}),
        ShortField("fixed_channel", 0),
        ByteField("unicast_dwell_ms", 255),
        IntField("broadcast_interval_ms", 1020),
        ByteField("broadcast_dwell_ms", 255),
        ShortField("broadcast_schedule_id", 0),
        ByteField("broadcast_root", 0),
    ]


class RcpSetKey(Packet):
    """Host to radio: a group key."""

    name = "RCP SetKey"
    fields_desc = [
        XByteField("type", 0x03),
        ByteField("index", 1),
        HexField("key", "00" * 16, lambda pkt: 16),
        IntField("frame_counter", 0),
    ]

    def mysummary(self) -> str:
        return f"RCP SetKey index={self.index}"


class RcpClearKey(Packet):
    """Host to radio: forget a key."""

    name = "RCP ClearKey"
    fields_desc = [XByteField("type", 0x04), ByteField("index", 1)]


class RcpSetReplayFloor(Packet):
    """Host to radio: the least frame counter to accept from a source."""

    name = "RCP SetReplayFloor"
    fields_desc = [
        XByteField("type", 0x05),
        _eight("source"),
        ByteField("key_index", 1),
        IntField("minimum_frame_counter", 0),
    ]


class RcpTransmit(Packet):
    """Host to radio: send a frame. What follows the payload elements is the payload."""

    name = "RCP Transmit"
    fields_desc = [
        XByteField("type", 0x06),
        ShortField("handle", 0),
        ByteEnumField("frame_type", 4, FRAME_TYPES),
        ByteField("flags", 0),
        ByteField("key_index", 0),
        _eight("destination"),
        FieldLenField("payload_ies_bytes", None, fmt="H", length_of="payload_ies"),
        HexField("payload_ies", "", lambda pkt: pkt.payload_ies_bytes),
    ]


class RcpSetTimeSource(Packet):
    """Host to radio: whose broadcast timing to follow; flags 0: everybody's."""

    name = "RCP SetTimeSource"
    fields_desc = [XByteField("type", 0x07), ByteField("flags", 0), _eight("source")]


class RcpReady(Packet):
    """Radio to host: started."""

    name = "RCP Ready"
    fields_desc = [
        XByteField("type", 0x81),
        ByteField("version", 1),
        ByteEnumField("reason", 0, {0: "POWER_ON", 1: "REQUESTED", 2: "FAULT"}),
        ShortField("queue_length", 0),
    ]


class RcpTransmitDone(Packet):
    """Radio to host: how a transmission ended."""

    name = "RCP TransmitDone"
    fields_desc = [
        XByteField("type", 0x82),
        ShortField("handle", 0),
        ByteEnumField("status", 0, STATUS),
        ByteField("attempts", 1),
        IntField("frame_counter", 0),
        SignedShortField("ack_rsl_dbm", -0x8000),
    ]


class RcpReceived(Packet):
    """Radio to host: a frame. What follows the payload elements is the payload."""

    name = "RCP Received"
    fields_desc = [
        XByteField("type", 0x83),
        ByteEnumField("frame_type", 4, FRAME_TYPES),
        ByteField("flags", 0),
        ByteField("key_index", 0),
        _eight("source"),
        _eight("destination"),
        XShortField("pan_id", 0xFFFF),
        IntField("frame_counter", 0),
        SignedShortField("rss_dbm", -100),
        ByteField("lqi", 255),
        ShortField("channel", 0),
        LongField("timestamp_us", 0),
        FieldLenField("payload_ies_bytes", None, fmt="H", length_of="payload_ies"),
        HexField("payload_ies", "", lambda pkt: pkt.payload_ies_bytes),
    ]


class RcpRefused(Packet):
    """Radio to host: a message was not taken."""

    name = "RCP Refused"
    fields_desc = [
        XByteField("type", 0x84),
        XByteField("message_type", 0),
        ByteEnumField("reason", 0, {0: "MALFORMED", 1: "VERSION", 2: "OUT_OF_RANGE"}),
    ]


MESSAGES: dict[int, type[Packet]] = {
    0x01: RcpReset,
    0x02: RcpConfigure,
    0x03: RcpSetKey,
    0x04: RcpClearKey,
    0x05: RcpSetReplayFloor,
    0x06: RcpTransmit,
    0x07: RcpSetTimeSource,
    0x81: RcpReady,
    0x82: RcpTransmitDone,
    0x83: RcpReceived,
    0x84: RcpRefused,
}
