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
from typing import ClassVar, TypeAlias

from protocols.errors import RemoteProtocolError
from protocols.mesh.wisun import FrameType
from protocols.rcp.codes import ChannelFunction, RefusalCode, ResetReason, Status
from protocols.rcp.fields import (
    HAS_DESTINATION,
    NOBODY,
    SPEC,
    boolean,
    cut,
    decode_destination,
    fixed,
    member,
    pack,
    unpack,
    unpack_head,
)

VERSION = 1
NO_PAN = 0xFFFF
UNSECURED = 0
"""Key index of a frame without security."""
MAX_PSDU_BYTES = 2047
KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Reset:
    """Host to radio: forget everything, keys too, and say `Ready`."""

    TYPE: ClassVar[int] = 0x01
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BB")
    version: int = VERSION

    def encode(self) -> bytes:
        return pack(self._LAYOUT, self.TYPE, self.version)

    @classmethod
    def decode(cls, data: bytes) -> Reset:
        return cls(*unpack(cls._LAYOUT, data))


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
        return pack(
            self._LAYOUT,
            self.TYPE,
            fixed(self.eui64, 8),
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
        fields = list(unpack(cls._LAYOUT, data))
        fields[5] = member(ChannelFunction, fields[5])
        fields[11] = boolean(fields[11])
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
        return pack(self._LAYOUT, self.TYPE, self.index, fixed(self.key, KEY_BYTES), self.frame_counter)

    @classmethod
    def decode(cls, data: bytes) -> SetKey:
        return cls(*unpack(cls._LAYOUT, data))


@dataclass(frozen=True, slots=True)
class ClearKey:
    """Host to radio: remove key `index` and what is known of its frame counters."""

    TYPE: ClassVar[int] = 0x04
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BB")
    index: int

    def encode(self) -> bytes:
        return pack(self._LAYOUT, self.TYPE, self.index)

    @classmethod
    def decode(cls, data: bytes) -> ClearKey:
        return cls(*unpack(cls._LAYOUT, data))


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
        return pack(self._LAYOUT, self.TYPE, fixed(self.source, 8), self.key_index, self.minimum_frame_counter)

    @classmethod
    def decode(cls, data: bytes) -> SetReplayFloor:
        return cls(*unpack(cls._LAYOUT, data))


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
        head = pack(
            self._LAYOUT,
            self.TYPE,
            self.handle,
            self.frame_type,
            0 if destination is None else HAS_DESTINATION,
            self.key_index,
            NOBODY if destination is None else fixed(destination, 8),
            len(self.payload_ies),
        )
        return head + self.payload_ies + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Transmit:
        handle, frame_type, flags, key_index, address, ies_bytes = unpack_head(cls._LAYOUT, data)
        ies, payload = cut(data, cls._LAYOUT.size, ies_bytes)
        return cls(handle, member(FrameType, frame_type), decode_destination(flags, address), key_index, ies, payload)


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
            return pack(self._LAYOUT, self.TYPE, 0, NOBODY)
        return pack(self._LAYOUT, self.TYPE, HAS_DESTINATION, fixed(self.source, 8))

    @classmethod
    def decode(cls, data: bytes) -> SetTimeSource:
        return cls(decode_destination(*unpack(cls._LAYOUT, data)))


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
        return pack(self._LAYOUT, self.TYPE, self.version, self.reason, self.queue_length)

    @classmethod
    def decode(cls, data: bytes) -> Ready:
        version, reason, queue_length = unpack(cls._LAYOUT, data)
        return cls(version, member(ResetReason, reason), queue_length)


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
        return pack(self._LAYOUT, self.TYPE, self.handle, self.status, self.attempts, self.frame_counter, rsl)

    @classmethod
    def decode(cls, data: bytes) -> TransmitDone:
        handle, status, attempts, counter, rsl = unpack(cls._LAYOUT, data)
        return cls(handle, member(Status, status), attempts, counter, None if rsl == cls._NO_RSL else rsl)


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
        head = pack(
            self._LAYOUT,
            self.TYPE,
            self.frame_type,
            0 if destination is None else HAS_DESTINATION,
            self.key_index,
            fixed(self.source, 8),
            NOBODY if destination is None else fixed(destination, 8),
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
        head = unpack_head(cls._LAYOUT, data)
        frame_type, flags, key_index, source, address, pan_id, counter, rss, lqi, channel, time_us, ies_bytes = head
        ies, payload = cut(data, cls._LAYOUT.size, ies_bytes)
        return cls(
            member(FrameType, frame_type),
            source,
            decode_destination(flags, address),
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
        return pack(self._LAYOUT, self.TYPE, self.message_type, self.code)

    @classmethod
    def decode(cls, data: bytes) -> Refused:
        message_type, code = unpack(cls._LAYOUT, data)
        return cls(message_type, member(RefusalCode, code))


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
        raise RemoteProtocolError(f"no host message begins with {data[:1].hex() or 'nothing'}", offset=0, spec=SPEC)
    return decode(data)


def decode_radio_message(data: bytes) -> RadioMessage:
    """What a radio sent, for the host. Raises RemoteProtocolError."""
    decode = _RADIO.get(data[0]) if data else None
    if decode is None:
        raise RemoteProtocolError(f"no radio message begins with {data[:1].hex() or 'nothing'}", offset=0, spec=SPEC)
    return decode(data)
