"""The load of the race is the work that it says, and repeats itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twin.air.convergecast import Convergecast, Load, Outcome, hop_counts, sink_of, tree
from twin.clock.seeds import Seeds
from twin.clock.virtual import VirtualLoop


def run(load: Load, seed: int) -> Outcome:
    loop = VirtualLoop()
    cast = Convergecast(loop, Seeds(seed), load)
    loop.call_at(load.end_s, loop.stop)
    loop.run_forever()
    loop.close()
    assert loop.unhandled == []
    return cast.outcome()


def test_tree_has_the_hops_of_the_race() -> None:
    load = Load.race(100)
    hops = hop_counts(tree(load))
    assert hops.count(0) == 1
    assert sum(hops) / 99 == pytest.approx(3.384, abs=0.001)
    assert max(hops) == 5


def test_sink_is_the_lowest_id_of_the_four_in_the_middle() -> None:
    assert sink_of(Load.race(100)) == 44


def test_every_node_has_a_parent_one_hop_nearer_the_sink() -> None:
    load = Load.race(437)
    parents = tree(load)
    hops = hop_counts(parents)
    for node, parent in enumerate(parents):
        if parent is None:
            assert node == sink_of(load)
        else:
            assert hops[parent] == hops[node] - 1


def test_a_small_load_is_delivered_and_repeats_itself() -> None:
    load = replace(Load.race(30), last_s=30.0, end_s=32.0)
    outcome = run(load, 3)
    assert outcome.datagrams == 29 * 2
    assert outcome.delivery_ratio >= 0.95
    assert outcome.acknowledgements <= outcome.data_transmissions
    assert outcome == run(load, 3)
    assert outcome != run(load, 4)


@pytest.mark.soak
def test_the_work_at_100_nodes_is_that_of_the_race() -> None:
    outcome = run(Load.race(100), 1)
    assert outcome.datagrams == pytest.approx(5820, rel=0.002)
    assert outcome.delivery_ratio >= 0.995
    assert outcome.data_transmissions == pytest.approx(20_000, rel=0.1)
    assert outcome.acknowledgements == pytest.approx(20_000, rel=0.1)
    assert outcome.receptions == pytest.approx(308_000, rel=0.05)
