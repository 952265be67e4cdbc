"""When DAOs are sent: whatever a node is asked meanwhile, what the root knows of it is refreshed in time."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.mesh.rpl.dao_sender import DaoOutcome, DaoSender, DaoState
from protocols.mesh.timers import PROFILES, TimersProfile

FAN_LARGE = PROFILES["fan-large"]
REFRESH_S = FAN_LARGE.path_lifetime_s / 2

Asked = tuple[float, float, bool]


def _sent_and_acknowledged(sender: DaoSender, asked: list[Asked], network_size: int) -> list[float]:
    """Times of the DAOs that wanted an answer; all of them get one. `asked`: pause, longest delay, by everybody."""
    sender.schedule(0.0, 1.0)
    times: list[float] = []
    now, pending = 0.0, iter(asked)
    asks_at, delay_s, by_all = _next(pending, 0.0)
    while len(times) < len(asked) + 3:
        due = sender.deadline
        assert due is not None
        if asks_at < due:
            now = asks_at
            sender.schedule(now, delay_s, is_refresh=by_all)
            asks_at, delay_s, by_all = _next(pending, now)
            continue
        now = max(now, due)
        if sender.handle(now, network_size) is DaoOutcome.SEND:
            times.append(now)
            assert sender.acknowledge(sender.sequence, now, REFRESH_S)
    return times


def _next(pending: object, now: float) -> Asked:
    pause_s, delay_s, by_all = next(pending, (float("inf"), 0.0, False))  # type: ignore[call-overload]
    return now + pause_s, delay_s, by_all


@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(0, 5_000), st.floats(0, 200_000), st.booleans()), max_size=20),
    st.sampled_from([10, 100, 1_000, 5_000]),
)
def test_no_two_acknowledged_daos_are_further_apart_than_the_refresh(
    seed: int, asked: list[Asked], network_size: int
) -> None:
    times = _sent_and_acknowledged(DaoSender(FAN_LARGE, random.Random(seed)), asked, network_size)
    assert all(later - earlier <= REFRESH_S for earlier, later in itertools.pairwise(times))


def test_one_that_was_asked_with_everybody_wants_no_answer() -> None:
    sender = DaoSender(FAN_LARGE, random.Random(1))
    sender.schedule(0.0, 0.0)
    assert sender.handle(0.0, 100) is DaoOutcome.SEND
    assert sender.acknowledge(sender.sequence, 1.0, REFRESH_S)
    sender.schedule(2.0, 0.0, is_refresh=True)
    assert sender.deadline is not None
    assert sender.handle(sender.deadline, 100) is DaoOutcome.REFRESH
    assert sender.state is DaoState.CONFIRMED


def test_failures_are_not_hurried_by_a_refresh_that_is_overdue() -> None:
    sender = DaoSender(FAN_LARGE, random.Random(1))
    sender.schedule(0.0, 0.0)
    sender.handle(0.0, 100)
    assert sender.acknowledge(sender.sequence, 1.0, REFRESH_S)
    outcome = DaoOutcome.SEND
    while outcome is not DaoOutcome.FAILED:
        assert sender.deadline is not None
        outcome = sender.handle(sender.deadline, 100)
    failed_until = sender.deadline
    assert failed_until is not None
    sender.schedule(failed_until - 1.0, 10_000.0)
    assert sender.deadline == pytest.approx(failed_until)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
@pytest.mark.parametrize("network_size", [1, 100, 1_000, 5_000])
def test_everybodys_daos_are_spread_well_within_a_route_s_lifetime(profile: TimersProfile, network_size: int) -> None:
    assert profile.dao_delay_s <= profile.dao_spread_s(network_size) <= profile.path_lifetime_s / 4
