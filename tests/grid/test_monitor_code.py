"""The grid code's monitor: what it flags, what it lets pass, ends included."""

from __future__ import annotations

import math

import pytest

from grid.codes import CODES
from protocols.loads import ConstantLoad, PhaseLoad
from twin.grid.balance import Balance

pytest.importorskip("power_grid_model")

from grid.feeder.feeder import Feeder
from grid.feeder.supply import Supply
from grid.feeder.topology import BUSBAR, Connection, Span, Topology
from grid.monitor import Monitor

START_S = 1_772_420_400.0


def _watched(source_pu: float = 1.0) -> tuple[Feeder, Monitor]:
    topology = Topology("100kva", (Span(BUSBAR, "A", "al-50", 10.0),), (Connection("A", (0,)),), nominal_v=230.0)
    homes = {"A": ConstantLoad((PhaseLoad(0.0, 0.0, 230.0),))}
    feeder = Feeder(topology, homes, Supply(START_S, source_pu, 50.0), START_S)
    return feeder, Monitor(CODES["kenya"], feeder)


@pytest.mark.requirement("GRID-3")
@pytest.mark.parametrize(
    ("source_pu", "flagged"), [(0.90, False), (1.10, False), (1.0, False), (0.895, True), (1.105, True), (0.5, True)]
)
def test_voltages_are_flagged_outside_90_to_110_percent_and_not_at_the_ends(source_pu: float, flagged: bool) -> None:
    feeder, monitor = _watched()
    # The transformer's own drop without a load, so that the end points lie at the meter.
    drop = feeder.voltage_v("A", START_S) / 230.0
    feeder.change_supply(START_S + 60.0, voltage_pu=source_pu / drop)
    feeder.settle(START_S + 600.0)
    assert feeder.voltage_v("A", START_S + 100.0) == pytest.approx(230.0 * source_pu, abs=0.011)
    assert monitor.flagged_meters() == (["A"] if flagged else [])
    if flagged:
        (found,) = monitor.voltage_excursions
        assert (found.start_s, found.end_s) == (START_S + 60.0, START_S + 600.0)
        assert found.worst == pytest.approx(source_pu, abs=2e-3)


@pytest.mark.requirement("GRID-3")
@pytest.mark.parametrize(("seconds", "flagged"), [(59.0, False), (60.0, True)])
def test_a_dip_that_is_over_before_a_minute_is_not_steady(seconds: float, flagged: bool) -> None:
    feeder, monitor = _watched()
    feeder.change_supply(START_S + 90.5, voltage_pu=0.8)
    feeder.change_supply(START_S + 90.5 + seconds, voltage_pu=1.0)
    feeder.settle(START_S + 600.0)
    assert monitor.flagged_meters() == (["A"] if flagged else [])


def test_a_dead_feeder_is_no_low_voltage() -> None:
    feeder, monitor = _watched()
    feeder.change_supply(START_S + 60.0, voltage_pu=0.0)
    feeder.settle(START_S + 600.0)
    assert monitor.flagged_meters() == []


@pytest.mark.requirement("GRID-3")
@pytest.mark.parametrize(("hz", "flagged"), [(45.0, False), (52.0, False), (44.99, True), (52.01, True)])
def test_a_frequency_outside_45_to_52_hz_is_flagged_however_short(hz: float, flagged: bool) -> None:
    feeder, monitor = _watched()
    feeder.change_supply(START_S + 60.0, hz=hz)
    feeder.change_supply(START_S + 60.3, hz=50.0)
    feeder.settle(START_S + 120.0)
    assert len(monitor.frequency_excursions) == flagged
    assert (monitor.lowest_hz, monitor.highest_hz) == (min(hz, 50.0), max(hz, 50.0))


@pytest.mark.requirement("GRID-3")
def test_equipment_that_leaves_within_the_band_is_an_outage_and_outside_it_is_not() -> None:
    _, monitor = _watched()
    monitor.in_service("inverter A", False, START_S, 46.0, "UF1")
    monitor.in_service("inverter A", False, START_S + 10.0, 46.0, "UF1")
    monitor.in_service("meter A", False, START_S, 44.0, "its supply cannot run")
    (lasting,) = monitor.all_outages
    assert (lasting.equipment, lasting.start_s, lasting.end_s, lasting.reason) == (
        "inverter A",
        START_S,
        START_S + 10.0,
        "UF1",
    )
    monitor.in_service("inverter A", True, START_S + 20.0, 50.0)
    assert monitor.outages == [lasting]


@pytest.mark.requirement("UNECE-3")
def test_a_balance_flags_what_neither_meters_nor_losses_explain() -> None:
    assert not Balance(10_000.0, 9_700.0, 250.0).is_flagged
    theft = Balance(10_000.0, 8_900.0, 250.0)
    assert theft.unexplained_wh == pytest.approx(850.0)
    assert theft.is_flagged
    assert Balance(-5_000.0, -5_600.0, 100.0).is_flagged
    assert not Balance(0.0, 30.0, 0.0).is_flagged
    assert not math.isnan(Balance(0.0, 0.0, 0.0).tolerance_wh)
