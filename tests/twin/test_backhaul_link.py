"""The emulated link: delay, rate, loss, outages, and what a connection over it promises."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import BadInputError
from twin.backhaul.link import HEADER_BYTES, MAX_ATTEMPTS, Backhaul, Way
from twin.backhaul.profiles import PROFILES, BackhaulProfile, profile_named
from twin.brokers.transport import Transport, TransportHandler
from twin.clock.virtual import VirtualLoop


@dataclass
class End:
    """One end of a connection and what reached it, with the time of each."""

    loop: VirtualLoop
    transport: Transport | None = None
    received: list[tuple[float, bytes]] = field(default_factory=list)
    lost: list[tuple[float, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def handler(self) -> TransportHandler:
        return TransportHandler(
            received=lambda data: self.received.append((self.loop.time(), data)),
            lost=lambda reason: self.lost.append((self.loop.time(), reason)),
        )

    def opened(self, transport: Transport) -> None:
        self.transport = transport

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.received)


class Bench:
    def __init__(self, profile: str | BackhaulProfile, seed: int = 1) -> None:
        self.loop = VirtualLoop()
        self.link = Backhaul(self.loop, random.Random(seed), profile)
        self.near, self.far = End(self.loop), End(self.loop)

    def open(self) -> None:
        def accept(transport: Transport) -> TransportHandler:
            self.far.transport = transport
            return self.far.handler()

        self.link.connector(accept).open(self.near.handler(), self.near.opened, self.near.failed.append)

    def run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


CLEAN = BackhaulProfile("clean", 0.6, 0.0, 8_000, 16_000, 0.0)


def test_connection_takes_a_round_trip() -> None:
    bench = Bench(CLEAN)
    bench.open()
    bench.run(0.65)
    assert bench.near.transport is None
    bench.run(0.05)
    assert bench.near.transport is not None


def test_bytes_take_half_a_round_trip_and_their_time_on_the_line() -> None:
    bench = Bench(CLEAN)
    bench.open()
    bench.run(1)
    bench.near.write(bytes(960))
    bench.run(5)
    [(at_s, data)] = bench.far.received
    assert data == bytes(960)
    assert at_s == pytest.approx(1 + (960 + HEADER_BYTES) * 8 / 8_000 + 0.3)
    assert bench.link.usage[Way.UP].sent_bytes == 960 + 2 * HEADER_BYTES
    assert bench.link.usage[Way.DOWN].sent_bytes == HEADER_BYTES


def test_two_connections_share_the_rate() -> None:
    bench = Bench(CLEAN)
    bench.open()
    other = End(bench.loop)
    bench.link.connector(lambda _: End(bench.loop).handler()).open(other.handler(), other.opened, other.failed.append)
    bench.run(1)
    other.write(bytes(960))
    bench.near.write(bytes(960))
    bench.run(5)
    assert bench.far.received[0][0] == pytest.approx(1 + 2.3)


@given(
    st.floats(0, 0.4),
    st.floats(0, 2),
    st.lists(st.binary(min_size=1, max_size=4000), max_size=12),
    st.integers(0, 99),
    st.lists(st.floats(0.1, 30), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_bytes_arrive_once_and_in_order_whatever_the_link_does(
    loss: float, jitter_s: float, chunks: list[bytes], seed: int, outages_s: list[float]
) -> None:
    bench = Bench(BackhaulProfile("bad", 0.3, jitter_s, 64_000, 64_000, loss), seed)
    bench.open()
    bench.run(600)
    for chunk in chunks:
        bench.near.write(chunk)
    for outage_s in outages_s:
        bench.link.cut()
        bench.run(outage_s)
        bench.link.restore()
        bench.run(0.2)
    bench.run(4000)
    assert bench.far.data == b"".join(chunks)
    assert bench.near.lost == bench.far.lost == []


def test_cut_drops_what_is_on_the_way_and_restore_lets_it_be_repeated() -> None:
    bench = Bench(CLEAN)
    bench.open()
    bench.run(1)
    bench.near.write(b"x")
    bench.run(0.1)
    bench.link.cut()
    assert not bench.link.is_up
    bench.run(0.1)
    bench.link.restore()
    bench.run(10)
    [(at_s, _)] = bench.far.received
    assert at_s > 2, "it was sent again after a time-out"
    assert bench.link.usage[Way.UP].lost_packets == 1


def test_end_that_closes_sends_what_it_wrote_and_the_peer_learns_of_it() -> None:
    bench = Bench(CLEAN)
    bench.open()
    bench.run(1)
    assert bench.near.transport is not None
    bench.near.write(b"last words")
    bench.near.transport.close()
    bench.near.transport.write(b"too late")
    bench.run(10)
    assert bench.far.data == b"last words"
    assert [reason for _, reason in bench.far.lost] == ["closed by the peer"]
    assert bench.near.lost == []


def test_end_that_vanishes_is_noticed_by_nobody_until_they_write() -> None:
    bench = Bench(CLEAN)
    bench.open()
    bench.run(1)
    assert bench.near.transport is not None
    bench.near.transport.abort()
    bench.run(3600)
    assert bench.far.lost == []


def test_sender_gives_up_in_an_endless_outage() -> None:
    bench = Bench(CLEAN)
    bench.open()
    bench.run(1)
    bench.link.cut()
    bench.near.write(b"x")
    bench.run(3600)
    [(at_s, reason)] = bench.near.lost
    assert reason == "the peer does not answer"
    assert at_s > MAX_ATTEMPTS * 30


def test_refused_connection_is_told() -> None:
    bench = Bench(CLEAN)

    def refuse(transport: Transport) -> TransportHandler:
        transport.close()
        return bench.far.handler()

    bench.link.connector(refuse).open(bench.near.handler(), bench.near.opened, bench.near.failed.append)
    bench.run(10)
    assert bench.near.transport is None
    assert bench.near.failed == ["closed by the peer"]


def test_given_up_connection_calls_nobody() -> None:
    bench = Bench(CLEAN)
    give_up = bench.link.connector(lambda _: bench.far.handler()).open(
        bench.near.handler(), bench.near.opened, bench.near.failed.append
    )
    give_up()
    bench.run(3600)
    assert bench.near.transport is None
    assert bench.near.failed == []


def test_profile_changes_under_a_running_connection() -> None:
    bench = Bench("2g")
    events: list[str] = []
    bench.link = Backhaul(
        bench.loop, random.Random(1), "2g", trace=lambda kind, **fields: events.append(f"{kind} {fields}")
    )
    bench.open()
    bench.run(10)
    bench.link.set_profile("4g")
    assert bench.link.profile is PROFILES["4g"]
    bench.near.write(bytes(100_000))
    bench.run(5)
    assert len(bench.far.data) == 100_000
    bench.link.cut()
    bench.link.cut()
    bench.link.restore()
    assert [event.split()[0] for event in events] == ["backhaul.profile", "backhaul.cut", "backhaul.restored"]


def test_profiles_are_those_of_the_field() -> None:
    assert {"satellite", "4g", "3g", "2g", "lan"} == set(PROFILES)
    satellite = PROFILES["satellite"]
    assert satellite.round_trip_s == 0.6
    assert (satellite.up_bps, satellite.down_bps) == (64_000, 256_000)


@pytest.mark.parametrize(
    "values",
    [(-1, 0, 1, 1, 0), (0, -1, 1, 1, 0), (0, 0, 0, 1, 0), (0, 0, 1, -1, 0), (0, 0, 1, 1, 1), (0, 0, 1, 1, -0.1)],
)
def test_impossible_profiles_are_refused(values: tuple[float, float, float, float, float]) -> None:
    with pytest.raises(BadInputError, match="mine"):
        BackhaulProfile("mine", *values)


def test_unknown_profile_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(BadInputError, match="satellite, 4g"):
        profile_named("5g")
