"""Everything that the firmware can measure, by name: what a model's registers are bound to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from meters.firmware.measurements import Measurements
from meters.hardware.metrology import NANOJOULES_PER_WH, Instant, PhaseReading
from protocols.dlms.units import Unit


@dataclass(frozen=True, slots=True)
class MeasuredQuantity:
    """`read(measurements, scaler)` gives the value as a whole number of 10**scaler `unit`; energies round down."""

    name: str
    unit: Unit
    read: Callable[[Measurements, int], int]


def scaled(value: float, scaler: int) -> int:
    """`value` in whole 10**scaler, rounded half away from zero as meters' displays do."""
    shifted = value * 10.0**-scaler
    return math.floor(abs(shifted) + 0.5) * (1 if shifted >= 0 else -1)


def scaled_energy(energy_nj: int, scaler: int) -> int:
    """Nanojoules in whole 10**scaler watt-hours, rounded down, exactly."""
    up, down = 10 ** max(scaler, 0), 10 ** max(-scaler, 0)
    return int(energy_nj * down // (NANOJOULES_PER_WH * up))


def _energy(name: str, unit: Unit, field: str, rate: int = 0) -> MeasuredQuantity:
    return MeasuredQuantity(
        name, unit, lambda source, scaler: scaled_energy(getattr(source.energies(rate), field), scaler)
    )


def _of_instant(name: str, unit: Unit, pick: Callable[[Instant], float]) -> MeasuredQuantity:
    return MeasuredQuantity(name, unit, lambda source, scaler: scaled(pick(source.instant()), scaler))


def _of_phase(name: str, unit: Unit, index: int, pick: Callable[[PhaseReading], float]) -> MeasuredQuantity:
    return MeasuredQuantity(name, unit, lambda source, scaler: scaled(pick(source.instant().phases[index]), scaler))


_ENERGIES = (
    ("active_energy_import", Unit.WATT_HOUR, "active_import_nj"),
    ("active_energy_export", Unit.WATT_HOUR, "active_export_nj"),
    ("reactive_energy_import", Unit.VAR_HOUR, "reactive_import_nj"),
    ("reactive_energy_export", Unit.VAR_HOUR, "reactive_export_nj"),
    ("reactive_energy_q1", Unit.VAR_HOUR, "reactive_q1_nj"),
    ("reactive_energy_q2", Unit.VAR_HOUR, "reactive_q2_nj"),
    ("reactive_energy_q3", Unit.VAR_HOUR, "reactive_q3_nj"),
    ("reactive_energy_q4", Unit.VAR_HOUR, "reactive_q4_nj"),
    ("apparent_energy_import", Unit.VOLT_AMPERE_HOUR, "apparent_import_nj"),
    ("apparent_energy_export", Unit.VOLT_AMPERE_HOUR, "apparent_export_nj"),
)
_DEMANDS = (
    ("active_demand_import", Unit.WATT, "active_import_nj"),
    ("active_demand_export", Unit.WATT, "active_export_nj"),
    ("reactive_demand_import", Unit.VAR, "reactive_import_nj"),
    ("reactive_demand_export", Unit.VAR, "reactive_export_nj"),
    ("apparent_demand_import", Unit.VOLT_AMPERE, "apparent_import_nj"),
)
DEMAND_FIELDS = {name: field for name, _, field in _DEMANDS}
DEMAND_UNITS = {name: unit for name, unit, _ in _DEMANDS}


def _apparent_va(instant: Instant) -> float:
    return math.hypot(instant.active_power_w, instant.reactive_power_var)


def _phase_angle_deg(phase: PhaseReading) -> float:
    return math.degrees(math.atan2(phase.reactive_power_var, phase.active_power_w)) % 360.0


def _phase_power_factor(phase: PhaseReading) -> float:
    apparent_va = phase.apparent_power_va
    return 1.0 if apparent_va == 0 else min(1.0, abs(phase.active_power_w) / apparent_va)


def _neutral_current_a(instant: Instant) -> float:
    """Vector sum of the phase currents, their voltages 120 degrees apart."""
    real = imaginary = 0.0
    for index, phase in enumerate(instant.phases):
        angle = -2 * math.pi / 3 * index - math.atan2(phase.reactive_power_var, phase.active_power_w)
        real += phase.current_a * math.cos(angle)
        imaginary += phase.current_a * math.sin(angle)
    return math.hypot(real, imaginary)


def _all() -> list[MeasuredQuantity]:
    rows = [_energy(name, unit, field) for name, unit, field in _ENERGIES]
    rows += [
        _energy(f"{name}_rate_{rate}", unit, field, rate) for name, unit, field in _ENERGIES for rate in range(1, 5)
    ]
    rows += [
        MeasuredQuantity(
            "active_energy_absolute",
            Unit.WATT_HOUR,
            lambda source, scaler: scaled_energy(
                source.energies().active_import_nj + source.energies().active_export_nj, scaler
            ),
        ),
        MeasuredQuantity(
            "active_energy_net",
            Unit.WATT_HOUR,
            lambda source, scaler: scaled_energy(
                source.energies().active_import_nj - source.energies().active_export_nj, scaler
            ),
        ),
        _of_instant("active_power_import", Unit.WATT, lambda now: max(0.0, now.active_power_w)),
        _of_instant("active_power_export", Unit.WATT, lambda now: max(0.0, -now.active_power_w)),
        _of_instant("active_power_net", Unit.WATT, lambda now: now.active_power_w),
        _of_instant("reactive_power_import", Unit.VAR, lambda now: max(0.0, now.reactive_power_var)),
        _of_instant("reactive_power_export", Unit.VAR, lambda now: max(0.0, -now.reactive_power_var)),
        _of_instant(
            "apparent_power_import", Unit.VOLT_AMPERE, lambda now: _apparent_va(now) if now.active_power_w >= 0 else 0.0
        ),
        _of_instant(
            "apparent_power_export", Unit.VOLT_AMPERE, lambda now: _apparent_va(now) if now.active_power_w < 0 else 0.0
        ),
        _of_instant("power_factor", Unit.COUNT, lambda now: now.power_factor),
        _of_instant("frequency", Unit.HERTZ, lambda now: now.frequency_hz),
        _of_instant("current_sum", Unit.AMPERE, lambda now: sum(phase.current_a for phase in now.phases)),
        _of_instant("current_neutral", Unit.AMPERE, _neutral_current_a),
    ]
    for index in range(3):
        line = f"l{index + 1}"
        rows += [
            _of_phase(f"voltage_{line}", Unit.VOLT, index, lambda phase: phase.voltage_v),
            _of_phase(f"current_{line}", Unit.AMPERE, index, lambda phase: phase.current_a),
            _of_phase(f"active_power_import_{line}", Unit.WATT, index, lambda phase: max(0.0, phase.active_power_w)),
            _of_phase(f"active_power_export_{line}", Unit.WATT, index, lambda phase: max(0.0, -phase.active_power_w)),
            _of_phase(
                f"reactive_power_import_{line}", Unit.VAR, index, lambda phase: max(0.0, phase.reactive_power_var)
            ),
            _of_phase(
                f"reactive_power_export_{line}", Unit.VAR, index, lambda phase: max(0.0, -phase.reactive_power_var)
            ),
            _of_phase(f"apparent_power_{line}", Unit.VOLT_AMPERE, index, lambda phase: phase.apparent_power_va),
            _of_phase(f"power_factor_{line}", Unit.COUNT, index, _phase_power_factor),
            _of_phase(f"phase_angle_{line}", Unit.DEGREE, index, _phase_angle_deg),
        ]
    for name, unit, field in _DEMANDS:
        rows += [
            MeasuredQuantity(
                f"{name}_running",
                unit,
                lambda source, scaler, field=field: _milli(source.running_demand_mw(field), scaler),  # type: ignore[misc]
            ),
            MeasuredQuantity(
                f"{name}_last",
                unit,
                lambda source, scaler, field=field: _milli(source.demands[field].last_mw, scaler),  # type: ignore[misc]
            ),
            MeasuredQuantity(
                f"{name}_maximum",
                unit,
                lambda source, scaler, field=field: _milli(source.demands[field].maximum_mw, scaler),  # type: ignore[misc]
            ),
        ]
    return rows


def _milli(value: int, scaler: int) -> int:
    return scaled(value / 1000, scaler)


QUANTITIES = {row.name: row for row in _all()}


def phases_needed(name: str) -> int:
    """How many phases a meter must have to measure this."""
    return int(name[-1]) if name.endswith(("_l2", "_l3")) else 1
