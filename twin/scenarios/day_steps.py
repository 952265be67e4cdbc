"""Steps of the day: profiles by range (use case III), pushes and bundles (IV)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from protocols.headend.bulk import BundleStatus
from twin.conformance.verdicts import Record, at_least, at_most, equals
from twin.hes.profile_tables import BundleRecord
from twin.hes.tables import MeterState
from twin.rigs.flash_rows import compare, flash_rows
from twin.rigs.meters import RigMeter
from twin.rigs.rig import Rig
from twin.scenarios.steps import SkipStep, step

_DAY_S = 86_400.0
_PROFILES = ("load", "daily", "billing")
_BUNDLE_S = 2 * 3600.0
"""After midnight, by when the bundle must be in the database: pushes, pulls, patience with the unreachable, uplink."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over meters of `twin.rigs.flash_rows.Comparison`."""

    on_flash: int
    missing: int
    invented: int
    doubled: int


def compare_all(rig: Rig, until_utc_s: float) -> Totals:
    """Every row of every meter that runs: flash against database."""
    found = [compare(meter, rig.hes.store.profiles, until_utc_s) for meter in rig.meters.values() if meter.alive]
    return Totals(
        sum(item.on_flash for item in found),
        sum(item.missing for item in found),
        sum(item.invented for item in found),
        sum(item.doubled for item in found),
    )


def hold_rows(record: Record, totals: Totals) -> None:
    """Every row once, none lost, none invented."""
    record.measure("rows on the meters' flash", totals.on_flash, limit=at_least(1))
    record.measure("rows that the database lacks", totals.missing, limit=equals(0))
    record.measure("rows that no meter has", totals.invented, limit=equals(0))
    record.measure("rows that are there twice", totals.doubled, limit=equals(0))


def midnight_after(rig: Rig, utc_s: float) -> float:
    """The next local midnight, UTC."""
    offset_s = -60 * next(iter(rig.meters.values())).provision.model.time_zone_deviation_min
    return ((utc_s + offset_s) // _DAY_S + 1) * _DAY_S - offset_s


async def sleep_until(rig: Rig, utc_s: float) -> None:
    """Until true time is there; at once if it is past."""
    await asyncio.sleep(max(0.0, utc_s - rig.clock.utc_s()))


def stored_bundles(rig: Rig) -> list[BundleRecord]:
    """Those that are in the database."""
    return [row for row in rig.hes.store.profiles.bundles() if row.status == BundleStatus.STORED]


async def next_bundle(rig: Rig) -> bool:
    """Wait until one more bundle is in the database."""
    counts = rig.trace.counts
    before = counts.get("hes.bundle", 0)
    return await rig.until(lambda: counts.get("hes.bundle", 0) > before, timeout_s=_BUNDLE_S)


@step("hours go by", timeout_s=400 * _DAY_S)
async def time_passes(rig: Rig, record: Record, hours: float) -> None:
    """Nobody asks for anything; meters capture, and the mesh keeps its routes."""
    if not rig.virtual:
        raise SkipStep("hours need the virtual clock")
    before = len(flash_rows(next(iter(rig.meters.values()))))
    await asyncio.sleep(hours * 3600.0)
    after = len(flash_rows(next(iter(rig.meters.values()))))
    record.measure("rows that the first meter has captured meanwhile", after - before, limit=at_least(1))


@step("use case III: the operator reads profiles by range", timeout_s=4 * 3600.0, requirement="UC-III.1")
async def profiles_by_range(rig: Rig, record: Record, hours: float = 24.0) -> None:
    """Load, daily and monthly profile of every meter, compared with its flash; then again: nothing doubles."""
    end_s = rig.clock.utc_s()
    start_s = end_s - hours * 3600.0
    alive = [meter for meter in rig.meters.values() if meter.alive]
    started_s = rig.clock.now()
    first = await asyncio.gather(*(_read_all(rig, meter, start_s, end_s) for meter in alive))
    record.measure("requests answered", sum(item.answered for item in first), limit=equals(len(_PROFILES) * len(alive)))
    record.measure("time for all", rig.clock.now() - started_s, unit="s")
    wrong = sum(item.wrong for item in first)
    record.measure("rows in the answers", sum(item.rows for item in first), limit=at_least(len(alive)))
    record.measure("rows that are not as on flash", wrong, limit=equals(0))
    again = await _read_all(rig, alive[0], start_s, end_s)
    record.measure("new rows when a range is read again", again.added, limit=equals(0))
    record.measure("rows of it that are there twice", again.wrong, limit=equals(0))


@dataclass(slots=True)
class _RangeReading:
    answered: int = 0
    rows: int = 0
    added: int = 0
    wrong: int = 0


async def _read_all(rig: Rig, meter: RigMeter, start_s: float, end_s: float) -> _RangeReading:
    """All profiles of a range; `wrong` counts rows missing or invented against the meter's flash."""
    total = _RangeReading()
    for name in _PROFILES:
        result = await rig.hes.read_profile(meter.serial, name, start_s, end_s)
        total.answered += result.is_ok
        total.rows += len(result.rows)
        total.added += result.request["rows"]
        obis = {row.obis for row in rig.hes.store.profiles.rows(meter.serial, name)}
        kept = sorted(
            row.captured_utc_ms
            for row in flash_rows(meter)
            if row.obis in obis and start_s * 1000 <= row.captured_utc_ms <= end_s * 1000
        )
        stored = sorted(
            row.captured_utc_ms or 0
            for row in rig.hes.store.profiles.rows(meter.serial, name, round(start_s * 1000), round(end_s * 1000))
        )
        total.wrong += len(set(kept) ^ set(stored)) + abs(len(kept) - len(stored))
    return total


@step("a gap in a profile is marked", timeout_s=6 * 3600.0, requirement="UC-III.2")
async def gap_is_marked(rig: Rig, record: Record, meter: str, off_hours: float = 2.0, shift_s: float = 400.0) -> None:
    """Power fails for some periods and the clock is set: the range shows both, and the rows around them say why."""
    target = rig.meter(meter)
    started_s = rig.clock.utc_s()
    await asyncio.sleep(1800.0)
    target.power_off()
    await asyncio.sleep(off_hours * 3600.0)
    target.power_on()
    await rig.until(lambda: rig.mesh.operational(meter), timeout_s=600.0)
    await asyncio.sleep(2400.0)
    firmware = target.meter.firmware
    if firmware is not None:
        firmware.services.clock.set_utc(firmware.services.clock.utc_s() + shift_s)
    await asyncio.sleep(2400.0)
    result = await rig.hes.read_profile(target.serial, "load", started_s, rig.clock.utc_s())
    record.measure("status", result.status, limit=equals("ok"))
    record.measure("gaps in the range", len(result.gaps), limit=at_least(1))
    causes = [gap["cause"] for gap in result.gaps]
    record.measure("gaps that a power failure explains", causes.count("power-failure"), limit=equals(1))
    marks = [mark for row in result.rows for mark in row["marks"]]
    record.measure("rows marked for a power failure", marks.count("power-up"), limit=at_least(1))
    record.measure("rows marked for a change of the clock", marks.count("clock-adjusted"), limit=at_least(1))
    record.measure("rows marked as not valid", marks.count("data-not-valid"), limit=at_least(2))


@step("use case IV: the day is pushed, bundled and stored", timeout_s=40 * _DAY_S, requirement="UC-IV.1")
async def daily_bundle(rig: Rig, record: Record, days: int | None = None) -> None:
    """For `days`, or the scenario's parameter of that name, or one day.

    Meters push behind midnight, each at its own moment; the DCU adds what is missing and uploads one bundle.
    """
    if days is None:
        days = int(rig.loaded.values.get("days", 1))
    pushes: list[float] = []
    midnight_s = midnight_after(rig, rig.clock.utc_s())

    def note(kind: str, fields: dict[str, object]) -> None:
        if kind == "dcu-push":
            pushes.append(rig.clock.utc_s())

    rig.trace.listeners.append(note)
    before = len(stored_bundles(rig))
    for _ in range(days):
        midnight_s = midnight_after(rig, rig.clock.utc_s())
        await sleep_until(rig, midnight_s)
        pushes.clear()
        await next_bundle(rig)
    rig.trace.listeners.remove(note)
    bundles = stored_bundles(rig)
    record.measure("bundles stored, one a day", len(bundles) - before, limit=equals(days))
    record.measure("notifications of the last night", len(pushes), limit=at_least(len(rig.meters)))
    spread_s = max(pushes, default=0.0) - min(pushes, default=0.0)
    record.measure("spread of the pushes", spread_s, unit="s", limit=at_least(30.0))
    last = bundles[-1] if bundles else None
    record.measure("rows in the last bundle", last.rows if last else 0, limit=at_least(1))
    record.measure("rows of it that meters pushed", last.pushed if last else 0, limit=at_least(1))
    record.measure("size of the last bundle", last.size_bytes if last else 0, unit="B")
    record.measure("in the database after midnight", rig.clock.utc_s() - midnight_s, unit="s", limit=at_most(_BUNDLE_S))
    hold_rows(record, compare_all(rig, midnight_s))


@step("a day without uplink, and a power cut of the DCU", timeout_s=4 * _DAY_S, requirement="UC-IV.2")
async def uplink_outage(rig: Rig, record: Record, hours: float = 24.0, dcu_off_s: float = 900.0) -> None:
    """The backhaul is cut; just when the meters push, the DCU loses its power, too. Nothing lost, nothing doubled."""
    if rig.backhaul is None:
        raise SkipStep("the backhaul is real here")
    before = len(stored_bundles(rig))
    midnight_s = midnight_after(rig, rig.clock.utc_s() + 3600.0)
    await sleep_until(rig, midnight_s - hours / 2 * 3600.0)
    cut_s = rig.clock.utc_s()
    rig.backhaul.cut()
    await sleep_until(rig, midnight_s + 60.0)
    rig.dcu.cut_power()
    await asyncio.sleep(dcu_off_s)
    rig.dcu.start()
    await sleep_until(rig, cut_s + hours * 3600.0)
    record.measure("uplink down", (rig.clock.utc_s() - cut_s) / 3600.0, unit="h", limit=at_least(hours))
    record.measure("bundles that came through", len(stored_bundles(rig)) - before, limit=equals(0))
    rig.backhaul.restore()
    back_s = rig.clock.utc_s()
    await next_bundle(rig)
    record.measure("bundle stored after the uplink's return", rig.clock.utc_s() - back_s, unit="s")
    record.measure("bundles stored", len(stored_bundles(rig)) - before, limit=equals(1))
    hold_rows(record, compare_all(rig, midnight_s))


@step("event logs are in the bundle", timeout_s=2 * _DAY_S, requirement="UC-IV.3")
async def logs_in_the_bundle(rig: Rig, record: Record, meter: str, log: str = "log-1", codes: str = "49,50") -> None:
    """What a meter has written into the log about somebody who tampered with it is at the head-end: all these codes."""
    target = rig.meter(meter)
    wanted = {int(code) for code in codes.split(",")}
    rows = rig.hes.store.profiles.rows(target.serial, log)
    found = [int(json.loads(row.values_json)[0]) for row in rows]
    record.measure("tamper events of the meter at the head-end", sum(code in wanted for code in found))
    record.measure("kinds of them", len(wanted & set(found)), limit=equals(len(wanted)))
    from_bundles = {row.source for row in rows} & {bundle.bundle_id for bundle in stored_bundles(rig)}
    record.measure("bundles that brought them", len(from_bundles), limit=at_least(1))
    logs = {row.name for row in rig.hes.store.profiles.all_rows(target.serial) if row.name.startswith("log-")}
    record.measure("logs of the meter with events", ", ".join(sorted(logs)))


@step("a blackout: the feeder is cut and returns", timeout_s=_DAY_S, requirement=("UC-I.4", "UC-III.2"))
async def blackout(rig: Rig, record: Record, off_s: float = 3600.0, within_s: float = 1800.0) -> None:
    """Every meter loses its power at the same moment, the DCU goes on. All register again, with one row each."""
    before = {meter.serial: len(rig.hes.registrations(meter.serial)) for meter in rig.meters.values()}
    for meter in rig.meters.values():
        meter.power_off()
    await asyncio.sleep(off_s)
    record.measure("meters without power", sum(not meter.meter.running for meter in rig.meters.values()))
    gasps = {event.serial for event in rig.hes.events(kind="meter-alarm")}
    record.measure("meters whose last gasp was heard, their relays dying, too", len(gasps))
    for meter in rig.meters.values():
        meter.power_on()
    back_s = rig.clock.now()

    def again() -> int:
        return sum(len(rig.hes.registrations(serial)) > count for serial, count in before.items())

    await rig.until(lambda: again() == len(before), timeout_s=within_s)
    record.measure("meters that registered again", again(), limit=equals(len(before)))
    record.measure("time until the last one was back", rig.clock.now() - back_s, unit="s", limit=at_most(within_s))
    registered = [row for row in rig.hes.meters() if row.state == MeterState.REGISTERED]
    record.measure("rows of meters at the head-end", len(registered), limit=equals(len(before)))


@step("a blackout is marked in every load profile", timeout_s=4 * 3600.0, requirement="UC-III.2")
async def gaps_of_all(rig: Rig, record: Record, hours: float = 6.0) -> None:
    """Two periods later the operator reads every meter's range: one gap each, explained by the power failure."""
    await asyncio.sleep(3700.0)
    end_s = rig.clock.utc_s()
    meters = list(rig.meters.values())
    results = await asyncio.gather(
        *(rig.hes.read_profile(meter.serial, "load", end_s - hours * 3600.0, end_s) for meter in meters)
    )
    record.measure("ranges answered", sum(result.is_ok for result in results), limit=equals(len(meters)))
    explained = sum("power-failure" in [gap["cause"] for gap in result.gaps] for result in results)
    record.measure("profiles with a gap that a power failure explains", explained, limit=equals(len(meters)))
    marked = sum(any("power-up" in row["marks"] for row in result.rows) for result in results)
    record.measure("profiles with a row marked for the power failure", marked, limit=equals(len(meters)))
