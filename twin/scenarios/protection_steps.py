"""Steps of the leakage protection: tables fired at the bench, and trips of meters in the mesh, up to the head-end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from grid.faults import CONFLICTS, FAULT_TABLE, Expectation
from protocols.leakage_protection import SafetyState
from twin.conformance.verdicts import Record, Verdict, at_least, at_most, equals, one_of
from twin.hes.hes import SupplyResult
from twin.rigs.meters import RigMeter
from twin.rigs.rig import DCU_NODE, Rig
from twin.scenarios.steps import SkipStep, step

if TYPE_CHECKING:
    from twin.protection.shots import Shot
    from twin.protection.summary import SummaryRow

_LIMIT_MS = 40.0
_HZ = (45.0, 50.0, 52.0)
_SETTLE_S = 1.0
_TELL_S = 120.0
_REQUIREMENT_OF = {"ac": "30 mA AC (SAF-1)", "dc": "6 mA smooth DC (SAF-2)"}


# the tables, at the bench


@step("every row that must trip is isolated within 40 ms", timeout_s=3600.0, requirement=("SAF-1", "SAF-2", "SAF-3"))
async def table_must_trip(rig: Rig, record: Record, frequencies_hz: Sequence[float] = _HZ) -> None:
    """Every waveform in both directions, at onset phases all around the cycle, with the reference meter's relay."""
    from twin.protection.bench import run_shot
    from twin.protection.plots import plot_table
    from twin.protection.shots import ShotResult

    phases, everything = _phases(rig), []
    for row in FAULT_TABLE:
        if row.trip_ma is None:
            continue
        results: list[ShotResult] = []
        for ma in (row.trip_ma, -row.trip_ma):
            for hz in frequencies_hz:
                results += run_shot(_shot(row.waveform, ma, hz, phases, rig))
        isolated = [result.isolate_ms for result in results if result.isolate_ms is not None]
        name = _REQUIREMENT_OF.get(row.waveform, f"{row.trip_ma:g} mA {row.waveform}")
        record.measure(f"{name}: isolated of {len(results)}", len(isolated), limit=equals(len(results)))
        record.measure(f"{name}: worst isolation", max(isolated, default=None), unit="ms", limit=at_most(_LIMIT_MS))
        everything += results
    _attach(
        rig, record, "trip-times.png", plot_table(everything, f"{len(everything)} shots, the reference meter's relay")
    )


@step("nothing that must not trip does", timeout_s=3600.0, requirement="SAF-4")
async def table_must_hold(rig: Rig, record: Record, frequencies_hz: Sequence[float] = _HZ) -> None:
    """The table's currents that must not trip, surges, ring waves and switch-on currents, in both directions."""
    from twin.protection.bench import run_shot

    phases = _phases(rig)
    for row in FAULT_TABLE:
        if row.hold_ma is None:
            continue
        results = []
        for ma in (row.hold_ma, -row.hold_ma):
            for hz in frequencies_hz:
                results += run_shot(_shot(row.waveform, ma, hz, phases, rig, duration_s=0.3))
        tripped = sum(result.tripped for result in results)
        judged = sum(result.expected is Expectation.HOLD for result in results)
        record.measure(f"{row.hold_ma:g} mA {row.waveform}: trips of {judged}", tripped, limit=equals(0))


@step("relays that cannot comply fail by name", timeout_s=3600.0, requirement="SAF-3")
async def relays_compared(rig: Rig, record: Record, frequencies_hz: Sequence[float] = _HZ) -> None:
    """MOSFET must comply everywhere; of thyristor and contactor the table says where they do, and why they do not."""
    from grid.loads import Load
    from meters.hardware.relay import RELAY_MODELS
    from twin.protection.bench import run_shot
    from twin.protection.plots import plot_table
    from twin.protection.summary import summarize

    phases, everything = _phases(rig), []
    for name, model in RELAY_MODELS.items():
        rows: list[SummaryRow] = []
        for fault in FAULT_TABLE:
            if fault.trip_ma is None:
                continue
            for hz in frequencies_hz:
                results = run_shot(replace(_shot(fault.waveform, fault.trip_ma, hz, phases, rig), relay=model))
                everything += results
                rows += summarize(results)
        # Without a load nothing but the fault's own current goes through the poles: direct current has no zero.
        bare = run_shot(replace(_shot("dc", 60.0, 50.0, phases, rig), relay=model, load=Load(0.0)))
        rows += summarize(bare)
        failed = [row for row in rows if row.verdict is not Verdict.PASS]
        limit = equals(0) if name == "mosfet" else None
        record.measure(f"{name}: shots of {len(rows)} that do not comply", len(failed), limit=limit)
        for row in failed:
            figure = "not isolated" if row.worst_isolate_ms is None else f"{row.worst_isolate_ms:.1f} ms"
            record.measure(f"{name}: {row.ma:g} mA {row.waveform} at {row.hz:g} Hz", f"{figure}: {row.reason}")
        explained = sum("limit is" in row.reason or "NOT ISOLATED" in row.reason for row in failed)
        record.measure(f"{name}: of them, with the figure or the reason", explained, limit=equals(len(failed)))
        stuck = sum("NOT ISOLATED" in result.reason for result in bare)
        expected = phases if name == "thyristor" else 0
        record.measure(f"{name}: 60 mA DC without a load, not isolated of {phases}", stuck, limit=equals(expected))
    _attach(rig, record, "relays.png", plot_table(everything, f"{len(everything)} shots, by relay"))


@step("sensors of type A and AC are blind to smooth DC", timeout_s=600.0, requirement="SAF-9")
async def blind_sensors(rig: Rig, record: Record) -> None:
    """They fail SAF-2 by name, and see 30 mA AC all the same."""
    from meters.hardware.leakage_sensor import SENSOR_MODELS
    from twin.protection.bench import run_shot

    phases = _phases(rig)
    for kind in ("type-b", "type-a", "type-ac"):
        sensor = SENSOR_MODELS[kind]
        direct = run_shot(replace(_shot("dc", 6.0, 50.0, phases, rig), sensor=sensor))
        alternating = run_shot(replace(_shot("ac", 30.0, 50.0, phases, rig), sensor=sensor))
        blind = sum(result.reason == "did not trip, and must" for result in direct)
        expected = 0 if kind == "type-b" else phases
        record.measure(f"{kind}: 6 mA DC not seen, of {phases}", blind, limit=equals(expected))
        seen = sum(result.verdict is Verdict.PASS for result in alternating)
        record.measure(f"{kind}: 30 mA AC isolated in time, of {phases}", seen, limit=equals(phases))
    for number, conflict in enumerate(CONFLICTS, 1):
        record.measure(f"conflict {number}: {conflict.title}", conflict.decision)


# meters in the mesh


@step("only the faulted tenant line opens", timeout_s=600.0, requirement=("SAF-8", "SAF-1"))
async def one_line_opens(
    rig: Rig, record: Record, meter: str, line: int, waveform: str = "ac", ma: float = 30.0, phase_deg: float = 0.0
) -> None:
    """A leak on one line of several: it is isolated in time, and its neighbours stay on."""
    target = rig.meter(meter)
    before = _lines(target)
    record.measure("lines closed before", sum(before), limit=equals(len(before)))
    await _trip(rig, record, target, waveform, ma, line=line, phase_deg=phase_deg)
    after = _lines(target)
    record.measure("the faulted line is closed", after[line - 1], limit=equals(False))
    record.measure("its neighbours that are closed", sum(after), limit=equals(len(after) - 1))
    record.measure("state of the line", _state(target, line).name.lower(), limit=equals("tripped"))


@step("the trip is at the head-end, with its waveform", timeout_s=600.0, requirement="SAF-7")
async def trip_is_told(rig: Rig, record: Record, meter: str, line: int) -> None:
    """Announced by the meter, fetched by the concentrator, kept by the head-end: sample for sample what the meter's
    flash holds; COMTRADE and PNG in the run folder, read back by an independent package."""
    from twin.hes.trips import samples_ma
    from twin.protection.trip_files import read_back_error_ma, write_trip

    target = rig.meter(meter)
    protection = target.meter.protection
    if protection is None:
        raise SkipStep(f"{meter} has no leakage protection, or no power")
    newest = protection.newest_trip()
    started_s = rig.clock.now()
    await rig.until(lambda: any(row.number == newest for row in rig.hes.trips(target.serial)), timeout_s=_TELL_S)
    rows = [row for row in rig.hes.trips(target.serial) if row.number == newest]
    record.measure("rows of this trip at the head-end", len(rows), limit=equals(1))
    if not rows:
        return
    row, kept = rows[0], protection.trip(newest)
    record.measure("time until it was there", rig.clock.now() - started_s, unit="s", limit=at_most(_TELL_S))
    record.measure("line", row.line, limit=equals(line))
    record.measure("cause", row.cause, limit=one_of("ac", "smooth-dc", "smooth-dc-under-ac"))
    kept_ma = () if kept is None else kept.samples_ma
    received_ma = samples_ma(row)
    same = len(kept_ma) == len(received_ma) and all(
        abs(one - other) < 1e-6 for one, other in zip(kept_ma, received_ma, strict=True)
    )
    record.measure("samples as the meter's flash holds them", same, limit=equals(True))
    record.measure("samples", len(received_ma), limit=at_least(400))
    config, picture = write_trip(row, rig.folder.path)
    error_ma = read_back_error_ma(row, rig.folder.file(config))
    record.measure("COMTRADE read back, largest difference", error_ma, unit="mA", limit=at_most(0.05))
    record.attach(config)
    record.attach(picture)


@step("a remote close is refused while the leak lasts", timeout_s=900.0, requirement="SAF-6")
async def close_is_refused_while_leaking(rig: Rig, record: Record, meter: str, line: int = 1) -> None:
    """From REST to the relay and back: refused with its reason; allowed once it is mended; opened again when the leak
    returns."""
    target = rig.meter(meter)
    if _state(target, line) is not SafetyState.TRIPPED:
        await _trip(rig, record, target, "ac", 30.0, line=line)
    refused = await rig.hes.reconnect(target.serial, line)
    _measure_supply(record, "while it leaks", refused, "refused", connected=False)
    record.measure("reason that the operator gets", refused.reason, limit=equals("leakage-persists"))
    record.measure("the line is closed", _lines(target)[line - 1], limit=equals(False))
    target.leakage.clear(line)
    closed = await rig.hes.reconnect(target.serial, line)
    _measure_supply(record, "once it is mended", closed, "ok", connected=True)
    record.measure("the line is closed then", _lines(target)[line - 1], limit=equals(True))
    await _trip(rig, record, target, "half-wave-90", 42.0, line=line, what="when it returns")
    record.measure("the line is closed after that", _lines(target)[line - 1], limit=equals(False))
    target.leakage.clear(line)
    again = await rig.hes.reconnect(target.serial, line)
    _measure_supply(record, "mended for good", again, "ok", connected=True)


@step("the operator disconnects and reconnects a meter", timeout_s=600.0)
async def operator_switches(rig: Rig, record: Record, meter: str, line: int = 1) -> None:
    """REST, broker, concentrator, ciphered ACTION, relay; and the contacts read back."""
    target = rig.meter(meter)
    opened = await rig.hes.disconnect(target.serial, line)
    _measure_supply(record, "disconnection", opened, "ok", connected=False)
    record.measure("the line is closed after it", _lines(target)[line - 1], limit=equals(False))
    closed = await rig.hes.reconnect(target.serial, line)
    _measure_supply(record, "reconnection", closed, "ok", connected=True)
    record.measure("the line is closed after that", _lines(target)[line - 1], limit=equals(True))


@step("a line trips with everything else dead", timeout_s=3600.0, requirement="SAF-5")
async def trips_alone(rig: Rig, record: Record, meter: str, line: int = 1, within_s: float = 1800.0) -> None:
    """Uplink, concentrator and radio are dead, the application hangs, the supply dips: the line opens in time, and the
    trip is told when the others are back."""
    if rig.backhaul is None:
        raise SkipStep("the concentrator's link cannot be cut here")
    target = rig.meter(meter)
    told = len(rig.hes.trips(target.serial))
    rig.backhaul.cut()
    rig.dcu.cut_power()
    target.meter.halt()
    rig.air.kill(target.name)
    record.measure("the application runs", target.meter.running, limit=equals(False))
    record.measure("the concentrator runs", rig.dcu.alive, limit=equals(False))
    await _trip(rig, record, target, "dc-plus-ac", 6.0, line=line, what="all dead")
    target.leakage.clear(line)
    record.measure("the line is closed", _lines(target)[line - 1], limit=equals(False))
    rig.air.revive(target.name)
    target.meter.reset()
    rig.dcu.start()
    rig.backhaul.restore()
    await rig.until(lambda: len(rig.hes.trips(target.serial)) > told, timeout_s=within_s)
    trips = len(rig.hes.trips(target.serial)) - told
    record.measure("trips told once all are back", trips, limit=equals(1))
    record.measure("nodes alive", rig.air.radio(DCU_NODE).alive and target.alive, limit=equals(True))
    await rig.hes.wait_registered([target.serial], timeout_s=within_s)
    closed = await rig.hes.reconnect(target.serial, line, timeout_s=300.0)
    _measure_supply(record, "reconnection afterwards", closed, "ok", connected=True)


@step("a line trips while its supply dies", timeout_s=600.0, requirement="SAF-5")
async def trips_on_the_capacitor(rig: Rig, record: Record, meter: str, line: int = 1) -> None:
    """Its neutral is lost, and the supply with it: the capacitor is enough for a trip; the line stays open when mains
    is back, as long as it leaks."""
    target = rig.meter(meter)
    target.power_off()
    await _trip(rig, record, target, "ac", 30.0, line=line, what="on the capacitor", settle_s=0.2)
    await asyncio.sleep(5.0)
    record.measure("the meter runs", target.meter.running, limit=equals(False))
    target.power_on()
    await asyncio.sleep(_SETTLE_S)
    record.measure("the line is closed when mains is back", _lines(target)[line - 1], limit=equals(False))
    record.measure("state of the line", _state(target, line).name.lower(), limit=equals("tripped"))
    target.leakage.clear(line)


@step("a dead sensor opens its line", timeout_s=600.0)
async def dead_sensor_opens(rig: Rig, record: Record, meter: str, line: int = 1) -> None:
    """Unplugged, and stuck: fail-safe, told to the operator; a self-test after the repair lets the line be closed."""
    target = rig.meter(meter)
    leakage, disconnector = target.leakage, target.meter.disconnector
    for what, break_, mend in (
        ("unplugged", leakage.unplug_sensor, leakage.plug_sensor),
        ("stuck", leakage.stick_converter, leakage.let_converter_go),
    ):
        break_(line)
        await asyncio.sleep(_SETTLE_S)
        record.measure(f"{what}: the line is closed", _lines(target)[line - 1], limit=equals(False))
        refused = await rig.hes.reconnect(target.serial, line)
        record.measure(f"{what}: reason that the operator gets", refused.reason, limit=equals("sensor-failed"))
        mend(line)
        await asyncio.sleep(_SETTLE_S)
        if disconnector is not None:
            disconnector.press_button()
        await asyncio.sleep(_SETTLE_S)
        closed = await rig.hes.reconnect(target.serial, line)
        _measure_supply(record, f"{what}: after the self-test", closed, "ok", connected=True)


# helpers


def _phases(rig: Rig) -> int:
    return int(rig.value("phases"))


def _shot(waveform: str, ma: float, hz: float, phases: int, rig: Rig, *, duration_s: float = 0.2) -> Shot:
    from grid.waveforms import LineFrequency
    from twin.protection.shots import Shot

    return Shot(
        f"{waveform} {ma:g} mA", waveform, ma, frequency=LineFrequency(hz), phases=phases, duration_s=duration_s,
        seed=rig.options.seed,
    )  # fmt: skip


def _lines(target: RigMeter) -> list[bool]:
    disconnector = target.meter.disconnector
    if disconnector is None:
        raise SkipStep(f"{target.name} cannot switch its supply")
    return [disconnector.is_closed(line) for line in range(1, len(disconnector.relays) + 1)]


def _state(target: RigMeter, line: int) -> SafetyState:
    if target.meter.protection is None:
        raise SkipStep(f"{target.name} has no leakage protection")
    return target.meter.protection.state(line).state


async def _trip(
    rig: Rig, record: Record, target: RigMeter, waveform: str, ma: float, *, line: int, phase_deg: float = 0.0,
    what: str = "", settle_s: float = _SETTLE_S,
) -> None:  # fmt: skip
    """Put the fault on the line, and measure what the relay makes of it."""
    fault = target.leakage.apply(waveform, ma, line=line, phase_deg=phase_deg)
    await asyncio.sleep(settle_s)
    isolation = target.leakage.isolation(fault)
    name = f"{ma:g} mA {waveform}" + (f", {what}" if what else "")
    record.measure(f"{name}: relay told after", isolation.command_ms, unit="ms")
    record.measure(f"{name}: isolated after", isolation.isolate_ms, unit="ms", limit=at_most(_LIMIT_MS))
    if isolation.reason:
        record.measure(f"{name}: why not", isolation.reason)


def _measure_supply(record: Record, what: str, result: SupplyResult, status: str, *, connected: bool) -> None:
    record.measure(f"{what}: answer", result.status, limit=equals(status))
    record.measure(f"{what}: contacts read back as closed", result.connected, limit=equals(connected))
    record.measure(f"{what}: answered after", result.elapsed_s, unit="s")
    if result.detail:
        record.measure(f"{what}: detail", result.detail)


def _attach(rig: Rig, record: Record, name: str, picture: bytes) -> None:
    rig.folder.file(name).write_bytes(picture)
    record.attach(name)
