"""What the simulator and the guest's agent say to each other (docs/dev/lockstep.md, images/agent/protocol.h).

Little-endian numbers; times are nanoseconds of the guest's CLOCK_MONOTONIC_RAW. A message is a head, a fixed part by
its kind, and records.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

from protocols.errors import LocalProtocolError, RemoteProtocolError

MAGIC = 0x4C54414F
VERSION = 2
MESSAGE_BYTES = 64 * 1024
ENTROPY_BYTES = 32
NEVER_NS = 2**64 - 1

_HEAD = struct.Struct("<IBBHI")
_RECORD = struct.Struct("<BBHI")
_REPORT = struct.Struct("<QQQQIII")
_GRANT = struct.Struct("<QQ")
_TIME = struct.Struct("<Q")
HEAD_BYTES = _HEAD.size
RECORD_BYTES = _RECORD.size
GRANT_ROOM_BYTES = MESSAGE_BYTES - HEAD_BYTES - _GRANT.size
"""How many bytes of records one grant may carry."""


class Kind(enum.IntEnum):
    HELLO = 1
    WELCOME = 2
    REPORT = 3
    GRANT = 4
    DETACH = 5


class Channel(enum.IntEnum):
    """Where bytes go in the guest: serial lines, a shell, the two ways to the broker, the daemon's trace file,
    and an interface of which each record is one IP packet."""

    AGENT = 0
    RADIO = 1
    MAINTENANCE = 2
    GPS = 3
    MODEM = 4
    SHELL = 5
    SATELLITE = 6
    CELLULAR = 7
    TRACE = 8
    NETWORK = 9


class Event(enum.IntEnum):
    DATA = 0
    OPEN = 1
    CLOSE = 2
    NOTE = 3
    ENTROPY = 4


@dataclass(frozen=True, slots=True)
class Record:
    """Bytes on a channel; `connection` tells the connections of an uplink apart, and is 0 elsewhere."""

    channel: Channel
    event: Event
    connection: int = 0
    data: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        return _RECORD.pack(self.channel, self.event, self.connection, len(self.data)) + self.data

    @property
    def size_bytes(self) -> int:
        """Encoded."""
        return _RECORD.size + len(self.data)


@dataclass(frozen=True, slots=True)
class Hello:
    """Guest: an agent is here. `version` is what it speaks."""

    time_ns: int
    version: int = VERSION

    def encode(self) -> bytes:
        return _message(Kind.HELLO, _TIME.pack(self.time_ns), (), version=self.version)


@dataclass(frozen=True, slots=True)
class Welcome:
    """Host: go on, with randomness of this run (ENTROPY_BYTES)."""

    entropy: bytes = field(repr=False)

    def encode(self) -> bytes:
        return _message(Kind.WELCOME, b"", (Record(Channel.AGENT, Event.ENTROPY, 0, self.entropy),))


@dataclass(frozen=True, slots=True)
class Report:
    """Guest: what time it is, and what was sent. The guest stands still until the next message.

    No process of it runs before `quiet_until_ns`; 0 where that is not known. Byte counts are totals of the
    conversation; `late_ns` is how long after its time the last delivery was; `broken_quiets` counts outputs in
    promised quiet.
    """

    time_ns: int
    quiet_until_ns: int = 0
    delivered_bytes: int = 0
    collected_bytes: int = 0
    late_ns: int = 0
    dropped_bytes: int = 0
    broken_quiets: int = 0
    records: tuple[Record, ...] = ()

    def encode(self) -> bytes:
        fixed = _REPORT.pack(
            self.time_ns, self.quiet_until_ns, self.delivered_bytes, self.collected_bytes,
            self.late_ns, self.dropped_bytes, self.broken_quiets,
        )  # fmt: skip
        return _message(Kind.REPORT, fixed, self.records)


@dataclass(frozen=True, slots=True)
class Grant:
    """Host: give `records` to their devices at `deliver_ns`; then run until `until_ns` or the first output."""

    deliver_ns: int
    until_ns: int
    records: tuple[Record, ...] = ()

    def encode(self) -> bytes:
        return _message(Kind.GRANT, _GRANT.pack(self.deliver_ns, self.until_ns), self.records)


@dataclass(frozen=True, slots=True)
class Detach:
    """Host: close the pipes, sleep until `until_ns`, and then look for a host again."""

    until_ns: int

    def encode(self) -> bytes:
        return _message(Kind.DETACH, _TIME.pack(self.until_ns), ())


Message = Hello | Welcome | Report | Grant | Detach


def _message(kind: Kind, fixed: bytes, records: tuple[Record, ...], version: int = VERSION) -> bytes:
    body = fixed + b"".join(record.encode() for record in records)
    if HEAD_BYTES + len(body) > MESSAGE_BYTES:
        raise LocalProtocolError(f"a lock-step message of {len(body)} bytes is longer than {MESSAGE_BYTES}")
    return _HEAD.pack(MAGIC, version, kind, len(records), len(body)) + body


def body_bytes(head: bytes) -> int:
    """How many bytes follow a head. Raises RemoteProtocolError if it is none."""
    magic, _, _, _, size = _HEAD.unpack(head)
    if magic != MAGIC:
        raise RemoteProtocolError(f"a lock-step message begins with {magic:#010x}, not {MAGIC:#010x}")
    if HEAD_BYTES + size > MESSAGE_BYTES:
        raise RemoteProtocolError(f"a lock-step message of {size} bytes is longer than {MESSAGE_BYTES}")
    return int(size)


def decode(message: bytes) -> Message:
    """One whole message. Raises RemoteProtocolError for anything else.

    A greeting is understood in every version: it says which one the other side speaks.
    """
    if len(message) < HEAD_BYTES:
        raise RemoteProtocolError(f"a lock-step message has {len(message)} bytes, its head {HEAD_BYTES}")
    _, version, kind_number, count, _ = _HEAD.unpack_from(message)
    if body_bytes(message[:HEAD_BYTES]) != len(message) - HEAD_BYTES:
        raise RemoteProtocolError("a lock-step message is not as long as its head says")
    if version != VERSION and kind_number != Kind.HELLO:
        raise RemoteProtocolError(f"a lock-step message has version {version}, not {VERSION}")
    body = message[HEAD_BYTES:]
    match kind_number:
        case Kind.HELLO:
            (time_ns,), records = _parts(_TIME, body, count)
            return Hello(time_ns, version)
        case Kind.WELCOME:
            records = _records(body, count)
            if len(records) != 1 or len(records[0].data) != ENTROPY_BYTES:
                raise RemoteProtocolError("a lock-step welcome has no entropy")
            return Welcome(records[0].data)
        case Kind.REPORT:
            fixed, records = _parts(_REPORT, body, count)
            return Report(*fixed, records=records)  # type: ignore[misc, arg-type]
        case Kind.GRANT:
            (deliver_ns, until_ns), records = _parts(_GRANT, body, count)
            return Grant(deliver_ns, until_ns, records)
        case Kind.DETACH:
            (until_ns,), records = _parts(_TIME, body, count)
            return Detach(until_ns)
    raise RemoteProtocolError(f"there is no lock-step message of kind {kind_number}")


def _parts(fixed: struct.Struct, body: bytes, count: int) -> tuple[tuple[int, ...], tuple[Record, ...]]:
    if len(body) < fixed.size:
        raise RemoteProtocolError(f"a lock-step message has {len(body)} bytes, its fixed part {fixed.size}")
    return fixed.unpack_from(body), _records(body[fixed.size :], count)


def _records(body: bytes, count: int) -> tuple[Record, ...]:
    records, place = [], 0
    for _ in range(count):
        if len(body) - place < _RECORD.size:
            raise RemoteProtocolError("a lock-step record is cut off", offset=place)
        channel, event, connection, size = _RECORD.unpack_from(body, place)
        place += _RECORD.size
        if len(body) - place < size:
            raise RemoteProtocolError(
                f"a lock-step record says {size} bytes, {len(body) - place} are there", offset=place
            )
        try:
            records.append(Record(Channel(channel), Event(event), connection, body[place : place + size]))
        except ValueError as error:
            raise RemoteProtocolError(f"a lock-step record is not understood: {error}", offset=place) from error
        place += size
    if place != len(body):
        raise RemoteProtocolError(f"{len(body) - place} bytes follow a lock-step message's last record", offset=place)
    return tuple(records)
