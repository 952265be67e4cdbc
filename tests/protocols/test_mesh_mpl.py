"""Multicast by MPL (RFC 7731): codec, dissemination, loss, late joiners."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_bench import Bench

from protocols.errors import RemoteProtocolError
from protocols.mesh.events import DatagramReceived
from protocols.mesh.ipv6 import ALL_MPL_FORWARDERS, ExtensionHeader, Protocol, address_bytes
from protocols.mesh.mpl.messages import MplControl, MplOption, SeedInfo, is_at_least

GRID = [(a, b) for a in range(16) for b in range(16) if (b == a + 1 and b % 4) or b == a + 4]
SITE_GROUP = address_bytes("ff05::4059")

seed_identifiers = st.sampled_from((2, 8, 16)).flatmap(lambda size: st.binary(min_size=size, max_size=size))
options = st.builds(MplOption, seed_identifiers | st.just(b""), st.integers(0, 255), st.booleans())
infos = st.builds(
    lambda seed, minimum, offsets: SeedInfo(seed, minimum, frozenset((minimum + o) % 256 for o in offsets)),
    seed_identifiers, st.integers(0, 255), st.frozensets(st.integers(0, 127)),
)  # fmt: skip


@given(options)
def test_option_round_trip(option: MplOption) -> None:
    header = option.encode()
    assert len(header.body) % 8 == 6
    assert MplOption.decode(header) == option


@given(st.builds(MplControl, st.lists(infos, max_size=4).map(tuple)))
def test_control_message_round_trip(control: MplControl) -> None:
    assert MplControl.decode(control.encode()) == control


@given(st.binary(max_size=64))
def test_junk_raises_remote_errors_only(junk: bytes) -> None:
    for decode in (MplControl.decode, lambda body: MplOption.decode(ExtensionHeader(Protocol.HOP_BY_HOP, body))):
        try:
            decode(junk)
        except RemoteProtocolError:
            continue


def test_sequence_numbers_wrap() -> None:
    assert is_at_least(3, 250)
    assert not is_at_least(250, 3)


def received(bench: Bench, payload: bytes) -> set[int]:
    return {
        number for number in bench.nodes for event in bench.of(number, DatagramReceived) if event.payload == payload
    }


def count(bench: Bench, number: int, payload: bytes) -> int:
    return sum(event.payload == payload for event in bench.of(number, DatagramReceived))


@pytest.mark.requirement("NET-4", "OSI-4")
@pytest.mark.parametrize("group", [ALL_MPL_FORWARDERS, SITE_GROUP])
def test_a_multicast_of_the_root_reaches_every_node_once(group: bytes) -> None:
    bench = Bench(GRID)
    bench.power_on_all()
    bench.run_until(bench.joined, 120)
    bench.send(0, group, b"to all")
    bench.run_until(lambda: received(bench, b"to all") == set(range(1, 16)), 30)
    bench.run_for(200)
    assert all(count(bench, number, b"to all") == 1 for number in range(1, 16))
    assert bench.of(5, DatagramReceived)[0].destination == group


def test_any_node_can_send_to_all() -> None:
    bench = Bench(GRID)
    bench.power_on_all()
    bench.run_until(bench.joined, 120)
    bench.send(15, SITE_GROUP, b"from the corner")
    bench.run_until(lambda: received(bench, b"from the corner") == set(range(15)), 30)


@pytest.mark.requirement("NET-4")
def test_lost_messages_are_repaired() -> None:
    bench = Bench(GRID, loss=0.3, seed=5)
    bench.power_on_all()
    bench.run_until(bench.joined, 600)
    messages = [bytes((number,)) for number in range(40)]
    for message in messages:
        bench.send(0, SITE_GROUP, message)
        bench.run_for(2)
    bench.run_until(lambda: all(received(bench, m) == set(range(1, 16)) for m in messages), 120)
    assert all(count(bench, 15, message) == 1 for message in messages)


@pytest.mark.requirement("UC-VII.2")
def test_a_late_joiner_gets_what_is_still_buffered() -> None:
    bench = Bench(GRID)
    for number in range(15):
        bench.power_on(number)
    bench.run_until(bench.joined, 120)
    bench.send(0, SITE_GROUP, b"before it came")
    bench.run_for(bench.profile.mpl.buffer_s / 2)
    bench.power_on(15)
    bench.run_until(lambda: 15 in received(bench, b"before it came"), 60)


def test_a_late_joiner_gets_every_message_of_a_series() -> None:
    bench = Bench(GRID, loss=0.2, seed=2)
    for number in range(15):
        bench.power_on(number)
    bench.run_until(bench.joined, 300)
    series = {bytes((number,)) * 200 for number in range(20)}
    for message in sorted(series):
        bench.send(0, SITE_GROUP, message)
        bench.run_for(1)
    bench.power_on(15)
    bench.run_until(lambda: {event.payload for event in bench.of(15, DatagramReceived)} == series, 90)
    assert len(bench.of(15, DatagramReceived)) == len(series)


def test_a_message_that_is_too_old_is_not_sent_again() -> None:
    bench = Bench(GRID)
    for number in range(15):
        bench.power_on(number)
    bench.run_until(bench.joined, 120)
    bench.send(0, SITE_GROUP, b"old")
    bench.run_for(bench.profile.mpl.buffer_s + 30)
    bench.power_on(15)
    bench.run_for(120)
    assert 15 not in received(bench, b"old")
    assert all(count(bench, number, b"old") == 1 for number in range(1, 15))


def test_a_root_that_restarts_is_heard_again() -> None:
    bench = Bench(GRID)
    bench.power_on_all()
    bench.run_until(bench.joined, 120)
    for number in range(5):
        bench.send(0, SITE_GROUP, b"before %d" % number)
    bench.run_for(10)
    bench.power_off(0)
    bench.run_for(5)
    bench.power_on(0)
    bench.run_for(60)
    bench.send(0, SITE_GROUP, b"after")
    bench.run_until(lambda: received(bench, b"after") == set(range(1, 16)), 60)


def test_more_messages_than_sequence_numbers() -> None:
    bench = Bench([(0, 1), (1, 2)])
    bench.power_on_all()
    bench.run_until(bench.joined, 120)
    for number in range(300):
        bench.send(0, SITE_GROUP, number.to_bytes(2, "big"))
        bench.run_for(4)
    bench.run_for(60)
    assert len({event.payload for event in bench.of(2, DatagramReceived)}) == 300
    assert len(bench.of(2, DatagramReceived)) == 300


def test_a_quiet_mesh_falls_silent() -> None:
    bench = Bench(GRID)
    bench.power_on_all()
    bench.run_until(bench.joined, 120)
    bench.run_for(600)
    before = sum(node.counters["mpl_control_sent"] for node in bench.nodes.values())
    bench.run_for(3600)
    assert sum(node.counters["mpl_control_sent"] for node in bench.nodes.values()) == before
