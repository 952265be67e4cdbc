"""Propagation: 400 m is the limit, 300 m in the open works, obstacles and shadowing only ever weaken."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.air.interference import Span, survival_probability
from twin.air.obstacles import Position, Terrain, Vegetation
from twin.air.propagation import (
    DEFAULT_TX_POWER_DBM,
    RANGE_LIMIT_M,
    LogDistance,
    Shadowing,
    UnitDisc,
    delivery_probability,
    milliwatts,
    sensitivity_dbm,
)

SENSITIVITY_DBM = sensitivity_dbm(50_000.0)
WOOD = Vegetation((Position(100, -50), Position(200, -50), Position(200, 50), Position(100, 50)), 20.0)


def open_ground(sigma_db: float = 1.5) -> LogDistance:
    return LogDistance(SENSITIVITY_DBM, shadowing=Shadowing(b"key", sigma_db))


def margin_at(ground: LogDistance, distance_m: float, link: tuple[bytes, bytes] | None) -> float:
    received = ground.received_dbm(DEFAULT_TX_POWER_DBM, Position(0, 0), Position(distance_m, 0), link)
    return milliwatts(received - SENSITIVITY_DBM)


def test_sensitivity_of_50_kbps_is_that_of_a_real_transceiver() -> None:
    assert -112 < SENSITIVITY_DBM < -104


def test_default_power_arrives_at_sensitivity_at_the_limit() -> None:
    assert margin_at(open_ground(), RANGE_LIMIT_M, None) == pytest.approx(1.0)


def test_path_loss_exponent_is_plausible_near_the_ground() -> None:
    assert 2.5 < open_ground().exponent < 4.5


def test_sensitivity_loses_one_250_octet_frame_in_ten() -> None:
    assert delivery_probability(1.0, 250 * 8) == pytest.approx(0.9)


@pytest.mark.requirement("NET-1")
@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_every_link_of_300_m_in_the_open_delivers_nine_in_ten(a: bytes, b: bytes) -> None:
    margin = margin_at(open_ground(), 300.0, (a, b))
    assert delivery_probability(margin, 250 * 8) >= 0.9


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8), st.floats(0.1, 20.0))
def test_shadowing_is_reciprocal_and_never_helps(a: bytes, b: bytes, sigma_db: float) -> None:
    shadowing = Shadowing(b"key", sigma_db)
    assert 0.0 <= shadowing.loss_db((a, b)) <= shadowing.limit_db
    assert shadowing.loss_db((a, b)) == shadowing.loss_db((b, a))


def test_shadowing_differs_from_link_to_link_and_from_seed_to_seed() -> None:
    links = [(b"a", bytes((n,))) for n in range(20)]
    assert len({Shadowing(b"one").loss_db(link) for link in links}) == 20
    assert Shadowing(b"one").loss_db(links[0]) != Shadowing(b"two").loss_db(links[0])


@given(st.floats(1.0, 399.0), st.floats(1.0, 1000.0))
def test_power_falls_with_distance(near_m: float, more_m: float) -> None:
    ground = open_ground()
    assert margin_at(ground, near_m, None) > margin_at(ground, near_m + more_m, None)


def test_wood_attenuates_what_passes_through_it_and_nothing_else() -> None:
    assert WOOD.loss_between_db(Position(0, 0), Position(300, 0)) == 20.0
    assert WOOD.loss_between_db(Position(300, 0), Position(0, 0)) == 20.0
    assert WOOD.loss_between_db(Position(0, 100), Position(300, 100)) == 0.0
    assert WOOD.loss_between_db(Position(0, 0), Position(90, 0)) == 0.0
    assert WOOD.loss_between_db(Position(150, 0), Position(160, 0)) == 20.0


def test_depth_in_a_concave_wood_counts_only_the_parts_inside() -> None:
    corners = ((0, 0), (30, 0), (30, 30), (20, 30), (20, 10), (10, 10), (10, 30), (0, 30))
    wood = Vegetation(tuple(Position(x, y) for x, y in corners), 100.0, 0.5)
    assert wood.depth_m(Position(-10, 20), Position(40, 20)) == pytest.approx(20.0)
    assert wood.loss_between_db(Position(-10, 20), Position(40, 20)) == pytest.approx(10.0)
    assert wood.loss_between_db(Position(-10, 5), Position(40, 5)) == pytest.approx(15.0)


def test_ridge_attenuates_once_unless_the_path_passes_above() -> None:
    ridge = Terrain((Position(50, -100), Position(50, 0), Position(60, 100)), 15.0, top_m=10.0)
    assert ridge.loss_between_db(Position(0, 0), Position(100, 0)) == 15.0
    assert ridge.loss_between_db(Position(0, 0, 20), Position(100, 0, 20)) == 0.0
    assert ridge.loss_between_db(Position(0, 200), Position(100, 200)) == 0.0


@pytest.mark.parametrize("loss_db", [-1.0, -0.001])
def test_obstacles_cannot_amplify(loss_db: float) -> None:
    with pytest.raises(ValueError, match="amplify"):
        Vegetation(WOOD.outline, loss_db)
    with pytest.raises(ValueError, match="amplify"):
        Terrain(WOOD.outline, loss_db)


def test_unit_disc_is_lossless_inside_and_silent_outside() -> None:
    disc = UnitDisc(150.0)
    assert disc.received_dbm(14.0, Position(0, 0), Position(150, 0), None) > disc.sensitivity_dbm + 30
    assert disc.received_dbm(14.0, Position(0, 0), Position(150.01, 0), None) == -math.inf


@given(st.floats(0.0, 1e3), st.floats(1.0, 20_000.0))
def test_delivery_is_a_probability(margin: float, bits: float) -> None:
    assert 0.0 <= delivery_probability(margin, bits) <= 1.0


def test_interference_counts_only_while_it_lasts() -> None:
    def survives(*spans: Span) -> float:
        return survival_probability(1e-8, 1e-11, 6.3, 1000.0, 0.0, 1.0, spans)

    quiet = survives()
    assert survives(Span(2.0, 3.0, 1e-6)) == pytest.approx(quiet)
    assert survives(Span(0.5, 0.6, 1e-6)) < 0.01
    assert survives(Span(0.5, 0.6, 1e-10)) == pytest.approx(quiet, abs=1e-6)
    two_weak = survives(Span(0.0, 0.6, 0.9e-9), Span(0.4, 1.0, 0.9e-9))
    assert two_weak < survives(Span(0.0, 0.5, 0.9e-9), Span(0.5, 1.0, 0.9e-9))
