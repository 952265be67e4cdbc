"""Messages between a host and its radio co-processor (RCP).

One message travels in one frame of `protocols.rcp.framing`. All integers are big-endian. The first byte is the
message's type. `Reset` and `Ready` carry the protocol version, so that either side notices a peer of another age.

The radio owns sequence numbers, header elements, encryption, CSMA, acknowledgements, retries and replay checks. The
host owns everything above. A radio that restarts says `Ready`; the host then configures it again. Bytes can be lost
on a serial line, so a host bounds its wait for `TransmitDone` and for `Ready`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.wisun import FrameType
from protocols.rcp.codes import ChannelFunction, RefusalCode, ResetReason, Status

VERSION = 1
NO_PAN = 0xFFFF
UNSECURED = 0
"""Key index of a frame without security."""
MAX_PSDU_BYTES = 2047
KEY_BYTES = 16

_SPEC = "RCP 1"
_NOBODY = bytes(8)
_HAS_DESTINATION = 0x01


def _pack(layout: struct.Struct, *values: object) -> bytes:
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise LocalProtocolError(f"a field of an RCP message is out of range: {error}") from error


def _fixed(value: bytes, size_bytes: int) -> bytes:
    if len(value) != size_bytes:
        raise LocalProtocolError(f"a field of an RCP message has {len(value)} bytes, not {size_bytes}")
    return value


def _unpack(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    """All fields after the type byte of a message of fixed size."""
    if len(data) != layout.size:
        raise RemoteProtocolError(f"message has {len(data)} bytes, not {layout.size}", offset=0, spec=_SPEC)
    return layout.unpack(data)[1:]


def _unpack_head(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    """The fields after the type byte that precede the variable part."""
    if len(data) < layout.size:
        raise RemoteProtocolError(f"message has {len(data)} bytes, not {layout.size} or more", offset=0, spec=_SPEC)
    return layout.unpack_from(data)[1:]


def _member(kind: Callable[[int], Any], value: int) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        raise RemoteProtocolError(str(error), spec=_SPEC) from error


def _boolean(value: int) -> bool:
    if value > 1:
        raise RemoteProtocolError(f"a flag is {value}, neither 0 nor 1", spec=_SPEC)
    return value == 1


def _cut(data: bytes, head_bytes: int, ies_bytes: int) -> tuple[bytes, bytes]:
    """Payload elements and payload after a head that declares the elements' length."""
    end = head_bytes + ies_bytes
    if end > len(data):
        raise RemoteProtocolError(
            f"{ies_bytes} bytes of elements declared, have {len(data) - head_bytes}", offset=head_bytes, spec=_SPEC
        )
    return data[head_bytes:end], data[end:]


def _destination(flags: int, address: bytes) -> bytes | None:
    if flags & ~_HAS_DESTINATION or (not flags and address != _NOBODY):
        raise RemoteProtocolError("flags and destination disagree", spec=_SPEC)
    return address if flags else None


@dataclass(frozen=True, slots=True)
class Reset:
    """Host to radio: forget everything, keys too, and say `Ready`."""

    TYPE: ClassVar[int] = 0x01
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BB")
    version: int = VERSION

    def encode(self) -> bytes:
        return _pack(self._LAYOUT, self.TYPE, self.version)

    @classmethod
    def decode(cls, data: bytes) -> Reset:
        return cls(*_unpack(cls._LAYOUT, data))


@dataclass(frozen=True, slots=True)
class Configure:
    """Host to radio: who the node is and how it hops. May come again at any time; keys and counters stay.

    `max_psdu_bytes` counts the FCS: above 127 the FCS is CRC-32, else CRC-16. `plan` and `fsk_mode` are keys of the
    tables of `protocols.mesh.phy`. Under DH1CF every node has its own unicast schedule; the broadcast schedule is
    that of the PAN's root (`broadcast_root`), which the others follow by its timing elements.
    """

    TYPE: ClassVar[int] = 0x02
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">B8sHHBBBHBIBHB")
    eui64: bytes
    pan_id: int = NO_PAN
    max_psdu_bytes: int = MAX_PSDU_BYTES
    plan: int = 1
    fsk_mode: int = 1
    channel_function: ChannelFunction = ChannelFunction.FIXED
    fixed_channel: int = 0
    unicast_dwell_ms: int = 255
    broadcast_interval_ms: int = 1020
    broadcast_dwell_ms: int = 255
    broadcast_schedule_id: int = 0
    broadcast_root: bool = False

    def encode(self) -> bytes:
        return _pack(
            self._LAYOUT,
            self.TYPE,
            _fixed(self.eui64, 8),
            self.pan_id,
            self.max_psdu_bytes,
            self.plan,
            self.fsk_mode,
            self.channel_function,
            self.fixed_channel,
            self.unicast_dwell_ms,
            self.broadcast_interval_ms,
            self.broadcast_dwell_ms,
            self.broadcast_schedule_id,
            self.broadcast_root,
        )

    @classmethod
    def decode(cls, data: bytes) -> Configure:
        fields = list(_unpack(cls._LAYOUT, data))
        fields[5] = _member(ChannelFunction, fields[5])
        fields[11] = _boolean(fields[11])
        return cls(*fields)


@dataclass(frozen=True, slots=True)
class SetKey:
    """Host to radio: group key `index` (1 to 7). The next frame sent under it has `frame_counter`.

    Frame counters never repeat under one key: a host that restarts gives one above every one that was used.
    """

    TYPE: ClassVar[int] = 0x03
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BB16sI")
    index: int
    key: bytes = field(repr=False)
    frame_counter: int = 0

    def encode(self) -> bytes:
        return _pack(self._LAYOUT, self.TYPE, self.index, _fixed(self.key, KEY_BYTES), self.frame_counter)

    @classmethod
    def decode(cls, data: bytes) -> SetKey:
        return cls(*_unpack(cls._LAYOUT, data))


@dataclass(frozen=True, slots=True)
class ClearKey:
    """Host to radio: remove key `index` and what is known of its frame counters."""

    TYPE: ClassVar[int] = 0x04
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BB")
    index: int

    def encode(self) -> bytes:
        return _pack(self._LAYOUT, self.TYPE, self.index)

    @classmethod
    def decode(cls, data: bytes) -> ClearKey:
        return cls(*_unpack(cls._LAYOUT, data))


@dataclass(frozen=True, slots=True)
class SetReplayFloor:
    """Host to radio: accept from `source` under `key_index` only frame counters of at least `minimum_frame_counter`.

    For hosts that keep their neighbours' counters over a power cut. Floors only rise.
    """

    TYPE: ClassVar[int] = 0x05
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">B8sBI")
    source: bytes
    key_index: int
    minimum_frame_counter: int

    def encode(self) -> bytes:
        return _pack(self._LAYOUT, self.TYPE, _fixed(self.source, 8), self.key_index, self.minimum_frame_counter)

    @classmethod
    def decode(cls, data: bytes) -> SetReplayFloor:
        return cls(*_unpack(cls._LAYOUT, data))


@dataclass(frozen=True, slots=True)
class Transmit:
    """Host to radio: send one frame. Answered by one `TransmitDone` with the same `handle`.

    `destination` is an EUI-64 (unicast, acknowledged) or None (broadcast; PA, PAS, PC and PCS go out once on every
    channel when the radio hops). `key_index` 0 sends without security. `payload_ies` is the encoded list of payload
    elements without termination (`protocols.mesh.wisun.PayloadElements`), `payload` what follows it, mostly nothing.
    """

    TYPE: ClassVar[int] = 0x06
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BHBBB8sH")
    handle: int
    frame_type: FrameType
    destination: bytes | None
    key_index: int = UNSECURED
    payload_ies: bytes = b""
    payload: bytes = b""

    def encode(self) -> bytes:
        destination = self.destination
        head = _pack(
            self._LAYOUT,
            self.TYPE,
            self.handle,
            self.frame_type,
            0 if destination is None else _HAS_DESTINATION,
            self.key_index,
            _NOBODY if destination is None else _fixed(destination, 8),
            len(self.payload_ies),
        )
        return head + self.payload_ies + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Transmit:
        handle, frame_type, flags, key_index, address, ies_bytes = _unpack_head(cls._LAYOUT, data)
        ies, payload = _cut(data, cls._LAYOUT.size, ies_bytes)
        return cls(handle, _member(FrameType, frame_type), _destination(flags, address), key_index, ies, payload)


@dataclass(frozen=True, slots=True)
class SetTimeSource:
    """Host to radio: follow the broadcast timing of this neighbour, mostly the routing parent.

    None, and before this message comes: follow whoever is heard. Only a radio that hops cares.
    """

    TYPE: ClassVar[int] = 0x07
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BB8s")
    source: bytes | None

    def encode(self) -> bytes:
        if self.source is None:
            return _pack(self._LAYOUT, self.TYPE, 0, _NOBODY)
        return _pack(self._LAYOUT, self.TYPE, _HAS_DESTINATION, _fixed(self.source, 8))

    @classmethod
    def decode(cls, data: bytes) -> SetTimeSource:
        return cls(_destination(*_unpack(cls._LAYOUT, data)))


@dataclass(frozen=True, slots=True)
class Ready:
    """Radio to host: started, not configured, without keys."""

    TYPE: ClassVar[int] = 0x81
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BBBH")
    version: int = VERSION
    reason: ResetReason = ResetReason.POWER_ON
    queue_length: int = 0
    """How many frames may wait in the radio."""

    def encode(self) -> bytes:
        return _pack(self._LAYOUT, self.TYPE, self.version, self.reason, self.queue_length)

    @classmethod
    def decode(cls, data: bytes) -> Ready:
        version, reason, queue_length = _unpack(cls._LAYOUT, data)
        return cls(version, _member(ResetReason, reason), queue_length)


@dataclass(frozen=True, slots=True)
class TransmitDone:
    """Radio to host: the transmission `handle` ended.

    `attempts` counts the times that the frame went on the air. `frame_counter` is the counter of the last attempt, 0
    if unsecured. `ack_rsl_dbm` is how strongly the peer heard the frame, None without an acknowledgement that says.
    """

    TYPE: ClassVar[int] = 0x82
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BHBBIh")
    _NO_RSL: ClassVar[int] = -0x8000
    handle: int
    status: Status
    attempts: int
    frame_counter: int = 0
    ack_rsl_dbm: int | None = None

    def encode(self) -> bytes:
        rsl = self._NO_RSL if self.ack_rsl_dbm is None else self.ack_rsl_dbm
        return _pack(self._LAYOUT, self.TYPE, self.handle, self.status, self.attempts, self.frame_counter, rsl)

    @classmethod
    def decode(cls, data: bytes) -> TransmitDone:
        handle, status, attempts, counter, rsl = _unpack(cls._LAYOUT, data)
        return cls(handle, _member(Status, status), attempts, counter, None if rsl == cls._NO_RSL else rsl)


@dataclass(frozen=True, slots=True)
class Received:
    """Radio to host: a frame for this node, verified, decrypted, new.

    `destination` is this node or None (broadcast). `pan_id` is the one that the frame names; data that name none are
    of the own PAN, other frames that name none (PAS) have `NO_PAN`. `rss_dbm` is in dBm, `lqi` 0 to 255,
    `timestamp_us` the frame's start on the radio's clock.
    """

    TYPE: ClassVar[int] = 0x83
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BBBB8s8sHIhBHQH")
    frame_type: FrameType
    source: bytes
    destination: bytes | None
    pan_id: int
    key_index: int
    frame_counter: int
    rss_dbm: int
    lqi: int
    channel: int
    timestamp_us: int
    payload_ies: bytes = b""
    payload: bytes = b""

    def encode(self) -> bytes:
        destination = self.destination
        head = _pack(
            self._LAYOUT,
            self.TYPE,
            self.frame_type,
            0 if destination is None else _HAS_DESTINATION,
            self.key_index,
            _fixed(self.source, 8),
            _NOBODY if destination is None else _fixed(destination, 8),
            self.pan_id,
            self.frame_counter,
            self.rss_dbm,
            self.lqi,
            self.channel,
            self.timestamp_us,
            len(self.payload_ies),
        )
        return head + self.payload_ies + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Received:
        head = _unpack_head(cls._LAYOUT, data)
        frame_type, flags, key_index, source, address, pan_id, counter, rss, lqi, channel, time_us, ies_bytes = head
        ies, payload = _cut(data, cls._LAYOUT.size, ies_bytes)
        return cls(
            _member(FrameType, frame_type),
            source,
            _destination(flags, address),
            pan_id,
            key_index,
            counter,
            rss,
            lqi,
            channel,
            time_us,
            ies,
            payload,
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """Radio to host: a message of type `message_type` was not taken."""

    TYPE: ClassVar[int] = 0x84
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BBB")
    message_type: int
    code: RefusalCode

    def encode(self) -> bytes:
        return _pack(self._LAYOUT, self.TYPE, self.message_type, self.code)

    @classmethod
    def decode(cls, data: bytes) -> Refused:
        message_type, code = _unpack(cls._LAYOUT, data)
        return cls(message_type, _member(RefusalCode, code))


HostMessage: TypeAlias = Reset | Configure | SetKey | ClearKey | SetReplayFloor | Transmit | SetTimeSource
RadioMessage: TypeAlias = Ready | TransmitDone | Received | Refused
RcpMessage: TypeAlias = HostMessage | RadioMessage

_HOST: dict[int, Callable[[bytes], HostMessage]] = {
    Reset.TYPE: Reset.decode,
    Configure.TYPE: Configure.decode,
    SetKey.TYPE: SetKey.decode,
    ClearKey.TYPE: ClearKey.decode,
    SetReplayFloor.TYPE: SetReplayFloor.decode,
    Transmit.TYPE: Transmit.decode,
    SetTimeSource.TYPE: SetTimeSource.decode,
}
_RADIO: dict[int, Callable[[bytes], RadioMessage]] = {
    Ready.TYPE: Ready.decode,
    TransmitDone.TYPE: TransmitDone.decode,
    Received.TYPE: Received.decode,
    Refused.TYPE: Refused.decode,
}


def decode_host_message(data: bytes) -> HostMessage:
    """What a host sent, for the radio. Raises RemoteProtocolError."""
    decode = _HOST.get(data[0]) if data else None
    if decode is None:
        raise RemoteProtocolError(f"no host message begins with {data[:1].hex() or 'nothing'}", offset=0, spec=_SPEC)
    return decode(data)


def decode_radio_message(data: bytes) -> RadioMessage:
    """What a radio sent, for the host. Raises RemoteProtocolError."""
    decode = _RADIO.get(data[0]) if data else None
    if decode is None:
        raise RemoteProtocolError(f"no radio message begins with {data[:1].hex() or 'nothing'}", offset=0, spec=_SPEC)
    return decode(data)
