"""Messages of the Precision Time Protocol, version 2 (IEEE 1588-2008 and 2019), over UDP with unicast negotiation.

All fields big-endian. Time stamps count on PTP's scale, TAI seconds since 1970; Announce tells how far UTC is behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError

SPEC = "IEEE 1588"
HEADER_BYTES = 34
_VERSION = 2
_NS = 1_000_000_000


class MessageType(IntEnum):
    SYNC = 0x0
    DELAY_REQ = 0x1
    FOLLOW_UP = 0x8
    DELAY_RESP = 0x9
    ANNOUNCE = 0xB
    SIGNALING = 0xC


class Flags(IntFlag):
    """The flag field as one number: its first octet is the higher one."""

    LEAP_61 = 0x0001
    LEAP_59 = 0x0002
    UTC_OFFSET_VALID = 0x0004
    PTP_TIMESCALE = 0x0008
    TIME_TRACEABLE = 0x0010
    FREQUENCY_TRACEABLE = 0x0020
    TWO_STEP = 0x0200
    UNICAST = 0x0400


class TlvType(IntEnum):
    REQUEST_UNICAST = 0x0004
    GRANT_UNICAST = 0x0005
    CANCEL_UNICAST = 0x0006
    ACKNOWLEDGE_CANCEL = 0x0007


_CONTROL = {
    MessageType.SYNC: 0,
    MessageType.DELAY_REQ: 1,
    MessageType.FOLLOW_UP: 2,
    MessageType.DELAY_RESP: 3,
    MessageType.ANNOUNCE: 5,
    MessageType.SIGNALING: 5,
}
"""The controlField of version 1, which receivers ignore."""


@dataclass(frozen=True, slots=True)
class PortIdentity:
    """A clock's identity (8 octets, often made of an EUI-64) and the number of its port."""

    clock: bytes
    port: int

    def encode(self) -> bytes:
        if len(self.clock) != 8 or not 0 <= self.port <= 0xFFFF:
            raise LocalProtocolError("a port identity is 8 octets and 16 bits")
        return self.clock + self.port.to_bytes(2, "big")

    @classmethod
    def decode(cls, reader: Reader) -> PortIdentity:
        return cls(reader.take(8), reader.u16())


ANY_PORT = PortIdentity(b"\xff" * 8, 0xFFFF)


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """Nanoseconds on PTP's scale; 48 bits of seconds."""

    total_ns: int

    def encode(self) -> bytes:
        seconds, nanoseconds = divmod(self.total_ns, _NS)
        if not 0 <= seconds < 1 << 48:
            raise LocalProtocolError("a time stamp has 48 bits of seconds")
        return seconds.to_bytes(6, "big") + nanoseconds.to_bytes(4, "big")

    @classmethod
    def decode(cls, reader: Reader) -> Timestamp:
        seconds, nanoseconds = int.from_bytes(reader.take(6), "big"), reader.u32()
        if nanoseconds >= _NS:
            raise reader.error("a billion nanoseconds or more in a time stamp")
        return cls(seconds * _NS + nanoseconds)

    @property
    def tai_s(self) -> float:
        return self.total_ns / _NS


@dataclass(frozen=True, slots=True)
class Header:
    """What every message begins with. `correction_ns` is exact to 2^-16 ns; `log_interval` is of 2, in seconds."""

    source: PortIdentity
    sequence: int
    flags: Flags = Flags.UNICAST
    domain: int = 0
    correction_ns: float = 0.0
    log_interval: int = 0x7F

    def encode(self, kind: MessageType, body: bytes) -> bytes:
        length = HEADER_BYTES + len(body)
        correction = round(self.correction_ns * 65536)
        head = bytes((kind.value, _VERSION)) + length.to_bytes(2, "big") + bytes((self.domain, 0))
        head += int(self.flags).to_bytes(2, "big") + correction.to_bytes(8, "big", signed=True) + bytes(4)
        head += self.source.encode() + self.sequence.to_bytes(2, "big")
        return head + bytes((_CONTROL[kind],)) + self.log_interval.to_bytes(1, "big", signed=True) + body

    @classmethod
    def decode(cls, reader: Reader) -> tuple[MessageType, Header, Reader]:
        """The type, the header, and a reader over the body. Padding behind the message is passed over."""
        first, version, length = reader.u8(), reader.u8() & 0x0F, reader.u16()
        if version != _VERSION:
            raise reader.error(f"version {version} of PTP")
        try:
            kind = MessageType(first & 0x0F)
        except ValueError:
            raise reader.error(f"message type {first & 0x0F}") from None
        if length < HEADER_BYTES:
            raise reader.error(f"a message of {length} octets")
        domain, _ = reader.u8(), reader.u8()
        flags = Flags(reader.u16() & sum(Flags))
        correction = int.from_bytes(reader.take(8), "big", signed=True)
        reader.take(4)
        source, sequence, _ = PortIdentity.decode(reader), reader.u16(), reader.u8()
        log_interval = int.from_bytes(reader.take(1), "big", signed=True)
        header = cls(source, sequence, flags, domain, correction / 65536, log_interval)
        return kind, header, reader.sub(length - HEADER_BYTES)


@dataclass(frozen=True, slots=True)
class Sync:
    """The master's time: rough, if Follow_Up tells it better (two-step)."""

    TYPE: ClassVar[MessageType] = MessageType.SYNC
    header: Header
    origin: Timestamp

    def body(self) -> bytes:
        return self.origin.encode()

    @classmethod
    def decode(cls, header: Header, body: Reader) -> Sync:
        return cls(header, Timestamp.decode(body))


@dataclass(frozen=True, slots=True)
class FollowUp:
    """When the Sync of the same number left."""

    TYPE: ClassVar[MessageType] = MessageType.FOLLOW_UP
    header: Header
    precise_origin: Timestamp

    def body(self) -> bytes:
        return self.precise_origin.encode()

    @classmethod
    def decode(cls, header: Header, body: Reader) -> FollowUp:
        return cls(header, Timestamp.decode(body))


@dataclass(frozen=True, slots=True)
class DelayReq:
    """A slave asks when this reaches the master."""

    TYPE: ClassVar[MessageType] = MessageType.DELAY_REQ
    header: Header
    origin: Timestamp = Timestamp(0)

    def body(self) -> bytes:
        return self.origin.encode()

    @classmethod
    def decode(cls, header: Header, body: Reader) -> DelayReq:
        return cls(header, Timestamp.decode(body))


@dataclass(frozen=True, slots=True)
class DelayResp:
    """When the Delay_Req of the same number, from `requester`, arrived."""

    TYPE: ClassVar[MessageType] = MessageType.DELAY_RESP
    header: Header
    received: Timestamp
    requester: PortIdentity

    def body(self) -> bytes:
        return self.received.encode() + self.requester.encode()

    @classmethod
    def decode(cls, header: Header, body: Reader) -> DelayResp:
        return cls(header, Timestamp.decode(body), PortIdentity.decode(body))


@dataclass(frozen=True, slots=True)
class Announce:
    """How good the master is. `utc_offset_s` is TAI minus UTC; `clock_class` 6 follows a primary reference, 7 did."""

    TYPE: ClassVar[MessageType] = MessageType.ANNOUNCE
    header: Header
    utc_offset_s: int
    grandmaster: bytes
    clock_class: int = 6
    accuracy: int = 0x21
    variance: int = 0x4E5D
    priority_1: int = 128
    priority_2: int = 128
    steps_removed: int = 0
    time_source: int = 0x20

    def body(self) -> bytes:
        if len(self.grandmaster) != 8:
            raise LocalProtocolError("a clock's identity has 8 octets")
        quality = bytes((self.clock_class, self.accuracy)) + self.variance.to_bytes(2, "big")
        return (
            Timestamp(0).encode()
            + self.utc_offset_s.to_bytes(2, "big", signed=True)
            + bytes((0, self.priority_1))
            + quality
            + bytes((self.priority_2,))
            + self.grandmaster
            + self.steps_removed.to_bytes(2, "big")
            + bytes((self.time_source,))
        )

    @classmethod
    def decode(cls, header: Header, body: Reader) -> Announce:
        Timestamp.decode(body)
        offset_s = int.from_bytes(body.take(2), "big", signed=True)
        _, priority_1, clock_class, accuracy = body.u8(), body.u8(), body.u8(), body.u8()
        variance, priority_2, grandmaster = body.u16(), body.u8(), body.take(8)
        removed, source = body.u16(), body.u8()
        return cls(
            header, offset_s, grandmaster, clock_class, accuracy, variance, priority_1, priority_2, removed, source
        )


@dataclass(frozen=True, slots=True)
class UnicastTlv:
    """One line of a negotiation: which messages, how often (`log_interval` of 2 s), for how long (0: not at all).

    `kind` is a request or a grant, or a cancellation and its acknowledgement, which have neither interval nor duration.
    """

    kind: TlvType
    message: MessageType
    log_interval: int = 0
    duration_s: int = 0

    def encode(self) -> bytes:
        value = bytes((self.message.value << 4,))
        if self.kind in (TlvType.CANCEL_UNICAST, TlvType.ACKNOWLEDGE_CANCEL):
            value += bytes(1)
        else:
            value += self.log_interval.to_bytes(1, "big", signed=True) + self.duration_s.to_bytes(4, "big")
            if self.kind is TlvType.GRANT_UNICAST:
                value += bytes((0, 1 if self.duration_s else 0))  # the last bit invites a renewal
        return self.kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value

    @classmethod
    def decode(cls, kind: TlvType, value: Reader) -> UnicastTlv:
        number = value.u8() >> 4
        try:
            message = MessageType(number)
        except ValueError:
            raise value.error(f"message type {number} in a negotiation") from None
        if kind in (TlvType.CANCEL_UNICAST, TlvType.ACKNOWLEDGE_CANCEL):
            value.take(1)
            found = cls(kind, message)
        else:
            found = cls(kind, message, int.from_bytes(value.take(1), "big", signed=True), value.u32())
            if kind is TlvType.GRANT_UNICAST:
                value.take(2)
        value.expect_end()
        return found


@dataclass(frozen=True, slots=True)
class Signaling:
    """A negotiation. TLVs of other kinds are passed over."""

    TYPE: ClassVar[MessageType] = MessageType.SIGNALING
    header: Header
    target: PortIdentity
    tlvs: tuple[UnicastTlv, ...]

    def body(self) -> bytes:
        return self.target.encode() + b"".join(tlv.encode() for tlv in self.tlvs)

    @classmethod
    def decode(cls, header: Header, body: Reader) -> Signaling:
        target, tlvs = PortIdentity.decode(body), []
        known = {member.value: member for member in TlvType}
        while body.remaining:
            number, value = body.u16(), body.sub(body.u16())
            if number in known:
                tlvs.append(UnicastTlv.decode(known[number], value))
        return cls(header, target, tuple(tlvs))


Message = Sync | FollowUp | DelayReq | DelayResp | Announce | Signaling
_DECODERS: dict[MessageType, Callable[[Header, Reader], Message]] = {
    kind.TYPE: kind.decode for kind in (Sync, FollowUp, DelayReq, DelayResp, Announce, Signaling)
}
EVENT_MESSAGES = frozenset({MessageType.SYNC, MessageType.DELAY_REQ})
"""Those that are time-stamped, and have a UDP port of their own."""


def encode(message: Message) -> bytes:
    return message.header.encode(message.TYPE, message.body())


def decode(data: bytes) -> Message:
    """Raises RemoteProtocolError for what is not one of these messages."""
    kind, header, body = Header.decode(Reader(data, spec=SPEC))
    message = _DECODERS[kind](header, body)
    if kind is MessageType.ANNOUNCE:
        body.rest()  # TLVs behind it, which nobody here needs
    body.expect_end()
    return message


def milliseconds(log_interval: int) -> int:
    """2 to the power of `log_interval`, in ms. Raises RemoteProtocolError beyond a quarter of an hour or a 128th s."""
    if not -7 <= log_interval <= 10:
        raise RemoteProtocolError(f"an interval of 2^{log_interval} s", spec=SPEC)
    return round(1000 * 2.0**log_interval)
