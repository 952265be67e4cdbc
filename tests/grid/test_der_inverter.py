"""The inverter against the tables of IEEE 1547-2018, in simulated time."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest

from grid.der.categories import (
    FREQUENCY_DEFAULTS,
    VOLTAGE_DEFAULTS,
    VOLTAGE_RIDE_THROUGH,
    Category,
    RideThrough,
    TripPoint,
)
from grid.der.inverter import TRANSITIONS, DerEvent, DerState, GridPoint, Inverter
from grid.der.settings import PROFILES, Curve, Function, VarReference
from protocols.errors import BadInputError

_STEP_S = 0.01
_PROFILE = "ieee1547-60"


def _inverter(category: Category = Category.II, profile: str = _PROFILE, **power: object) -> Inverter:
    inverter = Inverter(PROFILES[profile], category)
    if power:
        settings = inverter.settings
        inverter.apply(replace(settings, power=replace(settings.power, **power)))  # type: ignore[arg-type]
    inverter.step(GridPoint(1.0, inverter.settings.nominal_hz), _STEP_S)
    return inverter


def _run(inverter: Inverter, seconds: float, voltage_pu: float = 1.0, hz: float | None = None, **more: float) -> None:
    grid = GridPoint(voltage_pu, hz if hz is not None else inverter.settings.nominal_hz, **more)
    for _ in range(round(seconds / _STEP_S)):
        inverter.step(grid, _STEP_S)


def test_the_table_of_states_is_complete() -> None:
    assert set(TRANSITIONS) == set(itertools.product(DerState, DerEvent))


@pytest.mark.requirement("GRID-1")
@pytest.mark.parametrize("category", list(Category))
@pytest.mark.parametrize(("name", "beyond"), [("ov2", 0.01), ("ov1", 0.01), ("uv1", -0.01), ("uv2", -0.01)])
def test_voltage_trips_at_the_clearing_time_and_not_before(category: Category, name: str, beyond: float) -> None:
    point = getattr(VOLTAGE_DEFAULTS[category], name)
    inverter = _inverter(category)
    _run(inverter, point.clearing_s - 0.02, point.limit + beyond)
    assert inverter.connected
    _run(inverter, 0.02, point.limit + beyond)
    assert inverter.state is DerState.TRIPPED
    assert inverter.active_w == 0.0
    assert inverter.trip_reason.startswith(name.upper())


@pytest.mark.requirement("GRID-1")
@pytest.mark.parametrize("profile", ["ieee1547-60", "ieee1547-50"])
@pytest.mark.parametrize(("name", "beyond"), [("of2", 0.05), ("of1", 0.05), ("uf1", -0.05), ("uf2", -0.05)])
def test_frequency_trips_at_the_clearing_time_and_not_before(profile: str, name: str, beyond: float) -> None:
    inverter = _inverter(profile=profile)
    point = getattr(inverter.settings.frequency, name)
    _run(inverter, point.clearing_s - 0.02, hz=point.limit + beyond)
    assert inverter.connected
    _run(inverter, 0.02, hz=point.limit + beyond)
    assert inverter.state is DerState.TRIPPED


_MANDATORY = [
    (category, row, share)
    for category, rows in VOLTAGE_RIDE_THROUGH.items()
    for row in rows
    for share in (0.1, 0.9)
    if row.mode in {RideThrough.MANDATORY, RideThrough.PERMISSIVE}
]


@pytest.mark.requirement("GRID-1")
@pytest.mark.parametrize(("category", "row", "share"), _MANDATORY)
def test_voltage_ride_through_rows_are_ridden_through_and_exported_in(
    category: Category, row: object, share: float
) -> None:
    voltage = row.low + share * (row.high - row.low)  # type: ignore[attr-defined]
    inverter = _inverter(category)
    _run(inverter, row.duration_s(voltage) - 0.02, voltage)  # type: ignore[attr-defined]
    assert inverter.state is DerState.RUNNING
    assert inverter.active_w > 0.0
    _run(inverter, 1.0)
    assert inverter.state is DerState.RUNNING


@pytest.mark.requirement("GRID-1")
@pytest.mark.parametrize(("voltage", "seconds"), [(0.3, 0.9), (1.15, 11.9)])
def test_category_iii_ceases_within_83_ms_and_comes_back(voltage: float, seconds: float) -> None:
    inverter = _inverter(Category.III)
    _run(inverter, 0.08, voltage)
    assert inverter.state is DerState.CEASED
    assert inverter.active_w == 0.0
    assert inverter.connected
    _run(inverter, seconds - 0.08, voltage)
    assert inverter.connected
    _run(inverter, 0.4)
    assert inverter.active_w > 0.8 * inverter.rating.active_w


@pytest.mark.requirement("GRID-1")
def test_the_low_voltage_ride_through_procedure_of_category_ii_is_passed() -> None:
    """Trips are set as wide as their ranges allow, so that they do not end the test; then the states A to F."""
    inverter = _inverter(Category.II)
    settings = inverter.settings
    wide = replace(settings.voltage, uv1=TripPoint(0.70, 21.0), uv2=TripPoint(0.45, 2.0))
    inverter.apply(replace(settings, voltage=wide))
    for seconds, voltage in ((10.0, 0.94), (0.16, 0.28), (0.16, 0.44), (2.68, 0.65), (2.0, 0.88), (120.0, 0.94)):
        _run(inverter, seconds, voltage)
        assert inverter.state is DerState.RUNNING, (seconds, voltage)


@pytest.mark.requirement("GRID-1")
@pytest.mark.parametrize(("category", "rate"), [(Category.I, 0.5), (Category.II, 2.0), (Category.III, 3.0)])
def test_rocof_and_phase_jumps_that_must_be_ridden_through_are(category: Category, rate: float) -> None:
    inverter = _inverter(category)
    hz = 60.0
    for _ in range(round(1.2 / rate / _STEP_S)):
        hz += rate * _STEP_S
        inverter.step(GridPoint(1.0, hz), _STEP_S)
    assert inverter.connected
    for _ in range(round(1.2 / rate / _STEP_S)):
        hz -= rate * _STEP_S
        inverter.step(GridPoint(1.0, hz), _STEP_S)
    _run(inverter, 1.0, phase_deg=20.0)
    _run(inverter, 1.0, phase_deg=320.0)
    assert inverter.connected


def test_loss_of_mains_trips_by_lasting_rocof_or_by_a_phase_jump_and_can_be_switched_off() -> None:
    def slide(inverter: Inverter) -> bool:
        hz = 60.0
        for _ in range(60):
            hz -= 5.0 * _STEP_S
            inverter.step(GridPoint(1.0, hz), _STEP_S)
        return inverter.connected

    assert not slide(_inverter())
    assert slide(_inverter(anti_islanding=False))
    inverter = _inverter()
    _run(inverter, 0.1, phase_deg=90.0)
    assert not inverter.connected


@pytest.mark.requirement("GRID-2")
def test_service_is_entered_after_the_delay_and_along_the_ramp() -> None:
    inverter = _inverter()
    _run(inverter, 0.2, 1.25)
    assert inverter.state is DerState.TRIPPED
    _run(inverter, 100.0)
    assert inverter.state is DerState.WAITING
    assert inverter.entry_remaining_s == pytest.approx(200.0, abs=0.1)
    _run(inverter, 0.1, 1.06)
    _run(inverter, 299.9)
    assert inverter.state is DerState.WAITING
    _run(inverter, 0.2)
    assert inverter.state is DerState.RAMPING
    _run(inverter, 150.0)
    assert inverter.active_w == pytest.approx(2500.0, rel=0.01)
    _run(inverter, 150.0)
    assert inverter.state is DerState.RUNNING
    assert inverter.active_w == pytest.approx(5000.0, rel=0.01)


def test_a_withdrawn_permission_disconnects_and_keeps_out() -> None:
    inverter = _inverter()
    settings = inverter.settings
    inverter.apply(replace(settings, enter=replace(settings.enter, permitted=False)))
    _run(inverter, 400.0)
    assert inverter.state is DerState.TRIPPED
    assert not inverter.connected


@pytest.mark.requirement("GRID-2")
@pytest.mark.parametrize(("voltage", "share"), [(0.90, 44.0), (0.95, 22.0), (1.0, 0.0), (1.05, -22.0), (1.09, -44.0)])
def test_volt_var_follows_its_curve_with_its_response_time(voltage: float, share: float) -> None:
    inverter = _inverter()
    settings = inverter.settings
    inverter.apply(replace(settings, volt_var=replace(settings.volt_var, enabled=True)))
    _run(inverter, 5.0, voltage)
    assert inverter.reactive_var == pytest.approx(0.9 * share * 50.0, abs=1.0)
    _run(inverter, 30.0, voltage)
    assert inverter.reactive_var == pytest.approx(share * 50.0, abs=1.0)
    assert (inverter.active_w**2 + inverter.reactive_var**2) ** 0.5 <= 5000.0 + 1e-6


@pytest.mark.requirement("GRID-2")
def test_volt_watt_and_the_operators_limits_reduce_power() -> None:
    inverter = _inverter()
    settings = inverter.settings
    inverter.apply(replace(settings, volt_watt=replace(settings.volt_watt, enabled=True)))
    _run(inverter, 60.0, 1.08)
    assert inverter.active_w == pytest.approx(2500.0, rel=0.01)
    limited = _inverter(limit_enabled=True, limit_pct=40.0, limit_revert_s=10.0)
    _run(limited, 5.0)
    assert limited.active_w == pytest.approx(2000.0, rel=0.01)
    _run(limited, 6.0)
    assert limited.active_w == pytest.approx(5000.0, rel=0.01)


@pytest.mark.requirement("GRID-2")
@pytest.mark.parametrize(("hz", "share"), [(60.036, 1.0), (60.636, 0.8), (61.0, 1 - 0.964 / 3)])
def test_frequency_droop_reduces_power_by_its_slope(hz: float, share: float) -> None:
    inverter = _inverter()
    _run(inverter, 5.0, hz=hz)
    _run(inverter, 25.0, hz=hz)
    assert inverter.active_w == pytest.approx(5000.0 * share, rel=0.01)


def test_constant_reactive_power_power_factor_and_watt_var() -> None:
    fixed = _inverter(var_enabled=True, var_pct=-30.0)
    _run(fixed, 60.0)
    assert fixed.reactive_var == pytest.approx(-1500.0, rel=0.01)
    factor = _inverter(
        power_factor_enabled=True, power_factor=0.95, over_excited=False, limit_enabled=True, limit_pct=50
    )
    _run(factor, 60.0)
    assert factor.reactive_var == pytest.approx(-2500.0 * 0.3287, rel=0.01)
    inverter = _inverter()
    curve = Function(Curve(((0.0, 0.0), (100.0, -40.0))), True, 1.0, VarReference.VA_MAX)
    inverter.available_pct = 50.0
    inverter.apply(replace(inverter.settings, watt_var=curve))
    _run(inverter, 30.0)
    assert inverter.reactive_var == pytest.approx(-1000.0, rel=0.02)


@pytest.mark.requirement("GRID-3")
@pytest.mark.parametrize("hz", [45.0, 46.0, 50.0, 52.0])
@pytest.mark.parametrize("voltage", [0.90, 1.0, 1.10])
def test_the_kenya_profile_stays_in_service_from_45_to_52_hz_ends_included(hz: float, voltage: float) -> None:
    inverter = _inverter(Category.II, "kenya")
    _run(inverter, 320.0, voltage, hz)
    assert inverter.state is DerState.RUNNING
    fresh = Inverter(PROFILES["kenya"], Category.II)
    _run(fresh, 1.0, voltage, hz)
    assert fresh.connected


@pytest.mark.requirement("GRID-3")
@pytest.mark.parametrize("hz", [44.9, 52.1])
def test_the_kenya_profile_trips_just_outside(hz: float) -> None:
    inverter = _inverter(Category.II, "kenya")
    _run(inverter, 0.2, hz=hz)
    assert not inverter.connected


@pytest.mark.requirement("GRID-3")
def test_ieee_defaults_scaled_to_50_hz_would_not_stay_in_service() -> None:
    for hz in (45.5, 51.9):
        inverter = _inverter(Category.II, "ieee1547-50")
        _run(inverter, 1.0, hz=hz)
        assert not inverter.connected
    assert FREQUENCY_DEFAULTS.scaled(50 / 60).uf2.limit == 47.08


@pytest.mark.parametrize("name", [part.name for part in fields(VOLTAGE_DEFAULTS[Category.II])])
def test_trip_settings_outside_their_ranges_are_refused(name: str) -> None:
    inverter = _inverter()
    settings = inverter.settings
    for limit, clearing_s in ((2.0, 2.0), (float("nan"), 2.0), (getattr(settings.voltage, name).limit, 1e4)):
        point = replace(getattr(settings.voltage, name), limit=limit, clearing_s=clearing_s)
        with pytest.raises(BadInputError, match=name):
            inverter.apply(replace(settings, voltage=replace(settings.voltage, **{name: point})))
    assert inverter.settings == settings


def test_a_grid_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be"):
        _inverter().step(GridPoint(float("nan"), 50.0), 0.01)
