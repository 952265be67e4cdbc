"""Address registration at the parent (RFC 6775), echo to any node, and the minimum MTU."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_bench import Bench, eui
from mesh_strategies import IID_A, LINK_A, LINK_B, PREFIX, TSHARK, dissect

from protocols.errors import RemoteProtocolError
from protocols.mesh.events import DatagramReceived, Dropped, EchoReplyReceived
from protocols.mesh.icmpv6 import Icmpv6Message, Icmpv6Type
from protocols.mesh.ipv6 import Ipv6Packet, Protocol, link_local
from protocols.mesh.neighbour_discovery import (
    NeighbourAdvertisement,
    NeighbourSolicitation,
    RegistrationOption,
    RegistrationStatus,
)
from protocols.mesh.wisun import FrameType, decode_datagram

LINE = [(0, 1), (1, 2), (2, 3), (3, 4)]

registrations = st.builds(
    RegistrationOption,
    st.binary(min_size=8, max_size=8),
    st.integers(0, 0xFFFF).map(lambda minutes: 60 * minutes),
    st.sampled_from(RegistrationStatus),
)
addresses = st.binary(min_size=16, max_size=16)


@given(addresses, st.none() | registrations)
def test_solicitations_and_advertisements_round_trip(target: bytes, option: RegistrationOption | None) -> None:
    for kind in (NeighbourSolicitation, NeighbourAdvertisement):
        message = kind(target, option)
        assert kind.decode(message.encode()) == message


@given(addresses, registrations, st.data())
def test_truncated_ones_are_refused(target: bytes, option: RegistrationOption, data: st.DataObject) -> None:
    body = NeighbourSolicitation(target, option).encode()
    cut = data.draw(st.integers(0, len(body) - 1).filter(lambda size: size not in (20, 36)))
    with pytest.raises(RemoteProtocolError):
        NeighbourSolicitation.decode(body[:cut])


@given(st.binary(max_size=80))
def test_junk_raises_remote_errors_only(junk: bytes) -> None:
    for kind in (NeighbourSolicitation, NeighbourAdvertisement):
        try:
            kind.decode(junk)
        except RemoteProtocolError:
            continue


def joined(edges: list[tuple[int, int]] = LINE, **settings: int) -> Bench:
    bench = Bench(edges, **settings)
    bench.power_on_all()
    bench.run_until(bench.joined, 120)
    return bench


@pytest.mark.requirement("NET-4")
def test_every_node_registers_at_its_parent_before_its_first_dao() -> None:
    bench = joined()
    for number in range(1, 5):
        assert bench.nodes[number - 1].registered_children[bench.address(number)] == eui(number)
        assert bench.nodes[number].counters["ns_sent"] >= 1
        assert bench.nodes[number].counters["registration_refused"] == 0


def test_an_address_that_another_node_has_is_refused() -> None:
    bench = joined([(0, 1)])
    root = bench.nodes[0]
    stranger = eui(9)
    source, destination = bench.address(1), link_local(eui(0))
    body = NeighbourSolicitation(destination, RegistrationOption(stranger, 600)).encode()
    payload = Icmpv6Message(Icmpv6Type.NEIGHBOR_SOLICITATION, 0, body).encode(source, destination)
    packet = Ipv6Packet(source, destination, Protocol.ICMPV6, payload, hop_limit=255)
    bench.inject(0, packet, stranger)
    bench.run_for(1)
    assert root.registered_children[bench.address(1)] == eui(1)
    assert any(frame.destination == stranger for frame in bench.frames_of(FrameType.DATA))


def test_a_registration_for_somebody_else_is_malformed() -> None:
    bench = joined([(0, 1)])
    source, destination = bench.address(5), link_local(eui(0))
    body = NeighbourSolicitation(destination, RegistrationOption(eui(5), 600)).encode()
    payload = Icmpv6Message(Icmpv6Type.NEIGHBOR_SOLICITATION, 0, body).encode(source, destination)
    bench.inject(0, Ipv6Packet(source, destination, Protocol.ICMPV6, payload, hop_limit=255), eui(9))
    assert bench.address(5) not in bench.nodes[0].registered_children
    assert bench.nodes[0].counters["malformed"] == 1


@pytest.mark.requirement("NET-4", "OSI-3")
@pytest.mark.parametrize("max_psdu_bytes", [127, 2047])
def test_packets_of_the_minimum_mtu_pass_both_ways_over_every_hop(max_psdu_bytes: int) -> None:
    """1,280 bytes of IPv6: 40 of header, 8 of UDP, 1,232 of payload, and the root's source route on top."""
    bench = joined(max_psdu_bytes=max_psdu_bytes)
    payload = bytes(range(256)) * 4 + bytes(208)
    assert len(payload) == 1232
    bench.send(0, 4, payload)
    bench.send(4, 0, payload)
    bench.run_for(30)
    assert [event.payload for event in bench.of(4, DatagramReceived)] == [payload]
    assert [event.payload for event in bench.of(0, DatagramReceived)] == [payload]
    fragments = sum(node.counters["fragments_sent"] for node in bench.nodes.values())
    assert (fragments > 50) == (max_psdu_bytes == 127)


@pytest.mark.requirement("NET-4")
@pytest.mark.parametrize("max_psdu_bytes", [127, 2047])
def test_the_root_gets_an_echo_from_every_node(max_psdu_bytes: int) -> None:
    bench = joined(max_psdu_bytes=max_psdu_bytes)
    for number in range(1, 5):
        bench.nodes[0].send_echo(bench.address(number), 7, number, b"?" * 1200, bench.now)
        bench.settle(0)
        bench.run_for(15)
    assert [event.sequence for event in bench.of(0, EchoReplyReceived)] == [1, 2, 3, 4]
    assert all(event.payload == b"?" * 1200 for event in bench.of(0, EchoReplyReceived))


def test_an_echo_to_a_node_that_is_not_there_is_reported() -> None:
    bench = joined([(0, 1)])
    bench.nodes[0].send_echo(bench.address(77), 7, 1, b"", bench.now)
    bench.settle(0)
    assert bench.of(0, Dropped)


@pytest.mark.skipif(TSHARK is None, reason="tshark is not installed: make system")
@pytest.mark.requirement("NET-6")
def test_the_registration_option_is_read_by_name(tmp_path: Path) -> None:
    source, destination = PREFIX + IID_A, link_local(LINK_B)
    body = NeighbourSolicitation(destination, RegistrationOption(LINK_A, 7200)).encode()
    payload = Icmpv6Message(Icmpv6Type.NEIGHBOR_SOLICITATION, 0, body).encode(source, destination)
    bench = Bench([])
    packet = Ipv6Packet(source, destination, Protocol.ICMPV6, payload, hop_limit=255)
    frames = [(LINK_A, LINK_B, frame) for frame in bench.lowpan(LINK_A, PREFIX).to_frames(packet, LINK_B)]
    assert dissect(tmp_path, frames, "-Y", "_ws.malformed || _ws.expert.severity >= 6291456") == ""
    names = ("icmpv6.checksum.status", "icmpv6.opt.aro.status", "icmpv6.opt.aro.registration_lifetime")
    arguments = [part for name in names for part in ("-e", name)]
    assert dissect(tmp_path, frames, "-T", "fields", *arguments).split() == ["1", "0", "120"]


def test_registration_frames_are_small_enough_for_one_frame() -> None:
    bench = joined([(0, 1)], max_psdu_bytes=127)
    sizes = [len(decode_datagram(frame.payload_ies) or b"") for frame in bench.frames_of(FrameType.DATA)]
    assert max(sizes) <= 127
