"""The MPL option and the MPL control message (RFC 7731, 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.ipv6 import ExtensionHeader, Protocol

OPTION_MPL = 0x6D
OPTION_AGE = 0x3E
"""An experimental option (RFC 4727, 3.3): who does not know it skips it, and it may change on the way."""
_PAD1, _PADN = 0, 1
_SPEC = "RFC 7731, 6.1"
_CONTROL_SPEC = "RFC 7731, 6.2"
_SEED_BYTES = (0, 2, 8, 16)
_AGE_BYTES = 4
_LARGEST, _VERSION = 0x20, 0x10
SEQUENCES = 256
AGE_MAX_MS = 0xFFFF_FFFF
VECTOR_BYTES_MAX = 63


def is_at_least(sequence: int, minimum: int) -> bool:
    """Serial number arithmetic of 8 bits (RFC 1982)."""
    return (sequence - minimum) % SEQUENCES < SEQUENCES // 2


@dataclass(frozen=True, slots=True)
class MplOption:
    """The option of an MPL data message. `seed` has 0 (it is the source address), 2, 8 or 16 bytes.

    `is_largest` says that the sender knows of no later message of that seed. `age_ms` is an option of its own beside
    it: how long the message has waited in its seed and in all forwarders so far, None if the seed does not say.
    """

    seed: bytes
    sequence: int
    is_largest: bool = False
    age_ms: int | None = None

    def encode(self) -> ExtensionHeader:
        """A hop-by-hop header that holds this option, and the age if there is one, padded."""
        if len(self.seed) not in _SEED_BYTES:
            raise LocalProtocolError(f"a seed identifier of {len(self.seed)} bytes")
        flags = _SEED_BYTES.index(len(self.seed)) << 6 | (_LARGEST if self.is_largest else 0)
        option = bytes((OPTION_MPL, 2 + len(self.seed), flags, self.sequence)) + self.seed
        if self.age_ms is not None:
            option += bytes((OPTION_AGE, _AGE_BYTES)) + min(self.age_ms, AGE_MAX_MS).to_bytes(_AGE_BYTES, "big")
        missing = (6 - len(option)) % 8
        if missing == 1:
            option += bytes((_PAD1,))
        elif missing:
            option += bytes((_PADN, missing - 2)) + bytes(missing - 2)
        return ExtensionHeader(Protocol.HOP_BY_HOP, option)

    @classmethod
    def decode(cls, header: ExtensionHeader) -> MplOption | None:
        """The MPL option of a hop-by-hop header, None without one.

        Raises RemoteProtocolError if truncated, of another version, or if an option that this node does not know
        forbids to go on (RFC 8200, 4.2).
        """
        reader = Reader(header.body, spec=_SPEC)
        found: MplOption | None = None
        age_ms: int | None = None
        while reader.remaining:
            kind = reader.u8()
            if kind == _PAD1:
                continue
            body = reader.sub(reader.u8())
            if kind == OPTION_MPL:
                flags, sequence = body.u8(), body.u8()
                if flags & _VERSION:
                    raise body.error("an MPL option of another version")
                found = cls(body.take(_SEED_BYTES[flags >> 6]), sequence, bool(flags & _LARGEST))
                body.expect_end()
            elif kind == OPTION_AGE and body.remaining == _AGE_BYTES:
                age_ms = body.u32()
            elif kind >> 6:
                raise body.error(f"hop-by-hop option 0x{kind:02x} is not known and may not be skipped")
        return found if found is None or age_ms is None else replace(found, age_ms=age_ms)


@dataclass(frozen=True, slots=True)
class SeedInfo:
    """What a forwarder has of one seed: nothing below `min_sequence`, and those in `buffered`."""

    seed: bytes
    min_sequence: int
    buffered: frozenset[int] = frozenset()

    def encode(self) -> bytes:
        """Raises LocalProtocolError if a message is too far from the first for the vector."""
        offsets = [(sequence - self.min_sequence) % SEQUENCES for sequence in self.buffered]
        vector = bytearray(max(offsets, default=-1) // 8 + 1)
        for offset in offsets:
            vector[offset // 8] |= 0x80 >> offset % 8
        if len(vector) > VECTOR_BYTES_MAX or len(self.seed) not in _SEED_BYTES:
            raise LocalProtocolError("a seed whose messages do not fit in its vector")
        head = bytes((self.min_sequence, len(vector) << 2 | _SEED_BYTES.index(len(self.seed))))
        return head + self.seed + bytes(vector)

    @classmethod
    def read(cls, reader: Reader) -> SeedInfo:
        """Raises RemoteProtocolError if truncated."""
        minimum, lengths = reader.u8(), reader.u8()
        seed, vector = reader.take(_SEED_BYTES[lengths & 3]), reader.take(lengths >> 2)
        offsets = [8 * at + bit for at, byte in enumerate(vector) for bit in range(8) if byte & 0x80 >> bit]
        if offsets and offsets[-1] >= SEQUENCES:
            raise reader.error("a vector longer than there are sequence numbers")
        return cls(seed, minimum, frozenset((minimum + offset) % SEQUENCES for offset in offsets))


@dataclass(frozen=True, slots=True)
class MplControl:
    """The body of an MPL control message (ICMPv6 type 159, code 0)."""

    seeds: tuple[SeedInfo, ...] = ()

    def encode(self) -> bytes:
        return b"".join(info.encode() for info in self.seeds)

    @classmethod
    def decode(cls, body: bytes) -> MplControl:
        """Raises RemoteProtocolError if truncated, or if a seed is the source address, which cannot be meant."""
        reader = Reader(body, spec=_CONTROL_SPEC)
        seeds = []
        while reader.remaining:
            info = SeedInfo.read(reader)
            if not info.seed:
                raise RemoteProtocolError("a seed without an identifier", spec=_CONTROL_SPEC)
            seeds.append(info)
        return cls(tuple(seeds))
