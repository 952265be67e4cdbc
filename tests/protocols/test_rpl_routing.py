"""Objective function, source routes and the root's table."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_strategies import PREFIX

from protocols.mesh.ipv6 import interface_identifier
from protocols.mesh.neighbours import NeighbourTable
from protocols.mesh.rpl import lollipop
from protocols.mesh.rpl.dao_sender import DaoSender
from protocols.mesh.rpl.messages import (
    INFINITE_RANK,
    Dao,
    DaoAck,
    DaoStatus,
    Dio,
    DodagConfiguration,
    PrefixInformation,
    Transit,
)
from protocols.mesh.rpl.objective import Candidate, rank_of, select_parents
from protocols.mesh.rpl.root import RplRoot
from protocols.mesh.rpl.router import RplRouter
from protocols.mesh.rpl.routes import HOPS_MAX, RouteEntry, RouteTable
from protocols.mesh.timers import BENCH


def node(number: int) -> bytes:
    return bytes.fromhex("02127400") + number.to_bytes(4, "big")


def address(number: int) -> bytes:
    return PREFIX + interface_identifier(node(number))


def entry(number: int, *parents: int) -> RouteEntry:
    return RouteEntry(node(number), tuple(map(node, parents)), 240, 0, float("inf"))


# routes


def test_routes_follow_preferred_parents() -> None:
    table = RouteTable(node(0))
    for number, parents in {1: (0,), 2: (0,), 3: (1, 2), 4: (3,)}.items():
        table.put(entry(number, *parents))
    assert table.route(node(4)) == (node(1), node(3), node(4))
    assert table.fail(node(1), node(3))
    assert table.route(node(4)) == (node(2), node(3), node(4))
    assert not table.fail(node(1), node(3))
    table.fail(node(2), node(3))
    assert table.route(node(4)) is None


def test_loops_give_no_route_or_the_way_around() -> None:
    table = RouteTable(node(0))
    table.put(entry(1, 2))
    table.put(entry(2, 1))
    assert table.route(node(1)) is None
    table.put(entry(2, 1, 0))
    assert table.route(node(1)) == (node(2), node(1))


def test_a_chain_longer_than_a_header_can_hold_is_no_route() -> None:
    table = RouteTable(node(0))
    for number in range(1, HOPS_MAX + 10):
        table.put(entry(number, number - 1))
    assert len(table.route(node(HOPS_MAX)) or ()) == HOPS_MAX
    assert table.route(node(HOPS_MAX + 1)) is None


@given(st.dictionaries(st.integers(1, 12), st.lists(st.integers(0, 12), max_size=3), max_size=12))
def test_every_route_is_a_chain_of_parents_without_repetition(parents: dict[int, list[int]]) -> None:
    table = RouteTable(node(0))
    for number, above in parents.items():
        table.put(entry(number, *above))
    reachable = {0}
    while grown := {n for n, above in parents.items() if n not in reachable and reachable & set(above)}:
        reachable |= grown
    for number in parents:
        route = table.route(node(number))
        assert (route is not None) == (number in reachable)
        if route is not None:
            chain = (node(0), *route)
            assert len(set(chain)) == len(chain)
            for above, below in pairwise(chain):
                found = table.get(below)
                assert found is not None
                assert above in found.parents


# objective


def test_the_cheapest_path_is_preferred() -> None:
    near, far = Candidate(node(1), 256, 128, 128), Candidate(node(2), 256, 128, 300)
    assert select_parents([far, near], None, 128) == [near, far]


def test_a_little_better_is_no_reason_to_switch() -> None:
    present, better = Candidate(node(1), 256, 128, 300), Candidate(node(2), 256, 128, 128)
    assert select_parents([present, better], node(1), 128)[0] is present
    present.link_etx_128 = 321
    assert select_parents([present, better], node(1), 128)[0] is better


def test_infinite_ranks_are_no_parents_and_bad_links_the_last_resort() -> None:
    poisoned, bad = Candidate(node(1), INFINITE_RANK, 0, 128), Candidate(node(2), 256, 0, 513)
    good = Candidate(node(3), 512, 512, 512)
    assert select_parents([poisoned], None, 128) == []
    assert select_parents([poisoned, bad], None, 128) == [bad]
    assert select_parents([poisoned, bad, good], None, 128) == [good]


def test_rank_is_above_every_parent() -> None:
    parents = [Candidate(node(1), 256, 128, 128), Candidate(node(2), 300, 130, 400)]
    rank = rank_of(parents, 128, 2048)
    assert rank == 384
    assert all(rank > parent.rank for parent in parents)


# the root


class Port:
    def __init__(self) -> None:
        self.dios: list[Dio] = []
        self.log: list[tuple[object, ...]] = []

    def send_dio(self, dio: Dio, destination: bytes | None) -> None:
        self.dios.append(dio)

    def send_dis(self, destination: bytes | None) -> None:
        self.log.append(("dis", destination))

    def node_reachable(self, eui64: bytes, hops: int, restarted: bool) -> None:
        self.log.append(("reachable", eui64, hops, restarted))

    def route_suspect(self, eui64: bytes) -> None:
        self.log.append(("suspect", eui64))

    def node_lost(self, eui64: bytes, why: str) -> None:
        self.log.append(("lost", eui64))


def make_root(**options: int) -> tuple[RplRoot, Port]:
    port = Port()
    root = RplRoot(address(0), node(0), port, BENCH, random.Random(1), Counter(), **options)
    root.start(0.0)
    run(root, 0.0, 5.0)
    port.log.clear()
    return root, port


def run(root: RplRoot, start: float, end: float) -> None:
    while (deadline := root.next_deadline()) is not None and deadline <= end:
        root.handle_timer(max(deadline, start))


def dao(number: int, *parents: int, sequence: int = 1, path_sequence: int = 240, lifetime: int = 240) -> Dao:
    transits = tuple(Transit(address(p), path_sequence, lifetime, 0x80 >> 2 * i) for i, p in enumerate(parents))
    return Dao(0, sequence, address(number), transits)


def take(root: RplRoot, message: Dao, now: float = 5.0) -> int | None:
    ack = root.handle_dao(message.target, message, now)
    return None if ack is None else ack.status


def test_a_child_that_speaks_before_its_parent_is_reported_when_the_chain_is_whole() -> None:
    root, port = make_root()
    assert take(root, dao(2, 1)) == DaoStatus.ACCEPTED
    assert port.log == []
    take(root, dao(1, 0))
    assert port.log == [("reachable", node(1), 1, False), ("reachable", node(2), 2, False)]


def test_a_dao_for_somebody_else_is_rejected() -> None:
    root, _ = make_root()
    ack = root.handle_dao(address(7), dao(1, 0), 5.0)
    assert ack is not None
    assert ack.status == DaoStatus.REJECTED
    assert root.route(node(1)) is None


def test_an_old_dao_does_not_overtake_a_new_one() -> None:
    root, _ = make_root()
    take(root, dao(1, 0, path_sequence=5))
    take(root, dao(2, 0, path_sequence=5))
    take(root, dao(2, 1, path_sequence=4))
    assert root.route(node(2)) == (node(2),)


@pytest.mark.requirement("UC-I.4")
def test_a_restarted_node_is_reported_as_such_once() -> None:
    root, port = make_root()
    take(root, dao(1, 0, sequence=1, path_sequence=240))
    take(root, dao(1, 0, sequence=2, path_sequence=241), 10.0)
    # One that was overtaken on its way says nothing.
    take(root, dao(1, 0, sequence=1, path_sequence=240), 11.0)
    assert port.log == [("reachable", node(1), 1, False)]
    port.log.clear()
    for _ in range(2):
        take(root, dao(1, 0, sequence=77, path_sequence=240), 60.0)
    take(root, dao(1, 0, sequence=78, path_sequence=241), 70.0)
    assert port.log == [("reachable", node(1), 1, True)]


@pytest.mark.requirement("UC-I.4")
@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 400), st.integers(0, 15))
def test_a_restart_is_seen_however_many_daos_the_root_has_missed(
    start_count: int, starts: int, sent_before: int, missed: int
) -> None:
    """Of the life before it has heard all, of the present one not the first: by its path sequence that could go on."""
    lives = [DaoSender(BENCH, random.Random(1), start_count=count) for count in (start_count, start_count + starts)]
    for sender, count in zip(lives, (sent_before, missed), strict=True):
        for _ in range(count + 1):
            _advance(sender)
    root, port = make_root()
    take(root, dao(1, 0, sequence=lives[0].sequence, path_sequence=lives[0].path_sequence))
    take(root, dao(1, 0, sequence=lives[1].sequence, path_sequence=lives[1].path_sequence), 60.0)
    _advance(lives[1])
    take(root, dao(1, 0, sequence=lives[1].sequence, path_sequence=lives[1].path_sequence), 70.0)
    assert port.log == [("reachable", node(1), 1, False), ("reachable", node(1), 1, True)]


def _advance(sender: DaoSender) -> None:
    """Another DAO of this life."""
    sender.sequence = lollipop.increment(sender.sequence)
    sender.path_sequence = lollipop.increment(sender.path_sequence)


@pytest.mark.requirement("UC-I.4")
def test_a_restart_is_reported_when_the_parents_of_the_life_before_make_no_loop_any_more() -> None:
    root, port = make_root()
    take(root, dao(1, 0, sequence=1, path_sequence=240))
    take(root, dao(2, 1, sequence=1, path_sequence=240))
    port.log.clear()
    # Both restart; now node 2 is nearer to the root. What the root knows of it still leads over node 1.
    take(root, dao(1, 2, sequence=38, path_sequence=240), 60.0)
    assert port.log == []
    take(root, dao(2, 0, sequence=38, path_sequence=240), 61.0)
    assert port.log == [("reachable", node(1), 2, True), ("reachable", node(2), 1, True)]


def test_a_route_that_is_not_refreshed_expires() -> None:
    root, port = make_root()
    take(root, dao(1, 0, lifetime=10))
    take(root, dao(2, 1))
    port.log.clear()
    run(root, 5.0, 5.0 + 10 * BENCH.lifetime_unit_s)
    assert port.log[0] == ("lost", node(1))
    assert ("suspect", node(2)) in port.log


@pytest.mark.parametrize(("nodes", "requests"), [(10, 4), (300, 1)])
def test_everybody_is_asked_again_only_when_all_could_have_answered(nodes: int, requests: int) -> None:
    root, _ = make_root()
    for number in range(1, nodes + 1):
        take(root, dao(number, 0))
    before = root.dtsn
    for number in range(1, 31):
        run(root, 99.0 + number, 100.0 + number)
        root.hop_failed(node(0), node(number % 10 + 1), 100.0 + number)
        take(root, dao(number % 10 + 1, 0, sequence=number, path_sequence=241 + number // 10), 100.1 + number)
    run(root, 130.0, 131.0)
    assert root.dtsn - before == requests


def test_a_failed_hop_asks_for_fresh_routes_and_recovers() -> None:
    root, port = make_root()
    take(root, dao(1, 0))
    take(root, dao(2, 0))
    take(root, dao(3, 1))
    port.log.clear()
    dtsn = root.dtsn
    root.hop_failed(node(1), node(3), 6.0)
    assert port.log == [("suspect", node(3))]
    assert root.dtsn != dtsn
    take(root, dao(3, 2, sequence=2, path_sequence=241))
    assert port.log[-1] == ("reachable", node(3), 2, False)
    run(root, 6.0, 200.0)
    assert ("lost", node(3)) not in port.log


def test_a_backup_parent_needs_no_fresh_routes() -> None:
    root, port = make_root()
    take(root, dao(1, 0))
    take(root, dao(2, 0))
    take(root, dao(3, 1, 2))
    port.log.clear()
    root.hop_failed(node(1), node(3), 6.0)
    assert root.route(node(3)) == (node(2), node(3))
    assert port.log == []


def test_requests_for_fresh_routes_are_spaced() -> None:
    root, _ = make_root()
    for number in range(1, 6):
        take(root, dao(number, 0))
    versions = []
    for number in range(1, 6):
        root.hop_failed(node(0), node(number), 6.0 + number / 10)
        versions.append(root.dtsn)
    assert len(set(versions)) == 1
    run(root, 6.0, 6.0 + BENCH.route_refresh_interval_s + 1)
    assert root.dtsn != versions[0]


def test_a_node_can_take_its_route_back() -> None:
    root, port = make_root()
    take(root, dao(1, 0))
    take(root, dao(1, 0, sequence=2, path_sequence=241, lifetime=0))
    assert port.log[-1] == ("lost", node(1))
    assert root.route(node(1)) is None


def test_the_table_is_bounded() -> None:
    root, _ = make_root(nodes_max=2)
    assert [take(root, dao(number, 0)) for number in (1, 2, 3)] == [0, 0, DaoStatus.REJECTED]


def test_a_version_of_a_life_before_is_overtaken() -> None:
    port = Port()
    root = RplRoot(address(0), node(0), port, BENCH, random.Random(1), Counter())
    root.start(0.0)
    assert port.log == [("dis", None)]
    root.handle_dio(Dio(0, 0, 256, 0, address(0)), 0.5)
    run(root, 0.5, 3.0)
    assert port.dios
    assert {dio.version for dio in port.dios} == {1}
    root.handle_dio(Dio(0, 9, 256, 0, address(0)), 4.0)
    assert root.version == 10


# a router


class RouterPort:
    """Remembers DAOs and parents."""

    def __init__(self) -> None:
        self.daos: list[Dao] = []
        self.parent: bytes | None = None

    def send_dao(self, dao: Dao) -> None:
        self.daos.append(dao)

    def own_address(self) -> bytes:
        return address(9)

    def parent_changed(self, _previous: bytes | None, parent: bytes | None) -> None:
        self.parent = parent

    def send_dio(self, dio: Dio, destination: bytes | None) -> None: ...

    def send_dis(self, destination: bytes | None) -> None: ...

    def prefix_learnt(self, prefix: bytes) -> None: ...

    def route_confirmed(self) -> None: ...

    def route_lost(self, why: str) -> None: ...


def told_after_s(seed: int) -> float:
    """How long after it changed to a better parent a router tells the root."""
    port, neighbours = RouterPort(), NeighbourTable(-100.0)
    router = RplRouter(port, neighbours, BENCH, random.Random(seed), Counter())
    configuration = DodagConfiguration(BENCH.dio_interval_min, BENCH.dio_doublings, 0, 240, 120)
    prefix = PrefixInformation(address(0))

    def hear(number: int, etx_128: int, now: float) -> None:
        neighbours.hear(node(number), -60.0, now)
        dio = Dio(0, 1, 128 + etx_128, 1, address(0), etx_128, configuration=configuration, prefix=prefix)
        router.handle_dio(node(number), dio, now)

    def told_at() -> float:
        port.daos.clear()
        while not port.daos:
            now = router.next_deadline()
            assert now is not None
            router.handle_timer(now)
        return now

    router.start(0.0)
    hear(1, 512, 1.0)
    confirmed_at = told_at()
    assert port.parent == node(1)
    router.handle_dao_ack(DaoAck(0, port.daos[-1].sequence), confirmed_at)
    changed_at = confirmed_at + 0.1
    hear(2, 128, changed_at)
    assert port.parent == node(2)
    return told_at() - changed_at


def test_a_better_parent_is_told_to_the_root_without_hurry() -> None:
    """Neighbours that change at the same DIO do not all tell it at once: by the old parent the root still has a way."""
    delays_s = [told_after_s(seed) for seed in range(1, 21)]
    assert 4 * BENCH.dao_delay_s < max(delays_s) <= 8 * BENCH.dao_delay_s


class RouterBench:
    """A router that hears parents 1 and up; the root never answers it."""

    def __init__(self, *parents: int) -> None:
        self.port, self.neighbours = RouterPort(), NeighbourTable(-100.0)
        self.counters: Counter[str] = Counter()
        self.router = RplRouter(self.port, self.neighbours, BENCH, random.Random(1), self.counters)
        self.router.start(0.0)
        for number in parents:
            self.hear(number, 1.0)
        self.run(3.0)

    def hear(self, number: int, now: float) -> None:
        configuration = DodagConfiguration(BENCH.dio_interval_min, BENCH.dio_doublings, 0, 240, 120)
        prefix = PrefixInformation(address(0))
        etx_128 = 128 * number
        self.neighbours.hear(node(number), -60.0, now)
        dio = Dio(0, 1, 128 + etx_128, 1, address(0), etx_128, configuration=configuration, prefix=prefix)
        self.router.handle_dio(node(number), dio, now)

    def fail(self, number: int, now: float) -> None:
        neighbour = self.neighbours.get(node(number))
        assert neighbour is not None
        neighbour.block(now, 16.0)
        self.router.link_failed(node(number), now)

    def run(self, end_s: float) -> None:
        while (at := self.router.next_deadline()) is not None and at <= end_s:
            self.router.handle_timer(at)


def test_a_busy_parent_is_kept_where_there_is_no_other_and_a_silent_one_is_not() -> None:
    bench = RouterBench(1)
    assert bench.port.parent == node(1)
    neighbour = bench.neighbours.get(node(1))
    assert neighbour is not None
    neighbour.block(4.0, 16.0)
    bench.neighbours.hear(node(1), -60.0, 4.5)
    bench.router.link_failed(node(1), 5.0)
    assert bench.port.parent == node(1)
    bench.fail(1, 6.0)
    assert bench.port.parent is None


def test_another_parent_is_preferred_to_a_busy_one() -> None:
    bench = RouterBench(1, 2)
    neighbour = bench.neighbours.get(node(1))
    assert neighbour is not None
    neighbour.block(4.0, 16.0)
    bench.neighbours.hear(node(1), -60.0, 4.5)
    bench.router.link_failed(node(1), 5.0)
    assert bench.port.parent == node(2)


def test_a_root_that_does_not_answer_is_not_the_parents_fault() -> None:
    bench = RouterBench(1, 2)
    bench.run(200.0)
    assert bench.counters["dao_failed"] >= 1
    assert bench.port.parent == node(1)
    assert len(bench.port.daos) > 1 + BENCH.dao_retries
