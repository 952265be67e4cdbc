"""The node stack over perfect links: join, traffic, repair."""

from __future__ import annotations

import pytest
from mesh_bench import Bench, eui

from protocols.mesh.events import (
    DatagramReceived,
    Dropped,
    DropReason,
    EchoReplyReceived,
    Joined,
    Left,
    NodeLost,
    NodeReachable,
    ParentChanged,
    RouteSuspect,
)
from protocols.mesh.join import JoinState
from protocols.mesh.timers import BENCH
from protocols.mesh.wisun import FrameType, PayloadElements

# Root 0; 1 to 4 hear it; 5 to 8 hear two of those each; 9 to 12 hear two of those each: three hops.
VILLAGE = [
    *((0, n) for n in (1, 2, 3, 4)),
    *((a, b) for a in (1, 2) for b in (5, 6)),
    *((a, b) for a in (3, 4) for b in (7, 8)),
    *((a, b) for a in (5, 6) for b in (9, 10)),
    *((a, b) for a in (7, 8) for b in (11, 12)),
]
CHAIN = [(0, 1), (1, 2), (2, 3)]


def village(**options: object) -> Bench:
    bench = Bench(VILLAGE, **options)  # type: ignore[arg-type]
    bench.power_on_all()
    bench.run_until(bench.joined, 60.0)
    return bench


def all_routed(bench: Bench) -> bool:
    return all(bench.nodes[0].hops_to(eui(n)) is not None for n in bench.nodes if n)


def received(bench: Bench, number: int) -> list[bytes]:
    return [event.payload for event in bench.of(number, DatagramReceived)]


@pytest.mark.requirement("NET-3")
def test_twelve_nodes_over_three_hops_join_within_forty_seconds() -> None:
    bench = Bench(VILLAGE)
    bench.power_on_all()
    assert bench.run_until(bench.joined, 60.0) < 40.0
    assert {n: bench.nodes[0].hops_to(eui(n)) for n in range(1, 13)} == {
        n: 1 if n <= 4 else 2 if n <= 8 else 3 for n in range(1, 13)
    }
    assert {event.eui64 for event in bench.of(0, NodeReachable)} == {eui(n) for n in range(1, 13)}
    assert len(bench.of(9, Joined)) == 1


@pytest.mark.requirement("NET-4")
def test_datagrams_go_down_and_up_over_three_hops() -> None:
    bench = village()
    bench.send(0, 9, b"down")
    bench.run_until(lambda: received(bench, 9) == [b"down"], 5.0)
    bench.send(9, 0, b"up")
    bench.run_until(lambda: received(bench, 0) == [b"up"], 5.0)
    assert not [event for n in range(13) for event in bench.of(n, Dropped)]


def test_datagrams_between_two_nodes_go_by_the_root() -> None:
    bench = village()
    bench.send(9, 12, b"across")
    bench.run_until(lambda: received(bench, 12) == [b"across"], 5.0)
    event = bench.of(12, DatagramReceived)[0]
    assert (event.source, event.source_port) == (bench.address(9), 4059)


@pytest.mark.requirement("NET-4")
def test_large_datagrams_cross_small_frames_in_fragments() -> None:
    bench = village(max_psdu_bytes=127)
    payload = bytes(n % 251 for n in range(1200))
    bench.send(0, 9, payload)
    bench.send(9, 0, payload[::-1])
    bench.run_until(lambda: received(bench, 9) == [payload] and received(bench, 0) == [payload[::-1]], 20.0)
    assert bench.nodes[0].counters["fragments_sent"] > 10


def test_every_node_answers_an_echo() -> None:
    bench = village()
    for number in range(1, 13):
        bench.nodes[0].send_echo(bench.address(number), 7, number, b"ping", bench.now)
        bench.settle(0)
    bench.run_until(lambda: len(bench.of(0, EchoReplyReceived)) == 12, 10.0)
    assert {(e.source, e.sequence, e.payload) for e in bench.of(0, EchoReplyReceived)} == {
        (bench.address(n), n, b"ping") for n in range(1, 13)
    }


@pytest.mark.requirement("NET-2")
def test_a_request_to_a_node_behind_a_dead_relay_arrives_by_another_way() -> None:
    bench = village()
    bench.run_for(60.0)
    relay = next(n for n in range(1, 13) if eui(n) == bench.nodes[9].parent)
    bench.power_off(relay)
    bench.send(0, 9, b"after")
    bench.run_until(lambda: received(bench, 9) == [b"after"], 10.0)
    bench.send(9, 0, b"answer")
    bench.run_until(lambda: received(bench, 0) == [b"answer"], 10.0)
    assert bench.nodes[9].parent != eui(relay)
    assert bench.of(9, ParentChanged)[-1].previous == eui(relay)
    assert bench.nodes[9].state is JoinState.OPERATIONAL


@pytest.mark.requirement("NET-2")
def test_a_datagram_on_its_way_up_is_given_to_the_next_parent() -> None:
    bench = village()
    relay = next(n for n in range(1, 13) if eui(n) == bench.nodes[9].parent)
    bench.power_off(relay)
    for number in range(5):
        bench.send(9, 0, bytes((number,)))
    bench.run_until(lambda: len(received(bench, 0)) == 5, 20.0)
    assert sorted(received(bench, 0)) == [bytes((n,)) for n in range(5)]
    assert not bench.of(9, Dropped)


@pytest.mark.requirement("NET-2")
def test_an_orphan_without_a_known_backup_is_reached_again_without_sending_anything_itself() -> None:
    bench = Bench([(0, 1), (1, 2)])
    bench.power_on_all()
    bench.run_until(bench.joined, 40.0)
    bench.power_on(3)
    bench.link(0, 3)
    bench.run_until(bench.joined, 40.0)
    # Only now can the leaf hear the second relay, which has long been silent.
    bench.run_for(200.0)
    bench.link(3, 2)
    bench.power_off(1)
    bench.send(0, 2, b"lost")
    bench.run_until(lambda: bool(bench.of(0, RouteSuspect)), 5.0)
    bench.run_until(lambda: bench.nodes[0].route_to(eui(2)) == (eui(3), eui(2)), 30.0)
    bench.send(0, 2, b"again")
    bench.run_until(lambda: b"again" in received(bench, 2), 5.0)


def test_a_node_that_is_gone_is_reported_lost() -> None:
    bench = Bench(CHAIN)
    bench.power_on_all()
    bench.run_until(bench.joined, 40.0)
    bench.power_off(3)
    bench.send(0, 3, b"anyone?")
    bench.run_until(lambda: bool(bench.of(0, RouteSuspect)), 5.0)
    bench.run_until(lambda: bool(bench.of(0, NodeLost)), 90.0)
    assert [event.eui64 for event in bench.of(0, NodeLost)] == [eui(3)]
    assert bench.nodes[0].hops_to(eui(2)) == 2
    bench.send(0, 3, b"anyone?")
    assert bench.of(0, Dropped)[-1].reason is DropReason.NO_ROUTE


def test_a_node_after_a_power_cycle_joins_again_and_is_known_to_have_restarted() -> None:
    bench = village()
    bench.power_off(9)
    bench.run_for(30.0)
    before = bench.now
    bench.power_on(9)
    bench.run_until(bench.joined, 40.0)
    bench.run_for(5.0)
    assert [e.restarted for e in bench.of(0, NodeReachable, since=before) if e.eui64 == eui(9)] == [True]
    bench.send(0, 9, b"back")
    bench.run_until(lambda: b"back" in received(bench, 9), 5.0)


@pytest.mark.parametrize("downtime_s", [1.0, 120.0])
def test_all_routes_come_back_after_a_restart_of_the_root(downtime_s: float) -> None:
    bench = village()
    bench.run_for(300.0)
    bench.power_off(0)
    bench.run_for(downtime_s)
    bench.power_on(0)
    bench.run_until(lambda: all_routed(bench), 60.0)
    bench.send(0, 12, b"hello")
    bench.run_until(lambda: b"hello" in received(bench, 12), 5.0)


def test_nodes_need_not_wait_for_a_root_that_knows_of_its_past() -> None:
    bench = village()
    bench.power_off(0)
    bench.run_for(5.0)
    since = bench.now
    bench.power_on(0, start_count=2)
    bench.run_until(lambda: bool(bench.of(0, NodeReachable, since)), 2.0)
    first = bench.of(0, NodeReachable, since)[0]
    # Half an interval of DIS, in which a node waits for other parents; the delay of its DAO; what travels.
    assert bench.now - since < BENCH.dis_interval_s / 2 + BENCH.dao_spread_s(len(bench.nodes)) + 0.2, first


def test_a_root_that_forgot_its_versions_overtakes_them() -> None:
    bench = village()
    bench.run_for(300.0)
    bench.power_off(0)
    bench.run_for(5.0)
    bench.power_on(0, start_count=0, frame_counter=10**6)
    bench.run_until(lambda: all_routed(bench), 60.0)


def test_a_cut_off_subtree_poisons_itself_and_comes_back() -> None:
    bench = Bench(CHAIN)
    bench.power_on_all()
    bench.run_until(bench.joined, 40.0)
    bench.unlink(0, 1)
    bench.send(3, 0, b"held")
    bench.run_until(lambda: all(bench.of(n, Left) for n in (1, 2, 3)), 60.0)
    bench.link(0, 1)
    bench.run_until(lambda: bench.joined() and all_routed(bench), 180.0)


def test_a_node_with_another_key_stays_out() -> None:
    from protocols.mesh.config import LinkKey

    bench = Bench(CHAIN)
    for number in (0, 1, 2):
        bench.power_on(number)
    bench.power_on(3, keys=(LinkKey(1, bytes(16)),))
    bench.run_for(120.0)
    assert bench.nodes[2].state is JoinState.OPERATIONAL
    assert bench.nodes[3].state in (JoinState.SELECT_PAN, JoinState.CONFIGURE)
    assert bench.nodes[0].hops_to(eui(3)) is None


def test_a_node_of_another_network_is_not_taken() -> None:
    bench = Bench(CHAIN)
    for number in (0, 1, 2):
        bench.power_on(number)
    bench.power_on(3, network_name="elsewhere")
    bench.run_for(60.0)
    assert bench.nodes[3].state is JoinState.SELECT_PAN


def test_quiet_hours_cost_few_frames() -> None:
    bench = village()
    bench.run_for(3600.0)
    before = len(bench.frames)
    bench.run_for(4 * 3600.0)
    per_node_and_hour = (len(bench.frames) - before) / 13 / 4
    assert per_node_and_hour < 12


def sizes_told(bench: Bench, since: float) -> list[int]:
    """Of how many nodes the PAN has the PAs since then speak."""
    found = [PayloadElements.decode(frame.payload_ies).pan for frame in bench.frames_of(FrameType.PA, since)]
    return [pan.pan_size for pan in found if pan is not None]


def test_nodes_that_joined_early_hear_how_large_the_mesh_has_become() -> None:
    """They spread what all do at once over a time that grows with it."""
    bench = Bench(VILLAGE)
    for number in range(13):
        bench.power_on(number)
        bench.run_for(20.0)
    bench.run_until(bench.joined, 60.0)
    bench.run_for(30.0)
    since = bench.now
    for number in (4, 8, 12):
        bench.power_off(number)
        bench.power_on(number)
    bench.run_for(30.0)
    assert len(sizes_told(bench, since)) >= 3
    assert min(sizes_told(bench, since)) >= 13 / 1.5**2


def test_fresh_routes_that_the_root_asks_for_are_not_acknowledged() -> None:
    bench = village()
    bench.run_for(60.0)
    acknowledged, told = bench.nodes[0].counters["dao_ack_sent"], [n.counters["dao_sent"] for n in bench.nodes.values()]
    bench.unlink(0, 1)
    bench.unlink(0, 2)
    bench.send(0, 5, b"x")
    bench.run_until(lambda: bench.nodes[0].counters["dao_refresh"] == 1, 30.0)
    bench.run_for(30.0)
    tellers = sum(n.counters["dao_sent"] > before for n, before in zip(bench.nodes.values(), told, strict=True))
    assert tellers >= 6
    assert bench.nodes[0].counters["dao_ack_sent"] == acknowledged


def test_datagrams_survive_losses_on_every_link() -> None:
    bench = Bench(VILLAGE, loss=0.2)
    bench.power_on_all()
    bench.run_until(lambda: bench.joined() and all_routed(bench), 240.0)
    for number in range(1, 13):
        bench.send(0, number, b"down")
        bench.send(number, 0, bytes((number,)))
        bench.run_for(5.0)
    bench.run_for(60.0)
    assert set(received(bench, 0)) == {bytes((n,)) for n in range(1, 13)}
    assert all(b"down" in received(bench, number) for number in range(1, 13))


def test_one_seed_gives_the_same_frames() -> None:
    def frames() -> list[tuple[float, int, bytes]]:
        bench = village(loss=0.05, seed=5)
        bench.run_for(100.0)
        return [(at, number, frame.payload_ies) for at, number, frame in bench.frames]

    assert frames() == frames()


def test_a_datagram_before_the_join_is_dropped_aloud() -> None:
    bench = Bench(CHAIN)
    node = bench.power_on(1)
    datagram_id = node.send_udp(4059, bench.address(0), 4059, b"early", bench.now)
    bench.settle(1)
    assert bench.of(1, Dropped) == [Dropped(DropReason.NOT_JOINED, datagram_id)]


def test_an_unknown_port_is_answered_by_an_error_and_counted() -> None:
    bench = village()
    bench.send(0, 9, b"x", port=4060)
    bench.run_until(lambda: bench.nodes[0].counters["icmp_errors_received"] == 1, 5.0)
    assert bench.nodes[9].counters[DropReason.NO_LISTENER] == 1


def test_a_parent_that_failed_is_kept_once_it_is_taken_back() -> None:
    bench = Bench([(0, 1), (1, 2)])
    bench.power_on_all()
    bench.run_until(bench.joined, 40.0)
    bench.unlink(1, 2)
    for _ in range(3):
        bench.send(2, 0, b"x")
        bench.run_for(2.0)
    assert bench.of(2, Left)
    bench.link(1, 2)
    bench.run_until(bench.joined, 60.0)
    before = bench.now
    bench.run_for(120.0)
    assert not bench.of(2, ParentChanged, since=before)


def test_a_burst_of_losses_does_not_move_the_parents() -> None:
    bench = village()
    bench.run_for(120.0)
    since = bench.now
    bench.loss = 0.5
    for number in range(5, 13):
        bench.send(number, 0, b"burst")
    bench.run_for(2.0)
    bench.loss = 0.0
    bench.run_for(60.0)
    assert not any(bench.of(number, ParentChanged, since) for number in bench.nodes)
    assert bench.nodes[0].counters["dao_refresh"] == 0
