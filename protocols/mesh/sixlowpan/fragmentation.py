"""6LoWPAN fragmentation and reassembly (RFC 4944, 5.3). Sizes and offsets are those of the uncompressed datagram."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.sixlowpan.iphc import Compressed

SPEC = "RFC 4944, 5.3"
DATAGRAM_BYTES_MAX = 0x7FF
FIRST_HEADER_BYTES = 4
NEXT_HEADER_BYTES = 5

_FIRST = 0xC0
_NEXT = 0xE0
_MASK = 0xF8
_SIZE_AND_TAG = struct.Struct(">HH")


def is_fragment(dispatch: int) -> bool:
    return dispatch & _MASK in (_FIRST, _NEXT)


@dataclass(frozen=True, slots=True)
class Fragment:
    """FRAG1 (`offset_bytes` None) or FRAGN. A FRAG1's payload begins with a dispatch of its own."""

    datagram_bytes: int
    tag: int
    offset_bytes: int | None
    payload: bytes = field(repr=False)

    def encode(self) -> bytes:
        if not 0 < self.datagram_bytes <= DATAGRAM_BYTES_MAX:
            raise LocalProtocolError(f"a fragmented datagram of {self.datagram_bytes} bytes")
        if self.offset_bytes is None:
            return _SIZE_AND_TAG.pack(_FIRST << 8 | self.datagram_bytes, self.tag) + self.payload
        if self.offset_bytes % 8:
            raise LocalProtocolError(f"fragment offset {self.offset_bytes} is not a multiple of 8")
        head = _SIZE_AND_TAG.pack(_NEXT << 8 | self.datagram_bytes, self.tag)
        return head + bytes((self.offset_bytes // 8,)) + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Fragment:
        """Raises RemoteProtocolError if truncated, empty, not a fragment, or beyond its datagram."""
        if len(data) < FIRST_HEADER_BYTES or not is_fragment(data[0]):
            raise RemoteProtocolError("not a fragment, or truncated", offset=0, spec=SPEC)
        word, tag = _SIZE_AND_TAG.unpack_from(data)
        datagram_bytes = word & DATAGRAM_BYTES_MAX
        if data[0] & _MASK == _FIRST:
            fragment = cls(datagram_bytes, tag, None, data[FIRST_HEADER_BYTES:])
        elif len(data) < NEXT_HEADER_BYTES:
            raise RemoteProtocolError("truncated fragment header", offset=4, spec=SPEC)
        else:
            fragment = cls(datagram_bytes, tag, data[4] * 8, data[NEXT_HEADER_BYTES:])
            end = data[4] * 8 + len(fragment.payload)
            if end > datagram_bytes or (end < datagram_bytes and len(fragment.payload) % 8):
                raise RemoteProtocolError(f"fragment to {end} in {datagram_bytes} bytes", offset=4, spec=SPEC)
        if not fragment.payload or not datagram_bytes:
            raise RemoteProtocolError("empty fragment", offset=0, spec=SPEC)
        return fragment


def fragment(compressed: Compressed, tag: int, capacity_bytes: int) -> list[bytes] | None:
    """Cut a datagram into frames' payloads of at most `capacity_bytes`; None if its header fits in no first fragment.

    Raises LocalProtocolError if the datagram is larger than fragments can say.
    """
    datagram_bytes = compressed.covered_bytes + len(compressed.payload)
    if datagram_bytes > DATAGRAM_BYTES_MAX:
        raise LocalProtocolError(f"a datagram of {datagram_bytes} bytes cannot be fragmented")
    room = capacity_bytes - FIRST_HEADER_BYTES - len(compressed.header)
    # What the first fragment stands for must end on a multiple of 8 of the uncompressed datagram.
    first_end = (compressed.covered_bytes + room) // 8 * 8
    if room < 0 or first_end < compressed.covered_bytes:
        return None
    taken = first_end - compressed.covered_bytes
    first = Fragment(datagram_bytes, tag, None, compressed.header + compressed.payload[:taken])
    frames = [first.encode()]
    step = (capacity_bytes - NEXT_HEADER_BYTES) // 8 * 8
    if step <= 0:
        raise LocalProtocolError(f"no fragment fits in {capacity_bytes} bytes")
    for start in range(taken, len(compressed.payload), step):
        piece = compressed.payload[start : start + step]
        frames.append(Fragment(datagram_bytes, tag, compressed.covered_bytes + start, piece).encode())
    return frames


class _Buffer:
    """The pieces of one datagram received so far."""

    __slots__ = ("data", "deadline", "missing_bytes", "pieces")

    def __init__(self, datagram_bytes: int, deadline: float) -> None:
        self.data = bytearray(datagram_bytes)
        self.pieces: list[tuple[int, int]] = []
        self.missing_bytes = datagram_bytes
        self.deadline = deadline

    def add(self, start: int, piece: bytes) -> bool:
        """False if the piece overlaps others and is not the repetition of one."""
        end = start + len(piece)
        for known_start, known_end in self.pieces:
            if start < known_end and known_start < end:
                return (start, end) == (known_start, known_end) and self.data[start:end] == piece
        self.data[start:end] = piece
        self.pieces.append((start, end))
        self.missing_bytes -= len(piece)
        return True


_Key = tuple[bytes, bytes | None, int, int]
ExpandFirst = Callable[[bytes, int], bytes]
"""Turns the payload of a FRAG1 into the datagram's first bytes, given the datagram's size."""


class Reassembler:
    """Puts datagrams together, whatever the order of their fragments, in bounded memory and time.

    `counters` counts `reassembly_timeout`, `reassembly_overlap` and `reassembly_evicted`.
    """

    def __init__(self, timeout_s: float, counters: Counter[str], *, buffers_max: int = 8) -> None:
        self._timeout_s = timeout_s
        self._counters = counters
        self._buffers_max = buffers_max
        self._buffers: dict[_Key, _Buffer] = {}

    def add(
        self, piece: Fragment, source: bytes, destination: bytes | None, now: float, expand_first: ExpandFirst
    ) -> bytes | None:
        """The whole datagram if this fragment completes it. Raises RemoteProtocolError from `expand_first`."""
        data = piece.payload if piece.offset_bytes is not None else expand_first(piece.payload, piece.datagram_bytes)
        start = piece.offset_bytes or 0
        end = start + len(data)
        if end > piece.datagram_bytes or (end < piece.datagram_bytes and end % 8):
            raise RemoteProtocolError(f"first fragment to {end} in {piece.datagram_bytes} bytes", spec=SPEC)
        key = (source, destination, piece.datagram_bytes, piece.tag)
        buffer = self._buffers.get(key) or self._new_buffer(key, now)
        if not buffer.add(start, data):
            # Overlap: what was there is discarded, and this fragment begins anew (RFC 4944, 5.3).
            self._counters["reassembly_overlap"] += 1
            del self._buffers[key]
            buffer = self._new_buffer(key, now)
            buffer.add(start, data)
        if buffer.missing_bytes:
            return None
        del self._buffers[key]
        return bytes(buffer.data)

    def _new_buffer(self, key: _Key, now: float) -> _Buffer:
        if len(self._buffers) >= self._buffers_max:
            self._counters["reassembly_evicted"] += 1
            del self._buffers[next(iter(self._buffers))]
        buffer = self._buffers[key] = _Buffer(key[2], now + self._timeout_s)
        return buffer

    def next_deadline(self) -> float | None:
        # Every buffer waits equally long, so that the oldest is the first to time out.
        return next(iter(self._buffers.values())).deadline if self._buffers else None

    def expire(self, now: float) -> None:
        for key in [key for key, buffer in self._buffers.items() if buffer.deadline <= now]:
            self._counters["reassembly_timeout"] += 1
            del self._buffers[key]

    def clear(self) -> None:
        self._buffers.clear()
