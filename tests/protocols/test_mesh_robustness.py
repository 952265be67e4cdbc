"""What others send wrong is counted and dropped; nothing raises, nothing grows without bound."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_bench import Bench, eui
from mesh_strategies import packets

from protocols.mesh.events import DatagramReceived, DropReason
from protocols.mesh.ipv6 import Ipv6Packet, Protocol
from protocols.mesh.join import JoinState
from protocols.mesh.rpl.headers import RplOption, SourceRoute
from protocols.mesh.sixlowpan.iphc import DISPATCH_IPV6
from protocols.mesh.udp import UdpDatagram
from protocols.mesh.wisun import FrameType, encode_datagram
from protocols.rcp.messages import Received

CHAIN = [(0, 1), (1, 2), (2, 3)]


def joined_chain(**options: object) -> Bench:
    bench = Bench(CHAIN, **options)  # type: ignore[arg-type]
    bench.power_on_all()
    bench.run_until(bench.joined, 40.0)
    return bench


def frame(payload_ies: bytes, source: int = 2, frame_type: FrameType = FrameType.DATA, **changes: object) -> Received:
    made = Received(frame_type, eui(source), eui(1), 0x1234, 1, 10**6, -60, 255, 0, 0, payload_ies)
    return replace(made, **changes)  # type: ignore[arg-type]


def give(bench: Bench, number: int, packet: Ipv6Packet, source: int = 2) -> None:
    """A packet as it is, uncompressed, from a neighbour."""
    bench.deliver(number, frame(encode_datagram(bytes((DISPATCH_IPV6,)) + packet.encode()), source))


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_any_packet_at_any_node_leaves_the_mesh_working(data: st.DataObject) -> None:
    bench = joined_chain()
    for _ in range(10):
        number = data.draw(st.integers(0, 3))
        give(bench, number, data.draw(packets()))
    bench.run_for(5.0)
    assert bench.joined()


@given(st.lists(st.tuples(st.sampled_from(FrameType), st.binary(max_size=60), st.booleans()), max_size=20))
@settings(max_examples=20, deadline=None)
def test_junk_in_frames_of_every_type_is_counted_and_dropped(
    frames: list[tuple[FrameType, bytes, bool]],
) -> None:
    bench = joined_chain()
    for frame_type, junk, as_datagram in frames:
        payload_ies = encode_datagram(junk) if as_datagram else junk
        bench.deliver(1, frame(payload_ies, frame_type=frame_type))
    bench.run_for(5.0)
    assert bench.joined()


def test_an_unsecured_frame_is_not_taken() -> None:
    bench = joined_chain()
    udp = UdpDatagram(1, 4059, b"forged").encode(bench.address(2), bench.address(1))
    packet = Ipv6Packet(bench.address(2), bench.address(1), Protocol.UDP, udp)
    payload = encode_datagram(bytes((DISPATCH_IPV6,)) + packet.encode())
    bench.deliver(1, frame(payload, key_index=0))
    assert bench.nodes[1].counters[DropReason.UNSECURED] == 1
    before = bench.nodes[1].counters[DropReason.OTHER_PAN]
    bench.deliver(1, frame(payload, pan_id=0x4321))
    assert bench.nodes[1].counters[DropReason.OTHER_PAN] == before + 1
    assert not bench.of(1, DatagramReceived)


def test_the_hop_limit_ends_a_packet_and_its_source_is_told() -> None:
    bench = joined_chain()
    udp = UdpDatagram(1, 4059, b"x").encode(bench.address(2), bench.address(0))
    packet = Ipv6Packet(bench.address(2), bench.address(0), Protocol.UDP, udp, hop_limit=1)
    give(bench, 1, packet)
    assert bench.nodes[1].counters[DropReason.HOP_LIMIT] == 1
    bench.run_until(lambda: bench.nodes[2].counters["icmp_errors_received"] == 1, 5.0)


def test_a_source_route_in_a_circle_is_dropped() -> None:
    bench = joined_chain()
    udp = UdpDatagram(1, 4059, b"x").encode(bench.address(0), bench.address(3))
    packet = Ipv6Packet(bench.address(0), bench.address(1), Protocol.UDP, udp)
    route = SourceRoute(3, (bench.address(2), bench.address(1), bench.address(3)))
    give(bench, 1, packet.with_extension(route.encode(packet.destination)), source=0)
    assert bench.nodes[1].counters[DropReason.LOOP] == 1


def test_a_packet_that_goes_up_twice_from_below_is_dropped() -> None:
    bench = joined_chain()
    udp = UdpDatagram(1, 4059, b"x").encode(bench.address(2), bench.address(0))
    packet = Ipv6Packet(bench.address(2), bench.address(0), Protocol.UDP, udp)
    before = bench.nodes[2].counters["forwarded_up"]
    # Somebody nearer to the root than this node sends it upwards through it.
    give(bench, 2, packet.with_extension(RplOption(0, sender_rank=1).encode()), source=1)
    assert bench.nodes[2].counters["rank_inconsistency"] == 1
    assert bench.nodes[2].counters["forwarded_up"] == before + 1
    give(bench, 2, packet.with_extension(RplOption(0, sender_rank=1, rank_error=True).encode()), source=1)
    assert bench.nodes[2].counters[DropReason.LOOP] == 1


def test_many_strangers_do_not_fill_the_memory() -> None:
    bench = joined_chain()
    for number in range(100, 1100):
        bench.deliver(1, frame(b"", source=number, frame_type=FrameType.PAS, key_index=0))
    assert bench.nodes[1].parent == eui(0)
    assert bench.nodes[1].link_etx(eui(100)) is None
    bench.send(0, 3, b"still here")
    bench.run_until(lambda: bool(bench.of(3, DatagramReceived)), 5.0)


def test_a_storm_of_datagrams_ends_in_counted_drops_and_the_mesh_goes_on() -> None:
    bench = joined_chain()
    sent = [bench.send(0, 3, n.to_bytes(2, "big")) for n in range(500)]
    assert len(set(sent)) == 500
    bench.run_for(60.0)
    got = len(bench.of(3, DatagramReceived))
    assert got + bench.nodes[0].counters[DropReason.QUEUE_FULL] == 500
    bench.send(0, 3, b"after")
    bench.run_until(lambda: len(bench.of(3, DatagramReceived)) == got + 1, 5.0)


@pytest.mark.requirement("NET-2")
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_a_fifth_of_a_large_mesh_dies_and_all_who_have_a_path_come_back(seed: int) -> None:
    columns, rows = 10, 10
    cells = [(x, y) for y in range(rows) for x in range(columns)]
    index = {cell: number for number, cell in enumerate(cells)}
    edges = [
        (index[x, y], index[x + dx, y + dy])
        for x, y in cells
        for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1))
        if (x + dx, y + dy) in index
    ]
    bench = Bench(edges, seed=seed)
    bench.power_on_all()
    bench.run_until(lambda: bench.joined(), 300.0)
    bench.run_for(60.0)
    dead = set(random.Random(seed).sample(range(1, 100), 20))
    for number in dead:
        bench.power_off(number)
    connected, frontier = {0}, [0]
    while frontier:
        for number in sorted(bench.links[frontier.pop()]):
            if number not in connected and number not in dead:
                connected.add(number)
                frontier.append(number)
    assert len(connected) > 60

    def missing() -> list[int]:
        got = {n for n in connected if n and bench.of(n, DatagramReceived)}
        return sorted(connected - got - {0})

    for _ in range(12):
        for number in missing():
            bench.send(0, number, b"reading")
            bench.run_for(0.5)
        bench.run_for(10.0)
        if not missing():
            break
    assert missing() == []
    assert all(bench.nodes[n].state is JoinState.OPERATIONAL for n in connected)


def test_a_loop_between_parent_and_child_is_cut_at_the_first_packet() -> None:
    bench = joined_chain()
    udp = UdpDatagram(1, 4059, b"x").encode(bench.address(1), bench.address(0))
    packet = Ipv6Packet(bench.address(1), bench.address(0), Protocol.UDP, udp)
    # Node 1 is the parent of node 2, and sends upwards through it.
    give(bench, 2, packet.with_extension(RplOption(0, sender_rank=9).encode()), source=1)
    assert bench.nodes[2].parent is None
    bench.run_until(bench.joined, 30.0)
    bench.run_until(lambda: bool(bench.of(0, DatagramReceived)), 5.0)
    assert bench.of(0, DatagramReceived)[0].payload == b"x"


def test_who_sends_upwards_through_a_node_without_a_parent_is_told() -> None:
    bench = joined_chain()
    bench.unlink(0, 1)
    bench.send(1, 0, b"x")
    bench.run_until(lambda: bench.nodes[1].parent is None, 10.0)
    udp = UdpDatagram(1, 4059, b"y").encode(bench.address(2), bench.address(0))
    packet = Ipv6Packet(bench.address(2), bench.address(0), Protocol.UDP, udp)
    before = bench.nodes[1].counters["dio_sent"]
    give(bench, 1, packet.with_extension(RplOption(0, sender_rank=0).encode()), source=2)
    assert bench.nodes[1].counters["dio_sent"] == before + 1
