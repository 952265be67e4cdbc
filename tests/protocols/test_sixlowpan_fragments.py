"""Fragmentation and reassembly: order, repetition, overlap, time, memory."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_strategies import LINK_A, LINK_B, PREFIX, packets

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.ipv6 import Ipv6Packet, Protocol, interface_identifier
from protocols.mesh.rpl.headers import SourceRoute
from protocols.mesh.sixlowpan.adapter import LowpanAdapter
from protocols.mesh.sixlowpan.fragmentation import Fragment, Reassembler
from protocols.mesh.udp import UdpDatagram

TIMEOUT_S = 10.0


class Pair:
    """A sender and a receiver on one link."""

    def __init__(self, capacity_bytes: int = 80) -> None:
        self.counters: Counter[str] = Counter()
        self.sender = self._adapter(LINK_A, capacity_bytes, Counter())
        self.receiver = self._adapter(LINK_B, capacity_bytes, self.counters)
        self.capacity_bytes = capacity_bytes

    @staticmethod
    def _adapter(eui64: bytes, capacity_bytes: int, counters: Counter[str]) -> LowpanAdapter:
        adapter = LowpanAdapter(
            eui64, random.Random(1), counters, capacity_bytes=capacity_bytes, reassembly_timeout_s=TIMEOUT_S
        )
        adapter.set_prefix(PREFIX)
        return adapter

    def frames(self, packet: Ipv6Packet) -> list[bytes]:
        frames = self.sender.to_frames(packet, LINK_B)
        assert all(0 < len(frame) <= self.capacity_bytes for frame in frames)
        return frames

    def take(self, frame: bytes, now: float = 0.0) -> Ipv6Packet | None:
        return self.receiver.from_frame(frame, LINK_A, LINK_B, now)


def large(size_bytes: int = 1000, seed: int = 0) -> Ipv6Packet:
    source, destination = PREFIX + interface_identifier(LINK_A), PREFIX + interface_identifier(LINK_B)
    payload = random.Random(seed).randbytes(size_bytes)
    return Ipv6Packet(source, destination, Protocol.UDP, UdpDatagram(4059, 4059, payload).encode(source, destination))


@given(packets(max_payload=900), st.integers(60, 250), st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_packets_come_back_whatever_the_order(packet: Ipv6Packet, capacity: int, rng: random.Random) -> None:
    pair = Pair(capacity)
    frames = pair.frames(packet)
    rng.shuffle(frames)
    got = [pair.take(frame) for frame in frames]
    assert got[:-1] == [None] * (len(frames) - 1)
    assert got[-1] is not None
    assert got[-1].encode() == packet.encode()


@pytest.mark.requirement("NET-4")
def test_repeated_fragments_change_nothing() -> None:
    pair, packet = Pair(), large()
    frames = pair.frames(packet)
    for frame in frames[:-1]:
        assert pair.take(frame) is None
        assert pair.take(frame) is None
    assert pair.take(frames[-1]) == packet
    assert not pair.counters


@pytest.mark.requirement("NET-4")
def test_an_overlapping_fragment_discards_what_was_there() -> None:
    pair, packet = Pair(), large()
    frames = pair.frames(packet)
    piece = Fragment.decode(frames[2])
    forged = Fragment(piece.datagram_bytes, piece.tag, piece.offset_bytes, piece.payload[:-8]).encode()
    for frame in (*frames[:3], forged, *frames[3:]):
        assert pair.take(frame) is None
    assert pair.counters["reassembly_overlap"] >= 1


@pytest.mark.requirement("NET-4")
def test_an_incomplete_datagram_is_given_up_in_time() -> None:
    pair, packet = Pair(), large()
    frames = pair.frames(packet)
    for frame in frames[:-1]:
        pair.take(frame, now=5.0)
    assert pair.receiver.next_deadline() == 5.0 + TIMEOUT_S
    pair.receiver.expire(5.0 + TIMEOUT_S)
    assert pair.counters["reassembly_timeout"] == 1
    assert pair.receiver.next_deadline() is None
    assert pair.take(frames[-1], now=20.0) is None


def test_memory_is_bounded() -> None:
    pair = Pair()
    for seed in range(20):
        pair.take(pair.frames(large(seed=seed))[0])
    assert pair.counters["reassembly_evicted"] == 12


def test_interleaved_datagrams_are_told_apart_by_their_tags() -> None:
    pair = Pair()
    first, second = large(seed=1), large(seed=2)
    got = []
    for a, b in zip(pair.frames(first), pair.frames(second), strict=True):
        got += [pair.take(a), pair.take(b)]
    assert [packet for packet in got if packet] == [first, second]


def test_a_header_too_long_for_the_first_fragment_goes_uncompressed() -> None:
    pair, packet = Pair(60), large(200)
    hops = tuple(PREFIX + bytes((number,)) * 8 for number in range(12))
    routed = packet.with_extension(SourceRoute(12, hops).encode(packet.destination))
    frames = pair.frames(routed)
    assert frames[0][4] == 0x41
    assert [pair.take(frame) for frame in frames][-1] == routed


def test_a_datagram_beyond_eleven_bits_cannot_be_fragmented() -> None:
    with pytest.raises(LocalProtocolError):
        Pair().frames(large(2010))


@given(st.binary(max_size=60))
def test_junk_raises_nothing_but_remote_protocol_error(junk: bytes) -> None:
    for data in (junk, bytes((0xC0 | (junk[0] & 0x27),)) + junk[1:] if junk else b""):
        try:
            Pair().take(data)
        except RemoteProtocolError:
            continue


@given(st.integers(1, 2047), st.integers(0, 0xFFFF), st.one_of(st.none(), st.integers(0, 255)), st.binary(min_size=1))
def test_fragment_headers_come_back(size: int, tag: int, eighths: int | None, payload: bytes) -> None:
    fragment = Fragment(size, tag, None if eighths is None else eighths * 8, payload)
    end = (eighths or 0) * 8 + len(payload)
    if eighths is not None and (end > size or (end < size and len(payload) % 8)):
        with pytest.raises(RemoteProtocolError):
            Fragment.decode(fragment.encode())
    else:
        assert Fragment.decode(fragment.encode()) == fragment


def test_a_first_fragment_that_claims_too_little_is_refused() -> None:
    pair = Pair()
    first = Fragment.decode(pair.frames(large())[0])
    with pytest.raises(RemoteProtocolError):
        pair.take(Fragment(40, first.tag, None, first.payload).encode())


def test_reassembly_keeps_senders_apart() -> None:
    reassembler = Reassembler(TIMEOUT_S, Counter())
    first = Fragment(16, 1, 0, b"a" * 8)
    second = Fragment(16, 1, 8, b"b" * 8)

    def expand(data: bytes, _size: int) -> bytes:
        return data

    assert reassembler.add(first, LINK_A, LINK_B, 0.0, expand) is None
    assert reassembler.add(second, LINK_B, LINK_A, 0.0, expand) is None
    assert reassembler.add(second, LINK_A, LINK_B, 0.0, expand) == b"a" * 8 + b"b" * 8
