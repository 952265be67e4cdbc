"""Type tests of an inverter as data: they measure, and they can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from grid.der.categories import Category
from grid.der.inverter import GridPoint, Inverter
from grid.der.procedures import Procedure, Stage, play, with_setting
from grid.der.settings import PROFILES, Rating
from protocols.errors import BadInputError
from twin.grid.interoperability import check_registers
from twin.grid.procedures import procedure_named, procedures

pytest.importorskip("matplotlib")

_NAMES_OF_IEEE_1547_1 = (
    "low-voltage-ride-through", "high-voltage-ride-through", "frequency-ride-through", "phase-angle-ride-through",
    "volt-var", "volt-watt", "watt-var", "constant-power-factor", "constant-reactive-power", "frequency-watt",
    "limit-active-power", "prioritization", "unintentional-islanding",
)  # fmt: skip


def test_every_procedure_of_the_standard_is_there_by_its_name() -> None:
    known = ", ".join(procedures())
    assert [name for name in _NAMES_OF_IEEE_1547_1 if name not in known] == []
    assert {item.category for item in procedures().values() if "low-voltage" in item.name} == set(Category)


@pytest.mark.requirement("GRID-1")
@pytest.mark.requirement("GRID-2")
@pytest.mark.parametrize("name", list(procedures()))
def test_the_inverter_passes(name: str) -> None:
    outcome = play(procedure_named(name))
    assert [finding for finding in outcome.findings if not finding.holds] == []
    assert len(outcome.findings) >= 2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("low-voltage-ride-through-II", {"voltage.uv1": [0.88, 2.0]}),
        ("low-frequency-ride-through", {"frequency.uf2": [57.0, 0.16], "frequency.uf1": [58.5, 180.0]}),
        ("volt-var", {"volt_var.enabled": False}),
        ("volt-watt", {"volt_watt.enabled": False}),
        ("frequency-watt", {"droop.over_droop": 0.02}),
        ("limit-active-power", {"power.limit_pct": 60}),
        ("enter-service", {"enter.delay_s": 100}),
        ("unintentional-islanding", {"power.anti_islanding": False, "frequency.uf2": [50.0, 0.16]}),
    ],
)
def test_an_inverter_that_is_set_wrong_fails(name: str, change: dict[str, object]) -> None:
    procedure = procedure_named(name)
    broken = replace(procedure, settings={**procedure.settings, **change})
    assert not play(broken).holds


def test_a_procedure_that_expects_nothing_cannot_be() -> None:
    with pytest.raises(BadInputError, match="nothing would be measured"):
        Procedure("empty", "", "GRID-1", (Stage("A", 1.0),))


def test_words_names_and_shapes_that_do_not_exist_are_refused() -> None:
    settings = Inverter(PROFILES["kenya"], Category.II).settings
    with pytest.raises(BadInputError, match="no state 'asleep'"):
        Stage("A", 1.0, throughout="asleep")
    with pytest.raises(BadInputError, match="no profile"):
        Procedure("x", "", "GRID-1", (Stage("A", 1.0, at_end="ceased"),), profile="mars")
    with pytest.raises(BadInputError, match="no setting 'volts'"):
        with_setting(settings, "volts.uv1", [1, 2])
    for path, value in (("voltage.uv1", "low"), ("volt_var.curve", 3), ("volt_var.enabled", 1), ("enter.delay_s", "x")):
        with pytest.raises(BadInputError):
            with_setting(settings, path, value)
    with pytest.raises(BadInputError, match="there are low-voltage"):
        procedure_named("no-such-test")


@pytest.mark.requirement("GRID-5")
def test_the_register_interface_takes_effect_and_refuses_nonsense() -> None:
    found = list(check_registers())
    assert [row for row in found if row[1] != row[2]] == []
    assert len(found) > 20


@pytest.mark.requirement("GRID-2")
def test_power_factor_holds_at_full_power() -> None:
    inverter = Inverter(PROFILES["kenya"], Category.II, Rating(5000.0, 5000.0, 2200.0, 230.0))
    settings = inverter.settings
    inverter.apply(replace(settings, power=replace(settings.power, power_factor_enabled=True, power_factor=0.95)))
    for _ in range(3000):
        inverter.step(GridPoint(1.0, 50.0), 0.02)
    apparent_va = (inverter.active_w**2 + inverter.reactive_var**2) ** 0.5
    assert inverter.active_w / apparent_va == pytest.approx(0.95, abs=1e-3)


def test_time_until_the_next_change_is_when_it_changes() -> None:
    inverter = Inverter(PROFILES["ieee1547-60"], Category.II)
    inverter.step(GridPoint(1.0, 60.0), 0.02)
    assert inverter.next_change_s(GridPoint(1.0, 60.0)) == float("inf")
    assert inverter.next_change_s(GridPoint(0.5, 60.0)) == pytest.approx(10.0)
    inverter.step(GridPoint(1.3, 60.0), inverter.next_change_s(GridPoint(1.3, 60.0)))
    assert not inverter.connected
    inverter.step(GridPoint(1.0, 60.0), 0.02)
    assert inverter.next_change_s(GridPoint(1.0, 60.0)) == pytest.approx(300.0)
    inverter.step(GridPoint(1.0, 60.0), 300.0)
    assert inverter.connected
