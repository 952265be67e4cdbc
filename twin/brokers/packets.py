"""MQTT 3.1.1 control packets (OASIS Standard, 29 October 2014), both directions. QoS 0 and 1; QoS 2 is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, TypeAlias

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError
from twin.brokers.filters import check_filter, check_topic, is_filter

SPEC = "MQTT 3.1.1"
PROTOCOL_LEVEL = 4
MAX_REMAINING_LENGTH = 268_435_455
DEFAULT_MAX_PACKET_BYTES = 1_048_576


class PacketType(IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class ConnectReturn(IntEnum):
    """CONNACK return codes (table 3.1)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


SUBSCRIBE_FAILURE = 0x80


@dataclass(frozen=True, slots=True)
class Connect:
    """3.1. `keep_alive_s` 0 turns it off. A will is (topic, payload, qos, retain)."""

    TYPE: ClassVar[PacketType] = PacketType.CONNECT
    client_id: str
    clean_session: bool = True
    keep_alive_s: int = 0
    will: tuple[str, bytes, int, bool] | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    protocol_name: str = "MQTT"
    protocol_level: int = PROTOCOL_LEVEL

    def encode(self) -> bytes:
        if self.password is not None and self.username is None:
            raise LocalProtocolError("a password needs a user name (MQTT 3.1.1, 3.1.2.9)")
        flags = 0x02 if self.clean_session else 0
        tail = _string(self.client_id)
        if self.will is not None:
            topic, payload, qos, retain = self.will
            flags |= 0x04 | qos << 3 | (0x20 if retain else 0)
            tail += _string(topic) + _binary(payload)
        if self.username is not None:
            flags |= 0x80
            tail += _string(self.username)
        if self.password is not None:
            flags |= 0x40
            tail += _binary(self.password)
        head = _string(self.protocol_name) + bytes([self.protocol_level, flags]) + self.keep_alive_s.to_bytes(2, "big")
        return _frame(PacketType.CONNECT, 0, head + tail)

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Connect:
        """A packet of another protocol level is given with its header alone, so that it can be answered."""
        _expect_flags(reader, flags, 0)
        name, level = _read_string(reader), reader.u8()
        if name != "MQTT" or level != PROTOCOL_LEVEL:
            reader.rest()
            return cls("", protocol_name=name, protocol_level=level)
        connect_flags, keep_alive_s = reader.u8(), reader.u16()
        will_qos = connect_flags >> 3 & 3
        has_will = bool(connect_flags & 0x04)
        if connect_flags & 0x01 or will_qos == 3 or (not has_will and connect_flags & 0x38):
            raise reader.error("CONNECT flags are not allowed")
        if connect_flags & 0x40 and not connect_flags & 0x80:
            raise reader.error("CONNECT has a password without a user name")
        client_id = _read_string(reader)
        will = None
        if has_will:
            will = (_read_topic(reader), _read_binary(reader), will_qos, bool(connect_flags & 0x20))
        username = _read_string(reader) if connect_flags & 0x80 else None
        password = _read_binary(reader) if connect_flags & 0x40 else None
        return cls(client_id, bool(connect_flags & 0x02), keep_alive_s, will, username, password)


@dataclass(frozen=True, slots=True)
class Connack:
    """3.2."""

    TYPE: ClassVar[PacketType] = PacketType.CONNACK
    session_present: bool
    return_code: ConnectReturn

    def encode(self) -> bytes:
        return _frame(PacketType.CONNACK, 0, bytes([self.session_present, self.return_code]))

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Connack:
        _expect_flags(reader, flags, 0)
        acknowledge, code = reader.u8(), reader.u8()
        if acknowledge > 1 or code > max(ConnectReturn) or (acknowledge and code):
            raise reader.error("CONNACK is not allowed")
        return cls(bool(acknowledge), ConnectReturn(code))


@dataclass(frozen=True, slots=True)
class Publish:
    """3.3. `packet_id` is None exactly with QoS 0."""

    TYPE: ClassVar[PacketType] = PacketType.PUBLISH
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    packet_id: int | None = None

    def encode(self) -> bytes:
        if (self.packet_id is None) != (self.qos == 0) or self.qos not in (0, 1):
            raise LocalProtocolError("PUBLISH has a packet identifier exactly with QoS 1")
        if self.duplicate and self.qos == 0:
            raise LocalProtocolError("PUBLISH with QoS 0 is never a duplicate")
        flags = (8 if self.duplicate else 0) | self.qos << 1 | (1 if self.retain else 0)
        identifier = b"" if self.packet_id is None else self.packet_id.to_bytes(2, "big")
        return _frame(PacketType.PUBLISH, flags, _string(check_topic(self.topic)) + identifier + self.payload)

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Publish:
        qos = flags >> 1 & 3
        duplicate = bool(flags & 8)
        if qos > 1:
            raise reader.error(f"PUBLISH with QoS {qos} is not supported")
        if duplicate and qos == 0:
            raise reader.error("PUBLISH with QoS 0 is marked as a duplicate")
        topic = _read_topic(reader)
        packet_id = _read_packet_id(reader) if qos else None
        return cls(topic, reader.rest(), qos, bool(flags & 1), duplicate, packet_id)


@dataclass(frozen=True, slots=True)
class Puback:
    """3.4."""

    TYPE: ClassVar[PacketType] = PacketType.PUBACK
    packet_id: int

    def encode(self) -> bytes:
        return _frame(PacketType.PUBACK, 0, self.packet_id.to_bytes(2, "big"))

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Puback:
        _expect_flags(reader, flags, 0)
        return cls(_read_packet_id(reader))


@dataclass(frozen=True, slots=True)
class Subscribe:
    """3.8. `filters` are (topic filter, requested QoS)."""

    TYPE: ClassVar[PacketType] = PacketType.SUBSCRIBE
    packet_id: int
    filters: tuple[tuple[str, int], ...]

    def encode(self) -> bytes:
        body = b"".join(_string(check_filter(text)) + bytes([qos]) for text, qos in self.filters)
        return _frame(PacketType.SUBSCRIBE, 2, self.packet_id.to_bytes(2, "big") + body)

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Subscribe:
        _expect_flags(reader, flags, 2)
        packet_id = _read_packet_id(reader)
        filters = []
        while reader.remaining:
            text = _read_filter(reader)
            qos = reader.u8()
            if qos > 2:
                raise reader.error(f"SUBSCRIBE asks for QoS {qos}")
            filters.append((text, qos))
        if not filters:
            raise reader.error("SUBSCRIBE has no topic filter")
        return cls(packet_id, tuple(filters))


@dataclass(frozen=True, slots=True)
class Suback:
    """3.9. A return code is the granted QoS, or SUBSCRIBE_FAILURE."""

    TYPE: ClassVar[PacketType] = PacketType.SUBACK
    packet_id: int
    return_codes: tuple[int, ...]

    def encode(self) -> bytes:
        return _frame(PacketType.SUBACK, 0, self.packet_id.to_bytes(2, "big") + bytes(self.return_codes))

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Suback:
        _expect_flags(reader, flags, 0)
        packet_id, codes = _read_packet_id(reader), tuple(reader.rest())
        if not codes or any(code not in (0, 1, 2, SUBSCRIBE_FAILURE) for code in codes):
            raise reader.error("SUBACK return codes are not allowed")
        return cls(packet_id, codes)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """3.10."""

    TYPE: ClassVar[PacketType] = PacketType.UNSUBSCRIBE
    packet_id: int
    filters: tuple[str, ...]

    def encode(self) -> bytes:
        body = b"".join(_string(check_filter(text)) for text in self.filters)
        return _frame(PacketType.UNSUBSCRIBE, 2, self.packet_id.to_bytes(2, "big") + body)

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Unsubscribe:
        _expect_flags(reader, flags, 2)
        packet_id = _read_packet_id(reader)
        filters = []
        while reader.remaining:
            filters.append(_read_filter(reader))
        if not filters:
            raise reader.error("UNSUBSCRIBE has no topic filter")
        return cls(packet_id, tuple(filters))


@dataclass(frozen=True, slots=True)
class Unsuback:
    """3.11."""

    TYPE: ClassVar[PacketType] = PacketType.UNSUBACK
    packet_id: int

    def encode(self) -> bytes:
        return _frame(PacketType.UNSUBACK, 0, self.packet_id.to_bytes(2, "big"))

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Unsuback:
        _expect_flags(reader, flags, 0)
        return cls(_read_packet_id(reader))


@dataclass(frozen=True, slots=True)
class Pingreq:
    """3.12."""

    TYPE: ClassVar[PacketType] = PacketType.PINGREQ

    def encode(self) -> bytes:
        return _frame(PacketType.PINGREQ, 0, b"")

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Pingreq:
        _expect_flags(reader, flags, 0)
        return cls()


@dataclass(frozen=True, slots=True)
class Pingresp:
    """3.13."""

    TYPE: ClassVar[PacketType] = PacketType.PINGRESP

    def encode(self) -> bytes:
        return _frame(PacketType.PINGRESP, 0, b"")

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Pingresp:
        _expect_flags(reader, flags, 0)
        return cls()


@dataclass(frozen=True, slots=True)
class Disconnect:
    """3.14."""

    TYPE: ClassVar[PacketType] = PacketType.DISCONNECT

    def encode(self) -> bytes:
        return _frame(PacketType.DISCONNECT, 0, b"")

    @classmethod
    def decode(cls, reader: Reader, flags: int) -> Disconnect:
        _expect_flags(reader, flags, 0)
        return cls()


Packet: TypeAlias = (
    Connect | Connack | Publish | Puback | Subscribe | Suback | Unsubscribe | Unsuback | Pingreq | Pingresp | Disconnect
)

_DECODERS: dict[int, Callable[[Reader, int], Packet]] = {
    PacketType.CONNECT: Connect.decode,
    PacketType.CONNACK: Connack.decode,
    PacketType.PUBLISH: Publish.decode,
    PacketType.PUBACK: Puback.decode,
    PacketType.SUBSCRIBE: Subscribe.decode,
    PacketType.SUBACK: Suback.decode,
    PacketType.UNSUBSCRIBE: Unsubscribe.decode,
    PacketType.UNSUBACK: Unsuback.decode,
    PacketType.PINGREQ: Pingreq.decode,
    PacketType.PINGRESP: Pingresp.decode,
    PacketType.DISCONNECT: Disconnect.decode,
}


class PacketStream:
    """Cuts a byte stream into packets. Raises RemoteProtocolError; the connection is then of no more use."""

    def __init__(self, max_packet_bytes: int = DEFAULT_MAX_PACKET_BYTES) -> None:
        self._max_packet_bytes = max_packet_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_packet(self) -> Packet | None:
        """The next whole packet, or None until more bytes come."""
        size = 0
        for position in range(1, 5):
            if position >= len(self._buffer):
                return None
            octet = self._buffer[position]
            size |= (octet & 0x7F) << 7 * (position - 1)
            if not octet & 0x80:
                break
        else:
            raise RemoteProtocolError("remaining length has more than four bytes", offset=1, spec=SPEC)
        start, stop = position + 1, position + 1 + size
        if stop > self._max_packet_bytes:
            raise RemoteProtocolError(f"packet of {stop} bytes, at most {self._max_packet_bytes}", spec=SPEC)
        if stop > len(self._buffer):
            return None
        packet = decode_packet(bytes(self._buffer[:stop]), start)
        del self._buffer[:stop]
        return packet


def decode_packet(octets: bytes, start: int) -> Packet:
    """One whole packet; its variable header begins at `start`."""
    decoder = _DECODERS.get(octets[0] >> 4)
    if decoder is None:
        raise RemoteProtocolError(f"control packet type {octets[0] >> 4} is not supported", offset=0, spec=SPEC)
    reader = Reader(octets, offset=start, spec=SPEC)
    packet = decoder(reader, octets[0] & 0x0F)
    reader.expect_end()
    return packet


def _frame(kind: PacketType, flags: int, body: bytes) -> bytes:
    size = len(body)
    if size > MAX_REMAINING_LENGTH:
        raise LocalProtocolError(f"packet of {size} bytes is too long (MQTT 3.1.1, 2.2.3)")
    out = bytearray([kind << 4 | flags])
    while True:
        size, digit = size >> 7, size & 0x7F
        out.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(out) + body


def _expect_flags(reader: Reader, flags: int, expected: int) -> None:
    if flags != expected:
        raise reader.error("reserved flags of the fixed header are wrong")


def _string(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > 65_535:
        raise LocalProtocolError(f"field of {len(data)} bytes is too long (MQTT 3.1.1, 1.5.3)")
    return len(data).to_bytes(2, "big") + data


def _read_binary(reader: Reader) -> bytes:
    return reader.take(reader.u16())


def _read_string(reader: Reader) -> str:
    try:
        text = _read_binary(reader).decode("utf-8")
    except UnicodeDecodeError:
        raise reader.error("string is not UTF-8") from None
    if "\0" in text:
        raise reader.error("string holds U+0000")
    return text


def _read_topic(reader: Reader) -> str:
    text = _read_string(reader)
    if not text or "+" in text or "#" in text:
        raise reader.error("topic name is empty or holds a wildcard")
    return text


def _read_filter(reader: Reader) -> str:
    text = _read_string(reader)
    if not is_filter(text):
        raise reader.error("topic filter is not allowed")
    return text


def _read_packet_id(reader: Reader) -> int:
    packet_id = reader.u16()
    if packet_id == 0:
        raise reader.error("packet identifier is 0")
    return packet_id
