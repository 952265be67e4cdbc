"""Steps of the concentrator's clock: disciplined by pulses, in holdover, not led astray, and through a leap second."""

from __future__ import annotations

import asyncio
import json
import math

from dcu.discipline import ClockState
from dcu.station import Station
from dcu.timekeeper import EVENT_HOLDOVER, EVENT_LEAP, EVENT_REFUSED, Timekeeper
from protocols.headend.time_check import TimeSource
from twin.backhaul.gps import GpsReceiver
from twin.clock.leaps import LeapSecond
from twin.conformance.verdicts import Record, at_least, at_most, differs_from, equals
from twin.hes.clocks import EVENT_WRONG
from twin.rigs.dcu import RigDcu
from twin.rigs.rig import Rig
from twin.scenarios.steps import SkipStep, step

_DISCIPLINED_S = 0.001
_DAY_S = 86_400
_LOOK_S = 10.3
"""Not in step with the pulses."""


def _receiver(rig: Rig) -> GpsReceiver:
    if rig.equipment.gps is None:
        raise SkipStep("this concentrator has no GPS receiver; give it dcu.gps: true")
    return rig.equipment.gps


def _station(rig: Rig) -> tuple[Station, Timekeeper]:
    station = rig.dcu.station if isinstance(rig.dcu, RigDcu) else None
    if station is None or station.keeper is None:
        raise SkipStep("the concentrator's clock cannot be seen from here")
    return station, station.keeper


def _offset_s(rig: Rig) -> float:
    """The concentrator's time minus the true one."""
    return _station(rig)[0].utc_s() - rig.clock.utc_s()


async def _worst_offset_s(rig: Rig, seconds: float) -> float:
    """Over a while, looked at again and again."""
    worst_s = abs(_offset_s(rig))
    for _ in range(math.ceil(seconds / _LOOK_S)):
        await asyncio.sleep(_LOOK_S)
        worst_s = max(worst_s, abs(_offset_s(rig)))
    return worst_s


async def _head_end_s_view(rig: Rig, record: Record, source: str) -> None:
    """What the head-end finds when it compares the concentrator's time with its own."""
    dcu_id = rig.scenario.dcu.id
    checked = rig.trace.counts.get("hes.dcu_clock", 0)
    rig.hes.service.clocks.check(dcu_id)
    await rig.until(lambda: rig.trace.counts.get("hes.dcu_clock", 0) > checked, timeout_s=60.0)
    row = rig.hes.store.profiles.clock(dcu_id)
    record.measure("the head-end is told of the source", row.source if row else None, limit=equals(source))
    record.measure("flagged by the head-end", row.is_flagged if row else None, limit=equals(False))


@step("the concentrator's clock is disciplined by GPS pulses", timeout_s=3600.0, requirement="UC-VI.1")
async def clock_is_disciplined(rig: Rig, record: Record, settle_s: float = 900.0) -> None:
    """Its oscillator is off by some ppm; with the receiver's pulses the clock is not."""
    _receiver(rig)
    _, keeper = _station(rig)
    await asyncio.sleep(settle_s)
    worst_s = await _worst_offset_s(rig, 300.0)
    record.measure("oscillator's error", rig.equipment.oscillator.ppm, unit="ppm", limit=at_least(1.0))
    record.measure("state", keeper.state.value, limit=equals(ClockState.DISCIPLINED.value))
    record.measure("rate correction", keeper.frequency_ppm, unit="ppm")
    record.measure("largest true offset in 5 min", worst_s * 1e3, unit="ms", limit=at_most(_DISCIPLINED_S * 1e3))
    record.measure("drift without it in 5 min", abs(rig.equipment.oscillator.ppm) * 300e-3, unit="ms")
    believed_s = keeper.quality().uncertainty_s
    record.measure("believed to be off by at most", believed_s * 1e3, unit="ms", limit=at_least(worst_s * 1e3))
    await _head_end_s_view(rig, record, TimeSource.GPS.value)


@step("without GPS the clock is in holdover, and says how good it is", timeout_s=40 * 3600.0, requirement="UC-VI.1")
async def holdover(rig: Rig, record: Record, hours: float = 4.0, cause: str = "antenna") -> None:
    """The antenna is unplugged or the sky is lost. The rate is kept, the doubt grows, and the truth stays within it."""
    receiver = _receiver(rig)
    _, keeper = _station(rig)
    events = len(rig.hes.events(kind=EVENT_HOLDOVER))
    before_s = keeper.quality().uncertainty_s
    if rig.equipment.ptp is not None:
        rig.equipment.ptp.fall_silent()
    if cause == "antenna":
        receiver.unplug_antenna()
    else:
        receiver.lose_fix()
    honest = True
    for _ in range(math.ceil(hours * 4)):
        await asyncio.sleep(900.0)
        honest = honest and abs(_offset_s(rig)) <= keeper.quality().uncertainty_s
    quality = keeper.quality()
    free_s = abs(rig.equipment.oscillator.ppm) * 1e-6 * hours * 3600.0
    record.measure("state", keeper.state.value, limit=equals(ClockState.HOLDOVER.value))
    record.measure("true offset", abs(_offset_s(rig)) * 1e3, unit="ms", limit=at_most(free_s * 1e3 / 5))
    record.measure("offset without discipline", free_s * 1e3, unit="ms")
    record.measure(
        "believed to be off by at most", quality.uncertainty_s * 1e3, unit="ms", limit=at_least(3 * before_s * 1e3)
    )
    record.measure("the truth was within the belief all the time", honest, limit=equals(True))
    record.measure("reported to the head-end", len(rig.hes.events(kind=EVENT_HOLDOVER)) - events, limit=at_least(1))
    await _head_end_s_view(rig, record, TimeSource.HOLDOVER.value)
    if cause == "antenna":
        states = [json.loads(event.details_json).get("state") for event in rig.hes.events(kind="gps-state")]
        record.measure("what is reported of the receiver", states[-1] if states else None, limit=equals("antenna-open"))
        receiver.plug_antenna()
    else:
        receiver.regain_fix()
    if rig.equipment.ptp is not None:
        rig.equipment.ptp.speak()


@step("PTP takes over from GPS, and gives it back", timeout_s=3600.0, requirement="UC-VI.1")
async def ptp_takes_over(rig: Rig, record: Record, seconds: float = 900.0) -> None:
    """The sky is lost; the grandmaster's time by software time stamps is followed. A master that runs free is not."""
    receiver, master = _receiver(rig), rig.equipment.ptp
    if master is None:
        raise SkipStep("this concentrator has no PTP grandmaster; give it dcu.ptp: true")
    _, keeper = _station(rig)
    receiver.lose_fix()
    await asyncio.sleep(60.0)
    record.measure("source without GPS", keeper.quality().source.value, limit=equals(TimeSource.PTP.value))
    worst_s = await _worst_offset_s(rig, seconds)
    record.measure("largest true offset", worst_s * 1e3, unit="ms", limit=at_most(_DISCIPLINED_S * 1e3))
    record.measure("drift without it", abs(rig.equipment.oscillator.ppm) * seconds * 1e-3, unit="ms")
    master.lose_reference()
    await asyncio.sleep(60.0)
    source = keeper.quality().source.value
    record.measure("source when the master runs free", source, limit=equals(TimeSource.HOLDOVER.value))
    master.regain_reference()
    await asyncio.sleep(60.0)
    record.measure("source when it does not", keeper.quality().source.value, limit=equals(TimeSource.PTP.value))
    receiver.regain_fix()
    await asyncio.sleep(120.0)
    record.measure("source when GPS is back", keeper.quality().source.value, limit=equals(TimeSource.GPS.value))


@step("the clock recovers when GPS is back", timeout_s=3600.0, requirement="UC-VI.1")
async def clock_recovers(rig: Rig, record: Record, within_s: float = 1200.0) -> None:
    """No jump: what holdover left is slewed away."""
    _, keeper = _station(rig)
    steps = keeper.counters["steps"]
    began_s = rig.clock.now()
    await asyncio.sleep(60.0)
    for _ in range(math.ceil(within_s / _LOOK_S)):
        if abs(_offset_s(rig)) <= _DISCIPLINED_S:
            break
        await asyncio.sleep(_LOOK_S)
    worst_s = await _worst_offset_s(rig, 120.0)
    record.measure("state", keeper.state.value, limit=equals(ClockState.DISCIPLINED.value))
    record.measure("time until it was right again", rig.clock.now() - began_s, unit="s", limit=at_most(within_s + 180))
    record.measure("largest true offset then", worst_s * 1e3, unit="ms", limit=at_most(_DISCIPLINED_S * 1e3))
    record.measure("jumps of the clock", keeper.counters["steps"] - steps, limit=equals(0))


@step("a spoofed receiver is not followed", timeout_s=3600.0, requirement=("UC-VI.1", "UC-VI.5"))
async def spoofed_gps(rig: Rig, record: Record, offset_s: float = 5.0, leap_s: int = 1) -> None:
    """A stronger signal tells another time; then a receiver reckons with a wrong number of leap seconds."""
    receiver = _receiver(rig)
    _, keeper = _station(rig)
    wrong = len(rig.hes.events(kind=EVENT_WRONG))
    receiver.spoof(offset_s)
    await _not_led_astray(rig, record, f"signal {offset_s:+g} s")
    receiver.spoof(0.0)
    await _believed_again(record, keeper, f"signal {offset_s:+g} s")
    receiver.mistake_leap(leap_s)
    await _not_led_astray(rig, record, f"{leap_s:+d} leap second")
    receiver.mistake_leap(0)
    await _believed_again(record, keeper, f"{leap_s:+d} leap second")
    flagged = len(rig.hes.events(kind=EVENT_WRONG)) - wrong
    record.measure("flags of the head-end, as the clock stayed right", flagged, limit=equals(0))


async def _not_led_astray(rig: Rig, record: Record, name: str) -> None:
    told = len(rig.hes.events(kind=EVENT_REFUSED))
    worst_s = await _worst_offset_s(rig, 600.0)
    record.measure(f"largest true offset, {name}", worst_s * 1e3, unit="ms", limit=at_most(10.0))
    told = len(rig.hes.events(kind=EVENT_REFUSED)) - told
    record.measure(f"refusals reported, {name}", told, limit=at_least(1))
    source = _station(rig)[1].quality().source.value
    record.measure(f"source meanwhile, {name}", source, limit=differs_from("gps"))


async def _believed_again(record: Record, keeper: Timekeeper, name: str) -> None:
    await asyncio.sleep(60.0)
    record.measure(f"source afterwards, {name}", keeper.quality().source.value, limit=equals("gps"))


@step("a leap second is counted", timeout_s=2 * _DAY_S, requirement="UC-VI.3")
async def leap_second(rig: Rig, record: Record, announced: bool = True) -> None:
    """At the end of the UTC day one second is inserted. The head-end announces it, or the receiver's 23:59:60 tells."""
    _receiver(rig)
    _, keeper = _station(rig)
    events = len(rig.hes.events(kind=EVENT_LEAP))
    midnight_s = (int(rig.clock.utc_s()) // _DAY_S + 1) * _DAY_S
    rig.clock.leaps.insert(LeapSecond(midnight_s, 1))
    if announced:
        rig.hes.service.clocks.announce_leap(midnight_s, 1)
    uniform_s = rig.clock.uniform_s()
    offset_of_leaps_s = uniform_s - rig.clock.utc_s()
    await asyncio.sleep(midnight_s - 30.0 - rig.clock.utc_s())
    before_s = abs(_offset_s(rig))
    # Half a second into 23:59:60, as its number of POSIX is the one of the second before it.
    await asyncio.sleep(30.5)
    inside_s = abs(_offset_s(rig))
    in_leap = rig.clock.leaps.is_inserted(rig.clock.uniform_s())
    await asyncio.sleep(60.0)
    inserted = rig.clock.uniform_s() - rig.clock.utc_s() - offset_of_leaps_s
    record.measure("seconds that the world inserted", inserted, unit="s", limit=equals(1.0))
    record.measure("looked at in 23:59:60", in_leap, limit=equals(True))
    record.measure("true offset before", before_s * 1e3, unit="ms", limit=at_most(_DISCIPLINED_S * 1e3))
    record.measure("true offset in the leap second", inside_s * 1e3, unit="ms", limit=at_most(_DISCIPLINED_S * 1e3))
    after_s = await _worst_offset_s(rig, 120.0)
    record.measure("largest true offset behind it", after_s * 1e3, unit="ms", limit=at_most(_DISCIPLINED_S * 1e3))
    record.measure("state", keeper.state.value, limit=equals(ClockState.DISCIPLINED.value))
    told = [json.loads(event.details_json)["state"] for event in rig.hes.events(kind=EVENT_LEAP)[events:]]
    expected = "announced" if announced else "observed"
    record.measure("how the concentrator came to know", ", ".join(told), limit=equals(expected))
    await _head_end_s_view(rig, record, TimeSource.GPS.value)
