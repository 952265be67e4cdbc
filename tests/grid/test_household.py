"""Households look like households: how much, when, and no two alike."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.household import Household

DAY_S = 86_400.0
MIDNIGHT_S = datetime(2026, 3, 2, tzinfo=UTC).timestamp()


def homes(count: int, **settings: float) -> list[Household]:
    return [Household(random.Random(f"home {number}"), **settings) for number in range(count)]  # type: ignore[arg-type]


def test_every_day_of_every_home_uses_half_to_six_kilowatt_hours() -> None:
    for home in homes(40):
        for day in range(4):
            start_s = MIDNIGHT_S + day * DAY_S
            assert 480 <= home.energy_wh(start_s, start_s + DAY_S) <= 6_020


def test_evening_is_the_peak() -> None:
    evening = mean = 0.0
    for home in homes(40):
        evening += home.energy_wh(MIDNIGHT_S + 18 * 3600, MIDNIGHT_S + 22 * 3600) / 4
        mean += home.energy_wh(MIDNIGHT_S, MIDNIGHT_S + DAY_S) / 24
    assert evening > 2 * mean


def test_no_two_homes_are_alike_and_no_two_days() -> None:
    days = {
        tuple(home.segment_at(start_s + minute * 60).phases for minute in range(0, 1440, 5))
        for home in homes(12)
        for start_s in (MIDNIGHT_S, MIDNIGHT_S + DAY_S)
    }
    assert len(days) == 24


def test_the_same_seed_gives_the_same_home_whatever_is_asked_first() -> None:
    first, second = Household(random.Random(7)), Household(random.Random(7))
    later = [second.segment_at(MIDNIGHT_S + 5 * DAY_S + hour * 3600) for hour in range(24)]
    second.energy_wh(MIDNIGHT_S, MIDNIGHT_S + 9 * DAY_S)
    assert later == [first.segment_at(MIDNIGHT_S + 5 * DAY_S + hour * 3600) for hour in range(24)]


def test_daily_energy_follows_what_was_asked_for() -> None:
    for wanted_kwh in (0.8, 3.0, 20.0, 100.0):
        home = Household(random.Random(1), daily_kwh=wanted_kwh)
        mean_kwh = home.energy_wh(MIDNIGHT_S, MIDNIGHT_S + 20 * DAY_S) / 20_000
        assert mean_kwh == pytest.approx(wanted_kwh, rel=0.15)


def test_three_phases_all_carry_something() -> None:
    home = Household(random.Random(3), daily_kwh=5.0, phases=3)
    used = [0.0, 0.0, 0.0]
    for minute in range(1440):
        segment = home.segment_at(MIDNIGHT_S + minute * 60)
        for index, phase in enumerate(segment.phases):
            used[index] += phase.p_w
    assert all(power > 0 for power in used)


@settings(max_examples=60)
@given(st.floats(0, 3 * DAY_S), st.integers(0, 5))
def test_a_segment_ends_later_than_it_was_asked_for_and_is_the_same_until_then(offset_s: float, number: int) -> None:
    home = Household(random.Random(number))
    at_s = MIDNIGHT_S + offset_s
    segment = home.segment_at(at_s)
    assert at_s < segment.until_s <= at_s + DAY_S
    before_end = home.segment_at(math.nextafter(segment.until_s, 0))
    assert before_end == segment
    for phase in segment.phases:
        assert 180 < phase.u_v < 250
        assert phase.p_w >= 0
