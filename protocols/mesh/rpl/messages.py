"""RPL control messages (RFC 6550, 6): bodies of ICMPv6 type 155, one code each. Unknown options are skipped."""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError

SPEC = "RFC 6550"
INFINITE_RANK = 0xFFFF
MODE_NON_STORING = 1
OBJECTIVE_MRHOF = 1
"""Objective code point of MRHOF (RFC 6719, 7)."""
LIFETIME_INFINITE = 0xFF
PATH_CONTROL_BY_PREFERENCE = (0x80, 0x20, 0x08, 0x02)
"""One bit of each sub-field PC1 to PC4, the most preferred first (RFC 6550, 9.9)."""


class RplCode(enum.IntEnum):
    DIS = 0
    DIO = 1
    DAO = 2
    DAO_ACK = 3


class OptionType(enum.IntEnum):
    PAD1 = 0
    PADN = 1
    METRIC_CONTAINER = 2
    DODAG_CONFIGURATION = 4
    TARGET = 5
    TRANSIT_INFORMATION = 6
    PREFIX_INFORMATION = 8


class DaoStatus(enum.IntEnum):
    """DAO-ACK status: 0 accepts, 1 to 127 accept with a wish, 128 and more reject (RFC 6550, 6.5.1)."""

    ACCEPTED = 0
    REJECTED = 128


def _option(kind: OptionType, body: bytes) -> bytes:
    return bytes((kind, len(body))) + body


def _options(reader: Reader) -> Iterator[tuple[int, Reader]]:
    while reader.remaining:
        kind = reader.u8()
        if kind != OptionType.PAD1:
            yield kind, reader.sub(reader.u8())


_CONFIGURATION = struct.Struct(">BBBBHHHBBH")


@dataclass(frozen=True, slots=True)
class DodagConfiguration:
    """DODAG configuration option (RFC 6550, 6.7.6)."""

    dio_interval_min: int
    dio_doublings: int
    dio_redundancy: int
    path_lifetime: int
    lifetime_unit_s: int
    max_rank_increase: int = 2048
    min_hop_rank_increase: int = 128
    objective_code_point: int = OBJECTIVE_MRHOF
    path_control_size: int = 7

    def encode(self) -> bytes:
        body = _CONFIGURATION.pack(
            self.path_control_size,
            self.dio_doublings,
            self.dio_interval_min,
            self.dio_redundancy,
            self.max_rank_increase,
            self.min_hop_rank_increase,
            self.objective_code_point,
            0,
            self.path_lifetime,
            self.lifetime_unit_s,
        )
        return _option(OptionType.DODAG_CONFIGURATION, body)

    @classmethod
    def decode(cls, reader: Reader) -> DodagConfiguration:
        """From the option's body. Raises RemoteProtocolError if truncated or without a rank increase per hop."""
        fields = _CONFIGURATION.unpack(reader.take(_CONFIGURATION.size))
        flags, doublings, interval, redundancy, max_increase, min_increase, code, _, lifetime, unit = fields
        if min_increase == 0:
            raise reader.error("MinHopRankIncrease is 0")
        return cls(interval, doublings, redundancy, lifetime, unit, max_increase, min_increase, code, flags & 7)


_PREFIX = struct.Struct(">BBIII16s")


@dataclass(frozen=True, slots=True)
class PrefixInformation:
    """Prefix information option (RFC 6550, 6.7.10). With `router_address` the prefix is the sender's whole address."""

    prefix: bytes
    prefix_bits: int = 64
    autonomous: bool = True
    router_address: bool = True
    valid_lifetime_s: int = 0xFFFF_FFFF
    preferred_lifetime_s: int = 0xFFFF_FFFF

    def encode(self) -> bytes:
        flags = self.autonomous << 6 | self.router_address << 5
        body = _PREFIX.pack(self.prefix_bits, flags, self.valid_lifetime_s, self.preferred_lifetime_s, 0, self.prefix)
        return _option(OptionType.PREFIX_INFORMATION, body)

    @classmethod
    def decode(cls, reader: Reader) -> PrefixInformation:
        """From the option's body. Raises RemoteProtocolError if truncated or of an impossible length."""
        bits, flags, valid, preferred, _, prefix = _PREFIX.unpack(reader.take(_PREFIX.size))
        if bits > 128:
            raise reader.error(f"a prefix of {bits} bits")
        return cls(prefix, bits, bool(flags & 0x40), bool(flags & 0x20), valid, preferred)


_METRIC_ETX = 7
_METRIC_HEADER = struct.Struct(">BHB")
_METRIC_FLAGS_CONSTRAINT = 0x0200
_METRIC_AGGREGATED_MASK = 0x0070


def _encode_etx(etx_128: int) -> bytes:
    """DAG metric container with one aggregated ETX metric, in 1/128 (RFC 6551, 4.3.2)."""
    body = _METRIC_HEADER.pack(_METRIC_ETX, 0, 2) + etx_128.to_bytes(2, "big")
    return _option(OptionType.METRIC_CONTAINER, body)


def _decode_etx(reader: Reader) -> int | None:
    """The ETX metric among the container's objects, None if it holds none."""
    while reader.remaining:
        kind, flags, size_bytes = _METRIC_HEADER.unpack(reader.take(_METRIC_HEADER.size))
        body = reader.sub(size_bytes)
        if kind == _METRIC_ETX and not flags & (_METRIC_FLAGS_CONSTRAINT | _METRIC_AGGREGATED_MASK):
            return body.u16()
    return None


@dataclass(frozen=True, slots=True)
class Dis:
    """DODAG information solicitation (RFC 6550, 6.2)."""

    def encode(self) -> bytes:
        return bytes(2)

    @classmethod
    def decode(cls, data: bytes) -> Dis:
        """Raises RemoteProtocolError if truncated."""
        reader = Reader(data, spec=SPEC)
        reader.take(2)
        for _ in _options(reader):
            continue
        return cls()


_DIO = struct.Struct(">BBHBBBB16s")


@dataclass(frozen=True, slots=True)
class Dio:
    """DODAG information object (RFC 6550, 6.3). `etx_128` is the path's ETX from the metric container."""

    instance_id: int
    version: int
    rank: int
    dtsn: int
    dodag_id: bytes
    grounded: bool = True
    mode_of_operation: int = MODE_NON_STORING
    preference: int = 0
    etx_128: int | None = None
    configuration: DodagConfiguration | None = None
    prefix: PrefixInformation | None = None

    def encode(self) -> bytes:
        flags = self.grounded << 7 | self.mode_of_operation << 3 | self.preference
        parts = [_DIO.pack(self.instance_id, self.version, self.rank, flags, self.dtsn, 0, 0, self.dodag_id)]
        if self.etx_128 is not None:
            parts.append(_encode_etx(self.etx_128))
        if self.configuration is not None:
            parts.append(self.configuration.encode())
        if self.prefix is not None:
            parts.append(self.prefix.encode())
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Dio:
        """Raises RemoteProtocolError if truncated or an option is."""
        return _decode_dio(bytes(data))


@functools.lru_cache(maxsize=256)
def _decode_dio(data: bytes) -> Dio:
    """Every neighbour in a run decodes the same broadcast; what comes out is immutable."""
    reader = Reader(data, spec=SPEC)
    instance, version, rank, flags, dtsn, _, _, dodag_id = _DIO.unpack(reader.take(_DIO.size))
    etx: int | None = None
    configuration: DodagConfiguration | None = None
    prefix: PrefixInformation | None = None
    for kind, body in _options(reader):
        if kind == OptionType.METRIC_CONTAINER:
            etx = _decode_etx(body)
        elif kind == OptionType.DODAG_CONFIGURATION:
            configuration = DodagConfiguration.decode(body)
        elif kind == OptionType.PREFIX_INFORMATION:
            prefix = PrefixInformation.decode(body)
    mode = flags >> 3 & 7
    return Dio(instance, version, rank, dtsn, dodag_id, bool(flags & 0x80), mode, flags & 7, etx, configuration, prefix)


@dataclass(frozen=True, slots=True)
class Transit:
    """Transit information option (RFC 6550, 6.7.8): one parent over which the target before it is reached."""

    parent: bytes
    path_sequence: int
    path_lifetime: int
    path_control: int = PATH_CONTROL_BY_PREFERENCE[0]

    def encode(self) -> bytes:
        body = bytes((0, self.path_control, self.path_sequence, self.path_lifetime)) + self.parent
        return _option(OptionType.TRANSIT_INFORMATION, body)

    @classmethod
    def decode(cls, reader: Reader) -> Transit:
        """From the option's body. Raises RemoteProtocolError if truncated: non-storing mode names the parent."""
        reader.u8()
        control, sequence, lifetime = reader.u8(), reader.u8(), reader.u8()
        return cls(reader.take(16), sequence, lifetime, control)


@dataclass(frozen=True, slots=True)
class Dao:
    """Destination advertisement object (RFC 6550, 6.4) of non-storing mode: one target and its parents."""

    instance_id: int
    sequence: int
    target: bytes
    transits: tuple[Transit, ...]
    ack_requested: bool = True
    dodag_id: bytes | None = None

    def encode(self) -> bytes:
        if not self.transits:
            raise LocalProtocolError("a DAO without a parent")
        flags = self.ack_requested << 7 | (self.dodag_id is not None) << 6
        head = bytes((self.instance_id, flags, 0, self.sequence)) + (self.dodag_id or b"")
        target = _option(OptionType.TARGET, bytes((0, 128)) + self.target)
        return head + target + b"".join(transit.encode() for transit in self.transits)

    @classmethod
    def decode(cls, data: bytes) -> Dao:
        """Raises RemoteProtocolError if truncated, or if it has not one whole address as target and a parent."""
        reader = Reader(data, spec=SPEC)
        instance_id, flags, _, sequence = reader.take(4)
        dodag_id = reader.take(16) if flags & 0x40 else None
        target: bytes | None = None
        transits: list[Transit] = []
        for kind, body in _options(reader):
            if kind == OptionType.TARGET:
                if target is not None:
                    raise body.error("more than one target")
                body.u8()
                if body.u8() != 128:
                    raise body.error("a target that is not one address")
                target = body.take(16)
            elif kind == OptionType.TRANSIT_INFORMATION:
                transits.append(Transit.decode(body))
        if target is None or not transits:
            raise RemoteProtocolError("a DAO without target or parent", spec=SPEC)
        return cls(instance_id, sequence, target, tuple(transits), bool(flags & 0x80), dodag_id)


@dataclass(frozen=True, slots=True)
class DaoAck:
    """DAO acknowledgement (RFC 6550, 6.5)."""

    instance_id: int
    sequence: int
    status: int = DaoStatus.ACCEPTED
    dodag_id: bytes | None = None

    @property
    def accepted(self) -> bool:
        return self.status < DaoStatus.REJECTED

    def encode(self) -> bytes:
        flags = (self.dodag_id is not None) << 7
        return bytes((self.instance_id, flags, self.sequence, self.status)) + (self.dodag_id or b"")

    @classmethod
    def decode(cls, data: bytes) -> DaoAck:
        """Raises RemoteProtocolError if truncated."""
        reader = Reader(data, spec=SPEC)
        instance_id, flags, sequence, status = reader.take(4)
        dodag_id = reader.take(16) if flags & 0x80 else None
        for _ in _options(reader):
            continue
        return cls(instance_id, sequence, status, dodag_id)
