"""Wi-SUN FAN information elements: timing in the header, schedules and PAN data in the payload, and the MPX element.

Numbers inside the elements are little-endian, as everywhere in IEEE 802.15.4. Elements of another kind are skipped
and counted, because a stranger's frames may carry more than is known here.
"""

from __future__ import annotations

import enum
import functools
import struct
from dataclasses import dataclass, field
from typing import Any

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.checksum import fcs_size
from protocols.mesh.elements import encode_header_ie, encode_payload_ie, iterate_header_ies, iterate_payload_ies
from protocols.mesh.schedules import BroadcastSchedule as BroadcastSchedule
from protocols.mesh.schedules import UnicastSchedule as UnicastSchedule

_SPEC = "Wi-SUN FAN TPS"

_HEADER_ELEMENT = 0x2A
_UTT, _BT, _RSL = 1, 2, 4
_RSL_OFFSET_DBM = 174
_RSL_UNKNOWN = 0xFF

_GROUP_MPX, _GROUP_WISUN = 0x3, 0x4
_LONG_US, _LONG_BS = 1, 2
_SHORT_PAN, _SHORT_NETNAME, _SHORT_PANVER, _SHORT_GTKHASH = 4, 5, 6, 7
_NETNAME_MAX_BYTES = 32
_GTK_HASH_COUNT, _GTK_HASH_BYTES = 4, 8

MULTIPLEX_KMP = 1
MULTIPLEX_6LOWPAN = 0xA0ED
KMP_8021X = 1
KMP_4WH = 6
KMP_GKH = 7
_MPX_FULL_FRAME = 0
_MPX_6LOWPAN_HEAD = b"\x00\xed\xa0"


class FrameType(enum.IntEnum):
    """Frame type of the unicast timing and frame type element (UTT-IE)."""

    PA = 0
    PAS = 1
    PC = 2
    PCS = 3
    DATA = 4
    ACK = 5
    EAPOL = 6


DISCOVERY = frozenset({FrameType.PA, FrameType.PAS, FrameType.PC, FrameType.PCS})
"""Asynchronous frames: no destination, no sequence number, sent on every channel."""


def _pack(layout: struct.Struct, *values: int) -> bytes:
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise LocalProtocolError(f"a field of a Wi-SUN element is out of range: {error}") from error


def _unpack(layout: struct.Struct, content: bytes, what: str) -> tuple[Any, ...]:
    if len(content) != layout.size:
        raise RemoteProtocolError(f"{what} has {len(content)} bytes, not {layout.size}", spec=_SPEC)
    return layout.unpack(content)


def _u24(value: int, what: str) -> bytes:
    if not 0 <= value < 1 << 24:
        raise LocalProtocolError(f"{what} {value} does not fit in 24 bits")
    return value.to_bytes(3, "little")


@dataclass(frozen=True, slots=True)
class HeaderElements:
    """The Wi-SUN header elements of one frame, in this order: UTT, BT, RSL.

    `ufsi` is the place in the sender's unicast hopping sequence, in 2**-24 of the sequence. `broadcast_slot` and
    `broadcast_offset_ms` are the broadcast slot and the time since it began. `rsl_dbm` is how strongly the sender of
    an acknowledgement heard the frame, -174 to +80.
    """

    frame_type: FrameType
    ufsi: int = 0
    broadcast_slot: int | None = None
    broadcast_offset_ms: int = 0
    rsl_dbm: int | None = None

    def encode(self) -> bytes:
        """The elements with their descriptors, without a termination."""
        parts = [_UTT_HEAD, bytes((self.frame_type,)), _u24(self.ufsi, "UFSI")]
        if self.broadcast_slot is not None:
            if not 0 <= self.broadcast_slot <= 0xFFFF:
                raise LocalProtocolError(f"broadcast slot {self.broadcast_slot} does not fit in 16 bits")
            parts += (
                _BT_HEAD,
                self.broadcast_slot.to_bytes(2, "little"),
                _u24(self.broadcast_offset_ms, "broadcast offset"),
            )
        if self.rsl_dbm is not None:
            level = self.rsl_dbm + _RSL_OFFSET_DBM
            if not 0 <= level < _RSL_UNKNOWN:
                raise LocalProtocolError(f"received signal level of {self.rsl_dbm} dBm cannot be encoded")
            parts += (_RSL_HEAD, bytes((level,)))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> HeaderElements:
        """From the header elements of a frame, without a termination. Raises RemoteProtocolError, also without UTT."""
        return _decode_header_elements(data)

    @classmethod
    def _decode(cls, data: bytes) -> HeaderElements:
        frame_type: FrameType | None = None
        ufsi, slot, offset_ms, rsl = 0, None, 0, None
        for element, content in iterate_header_ies(data):
            if element != _HEADER_ELEMENT or not content:
                continue
            sub_id = content[0]
            if sub_id == _UTT:
                kind, low, high = _unpack(_UTT_CONTENT, content, "UTT-IE")
                frame_type, ufsi = _frame_type(kind), low | high << 16
            elif sub_id == _BT:
                slot, low, high = _unpack(_BT_CONTENT, content, "BT-IE")
                offset_ms = low | high << 16
            elif sub_id == _RSL:
                (level,) = _unpack(_RSL_CONTENT, content, "RSL-IE")
                rsl = None if level == _RSL_UNKNOWN else level - _RSL_OFFSET_DBM
        if frame_type is None:
            raise RemoteProtocolError("frame without a UTT-IE", spec=_SPEC)
        return cls(frame_type, ufsi, slot, offset_ms, rsl)


@functools.lru_cache(maxsize=1024)
def _decode_header_elements(data: bytes) -> HeaderElements:
    """Kept, because every neighbour decodes the same bytes, and without hopping most frames have the same."""
    return HeaderElements._decode(data)  # noqa: SLF001 (the other half of the same class)


_UTT_HEAD = encode_header_ie(_HEADER_ELEMENT, bytes((_UTT, 0, 0, 0, 0)))[:3]
_BT_HEAD = encode_header_ie(_HEADER_ELEMENT, bytes((_BT, 0, 0, 0, 0, 0)))[:3]
_RSL_HEAD = encode_header_ie(_HEADER_ELEMENT, bytes((_RSL, 0)))[:3]
_UTT_CONTENT = struct.Struct("<xBHB")
_BT_CONTENT = struct.Struct("<xHHB")
_RSL_CONTENT = struct.Struct("<xB")
_PAN_CONTENT = struct.Struct("<HHB")
_PANVER_CONTENT = struct.Struct("<H")


def _frame_type(value: int) -> FrameType:
    if value > FrameType.EAPOL:
        raise RemoteProtocolError(f"frame type {value} is unknown", spec=_SPEC)
    return FrameType(value)


@dataclass(frozen=True, slots=True)
class PanInformation:
    """PAN-IE: what a joining node compares. `routing_cost` is the sender's path cost to the root."""

    pan_size: int
    routing_cost: int
    use_parent_broadcast_schedule: bool = True
    routing_method_rpl: bool = True
    fan_tps_version: int = 1

    def encode(self) -> bytes:
        """The content, without a descriptor."""
        if not 0 <= self.fan_tps_version < 8:
            raise LocalProtocolError(f"FAN TPS version {self.fan_tps_version} does not fit in 3 bits")
        flags = self.use_parent_broadcast_schedule | self.routing_method_rpl << 1 | self.fan_tps_version << 5
        return _pack(_PAN_CONTENT, self.pan_size, self.routing_cost, flags)

    @classmethod
    def decode(cls, content: bytes) -> PanInformation:
        size, cost, flags = _unpack(_PAN_CONTENT, content, "PAN-IE")
        return cls(size, cost, bool(flags & 1), bool(flags & 2), flags >> 5)


@dataclass(frozen=True, slots=True)
class Multiplex:
    """MPX-IE (IEEE 802.15.9), whole frames only: 6LoWPAN or a key management message.

    `kmp_id` is given if and only if `multiplex_id` is `MULTIPLEX_KMP`. Transactions are numbered 0 to 31.
    """

    multiplex_id: int
    payload: bytes
    kmp_id: int | None = None
    transaction_id: int = 0

    def encode(self) -> bytes:
        """The content, without a descriptor."""
        if (self.kmp_id is None) == (self.multiplex_id == MULTIPLEX_KMP):
            raise LocalProtocolError("a KMP id goes with the KMP multiplex id, and only with it")
        if not 0 <= self.transaction_id < 32:
            raise LocalProtocolError(f"transaction {self.transaction_id} does not fit in 5 bits")
        try:
            head = struct.pack("<BH", _MPX_FULL_FRAME | self.transaction_id << 3, self.multiplex_id)
            return head + (b"" if self.kmp_id is None else bytes((self.kmp_id,))) + self.payload
        except (struct.error, ValueError) as error:
            raise LocalProtocolError(f"MPX-IE: {error}") from error

    @classmethod
    def decode(cls, content: bytes) -> Multiplex:
        if len(content) < 3:
            raise RemoteProtocolError("MPX-IE is cut off", spec="IEEE 802.15.9")
        control, multiplex_id = content[0], content[1] | content[2] << 8
        if control & 7 != _MPX_FULL_FRAME:
            raise RemoteProtocolError(f"MPX transfer type {control & 7} is not supported", spec="IEEE 802.15.9")
        if multiplex_id != MULTIPLEX_KMP:
            return cls(multiplex_id, content[3:], None, control >> 3)
        if len(content) < 4:
            raise RemoteProtocolError("MPX-IE without its KMP id", spec="IEEE 802.15.9")
        return cls(multiplex_id, content[4:], content[3], control >> 3)


@dataclass(frozen=True, slots=True)
class PayloadElements:
    """The payload elements of one frame, in the order WP (nested), MPX. `gtk_hashes` are four times 8 bytes."""

    unicast_schedule: UnicastSchedule | None = None
    broadcast_schedule: BroadcastSchedule | None = None
    pan: PanInformation | None = None
    network_name: str | None = None
    pan_version: int | None = None
    gtk_hashes: tuple[bytes, ...] | None = None
    multiplex: Multiplex | None = None
    unknown_count: int = field(default=0, compare=False)

    def encode(self) -> bytes:
        """The elements without a termination, as `Transmit.payload_ies` takes them."""
        nested = self._encode_nested()
        parts = [encode_payload_ie(_GROUP_WISUN, nested)] if nested else []
        if self.multiplex is not None:
            parts.append(encode_payload_ie(_GROUP_MPX, self.multiplex.encode()))
        return b"".join(parts)

    def _encode_nested(self) -> bytes:
        parts = []
        if self.unicast_schedule is not None:
            parts.append(_encode_long(_LONG_US, self.unicast_schedule.encode()))
        if self.broadcast_schedule is not None:
            parts.append(_encode_long(_LONG_BS, self.broadcast_schedule.encode()))
        if self.pan is not None:
            parts.append(_encode_short(_SHORT_PAN, self.pan.encode()))
        if self.network_name is not None:
            name = self.network_name.encode()
            if len(name) > _NETNAME_MAX_BYTES:
                raise LocalProtocolError(f"network name of {len(name)} bytes, at most {_NETNAME_MAX_BYTES}")
            parts.append(_encode_short(_SHORT_NETNAME, name))
        if self.pan_version is not None:
            parts.append(_encode_short(_SHORT_PANVER, _pack(_PANVER_CONTENT, self.pan_version)))
        if self.gtk_hashes is not None:
            if [len(entry) for entry in self.gtk_hashes] != [_GTK_HASH_BYTES] * _GTK_HASH_COUNT:
                raise LocalProtocolError("GTKHASH-IE holds four hashes of 8 bytes")
            parts.append(_encode_short(_SHORT_GTKHASH, b"".join(self.gtk_hashes)))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> PayloadElements:
        """From `Received.payload_ies`. Raises RemoteProtocolError."""
        return _decode_payload_elements(data)

    @classmethod
    def _decode(cls, data: bytes) -> PayloadElements:
        fields: dict[str, Any] = {}
        unknown_count = 0
        for group, content in iterate_payload_ies(data):
            if group == _GROUP_MPX:
                fields["multiplex"] = Multiplex.decode(content)
            elif group == _GROUP_WISUN:
                unknown_count += _decode_nested(content, fields)
            else:
                unknown_count += 1
        return cls(**fields, unknown_count=unknown_count)


@functools.lru_cache(maxsize=256)
def _decode_payload_elements(data: bytes) -> PayloadElements:
    """Kept, because every neighbour decodes the same broadcast."""
    return PayloadElements._decode(data)  # noqa: SLF001 (the other half of the same class)


def _encode_short(sub_id: int, content: bytes) -> bytes:
    return (len(content) | sub_id << 8).to_bytes(2, "little") + content


def _encode_long(sub_id: int, content: bytes) -> bytes:
    return (len(content) | sub_id << 11 | 0x8000).to_bytes(2, "little") + content


def _decode_nested(data: bytes, fields: dict[str, Any]) -> int:
    """Fill `fields` from the nested elements of a WP-IE; returns how many were unknown."""
    offset, end, unknown_count = 0, len(data), 0
    while offset < end:
        if offset + 2 > end:
            raise RemoteProtocolError("nested element is cut off", offset=offset, spec=_SPEC)
        descriptor = data[offset] | data[offset + 1] << 8
        is_long = descriptor & 0x8000
        size = descriptor & (0x7FF if is_long else 0xFF)
        start, offset = offset + 2, offset + 2 + size
        if offset > end:
            raise RemoteProtocolError("nested element is cut off", offset=start, spec=_SPEC)
        content = data[start:offset]
        if is_long:
            known = _decode_long(descriptor >> 11 & 0xF, content, fields)
        else:
            known = _decode_short(descriptor >> 8 & 0x7F, content, fields)
        unknown_count += not known
    return unknown_count


def _decode_long(sub_id: int, content: bytes, fields: dict[str, Any]) -> bool:
    if sub_id == _LONG_US:
        schedule = fields["unicast_schedule"] = UnicastSchedule.decode(content)
        return schedule is not None
    if sub_id == _LONG_BS:
        broadcast = fields["broadcast_schedule"] = BroadcastSchedule.decode(content)
        return broadcast is not None
    return False


def _decode_short(sub_id: int, content: bytes, fields: dict[str, Any]) -> bool:
    if sub_id == _SHORT_PAN:
        fields["pan"] = PanInformation.decode(content)
    elif sub_id == _SHORT_NETNAME:
        if len(content) > _NETNAME_MAX_BYTES:
            raise RemoteProtocolError(f"network name of {len(content)} bytes", spec=_SPEC)
        try:
            fields["network_name"] = content.decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("network name is not text", spec=_SPEC) from error
    elif sub_id == _SHORT_PANVER:
        (fields["pan_version"],) = _unpack(_PANVER_CONTENT, content, "PANVER-IE")
    elif sub_id == _SHORT_GTKHASH:
        if len(content) != _GTK_HASH_COUNT * _GTK_HASH_BYTES:
            raise RemoteProtocolError(f"GTKHASH-IE has {len(content)} bytes, not 32", spec=_SPEC)
        fields["gtk_hashes"] = tuple(
            content[at : at + _GTK_HASH_BYTES] for at in range(0, len(content), _GTK_HASH_BYTES)
        )
    else:
        return False
    return True


def encode_datagram(datagram: bytes) -> bytes:
    """Fast path of `PayloadElements(multiplex=Multiplex(MULTIPLEX_6LOWPAN, datagram)).encode()`."""
    return encode_payload_ie(_GROUP_MPX, _MPX_6LOWPAN_HEAD + datagram)


def decode_datagram(payload_ies: bytes) -> bytes | None:
    """Fast path: the 6LoWPAN bytes of the MPX element, None if the list holds none. Raises RemoteProtocolError."""
    for group, content in iterate_payload_ies(payload_ies):
        if group == _GROUP_MPX:
            multiplex = Multiplex.decode(content)
            return multiplex.payload if multiplex.multiplex_id == MULTIPLEX_6LOWPAN else None
    return None


_UNICAST_HEADER_BYTES = 2 + 1 + 8 + 8
_SECURITY_BYTES = 6 + 8
_TIMING_BYTES = 7 + 8
_TERMINATION_BYTES = 2
_MPX_BYTES = 2 + 3
_PAYLOAD_IE_MAX_BYTES = 0x7FF


def mpx_capacity(max_psdu_bytes: int, *, secured: bool = True, other_ies_bytes: int = 0) -> int:
    """How many 6LoWPAN bytes fit in the MPX element of one DATA frame, unicast or broadcast.

    `other_ies_bytes` is the room that other payload elements (a WP element with schedules) take, descriptors included.
    """
    overhead = _UNICAST_HEADER_BYTES + _TIMING_BYTES + _TERMINATION_BYTES + _MPX_BYTES + fcs_size(max_psdu_bytes)
    if secured:
        overhead += _SECURITY_BYTES
    return min(max_psdu_bytes - overhead - other_ies_bytes, _PAYLOAD_IE_MAX_BYTES - 3)
