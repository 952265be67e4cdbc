"""The real-time clock: its errors, its cell, and what the bench can do to it."""

from __future__ import annotations

import pytest

from meters.hardware.rtc import EPOCH_UTC_S, Crystal, Rtc

YEAR_S = 365.25 * 86_400
START_UTC_S = 1_772_409_600.0


class FakeWorld:
    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def now(self) -> float:
        return self.elapsed_s

    def utc_s(self) -> float:
        return START_UTC_S + self.elapsed_s


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


def test_ideal_crystal_shows_true_time(world: FakeWorld) -> None:
    rtc = Rtc(world, Crystal())
    world.elapsed_s = 1_000_000.0
    assert rtc.offset_s == pytest.approx(0.0, abs=1e-6)
    assert rtc.read().valid


@pytest.mark.requirement("HW-6")
def test_offset_grows_by_the_crystals_error(world: FakeWorld) -> None:
    rtc = Rtc(world, Crystal(offset_ppm=20.0))
    world.elapsed_s = 86_400.0
    assert rtc.offset_s == pytest.approx(1.728, abs=1e-6)


@pytest.mark.requirement("HW-6")
def test_cold_and_heat_slow_a_tuning_fork(world: FakeWorld) -> None:
    rtc = Rtc(world, Crystal(curvature_ppm_per_c2=-0.034))
    rtc.set_temperature(-5.0)
    world.elapsed_s = 86_400.0
    cold_s = rtc.offset_s
    assert cold_s == pytest.approx(-0.034 * 900 * 86_400 * 1e-6)
    rtc.set_temperature(25.0)
    world.elapsed_s = 2 * 86_400.0
    assert rtc.offset_s == pytest.approx(cold_s)
    rtc.set_temperature(55.0)
    world.elapsed_s = 3 * 86_400.0
    assert rtc.offset_s == pytest.approx(2 * cold_s)


def test_ageing_does_not_depend_on_how_often_the_clock_is_read(world: FakeWorld) -> None:
    crystal = Crystal(ageing_ppm_per_year=3.0)
    seldom, often = Rtc(world, crystal), Rtc(world, crystal)
    for step in range(1, 1001):
        world.elapsed_s = step * YEAR_S / 1000
        often.read()
    assert often.offset_s == pytest.approx(seldom.offset_s, abs=1e-4)
    assert seldom.offset_s == pytest.approx(1.5e-6 * YEAR_S, rel=1e-6)


def test_bench_moves_the_clock(world: FakeWorld) -> None:
    rtc = Rtc(world)
    rtc.advance(seconds=45)
    assert rtc.offset_s == pytest.approx(45.0)
    rtc.set(START_UTC_S - 10)
    assert rtc.offset_s == pytest.approx(-10.0)
    assert rtc.steps == 0


def test_firmware_writes_the_clock(world: FakeWorld) -> None:
    rtc = Rtc(world, utc_s=5.0)
    rtc.write(START_UTC_S)
    assert rtc.offset_s == pytest.approx(0.0)
    assert rtc.steps == 1


def test_cell_keeps_the_time_without_supply(world: FakeWorld) -> None:
    rtc = Rtc(world)
    rtc.supply(False)
    world.elapsed_s = 3600.0
    rtc.supply(True)
    assert rtc.read().valid
    assert rtc.offset_s == pytest.approx(0.0)


@pytest.mark.requirement("HW-6")
def test_dead_cell_loses_the_time_with_the_supply(world: FakeWorld) -> None:
    rtc = Rtc(world)
    rtc.kill_cell()
    world.elapsed_s = 10.0
    assert rtc.read().valid
    rtc.supply(False)
    world.elapsed_s = 100.0
    rtc.supply(True)
    world.elapsed_s = 160.0
    assert rtc.read().utc_s == pytest.approx(EPOCH_UTC_S + 60.0)
    assert not rtc.read().valid
    rtc.write(world.utc_s())
    assert rtc.read().valid


def test_time_until_a_moment_follows_the_present_rate(world: FakeWorld) -> None:
    rtc = Rtc(world, Crystal(offset_ppm=100_000.0))
    assert rtc.seconds_until(START_UTC_S + 110.0) == pytest.approx(100.0)
    assert rtc.seconds_until(START_UTC_S - 1.0) == 0.0
