"""Metrology integrates exactly, by quadrant, and only what flows; the supply warns before it goes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.household import Household
from meters.hardware.metrology import NANOJOULES_PER_WH, Metrology
from meters.hardware.power import PowerSupply, SupplyState
from protocols.loads import ConstantLoad, LoadSource, PhaseLoad
from twin.clock.virtual import VirtualLoop

START_UTC_S = 1_772_409_600.0


class FakeWorld:
    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def now(self) -> float:
        return self.elapsed_s

    def utc_s(self) -> float:
        return START_UTC_S + self.elapsed_s


def supplied(source: LoadSource, *, phase_count: int = 1) -> tuple[FakeWorld, Metrology]:
    world = FakeWorld()
    chip = Metrology(world, source, phase_count=phase_count)
    chip.supply(True)
    return world, chip


def constant(p_w: float, q_var: float = 0.0, u_v: float = 230.0) -> ConstantLoad:
    return ConstantLoad((PhaseLoad(p_w, q_var, u_v),))


def test_one_kilowatt_for_an_hour_is_one_kilowatt_hour() -> None:
    world, chip = supplied(constant(1000.0))
    world.elapsed_s = 3600.0
    assert chip.energies().active_import_nj == 1000 * NANOJOULES_PER_WH


@pytest.mark.parametrize(
    ("p_w", "q_var", "fields"),
    [
        (100, 50, ("active_import_nj", "reactive_q1_nj", "reactive_import_nj")),
        (-100, 50, ("active_export_nj", "reactive_q2_nj", "reactive_import_nj")),
        (-100, -50, ("active_export_nj", "reactive_q3_nj", "reactive_export_nj")),
        (100, -50, ("active_import_nj", "reactive_q4_nj", "reactive_export_nj")),
    ],
)
def test_energy_goes_to_its_quadrant(p_w: float, q_var: float, fields: tuple[str, str, str]) -> None:
    world, chip = supplied(constant(p_w, q_var))
    world.elapsed_s = 36.0
    energies = chip.energies()
    active, quadrant, reactive = (getattr(energies, name) for name in fields)
    assert active == NANOJOULES_PER_WH
    assert quadrant == reactive == NANOJOULES_PER_WH // 2
    assert energies.active_import_nj + energies.active_export_nj == active
    assert energies.reactive_import_nj + energies.reactive_export_nj == reactive


@settings(max_examples=30)
@given(st.lists(st.floats(0, 20_000), min_size=1, max_size=12), st.integers(0, 3))
def test_energy_does_not_depend_on_when_it_is_read(times_s: list[float], seed: int) -> None:
    world, often = supplied(Household(random.Random(seed)))
    seldom = Metrology(world, Household(random.Random(seed)))
    seldom.supply(True)
    for time_s in sorted(times_s):
        world.elapsed_s = time_s
        often.energies()
    assert often.energies() == seldom.energies()


def test_energy_agrees_with_the_households_own_integral() -> None:
    world, chip = supplied(Household(random.Random(2)))
    world.elapsed_s = 2 * 86_400.0 + 1234.5
    expected_wh = Household(random.Random(2)).energy_wh(START_UTC_S, START_UTC_S + world.elapsed_s)
    assert chip.energies().active_import_nj / NANOJOULES_PER_WH == pytest.approx(expected_wh, rel=1e-9)


def test_nothing_flows_without_supply_or_with_an_open_contact() -> None:
    world, chip = supplied(constant(1000.0))
    world.elapsed_s = 100.0
    chip.set_contact(False)
    world.elapsed_s = 200.0
    assert chip.instant().phases[0].current_a == 0.0
    assert chip.instant().phases[0].voltage_v == 230.0
    chip.set_contact(True)
    world.elapsed_s = 300.0
    assert chip.energies().active_import_nj == 200_000 * 10**9
    chip.supply(False)
    assert chip.instant().phases[0].voltage_v == 0.0
    world.elapsed_s = 400.0
    chip.supply(True)
    assert chip.energies().active_import_nj == 0
    assert chip.delivered.active_import_nj == 200_000 * 10**9


def test_reversed_current_counts_as_export() -> None:
    world, chip = supplied(constant(500.0, 100.0))
    chip.reverse_current()
    world.elapsed_s = 10.0
    assert chip.energies().active_export_nj == 5000 * 10**9
    assert chip.instant().active_power_w == -500.0


def test_instantaneous_values_belong_together() -> None:
    _, chip = supplied(constant(920.0, 690.0))
    reading = chip.instant()
    phase = reading.phases[0]
    assert phase.current_a == pytest.approx(5.0)
    assert phase.apparent_power_va == pytest.approx(1150.0)
    assert reading.power_factor == pytest.approx(0.8)
    assert reading.frequency_hz == 50.0


class Pins:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def power_good(self) -> None:
        self.seen.append("good")

    def power_failing(self) -> None:
        self.seen.append("failing")

    def power_gone(self) -> None:
        self.seen.append("gone")


def test_capacitor_gives_a_warning_before_the_processor_stops() -> None:
    loop = VirtualLoop()
    supply, pins = PowerSupply(loop, hold_up_s=0.5), Pins()
    supply.listen(pins)
    supply.restore()
    supply.cut()
    assert supply.state is SupplyState.HOLDING
    loop.call_at(0.4, lambda: pins.seen.append("0.4 s"))
    loop.call_at(0.6, loop.stop)
    loop.run_forever()
    assert pins.seen == ["good", "failing", "0.4 s", "gone"]
    assert supply.state is SupplyState.OFF
    loop.close()


def test_short_dip_is_ridden_through_and_a_cut_at_once_gives_no_warning() -> None:
    loop = VirtualLoop()
    supply, pins = PowerSupply(loop, hold_up_s=0.5), Pins()
    supply.listen(pins)
    supply.restore()
    supply.set_mains(20.0)
    supply.set_mains(230.0)
    loop.call_at(1.0, loop.stop)
    loop.run_forever()
    assert pins.seen == ["good", "failing", "good"]
    supply.cut_at_once()
    assert pins.seen[-1] == "gone"
    loop.close()
