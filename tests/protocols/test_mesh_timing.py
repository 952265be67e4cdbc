"""Trickle, ETX, DAO pacing and timer profiles."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import BadInputError, LocalProtocolError
from protocols.mesh.join import TRANSITIONS, JoinEvent, JoinState, next_state
from protocols.mesh.neighbours import ETX_MAX, ETX_ONE, NeighbourTable, etx_from_rss
from protocols.mesh.rpl.dao_sender import DaoOutcome, DaoSender, DaoState
from protocols.mesh.rpl.objective import PARENT_SWITCH_THRESHOLD
from protocols.mesh.timers import BENCH, FAN_LARGE, FAN_SMALL, PROFILES, TrickleProfile, profile_named
from protocols.mesh.trickle import Trickle


def transmissions(trickle: Trickle, until: float) -> list[float]:
    sent = []
    while trickle.deadline is not None and trickle.deadline <= until:
        now = trickle.deadline
        if trickle.handle(now):
            sent.append(now)
    return sent


@given(st.integers(0, 1000), st.integers(0, 6))
def test_trickle_sends_once_in_the_second_half_of_each_doubling_interval(seed: int, doublings: int) -> None:
    trickle = Trickle(TrickleProfile(1.0, doublings, 1), random.Random(seed))
    trickle.start(10.0)
    start, size, expected = 10.0, 1.0, []
    while start + size < 200.0:
        expected.append((start + size / 2, start + size))
        start, size = start + size, min(size * 2, 2.0**doublings)
    sent = transmissions(trickle, 400.0)
    for at, (earliest, latest) in zip(sent, expected, strict=False):
        assert earliest <= at <= latest
    assert len(sent) >= len(expected)


def test_trickle_is_silent_when_it_has_heard_enough() -> None:
    trickle = Trickle(TrickleProfile(1.0, 3, 2), random.Random(1))
    trickle.start(0.0)
    trickle.hear_consistent()
    trickle.hear_consistent()
    deadline = trickle.deadline
    assert deadline is not None
    assert not trickle.handle(deadline)


def test_trickle_without_redundancy_never_keeps_silent() -> None:
    trickle = Trickle(TrickleProfile(1.0, 3, 0), random.Random(1))
    trickle.start(0.0)
    for _ in range(100):
        trickle.hear_consistent()
    deadline = trickle.deadline
    assert deadline is not None
    assert trickle.handle(deadline)


def test_an_inconsistency_brings_the_shortest_interval_back_but_does_not_stretch_it() -> None:
    trickle = Trickle(TrickleProfile(1.0, 5, 1), random.Random(1))
    trickle.start(0.0)
    first = trickle.deadline
    trickle.reset(0.1)
    assert trickle.deadline == first
    transmissions(trickle, 20.0)
    assert trickle.interval_s > 1.0
    trickle.reset(20.0)
    assert trickle.interval_s == 1.0
    assert trickle.deadline is not None
    assert 20.5 <= trickle.deadline <= 21.0


def test_a_stopped_trickle_stays_stopped() -> None:
    trickle = Trickle(TrickleProfile(1.0, 5, 1), random.Random(1))
    trickle.reset(0.0)
    assert trickle.deadline is None
    assert not trickle.handle(100.0)


def test_etx_moves_only_after_enough_transmissions_and_time() -> None:
    neighbour = NeighbourTable(-100.0).hear(b"n" * 8, -60.0, 0.0)
    assert neighbour.etx_128 == ETX_ONE
    assert not neighbour.record_transmission(4, True, 10.0, BENCH)
    assert neighbour.record_transmission(4, True, 70.0, BENCH)
    # 8 attempts for 2 acknowledgements; the guess counts as eight deliveries in eight attempts.
    first = (8 + 8) * ETX_ONE // (2 + 8)
    assert neighbour.etx_128 == first
    neighbour.record_transmission(2, True, 140.0, BENCH)
    assert neighbour.etx_128 == first
    neighbour.record_transmission(2, True, 150.0, BENCH)
    neighbour.record_transmission(2, True, 210.0, BENCH)
    assert neighbour.etx_128 == first + (2 * ETX_ONE - first) // 8


@pytest.mark.parametrize("acknowledged", [True, False])
def test_one_frame_in_a_burst_says_little_about_a_link(acknowledged: bool) -> None:
    neighbour = NeighbourTable(-100.0).hear(b"n" * 8, -60.0, 0.0)
    assert neighbour.record_transmission(8, acknowledged, 100.0, BENCH)
    assert ETX_ONE < neighbour.etx_128 < ETX_ONE + PARENT_SWITCH_THRESHOLD


def test_a_link_that_is_bad_for_long_is_known_as_bad() -> None:
    neighbour = NeighbourTable(-100.0).hear(b"n" * 8, -60.0, 0.0)
    for number in range(40):
        neighbour.record_transmission(3, True, 2.0 * number, BENCH)
    assert neighbour.etx_128 > 2.5 * ETX_ONE


def test_three_failures_in_a_row_block_a_neighbour_longer_each_time() -> None:
    neighbour = NeighbourTable(-100.0).hear(b"n" * 8, -60.0, 0.0)
    neighbour.record_transmission(4, False, 1.0, BENCH)
    neighbour.record_transmission(4, False, 1.5, BENCH)
    assert not neighbour.has_failed
    neighbour.record_transmission(4, False, 2.0, BENCH)
    assert neighbour.has_failed
    neighbour.block(2.0, 16.0)
    assert neighbour.is_blocked(17.9)
    assert not neighbour.is_blocked(18.0)
    neighbour.block(18.0, 16.0)
    assert neighbour.is_blocked(49.9)
    neighbour.record_transmission(1, True, 60.0, BENCH)
    neighbour.block(60.0, 16.0)
    assert not neighbour.is_blocked(76.0)


def test_a_neighbour_that_is_heard_meanwhile_is_busy_rather_than_dead() -> None:
    table = NeighbourTable(-100.0)
    neighbour = table.hear(b"n" * 8, -60.0, 0.0)
    for at in range(1, 6):
        neighbour.record_transmission(4, False, float(at), BENCH)
        table.hear(b"n" * 8, -60.0, at + 0.5)
        assert not neighbour.has_failed
    neighbour.record_transmission(4, False, 6.0, BENCH)
    assert neighbour.has_failed


@given(st.floats(-150, 20), st.floats(-120, -80))
def test_the_guess_of_etx_is_within_its_bounds(rss: float, sensitivity: float) -> None:
    assert ETX_ONE <= etx_from_rss(rss, sensitivity) <= ETX_MAX


def test_the_neighbour_table_forgets_the_longest_silent_but_not_parents() -> None:
    table = NeighbourTable(-100.0, entries_max=3)
    evicted: list[bytes] = []
    table.is_needed = lambda eui64: eui64 == b"a"
    table.on_evicted = evicted.append
    for at, name in enumerate((b"a", b"b", b"c", b"d", b"e")):
        table.hear(name, -60.0, float(at))
    assert evicted == [b"b", b"c"]
    assert len(table) == 3


def test_a_dao_is_repeated_with_growing_waits_and_then_reported() -> None:
    sender = DaoSender(BENCH, random.Random(1))
    sender.schedule(0.0, 0.5)
    times, outcome = [], DaoOutcome.SEND
    while outcome is not DaoOutcome.FAILED:
        assert sender.deadline is not None
        at = sender.deadline
        outcome = sender.handle(at, 1)
        times.append(at)
    assert len(times) == 1 + BENCH.dao_retries + 1
    waits = [b - a for a, b in pairwise(times)]
    assert waits == sorted(waits)
    assert sender.state is DaoState.DELAYED


def test_only_the_awaited_acknowledgement_confirms() -> None:
    sender = DaoSender(BENCH, random.Random(1))
    sender.schedule(0.0, 0.0)
    assert sender.handle(0.0, 1) is DaoOutcome.SEND
    assert not sender.acknowledge((sender.sequence + 1) % 128, 1.0, 100.0)
    assert sender.path_sequence == 240
    assert sender.acknowledge(sender.sequence, 1.0, 100.0)
    assert not sender.acknowledge(sender.sequence, 1.0, 100.0)
    assert sender.deadline is not None
    assert 91.0 <= sender.deadline <= 101.0


def confirmed_sender() -> DaoSender:
    sender = DaoSender(BENCH, random.Random(1))
    sender.schedule(0.0, 0.0)
    assert sender.handle(0.0, 1) is DaoOutcome.SEND
    assert sender.acknowledge(sender.sequence, 1.0, 100.0)
    return sender


def test_what_the_root_asks_everybody_for_needs_no_acknowledgement_and_does_not_replace_one() -> None:
    sender = confirmed_sender()
    due, sequence = sender.deadline, sender.path_sequence
    assert due is not None
    sender.schedule(2.0, 0.0, is_refresh=True)
    assert sender.handle(2.0, 1) is DaoOutcome.REFRESH
    assert sender.path_sequence == sequence + 1
    assert (sender.state, sender.deadline) == (DaoState.CONFIRMED, due)
    assert sender.handle(due, 1) is DaoOutcome.SEND


def test_a_dao_with_news_is_acknowledged_even_if_the_root_asks_meanwhile() -> None:
    unconfirmed = DaoSender(BENCH, random.Random(1))
    unconfirmed.schedule(0.0, 0.0)
    unconfirmed.schedule(0.0, 0.0, is_refresh=True)
    assert unconfirmed.handle(0.0, 1) is DaoOutcome.SEND
    waiting = unconfirmed
    waiting.schedule(0.5, 0.0, is_refresh=True)
    assert waiting.handle(0.5, 1) is DaoOutcome.SEND
    for first, second in ((True, False), (False, True)):
        sender = confirmed_sender()
        sender.schedule(2.0, 0.0, is_refresh=first)
        sender.schedule(2.0, 0.0, is_refresh=second)
        assert sender.handle(2.0, 1) is DaoOutcome.SEND


def test_an_answer_of_the_root_is_waited_for_longer_in_a_large_mesh() -> None:
    assert BENCH.dao_ack_wait_s(16) == BENCH.dao_ack_timeout_s
    assert BENCH.dao_ack_wait_s(400) == 5 * BENCH.dao_ack_timeout_s


def test_a_node_whose_parents_go_on_changing_tells_it_ever_less_often() -> None:
    sender, now, sent_at = DaoSender(BENCH, random.Random(1)), 0.0, []
    for _ in range(6):
        sender.schedule(now, 0.0)
        assert sender.deadline is not None
        now = sender.deadline
        assert sender.handle(now, 1) is DaoOutcome.SEND
        sent_at.append(now)
    gaps = [b - a for a, b in pairwise(sent_at)]
    assert gaps == [0.0, *(BENCH.dao_ack_timeout_s * factor for factor in (1, 3, 7, 15))]
    now += 17 * BENCH.dao_ack_timeout_s
    sender.schedule(now, 0.0)
    assert sender.deadline == now
    assert sender.handle(now, 1) is DaoOutcome.SEND
    sender.schedule(now, 0.0)
    assert sender.deadline == now


def test_an_earlier_dao_is_not_put_off() -> None:
    sender = DaoSender(BENCH, random.Random(1))
    sender.schedule(0.0, 0.1)
    due = sender.deadline
    sender.schedule(0.0, 100.0)
    assert sender.deadline == due


def test_profiles_are_found_by_name() -> None:
    assert [profile_named(name) for name in ("fan-small", "fan-large", "bench")] == [FAN_SMALL, FAN_LARGE, BENCH]
    with pytest.raises(BadInputError, match="no timer profile 'fast'; there are: fan-small, fan-large, bench"):
        profile_named("fast")


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_hold_together(name: str) -> None:
    profile = PROFILES[name]
    assert profile.pan_timeout_s >= 2 * profile.pan_version_lifetime_s
    assert 0 < profile.path_lifetime < 255
    assert profile.dio.imin_s > 0
    waits_s = sum(profile.dao_ack_timeout_s * 2**retry for retry in range(profile.dao_retries + 1))
    assert profile.path_lifetime_s / 2 > waits_s


def test_every_join_state_can_be_left_and_stopped() -> None:
    for state in JoinState:
        assert next_state(state, JoinEvent.STOPPED) is JoinState.OFF
    assert {state for state, _ in TRANSITIONS} == set(JoinState)


def test_an_event_out_of_place_is_a_bug_of_ours() -> None:
    with pytest.raises(LocalProtocolError, match="DAO_ACKNOWLEDGED in join state SELECT_PAN"):
        next_state(JoinState.SELECT_PAN, JoinEvent.DAO_ACKNOWLEDGED)


def test_what_all_do_at_once_is_spread_over_more_time_the_larger_and_deeper_the_mesh() -> None:
    assert BENCH.dao_spread_s(1) == BENCH.dao_delay_s
    assert BENCH.dao_spread_s(12) == 3 * BENCH.dao_delay_s
    assert BENCH.dao_spread_s(400) / BENCH.dao_spread_s(100) == pytest.approx(8.0)
