"""Steps of the uplink: the satellite dies, technologies come and go, a SIM dies, and for a day there is no way."""

from __future__ import annotations

import asyncio
import itertools

from dcu.daemon import EVENT_STORAGE_FULL
from protocols.at import Technology
from twin.backhaul.link import Backhaul
from twin.backhaul.modem import Modem
from twin.conformance.verdicts import Record, at_least, at_most, equals
from twin.rigs.equipment import CELLULAR, SATELLITE
from twin.rigs.rig import Rig
from twin.rigs.uplink_view import UplinkView
from twin.scenarios.day_steps import compare_all, hold_rows, midnight_after, next_bundle, sleep_until, stored_bundles
from twin.scenarios.steps import SkipStep, step

_DAY_S = 86_400.0
_SWITCH_S = 300.0
"""By when the uplink must have found another way: MQTT's keep-alive, the policy's patience, a new session."""
_EVENT_CHANGED, _EVENT_CELLULAR = "uplink-changed", "cellular-changed"


def _devices(rig: Rig) -> tuple[Backhaul, Modem]:
    satellite, modem = rig.equipment.satellite, rig.equipment.modem
    if satellite is None or modem is None:
        raise SkipStep("this concentrator has one way only; give it dcu.modem: true")
    return satellite, modem


def _view(rig: Rig) -> UplinkView:
    if rig.uplink_view is None:
        raise SkipStep("the concentrator's way cannot be seen from here")
    return rig.uplink_view


def _way(rig: Rig) -> str:
    """By which way the concentrator is connected now; seen on the trace of its own traffic."""
    return _view(rig).connected_by


async def _connected_by(rig: Rig, way: str, timeout_s: float) -> bool:
    return await rig.until(lambda: _way(rig) == way, timeout_s=timeout_s)


async def _read(rig: Rig, record: Record, when: str) -> None:
    """An operator's reading shows that the way carries both directions."""
    meter = next(meter for meter in rig.meters.values() if meter.alive)
    result = await rig.hes.read_meter(meter.serial, timeout_s=120.0)
    record.measure(f"a reading {when}", result.status, limit=equals("ok"))


@step(
    "the satellite dies in mid-bundle, and cellular finishes it", timeout_s=3 * _DAY_S, requirement=("NET-5", "UC-IV.2")
)
async def satellite_dies_in_mid_bundle(rig: Rig, record: Record) -> None:
    """Cut while the bundle's bytes are on the link. The same session goes on over cellular; nothing lost or doubled."""
    satellite, _ = _devices(rig)
    record.measure("connected by, before", _way(rig), limit=equals(SATELLITE))
    before, resumed = len(stored_bundles(rig)), _view(rig).sessions_resumed
    midnight_s = midnight_after(rig, rig.clock.utc_s())
    await sleep_until(rig, midnight_s)
    made = rig.trace.counts.get("dcu-bundle", 0)
    await rig.until(lambda: rig.trace.counts.get("dcu-bundle", 0) > made, timeout_s=2 * 3600.0)
    await asyncio.sleep(satellite.profile.round_trip_s / 4)
    on_link = satellite.pending_packets
    satellite.cut()
    cut_s = rig.clock.now()
    record.measure("packets on the link when it was cut", on_link, limit=at_least(1))
    record.measure("bundles stored by then", len(stored_bundles(rig)) - before, limit=equals(0))
    record.measure("connected by cellular", await _connected_by(rig, CELLULAR, _SWITCH_S), limit=equals(True))
    record.measure("time without a way", rig.clock.now() - cut_s, unit="s", limit=at_most(_SWITCH_S))
    if len(stored_bundles(rig)) == before:
        await next_bundle(rig)
    record.measure("bundles stored", len(stored_bundles(rig)) - before, limit=equals(1))
    record.measure("time until it was stored", rig.clock.now() - cut_s, unit="s")
    record.measure("sessions taken up again", _view(rig).sessions_resumed - resumed, limit=at_least(1))
    hold_rows(record, compare_all(rig, midnight_s))


@step("the technology drops from 4G to 2G and recovers", timeout_s=3 * 3600.0, requirement="HW-4")
async def technology_drops(rig: Rig, record: Record) -> None:
    """4G and 3G fade away, 2G carries, both come back; then 4G registers but carries nothing."""
    _, modem = _devices(rig)
    slot = modem.slot
    seen: list[str] = []
    record.measure("technology before", _technology(modem), limit=equals("4g"))
    for technology, expected in ((Technology.G4, "3g"), (Technology.G3, "2g")):
        modem.signal(slot, technology, -112)
        await _registered(rig, modem, expected)
        await rig.until(lambda: _way(rig) == CELLULAR, timeout_s=_SWITCH_S)
        seen.append(_technology(modem))
        await _read(rig, record, f"over {_technology(modem)}")
    record.measure("technologies as the signal fades", ", ".join(seen), limit=equals("3g, 2g"))
    link = rig.equipment.cellular
    record.measure("the link is then", link.profile.name if link else None, limit=equals("2g"))
    modem.restore_network(slot)
    await _registered(rig, modem, "4g")
    record.measure("technology when the signal is back", _technology(modem), limit=equals("4g"))
    await _read(rig, record, "over 4g again")
    reported = [event.details_json for event in rig.hes.events(kind=_EVENT_CELLULAR)]
    record.measure("changes that the head-end was told of", len(reported), limit=at_least(3))


@step(
    "4G registers but carries nothing: an older technology is used, and later 4G again",
    timeout_s=2 * 3600.0,
    requirement="HW-4",
)
async def technology_carries_nothing(rig: Rig, record: Record) -> None:
    """The modem sees nothing wrong. The concentrator finds it out by its own traffic, and tries 4G again later."""
    _, modem = _devices(rig)
    modem.kill_data(modem.slot, Technology.G4)
    await rig.until(lambda: _technology(modem) == "3g" and _way(rig) == CELLULAR, timeout_s=2 * _SWITCH_S)
    record.measure("technology that is used instead", _technology(modem), limit=equals("3g"))
    await _read(rig, record, "over it")
    modem.revive_data(modem.slot)
    back = await rig.until(lambda: _technology(modem) == "4g" and _way(rig) == CELLULAR, timeout_s=3600.0)
    record.measure("4g is used again when it carries again", back, limit=equals(True))
    await _read(rig, record, "over 4g again")


@step("a SIM's network dies, and the other SIM takes over", timeout_s=3600.0, requirement="HW-4")
async def sim_dies(rig: Rig, record: Record, within_s: float = 400.0) -> None:
    """No network for the SIM in use: the other one is selected, and the session goes on over it."""
    _, modem = _devices(rig)
    slot = modem.slot
    modem.lose_network(slot)
    lost_s = rig.clock.now()
    await rig.until(lambda: modem.slot != slot and modem.carries and _way(rig) == CELLULAR, timeout_s=within_s)
    record.measure("SIM in use", modem.slot + 1, limit=equals(2 - slot))
    record.measure("connected by", _way(rig), limit=equals(CELLULAR))
    record.measure("time until then", rig.clock.now() - lost_s, unit="s", limit=at_most(within_s))
    await _read(rig, record, "over the other SIM")
    modem.restore_network(slot)


@step("the satellite is preferred again when it is steady", timeout_s=4 * 3600.0, requirement="NET-5")
async def satellite_returns(rig: Rig, record: Record) -> None:
    """It comes for a moment and is not trusted; it stays, and is taken."""
    satellite, _ = _devices(rig)
    record.measure("connected by, before", _way(rig), limit=equals(CELLULAR))
    changes = len(rig.hes.events(kind=_EVENT_CHANGED))
    satellite.restore()
    await asyncio.sleep(50.0)
    satellite.cut()
    await asyncio.sleep(600.0)
    record.measure("connected by, after a glimpse of the satellite", _way(rig), limit=equals(CELLULAR))
    record.measure("changes meanwhile", len(rig.hes.events(kind=_EVENT_CHANGED)) - changes, limit=equals(0))
    satellite.restore()
    back_s = rig.clock.now()
    await _connected_by(rig, SATELLITE, 2 * 3600.0)
    record.measure("connected by, after its return", _way(rig), limit=equals(SATELLITE))
    record.measure("time until it was taken", rig.clock.now() - back_s, unit="s", limit=at_least(120.0))
    await _read(rig, record, "over the satellite")


@step("a full /opt is said, and costs nothing", timeout_s=2 * _DAY_S, requirement="UC-IV.2")
async def opt_is_full(rig: Rig, record: Record, meter: str) -> None:
    """Over a midnight, and for an hour of it without any way: what comes is kept in memory, and delivered."""
    satellite, modem = _devices(rig)
    opt = rig.dcu.opt
    if opt is None:
        raise SkipStep("the concentrator's storage is a folder of this computer: use --clock virtual, or --dcu qemu")
    before, midnight_s = len(stored_bundles(rig)), midnight_after(rig, rig.clock.utc_s() + 3600.0)
    target = rig.meter(meter)
    await sleep_until(rig, midnight_s - 3600.0)
    await opt.fill()
    await _read(rig, record, "with a full /opt")
    await rig.until(lambda: bool(rig.hes.events(kind=EVENT_STORAGE_FULL)), timeout_s=60.0)
    record.measure("reported to the head-end", len(rig.hes.events(kind=EVENT_STORAGE_FULL)), limit=equals(1))
    satellite.cut()
    for slot in (0, 1):
        modem.lose_network(slot)
    target.power_off()
    await asyncio.sleep(600.0)
    target.power_on()
    await sleep_until(rig, midnight_s)
    record.measure("messages that wait in memory", await rig.dcu.waiting(), limit=at_least(1))
    satellite.restore()
    for slot in (0, 1):
        modem.restore_network(slot)
    await sleep_until(rig, midnight_s + 3600.0)
    record.measure("messages that still wait, with /opt still full", await rig.dcu.waiting(), limit=equals(0))
    await opt.clear()
    if len(stored_bundles(rig)) == before:
        await next_bundle(rig)
    record.measure("bundles stored", len(stored_bundles(rig)) - before, limit=equals(1))
    hold_rows(record, compare_all(rig, midnight_s))


@step(
    "a day without any way, and a power cut of the DCU in the middle",
    timeout_s=4 * _DAY_S,
    requirement=("UC-IV.2", "NET-5"),
)
async def no_way_for_a_day(rig: Rig, record: Record, hours: float = 24.0, dcu_off_s: float = 600.0) -> None:
    """Satellite and both cellular networks are gone. Afterwards everything is delivered, in order per meter, once."""
    satellite, modem = _devices(rig)
    before = len(stored_bundles(rig))
    midnight_s = midnight_after(rig, rig.clock.utc_s() + 3600.0)
    await sleep_until(rig, midnight_s - hours / 2 * 3600.0)
    cut_s = rig.clock.utc_s()
    satellite.cut()
    for slot in (0, 1):
        modem.lose_network(slot)
    await sleep_until(rig, midnight_s + 60.0)
    rig.dcu.cut_power()
    await asyncio.sleep(dcu_off_s)
    rig.dcu.start()
    await sleep_until(rig, cut_s + hours * 3600.0)
    record.measure("without any way", (rig.clock.utc_s() - cut_s) / 3600.0, unit="h", limit=at_least(hours))
    record.measure("bundles that came through", len(stored_bundles(rig)) - before, limit=equals(0))
    modem.restore_network(0)
    modem.restore_network(1)
    back_s = rig.clock.utc_s()
    if len(stored_bundles(rig)) == before:
        await next_bundle(rig)
    record.measure("delivered after the return of a way", rig.clock.utc_s() - back_s, unit="s")
    record.measure("connected by", _way(rig), limit=equals(CELLULAR))
    satellite.restore()
    record.measure("bundles stored", len(stored_bundles(rig)) - before, limit=equals(1))
    await asyncio.sleep(900.0)
    record.measure("messages that still wait", await rig.dcu.waiting(), limit=equals(0))
    hold_rows(record, compare_all(rig, midnight_s))
    record.measure("rows that came before an older one of their meter and table", _out_of_order(rig), limit=equals(0))
    events = [event for event in rig.hes.events() if event.source == rig.scenario.dcu.id]
    reported = rig.trace.counts.get("dcu-event", 0)
    record.measure("events of the DCU at the head-end", len(events), limit=equals(reported))
    moments = [event.time_utc_ms for event in events]
    record.measure("events that came before an older one", _inversions(moments), limit=equals(0))


async def _registered(rig: Rig, modem: Modem, technology: str) -> bool:
    return await rig.until(lambda: _technology(modem) == technology, timeout_s=60.0)


def _technology(modem: Modem) -> str:
    return "none" if modem.technology is None else modem.technology.value


def _out_of_order(rig: Rig) -> int:
    """Rows that bundles brought, by meter and table in the order in which they came to the database."""
    bundles = {bundle.bundle_id for bundle in stored_bundles(rig)}
    wrong = 0
    for meter in rig.meters.values():
        captured: dict[str, list[int]] = {}
        for row in rig.hes.store.profiles.all_rows(meter.serial):
            if row.source in bundles and row.captured_utc_ms is not None:
                captured.setdefault(row.obis, []).append(row.captured_utc_ms)
        wrong += sum(_inversions(times) for times in captured.values())
    return wrong


def _inversions(values: list[int]) -> int:
    return sum(later < earlier for earlier, later in itertools.pairwise(values))
