# SPDX-License-Identifier: GPL-2.0-only
"""IEEE 802.15.4-2015 frames: header, auxiliary security header, header elements, integrity code and FCS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapy.config import conf
from scapy.fields import (
    BitEnumField,
    BitField,
    ByteField,
    ConditionalField,
    LEIntField,
    PacketListField,
    XLEShortField,
)
from scapy.packet import Packet

from protocols.mesh.checksum import FCS16_BYTES, FCS32_BYTES, append_fcs, has_valid_fcs
from twin.air.scapy_layers.elements import (
    MPX,
    HeaderTermination1,
    HeaderTermination2,
    PayloadIE,
    PayloadTermination,
    WisunPayload,
    next_header_ie,
    payload_ie_class,
)
from twin.air.scapy_layers.fields import HexField, LinkAddressField, TrailerField, address_bytes
from twin.air.scapy_layers.lowpan import lowpan_class

_SIZE_OF_MODE = (0, 0, 2, 8)
_MODE_OF_SIZE = {0: 0, 2: 2, 8: 3}
_MIC_SIZE = (0, 4, 8, 16, 0, 4, 8, 16)
_KEY_SOURCE_SIZE = (0, 0, 4, 8)
_PAYLOAD_IES = (PayloadIE, PayloadTermination, MPX, WisunPayload)


def _pan_ids(version: int, destination_mode: int, source_mode: int, compressed: bool) -> tuple[bool, bool]:
    """Whether the frame has the destination's and the source's PAN id (IEEE 802.15.4-2015, table 7-2)."""
    to, from_ = destination_mode != 0, source_mode != 0
    if version < 2:
        return to, from_ and not (compressed and to)
    if not to and not from_:
        return compressed, False
    if not from_:
        return not compressed, False
    if not to:
        return False, not compressed
    if destination_mode == 3 and source_mode == 3:
        return not compressed, False
    return True, not compressed


def _if(condition: Callable[[Any], bool], field: Any) -> ConditionalField:
    return ConditionalField(field, condition)


class Dot15d4(Packet):
    """A frame with its FCS. Numbers and addresses as people write them; `None` fields are worked out when built.

    What is secured is a `Ciphertext` here; `security.open_frame` gives the frame in clear (`Dot15d4Clear`). The FCS
    has 2 or 4 bytes (`fcs_bytes`), on dissection the one that fits, or 4.
    """

    name = "802.15.4"
    match_subclass = True
    __slots__ = ["_trailer"]
    fields_desc = [
        BitField("reserved", 0, 1),
        BitField("pan_id_compression", 0, 1),
        BitField("ack_request", 0, 1),
        BitField("frame_pending", 0, 1),
        BitField("security", 0, 1),
        BitEnumField("frame_type", 1, 3, {0: "Beacon", 1: "Data", 2: "Ack", 3: "Command"}),
        BitField("source_mode", None, 2),
        BitField("version", 2, 2),
        BitField("destination_mode", None, 2),
        BitField("ie_present", None, 1),
        BitField("sequence_suppression", None, 1),
        _if(lambda pkt: pkt.has_sequence(), ByteField("sequence", None)),
        _if(lambda pkt: pkt.pan_ids()[0], XLEShortField("destination_pan", 0xFFFF)),
        _if(
            lambda pkt: pkt.mode("destination") != 0,
            LinkAddressField("destination", None, lambda pkt: _SIZE_OF_MODE[pkt.mode("destination")]),
        ),
        _if(lambda pkt: pkt.pan_ids()[1], XLEShortField("source_pan", 0xFFFF)),
        _if(
            lambda pkt: pkt.mode("source") != 0,
            LinkAddressField("source", None, lambda pkt: _SIZE_OF_MODE[pkt.mode("source")]),
        ),
        _if(lambda pkt: pkt.security, BitField("security_reserved", 0, 3)),
        _if(lambda pkt: pkt.security, BitField("key_id_mode", 1, 2)),
        _if(lambda pkt: pkt.security, BitField("security_level", 6, 3)),
        _if(lambda pkt: pkt.security, LEIntField("frame_counter", 0)),
        _if(
            lambda pkt: pkt.security and pkt.key_id_mode > 1,
            HexField("key_source", "", lambda pkt: _KEY_SOURCE_SIZE[pkt.key_id_mode]),
        ),
        _if(lambda pkt: pkt.security and pkt.key_id_mode > 0, ByteField("key_index", 1)),
        _if(lambda pkt: pkt.has_ies(), PacketListField("header_ies", [], next_cls_cb=next_header_ie)),
        TrailerField("mic", None),
        TrailerField("fcs_bytes", FCS32_BYTES),
        TrailerField("fcs", None),
    ]

    # what is not given is worked out

    def mode(self, which: str) -> int:
        """Addressing mode of `source` or `destination`: as given, else by the address's size."""
        given = self.getfieldval(f"{which}_mode")
        if given is not None:
            return int(given)
        return _MODE_OF_SIZE.get(len(address_bytes(self.fields.get(which))), 0)

    def pan_ids(self) -> tuple[bool, bool]:
        return _pan_ids(self.version, self.mode("destination"), self.mode("source"), bool(self.pan_id_compression))

    def has_sequence(self) -> bool:
        if self.sequence_suppression is None:
            return self.fields.get("sequence") is not None
        return not self.sequence_suppression

    def has_ies(self) -> bool:
        if self.ie_present is None:
            return bool(self.fields.get("header_ies")) or isinstance(self.payload, _PAYLOAD_IES)
        return bool(self.ie_present)

    def mic_bytes(self) -> int:
        return _MIC_SIZE[self.security_level] if self.security else 0

    # dissection: the end of the frame comes off first

    def pre_dissect(self, s: bytes) -> bytes:
        fcs_bytes = FCS16_BYTES if not has_valid_fcs(s, FCS32_BYTES) and has_valid_fcs(s, FCS16_BYTES) else FCS32_BYTES
        body, fcs = s[:-fcs_bytes], s[-fcs_bytes:]
        mic_bytes = _mic_bytes_of(body)
        mic = body[len(body) - mic_bytes :]
        self._trailer = {"fcs_bytes": fcs_bytes, "fcs": fcs.hex(), "mic": mic.hex() if mic_bytes else None}
        return body[: len(body) - mic_bytes]

    def trailer_value(self, name: str) -> Any:
        return self._trailer[name]

    def do_dissect(self, s: bytes) -> bytes:
        rest = super().do_dissect(s)
        self.raw_packet_cache = None
        return rest

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return Ciphertext if self.security and self.security_level > 4 else self.clear_payload_class(payload)

    def clear_payload_class(self, payload: bytes) -> type[Packet]:
        """The class of a body in clear."""
        elements = self.fields.get("header_ies") or []
        if elements and isinstance(elements[-1], HeaderTermination1):
            return payload_ie_class(payload)
        return lowpan_class(payload) if self.frame_type == 1 else conf.raw_layer

    # building

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        content = self.finish_header(pkt) + pay
        if self.mic_bytes():
            content += bytes(self.mic_bytes()) if self.mic is None else bytes.fromhex(self.mic)
        if self.fcs is None:
            return append_fcs(content, self.fcs_bytes)
        return content + bytes.fromhex(self.fcs)

    def finish_header(self, header: bytes) -> bytes:
        """Frame control bits, and the termination of the header elements, that were left open."""
        control = header[0] | header[1] << 8
        if self.source_mode is None:
            control |= self.mode("source") << 14
        if self.destination_mode is None:
            control |= self.mode("destination") << 10
        if self.sequence_suppression is None and not self.has_sequence():
            control |= 0x0100
        termination = b""
        if self.ie_present is None and self.has_ies():
            control |= 0x0200
            termination = self._open_termination()
        return control.to_bytes(2, "little") + header[2:] + termination

    def _open_termination(self) -> bytes:
        elements = self.fields.get("header_ies") or []
        if elements and isinstance(elements[-1], HeaderTermination1 | HeaderTermination2):
            return b""
        if isinstance(self.payload, _PAYLOAD_IES):
            return bytes(HeaderTermination1())
        return b"" if not self.payload else bytes(HeaderTermination2())


class Dot15d4Clear(Dot15d4):
    """A secured frame whose body has been decrypted. It is no frame for the air until it is sealed again."""

    name = "802.15.4 (in clear)"
    match_subclass = True

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        return self.clear_payload_class(payload)


class Ciphertext(Packet):
    """A body that is encrypted, in hexadecimal."""

    name = "Ciphertext"
    fields_desc = [HexField("data", "")]


def _mic_bytes_of(body: bytes) -> int:
    """Bytes of integrity code at the end of a frame without FCS; 0 if it is too short to say."""
    if len(body) < 2 or not body[0] & 0x08:
        return 0
    control = body[0] | body[1] << 8
    destination_mode, version, source_mode = control >> 10 & 3, control >> 12 & 3, control >> 14 & 3
    has_pans = _pan_ids(version, destination_mode, source_mode, bool(control & 0x40))
    offset = 2 + (not control & 0x0100) + 2 * sum(has_pans)
    offset += _SIZE_OF_MODE[destination_mode] + _SIZE_OF_MODE[source_mode]
    if offset >= len(body):
        return 0
    mic_bytes = _MIC_SIZE[body[offset] & 7]
    return mic_bytes if len(body) - offset >= mic_bytes else 0
