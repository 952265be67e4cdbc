"""The feeder against what circuits are bound to do: a drop worked out by hand, conservation, superposition of time."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import BadInputError, LocalProtocolError
from protocols.loads import ConstantLoad, PhaseLoad

pytest.importorskip("power_grid_model")

import numpy as np

from grid.der.categories import Category
from grid.der.inverter import DerState, Inverter
from grid.der.settings import PROFILES, Rating
from grid.feeder.equipment import CONDUCTORS
from grid.feeder.feeder import Feeder, PvPlant
from grid.feeder.power_flow import FeederError, PowerFlow
from grid.feeder.supply import Supply
from grid.feeder.topology import BUSBAR, Connection, Span, Topology, shortest_tree
from grid.household import Household
from grid.pv import PvArray, Site, Sky

START_S = 1_772_420_400.0
"""A whole minute."""


def _line(count: int, length_m: float = 100.0, *, phases: tuple[int, ...] | None = None) -> Topology:
    names = [f"M{index}" for index in range(count)]
    spans = [
        Span(BUSBAR if index == 0 else names[index - 1], name, "al-50", length_m) for index, name in enumerate(names)
    ]
    connections = [Connection(name, phases or (index % 3,)) for index, name in enumerate(names)]
    return Topology("100kva", tuple(spans), tuple(connections), nominal_v=230.0)


def _load(p_w: float, q_var: float = 0.0) -> ConstantLoad:
    return ConstantLoad((PhaseLoad(p_w, q_var, 230.0),))


def _feeder(count: int = 3, p_w: float = 1000.0, **more: object) -> Feeder:
    homes = {f"M{index}": _load(p_w) for index in range(count)}
    feeder = Feeder(_line(count), homes, Supply(START_S, 1.0, 50.0), START_S, **more)  # type: ignore[arg-type]
    for name in homes:
        feeder.connect(name, 1.0, START_S)
    return feeder


def test_a_single_phase_load_drops_voltage_over_phase_and_neutral_as_worked_out_by_hand() -> None:
    topology = _line(1, 200.0)
    active = np.zeros((1, 3))
    idle = PowerFlow(topology).solve(active, active).voltage_v[0, 0]
    active[0, 0] = 2000.0
    flow = PowerFlow(topology).solve(active, np.zeros((1, 3)))
    shown_v = flow.voltage_v[0, 0]
    al50, drop = CONDUCTORS["al-50"], CONDUCTORS["al-16"]
    loop_ohm = 2.0 * (al50.resistance_ohm_per_km * 0.2 + drop.resistance_ohm_per_km * 0.015)
    by_hand_v = loop_ohm * 2000.0 / shown_v
    # What is left is the transformer's own drop, far below a volt at 2 % of its rating.
    assert idle - shown_v == pytest.approx(by_hand_v, abs=0.4)
    assert flow.conductor_loss_w == pytest.approx(loop_ohm * (2000.0 / shown_v) ** 2, rel=0.02)
    assert flow.voltage_v[0, 1] > shown_v


def test_a_load_on_three_phases_drops_less_than_the_same_on_one() -> None:
    one, three = np.zeros((1, 3)), np.full((1, 3), 2000.0)
    one[0, 0] = 6000.0
    flow = PowerFlow(_line(1, 200.0))
    assert flow.solve(three, one * 0).voltage_v.min() > flow.solve(one, one * 0).voltage_v.min() + 5.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3000, 3000), min_size=6, max_size=6), st.floats(0.9, 1.1))
def test_what_leaves_the_transformer_is_what_meters_take_and_conductors_lose(loads: list[float], source: float) -> None:
    active = np.zeros((6, 3))
    active[np.arange(6), np.arange(6) % 3] = loads
    flow = PowerFlow(_line(6, 40.0)).solve(active, active * 0.3, source)
    assert flow.busbar_w == pytest.approx(sum(loads) + flow.conductor_loss_w, abs=1e-3)
    assert flow.conductor_loss_w >= -1e-6
    assert flow.transformer_loss_w > 0.0


def test_a_feeder_that_cannot_carry_its_load_says_so() -> None:
    active = np.zeros((3, 3))
    active[2, 0] = 90_000.0
    with pytest.raises(FeederError, match=r"cannot carry 90\.0 kW"):
        PowerFlow(_line(3, 400.0)).solve(active, active)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer": "9kva"}, "no '9kva'"),
        ({"drop_m": math.nan}, "length"),
        ({"spans": (Span(BUSBAR, "M0", "gold", 10.0),)}, "no 'gold'"),
        ({"spans": (Span(BUSBAR, "M0", "al-50", -1.0),)}, "length"),
        ({"spans": (Span("M0", "M1", "al-50", 1.0), Span("M1", "M0", "al-50", 1.0))}, "no way"),
        ({"spans": (Span(BUSBAR, "M0", "al-50", 1.0), Span(BUSBAR, "M0", "al-50", 1.0))}, "two sides"),
        ({"connections": (Connection("M0", (0, 1)),)}, "phases"),
        ({"connections": (Connection("X", (0,)),)}, "no way"),
    ],
)
def test_a_feeder_that_is_no_tree_or_of_no_known_parts_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        replace(_line(2), **change)


def test_the_shortest_tree_joins_every_pole_and_grows_stronger_towards_the_transformer() -> None:
    positions = {f"M{index}": (30.0 * (index % 8), 30.0 * (index // 8)) for index in range(40)}
    spans = shortest_tree(positions, (-10.0, 0.0))
    assert [span.end for span in spans if span.start == BUSBAR] == ["M0"]
    assert {span.end for span in spans} == set(positions)
    assert sum(span.length_m for span in spans) == pytest.approx(10.0 + 39 * 30.0)
    assert spans[0].conductor == "al-150"
    Topology("100kva", spans, tuple(Connection(name, (0,)) for name in positions))


def test_a_meter_reads_less_voltage_the_further_it_is_and_none_behind_a_dead_feeder() -> None:
    feeder = _feeder(6)
    volts = [feeder.voltage_v(f"M{index}", START_S + 5.0) for index in (0, 3)]
    assert volts[0] > volts[1] + 0.2
    feeder.change_supply(START_S + 10.0, voltage_pu=0.0)
    segment = feeder.tap("M0").segment_at(START_S + 11.0)
    assert segment.phases[0] == PhaseLoad(0.0, 0.0, 0.0)


def test_the_past_does_not_change_when_somebody_switches() -> None:
    feeder, other = _feeder(), _feeder()
    feeder.connect("M1", 0.0, START_S + 90.5)
    other.advance(START_S + 90.0)
    other.connect("M1", 0.0, START_S + 90.5)
    for at_s in (0.0, 59.0, 61.0, 90.4, 90.5, 100.0):
        assert feeder.tap("M0").segment_at(START_S + at_s) == other.tap("M0").segment_at(START_S + at_s)
    before, after = (feeder.tap("M0").segment_at(START_S + at_s) for at_s in (90.4, 90.6))
    assert before.until_s == START_S + 90.5
    assert after.phases[0].u_v != before.phases[0].u_v
    assert feeder.piece_at(START_S + 95.0).metered_w == 2000.0
    with pytest.raises(LocalProtocolError, match="past"):
        feeder.connect("M0", 0.0, START_S + 10.0)


def test_energies_add_up_whoever_asks_when() -> None:
    quiet, curious = _feeder(p_w=1500.0), _feeder(p_w=1500.0)
    for step in range(1, 400):
        curious.piece_at(START_S + step * 9.07)
    for feeder in (quiet, curious):
        feeder.take("M2", 400.0, START_S + 3630.0)
        feeder.advance(START_S + 7200.0)
    first, second = quiet.settle(START_S + 7200.0), curious.settle(START_S + 7200.0)
    assert first == second
    assert first.metered_wh == pytest.approx(9000.0)
    assert first.unmetered_wh == pytest.approx(400.0 * 3570.0 / 3600.0)
    assert first.busbar_wh == pytest.approx(first.metered_wh + first.unmetered_wh + first.conductor_loss_wh, rel=1e-9)


def test_a_meter_with_half_of_its_lines_open_takes_half() -> None:
    feeder = _feeder(1, 1500.0)
    feeder.connect("M0", 0.5, START_S + 60.0)
    piece = feeder.piece_at(START_S + 61.0)
    assert piece.metered_w == 750.0
    assert piece.flow.busbar_w == pytest.approx(750.0 + piece.flow.conductor_loss_w)
    assert feeder.tap("M0").segment_at(START_S + 61.0).phases[0].p_w == 1500.0


def test_a_low_supply_is_survived_as_impedance() -> None:
    feeder = _feeder(6, 3000.0)
    feeder.change_supply(START_S, voltage_pu=0.35)
    segment = feeder.tap("M5").segment_at(START_S + 1.0)
    assert segment.phases[0].p_w == pytest.approx(750.0)
    assert 40.0 < segment.phases[0].u_v < 85.0


@pytest.mark.parametrize(
    ("name", "value"), [("voltage_pu", math.nan), ("voltage_pu", 3.0), ("hz", 10.0), ("hz", math.inf)]
)
def test_a_supply_that_no_grid_has_is_refused(name: str, value: float) -> None:
    feeder = _feeder()
    with pytest.raises(BadInputError, match=name):
        feeder.change_supply(START_S + 1.0, **{name: value})
    assert feeder.supply.at(START_S + 2.0).hz == 50.0


@pytest.mark.parametrize("power_w", [-1.0, math.nan, 1e6])
def test_a_theft_that_cannot_be_is_refused(power_w: float) -> None:
    with pytest.raises(BadInputError, match="power_w"):
        _feeder().take("M0", power_w, START_S + 2.0)


def test_the_supply_ramps_in_a_straight_line_and_drops_what_was_planned() -> None:
    supply = Supply(0.0, 1.0, 50.0)
    supply.change(10.0, hz=45.0, over_s=10.0)
    assert (supply.at(9.0).hz, supply.at(15.0).hz, supply.at(30.0).hz) == (50.0, 47.5, 45.0)
    assert supply.is_moving(10.0)
    assert not supply.is_moving(20.0)
    supply.change(15.0, hz=50.0)
    assert (supply.at(14.999).hz, supply.at(15.0).hz, supply.at(25.0).hz) == (pytest.approx(47.5, abs=1e-3), 50.0, 50.0)


def _sunny(count: int, *, volt_var: bool, source_pu: float = 1.03) -> Feeder:
    plants = []
    for index in range(1, count, 2):
        inverter = Inverter(PROFILES["kenya"], Category.II, Rating(5000.0, 5000.0, 2200.0, 230.0))
        now = inverter.settings
        inverter.apply(replace(now, volt_var=replace(now.volt_var, enabled=volt_var)))
        plants.append(PvPlant(f"M{index}", PvArray(5000.0), inverter))
    noon_s = START_S - START_S % 86_400 + 9.5 * 3600.0
    homes = {f"M{index}": _load(200.0) for index in range(count)}
    feeder = Feeder(
        _line(count, 50.0), homes, Supply(noon_s, source_pu, 50.0), noon_s, plants=plants,
        sky=Sky(random.Random(1), Site(), 0.0),
    )  # fmt: skip
    for name in homes:
        feeder.connect(name, 1.0, noon_s)
    feeder.advance(noon_s + 1200.0)
    return feeder


@pytest.mark.requirement("GRID-2")
def test_volt_var_lowers_the_voltage_that_plants_raise() -> None:
    without, held = _sunny(6, volt_var=False), _sunny(6, volt_var=True)
    at_s = without.next_change_s - 1.0
    assert all(plant.inverter.state is DerState.RUNNING for plant in held.plants.values())
    assert without.voltage_v("M5", at_s) > held.voltage_v("M5", at_s) + 0.2
    assert sum(plant.inverter.reactive_var for plant in held.plants.values()) < -300.0
    assert without.piece_at(at_s).flow.busbar_w < -8000.0


@pytest.mark.requirement("GRID-1")
def test_a_plant_behind_an_open_switch_trips_and_waits_for_its_time() -> None:
    feeder = _sunny(4, volt_var=False, source_pu=1.0)
    at_s = feeder.next_change_s
    feeder.connect("M1", 0.0, at_s)
    feeder.advance(at_s + 1.0)
    inverter = feeder.plants["M1"].inverter
    assert inverter.state is DerState.TRIPPED
    feeder.connect("M1", 1.0, at_s + 10.0)
    feeder.advance(at_s + 300.0)
    assert not inverter.connected
    feeder.advance(at_s + 330.0)
    assert inverter.connected


def test_homes_and_plants_have_to_be_on_the_feeder() -> None:
    with pytest.raises(BadInputError, match="not connected"):
        Feeder(_line(1), {"M0": _load(1.0), "Z": _load(1.0)}, Supply(START_S), START_S)
    plant = PvPlant("M0", PvArray(1000.0), Inverter(PROFILES["kenya"], Category.II))
    with pytest.raises(BadInputError, match="sky"):
        Feeder(_line(1), {"M0": _load(1.0)}, Supply(START_S), START_S, plants=[plant])


def test_a_day_of_homes_is_the_same_as_the_homes_themselves_say() -> None:
    homes = {f"M{index}": Household(random.Random(index), nominal_v=230.0) for index in range(4)}
    feeder = Feeder(_line(4, 30.0), homes, Supply(START_S), START_S)
    for name in homes:
        feeder.connect(name, 1.0, START_S)
    counted = feeder.settle(START_S + 6 * 3600.0).metered_wh
    assert counted == pytest.approx(
        sum(home.energy_wh(START_S, START_S + 6 * 3600.0) for home in homes.values()), rel=1e-6
    )


def test_history_is_kept_for_longer_than_a_day_and_then_forgotten_out_loud() -> None:
    feeder = _feeder(1)
    feeder.advance(START_S + 60 * 3600.0)
    assert feeder.piece_at(START_S + 30 * 3600.0).hz == 50.0
    with pytest.raises(LocalProtocolError, match="forgotten"):
        feeder.piece_at(START_S + 60.0)
