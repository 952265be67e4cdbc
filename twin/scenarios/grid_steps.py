"""Steps of the grid: sun on the feeder, frequencies from end to end, the code's monitor, type tests of inverters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from grid.der.inverter import DerState
from meters.hardware.metrology import NANOJOULES_PER_WH
from protocols.errors import BadInputError
from twin.conformance.verdicts import Record, at_least, at_most, equals, within
from twin.errors import RigError
from twin.hes.hes import ReadResult, ReadValue
from twin.rigs.rig import Rig
from twin.scenarios.steps import SkipStep, step

_HOUR_S = 3600.0
_DAY_S = 86_400.0
_VOLTAGE = "voltage_l1"
_RESOLUTION_V = 0.11
"""A meter tells its voltage in tenths of a volt."""


def _need_virtual(rig: Rig) -> None:
    if not rig.virtual:
        raise SkipStep("hours need the virtual clock")


async def _until_local(rig: Rig, hour: float) -> None:
    """Wait for the next time that it is `hour` where the meters are."""
    offset_s = _local_offset_s(rig)
    local_s = (rig.clock.utc_s() + offset_s) % _DAY_S
    await asyncio.sleep((hour * _HOUR_S - local_s) % _DAY_S)


def _local_offset_s(rig: Rig) -> int:
    return -60 * next(iter(rig.meters.values())).provision.model.time_zone_deviation_min


async def _read_all(rig: Rig, quantities: Sequence[str]) -> dict[str, ReadResult]:
    names = list(rig.meters)
    results = await asyncio.gather(*(rig.hes.read_meter(rig.meters[name].serial, quantities) for name in names))
    return dict(zip(names, results, strict=True))


@step("every meter reads the voltage of its place on the feeder", timeout_s=600, requirement="UC-II.1")
async def feeder_voltage_is_read(rig: Rig, record: Record) -> None:
    """The operator's reading against the power flow, while the reading was under way."""
    before = {name: rig.grid.voltage_pu(name) for name in rig.meters}
    results = await _read_all(rig, (_VOLTAGE,))
    answered = [name for name, result in results.items() if result.is_ok]
    record.measure("meters that answered", len(answered), limit=equals(len(rig.meters)))
    nominal_v = rig.grid.feeder.nominal_v
    errors_v = []
    for name in answered:
        low_pu, high_pu = sorted((before[name], rig.grid.voltage_pu(name)))
        shown_v = float(results[name].values[_VOLTAGE].value)
        errors_v.append(max(low_pu * nominal_v - shown_v, shown_v - high_pu * nominal_v, 0.0))
    single = [
        error for name, error in zip(answered, errors_v, strict=True) if rig.meters[name].metrology.phase_count == 1
    ]
    record.measure("largest difference to the feeder", max(single, default=None), unit="V", limit=at_most(2.0))
    shown = [float(results[name].values[_VOLTAGE].value) for name in answered]
    spread_v = max(shown, default=0.0) - min(shown, default=0.0)
    record.measure("spread of the voltages along the feeder", spread_v, unit="V", limit=at_least(_RESOLUTION_V))


@step("the sun raises the voltage", timeout_s=_DAY_S, requirement="GRID-2")
async def sun_raises_voltage(rig: Rig, record: Record, meter: str, dawn: float = 6.0, noon: float = 12.5) -> None:
    """Without volt-var and volt-watt: the voltage at the feeder's end before sunrise, and at noon."""
    _need_virtual(rig)
    await _until_local(rig, dawn)
    dark_pu = rig.grid.voltage_pu(meter)
    await _until_local(rig, noon)
    bright_pu = rig.grid.voltage_pu(meter)
    plants_w = sum(inverter.active_w for inverter in rig.grid.inverters.values())
    record.measure("what the plants feed in at noon", plants_w / 1000.0, unit="kW", limit=at_least(1.0))
    record.measure(f"voltage at {meter} in the dark", dark_pu, unit="pu", limit=within(0.90, 1.10))
    record.measure(f"voltage at {meter} at noon", bright_pu, unit="pu", limit=at_least(dark_pu + 0.02))


@step("a voltage above 110 % is flagged", timeout_s=600, requirement="GRID-3")
async def high_voltage_is_flagged(rig: Rig, record: Record, meter: str) -> None:
    """The monitor of the grid code, and a reading of the meter itself: both see it."""
    result = await rig.hes.read_meter(rig.meter(meter).serial, (_VOLTAGE,))
    record.measure("reading", result.status, limit=equals("ok"))
    shown_v = float(result.values[_VOLTAGE].value) if result.is_ok else 0.0
    code, nominal_v = rig.grid.code, rig.grid.feeder.nominal_v
    record.measure("voltage that the meter shows", shown_v, unit="V", limit=at_least(code.high_pu * nominal_v))
    flagged = rig.grid.monitor.flagged_meters()
    record.measure(f"{meter} is flagged", meter in flagged, limit=equals(True))
    worst = max((item.worst for item in rig.grid.monitor.voltage_excursions), default=None)
    record.measure("highest steady voltage", worst, unit="pu", limit=at_least(code.high_pu))
    record.measure("meters flagged", ", ".join(flagged))


@step("volt-var and volt-watt bring the voltage back", timeout_s=_DAY_S, requirement=("GRID-2", "GRID-5"))
async def functions_hold_voltage(rig: Rig, record: Record, meter: str, minutes: float = 30.0) -> None:
    """Switched on in every inverter through its SunSpec registers; the sun goes on as before."""
    _need_virtual(rig)
    before_pu, monitor = rig.grid.voltage_pu(meter), rig.grid.monitor
    inverters = rig.grid.inverters
    written = sum(rig.grid.write_register(name, model, "Ena", 1) for name in inverters for model in (705, 706))
    record.measure("registers written and taken", written, limit=equals(2 * len(inverters)))
    await asyncio.sleep(120.0)
    settled_s = rig.clock.utc_s()
    await asyncio.sleep(minutes * 60.0)
    after_pu = rig.grid.voltage_pu(meter)
    record.measure(f"voltage at {meter} before", before_pu, unit="pu")
    record.measure(
        f"voltage at {meter} after", after_pu, unit="pu", limit=at_most(min(before_pu, rig.grid.code.high_pu))
    )
    absorbed_var = -sum(inverter.reactive_var for inverter in inverters.values())
    record.measure("reactive power absorbed", absorbed_var / 1000.0, unit="kvar", limit=at_least(0.1))
    curtailed = [
        item for item in inverters.values() if item.active_w < 0.99 * item.available_pct / 100.0 * item.rating.active_w
    ]
    record.measure("plants that volt-watt curtails", len(curtailed), limit=at_least(1))
    running = sum(item.state is DerState.RUNNING for item in inverters.values())
    record.measure("inverters in service", running, limit=equals(len(inverters)))
    late = [item for item in monitor.voltage_excursions if item.end_s > settled_s + 60.0]
    record.measure("meters outside the band since", len(late), limit=equals(0))


@step("inverters enter service", timeout_s=_DAY_S, requirement="GRID-2")
async def plants_enter_service(rig: Rig, record: Record) -> None:
    """From when their meters got mains: after the delay, along the ramp, and not before."""
    _need_virtual(rig)
    inverters = rig.grid.inverters
    zero_s = rig.clock.utc_s() - rig.clock.now()
    longest_s = max(item.settings.enter.delay_s + item.settings.enter.ramp_s for item in inverters.values())
    done = await rig.until(
        lambda: all(item.state is DerState.RUNNING for item in inverters.values()), timeout_s=longest_s + 300.0
    )
    record.measure("all in service", done, limit=equals(True))
    waits = []
    for name, item in inverters.items():
        powered_s = zero_s + rig.meter(name).settings.installed_at_s
        entered = [event.at_s for event in item.events if event.after is DerState.RAMPING]
        waits.append(rig.grid.began_s + entered[0] - powered_s if entered else -1.0)
    delay_s = max(item.settings.enter.delay_s for item in inverters.values())
    record.measure("shortest wait between mains and export", min(waits), unit="s", limit=at_least(delay_s))
    record.measure("longest wait between mains and export", max(waits), unit="s", limit=at_most(delay_s + 2.0))


@step("in service at every frequency of the code", timeout_s=_DAY_S, requirement="GRID-3")
async def in_service_at(
    rig: Rig, record: Record, points_hz: Sequence[float], rate_hz_per_s: float = 0.5, dwell_s: float = 120.0
) -> None:
    """The frequency goes from point to point and stays. At each: every meter is read, and shows it; every inverter
    feeds in; the DCU works."""
    grid, began = rig.grid, len(rig.grid.monitor.all_outages)
    plants = [name for name, item in grid.inverters.items() if item.state is DerState.RUNNING]
    record.measure("inverters in service before", len(plants), limit=equals(len(grid.inverters)))
    for hz in points_hz:
        over_s = abs(hz - grid.hz) / rate_hz_per_s
        grid.set_frequency(hz, over_s=over_s)
        await asyncio.sleep(over_s + dwell_s)
        results = await _read_all(rig, ("frequency", "active_energy_import"))
        shown = [float(result.values["frequency"].value) for result in results.values() if result.is_ok]
        record.measure(f"{hz:g} Hz: meters that answer", len(shown), limit=equals(len(rig.meters)))
        furthest = max((abs(value - hz) for value in shown), default=None)
        record.measure(
            f"{hz:g} Hz: largest error of the frequency that they show", furthest, unit="Hz", limit=at_most(0.02)
        )
        feeding = sum(item.connected and item.active_w > 0.0 for item in grid.inverters.values())
        record.measure(f"{hz:g} Hz: inverters that feed in", feeding, limit=equals(len(plants)))
        record.measure(f"{hz:g} Hz: the DCU is in service", rig.dcu.alive, limit=equals(True))
    record.measure("outages within the code's frequencies", len(grid.monitor.all_outages) - began, limit=equals(0))


@step("outside the code's frequencies: flagged, and nobody's outage", timeout_s=_DAY_S, requirement="GRID-3")
async def outside_is_flagged(
    rig: Rig, record: Record, hz: float, stay_s: float = 10.0, back_hz: float = 50.0, rate_hz_per_s: float = 0.5
) -> None:
    """Inverters may leave, and come back by their own rules of entering service."""
    grid, monitor = rig.grid, rig.grid.monitor
    excursions, outages = len(monitor.frequency_excursions), len(monitor.all_outages)
    over_s = abs(hz - grid.hz) / rate_hz_per_s
    grid.set_frequency(hz, over_s=over_s)
    await asyncio.sleep(over_s + stay_s)
    left = sum(not item.connected for item in grid.inverters.values())
    record.measure(f"{hz:g} Hz: inverters that left", left, limit=equals(len(grid.inverters)))
    grid.set_frequency(back_hz, over_s=over_s)
    slowest = max(
        (item.settings.enter for item in grid.inverters.values()), key=lambda enter: enter.delay_s + enter.ramp_s
    )
    await asyncio.sleep(over_s + slowest.delay_s + slowest.ramp_s + 120.0)
    back = sum(item.state is DerState.RUNNING for item in grid.inverters.values())
    record.measure("inverters back in service", back, limit=equals(len(grid.inverters)))
    record.measure("excursions flagged", len(monitor.frequency_excursions) - excursions, limit=equals(1))
    worst = monitor.frequency_excursions[-1].worst if monitor.frequency_excursions else None
    record.measure("worst frequency flagged", worst, unit="Hz", limit=within(hz - 0.01, hz + 0.01))
    record.measure("outages charged to equipment", len(monitor.all_outages) - outages, limit=equals(0))


@step("the grid code's monitor judges the run", timeout_s=60, requirement="GRID-3")
async def grid_code(rig: Rig, record: Record, flagged: Sequence[str] = (), frequency_excursions: int = 0) -> None:
    """What lay outside the code over the whole run is what was made to, and nothing else; with the plot."""
    from twin.grid.plots import plot_grid

    monitor, grid = rig.grid.monitor, rig.grid
    grid.energies()
    record.measure("lowest frequency", monitor.lowest_hz, unit="Hz")
    record.measure("highest frequency", monitor.highest_hz, unit="Hz")
    outside = [item for item in monitor.flagged_meters() if item not in flagged]
    record.measure("meters outside 90 to 110 % in steady state", ", ".join(monitor.flagged_meters()) or "none")
    record.measure("of them, not expected", ", ".join(outside) or "none", limit=equals("none"))
    missed = [name for name in flagged if name not in monitor.flagged_meters()]
    record.measure("expected, but not found", ", ".join(missed) or "none", limit=equals("none"))
    record.measure("frequency excursions", len(monitor.frequency_excursions), limit=equals(frequency_excursions))
    away = sorted({item.equipment for item in monitor.all_outages})
    record.measure(
        "equipment out of service within the code's frequencies", ", ".join(away) or "none", limit=equals("none")
    )
    name = "grid.png"
    start_s = rig.clock.utc_s() - rig.clock.now()
    rig.folder.file(name).write_bytes(plot_grid(monitor, grid.feeder.meters, start_s, _local_offset_s(rig)))
    record.attach(name)


@step("energy at the feeder equals meters plus losses", timeout_s=_DAY_S, requirement="UNECE-3")
async def feeder_balance(
    rig: Rig, record: Record, minutes: float = 60.0, stolen_at: str | None = None, stolen_w: float = 0.0
) -> None:
    """The feeder meter against what all meters have counted, exactly, and against their registers as the operator
    reads them. With `stolen_at`, somebody takes power beside that meter: the operator's balance must show it."""
    from twin.grid.balance import Balance

    if stolen_at is not None:
        rig.grid.steal(stolen_at, stolen_w)
    first = await _look_at_energies(rig)
    await asyncio.sleep(minutes * 60.0)
    last = await _look_at_energies(rig)
    if stolen_at is not None:
        rig.grid.steal(stolen_at, 0.0)
    busbar_wh, loss_wh = last.busbar_wh - first.busbar_wh, last.loss_wh - first.loss_wh
    exact = Balance(busbar_wh, last.counted_wh - first.counted_wh, loss_wh)
    read = Balance(busbar_wh, last.read_wh - first.read_wh, loss_wh)
    stolen_wh = last.stolen_wh - first.stolen_wh
    record.measure("energy at the feeder", busbar_wh, unit="Wh")
    record.measure("energy that the meters counted", exact.metered_wh, unit="Wh")
    record.measure("losses of the conductors", loss_wh, unit="Wh", limit=at_least(0.0))
    record.measure("energy beside the meters", stolen_wh, unit="Wh")
    record.measure(
        "feeder less meters, losses and what went beside", exact.unexplained_wh - stolen_wh, unit="Wh",
        limit=within(-0.5, 0.5),
    )  # fmt: skip
    record.measure("meters that the operator has read twice", last.answered, limit=equals(len(rig.meters)))
    record.measure("unexplained for the operator", read.unexplained_wh, unit="Wh")
    record.measure("what the operator lets pass", read.tolerance_wh, unit="Wh")
    record.measure("a discrepancy is flagged", read.is_flagged, limit=equals(stolen_at is not None))


@dataclass(frozen=True, slots=True)
class _Energies:
    """Wh until one moment; `read_wh` is import less export as the operator got it, a few seconds later."""

    busbar_wh: float
    loss_wh: float
    stolen_wh: float
    counted_wh: float
    read_wh: float
    answered: int


async def _look_at_energies(rig: Rig) -> _Energies:
    feeder = rig.grid.energies()
    flown = [meter.metrology.delivered for meter in rig.meters.values()]
    counted_wh = sum(item.active_import_nj - item.active_export_nj for item in flown) / NANOJOULES_PER_WH
    results = await _read_all(rig, ("active_energy_import", "active_energy_export"))
    good = [result.values for result in results.values() if result.is_ok]
    read_wh = sum(_wh(item["active_energy_import"]) - _wh(item["active_energy_export"]) for item in good)
    return _Energies(feeder.busbar_wh, feeder.conductor_loss_wh, feeder.unmetered_wh, counted_wh, read_wh, len(good))


def _wh(value: ReadValue) -> float:
    """Raises RigError for an energy that is none."""
    if value.unit != "Wh" or isinstance(value.value, str):
        raise RigError(f"{value.name} came as {value.value} {value.unit}, not in Wh")
    return float(value.value)


@step("a type test of IEEE 1547.1: ride-through and trips", timeout_s=60, requirement="GRID-1")
async def ride_through_test(rig: Rig, record: Record, name: str) -> None:
    """Played on an inverter of its own, in its own simulated time."""
    _type_test(rig, record, name, "GRID-1")


@step("a type test of IEEE 1547.1: functions", timeout_s=60, requirement="GRID-2")
async def function_test(rig: Rig, record: Record, name: str) -> None:
    """Played on an inverter of its own, in its own simulated time."""
    _type_test(rig, record, name, "GRID-2")


def _type_test(rig: Rig, record: Record, name: str, row: str) -> None:
    from grid.der.procedures import play
    from twin.grid.plots import plot_procedure
    from twin.grid.procedures import procedure_named

    procedure = procedure_named(name)
    if procedure.requirement != row:
        raise BadInputError(f"{name!r} shows {procedure.requirement}, not {row}: use the other step", key="name")
    outcome = play(procedure)
    for finding in outcome.findings:
        record.measure(finding.name, finding.value, unit=finding.unit, limit=within(finding.low, finding.high))
    file = f"{name}.png"
    rig.folder.file(file).write_bytes(plot_procedure(outcome.trace, procedure.title))
    record.attach(file)


@step("a type test of IEEE 1547.1: interoperability", timeout_s=60, requirement="GRID-5")
async def interoperability_test(rig: Rig, record: Record) -> None:
    """Every SunSpec model is there; a setting of each kind is written, read back and effective; nonsense is refused.

    Through the inverter's register interface; that the same is served over Modbus TCP to an independent client is
    shown by the tests of `twin der`.
    """
    from twin.grid.interoperability import check_registers

    for name, value, expected in check_registers():
        record.measure(name, value, limit=equals(expected))
