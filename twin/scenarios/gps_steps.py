"""Steps of the concentrator's clock: disciplined by pulses, in holdover, not led astray, and through a leap second."""

from __future__ import annotations

import asyncio
import json
import math

from dcu.discipline import ClockState
from dcu.timekeeper import EVENT_HOLDOVER, EVENT_LEAP, EVENT_REFUSED
from protocols.headend.time_check import TimeSource
from twin.backhaul.gps import GpsReceiver
from twin.clock.leaps import LeapSecond
from twin.conformance.verdicts import Record, at_least, at_most, differs_from, equals
from twin.hes.clocks import EVENT_WRONG
from twin.rigs.maintenance_verbs import ClockReading
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


def _crystal_ppm(rig: Rig) -> float | None:
    """The error of the oscillator that the concentrator counts with; None where that is the host's."""
    return rig.equipment.oscillator.ppm if rig.virtual else None


async def _worst_offset(rig: Rig, seconds: float) -> ClockReading:
    """Over a while, looked at again and again."""
    worst = await rig.dcu.read_clock()
    for _ in range(math.ceil(seconds / _LOOK_S)):
        await asyncio.sleep(_LOOK_S)
        worst = max(worst, await rig.dcu.read_clock(), key=lambda reading: reading.most_s)
    return worst


def _measure_offset(record: Record, name: str, reading: ClockReading, limit_ms: float = _DISCIPLINED_S * 1e3) -> None:
    """The most that it may be: a look over a line takes a while, and what happened meanwhile counts against it."""
    record.measure(name, reading.most_s * 1e3, unit="ms", limit=at_most(limit_ms))


async def _head_end_s_view(rig: Rig, record: Record, source: str) -> None:
    """What the head-end finds when it compares the concentrator's time with its own."""
    dcu_id = rig.scenario.dcu.id
    checked = rig.trace.counts.get("hes.dcu_clock", 0)
    rig.hes.service.clocks.check(dcu_id)
    await rig.until(lambda: rig.trace.counts.get("hes.dcu_clock", 0) > checked, timeout_s=60.0)
    row = rig.hes.store.profiles.clock(dcu_id)
    record.measure("the head-end is told of the source", row.source if row else None, limit=equals(source))
    record.measure("flagged by the head-end", row.is_flagged if row else None, limit=equals(False))


async def _source(rig: Rig) -> str:
    """What the concentrator says that it follows."""
    return (await rig.dcu.read_clock()).source


@step("the concentrator's clock is disciplined by GPS pulses", timeout_s=3600.0, requirement="UC-VI.1")
async def clock_is_disciplined(rig: Rig, record: Record, settle_s: float = 900.0) -> None:
    """Its oscillator is off by some ppm; with the receiver's pulses the clock is not."""
    _receiver(rig)
    await asyncio.sleep(settle_s)
    worst, now = await _worst_offset(rig, 300.0), await rig.dcu.read_clock()
    crystal_ppm = _crystal_ppm(rig)
    if crystal_ppm is not None:
        record.measure("oscillator's error", crystal_ppm, unit="ppm", limit=at_least(1.0))
    record.measure("state", now.state, limit=equals(ClockState.DISCIPLINED.value))
    record.measure("rate correction", now.rate_ppm, unit="ppm")
    _measure_offset(record, "largest true offset in 5 min", worst)
    if crystal_ppm is not None:
        record.measure("drift without it in 5 min", abs(crystal_ppm) * 300e-3, unit="ms")
    believed_ms = now.uncertainty_s * 1e3
    record.measure("believed to be off by at most", believed_ms, unit="ms", limit=at_least(worst.least_s * 1e3))
    await _head_end_s_view(rig, record, TimeSource.GPS.value)


@step("without GPS the clock is in holdover, and says how good it is", timeout_s=40 * 3600.0, requirement="UC-VI.1")
async def holdover(rig: Rig, record: Record, hours: float = 4.0, cause: str = "antenna") -> None:
    """The antenna is unplugged or the sky is lost. The rate is kept, the doubt grows, and the truth stays within it."""
    receiver = _receiver(rig)
    events = len(rig.hes.events(kind=EVENT_HOLDOVER))
    before_s = (await rig.dcu.read_clock()).uncertainty_s
    if rig.equipment.ptp is not None:
        rig.equipment.ptp.fall_silent()
    if cause == "antenna":
        receiver.unplug_antenna()
    else:
        receiver.lose_fix()
    honest = True
    for _ in range(math.ceil(hours * 4)):
        await asyncio.sleep(900.0)
        now = await rig.dcu.read_clock()
        honest = honest and now.least_s <= now.uncertainty_s
    now, crystal_ppm = await rig.dcu.read_clock(), _crystal_ppm(rig)
    record.measure("state", now.state, limit=equals(ClockState.HOLDOVER.value))
    if crystal_ppm is not None:
        free_ms = abs(crystal_ppm) * 1e-3 * hours * 3600.0
        _measure_offset(record, "true offset", now, free_ms / 5)
        record.measure("offset without discipline", free_ms, unit="ms")
    record.measure(
        "believed to be off by at most", now.uncertainty_s * 1e3, unit="ms", limit=at_least(3 * before_s * 1e3)
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
    receiver.lose_fix()
    await asyncio.sleep(60.0)
    record.measure("source without GPS", await _source(rig), limit=equals(TimeSource.PTP.value))
    _measure_offset(record, "largest true offset", await _worst_offset(rig, seconds))
    crystal_ppm = _crystal_ppm(rig)
    if crystal_ppm is not None:
        record.measure("drift without it", abs(crystal_ppm) * seconds * 1e-3, unit="ms")
    master.lose_reference()
    await asyncio.sleep(60.0)
    record.measure("source when the master runs free", await _source(rig), limit=equals(TimeSource.HOLDOVER.value))
    master.regain_reference()
    await asyncio.sleep(60.0)
    record.measure("source when it does not", await _source(rig), limit=equals(TimeSource.PTP.value))
    receiver.regain_fix()
    await asyncio.sleep(120.0)
    record.measure("source when GPS is back", await _source(rig), limit=equals(TimeSource.GPS.value))


@step("the clock recovers when GPS is back", timeout_s=3600.0, requirement="UC-VI.1")
async def clock_recovers(rig: Rig, record: Record, within_s: float = 1200.0) -> None:
    """No jump: what holdover left is slewed away."""
    steps = (await rig.dcu.read_clock()).steps
    began_s = rig.clock.now()
    await asyncio.sleep(60.0)
    for _ in range(math.ceil(within_s / _LOOK_S)):
        if (await rig.dcu.read_clock()).most_s <= _DISCIPLINED_S:
            break
        await asyncio.sleep(_LOOK_S)
    worst, now = await _worst_offset(rig, 120.0), await rig.dcu.read_clock()
    record.measure("state", now.state, limit=equals(ClockState.DISCIPLINED.value))
    record.measure("time until it was right again", rig.clock.now() - began_s, unit="s", limit=at_most(within_s + 180))
    _measure_offset(record, "largest true offset then", worst)
    record.measure("jumps of the clock", now.steps - steps, limit=equals(0))


@step("a spoofed receiver is not followed", timeout_s=3600.0, requirement=("UC-VI.1", "UC-VI.5"))
async def spoofed_gps(rig: Rig, record: Record, offset_s: float = 5.0, leap_s: int = 1) -> None:
    """A stronger signal tells another time; then a receiver reckons with a wrong number of leap seconds."""
    receiver = _receiver(rig)
    wrong = len(rig.hes.events(kind=EVENT_WRONG))
    receiver.spoof(offset_s)
    await _not_led_astray(rig, record, f"signal {offset_s:+g} s")
    receiver.spoof(0.0)
    await _believed_again(rig, record, f"signal {offset_s:+g} s")
    receiver.mistake_leap(leap_s)
    await _not_led_astray(rig, record, f"{leap_s:+d} leap second")
    receiver.mistake_leap(0)
    await _believed_again(rig, record, f"{leap_s:+d} leap second")
    flagged = len(rig.hes.events(kind=EVENT_WRONG)) - wrong
    record.measure("flags of the head-end, as the clock stayed right", flagged, limit=equals(0))


async def _not_led_astray(rig: Rig, record: Record, name: str) -> None:
    told = len(rig.hes.events(kind=EVENT_REFUSED))
    _measure_offset(record, f"largest true offset, {name}", await _worst_offset(rig, 600.0), 10.0)
    told = len(rig.hes.events(kind=EVENT_REFUSED)) - told
    record.measure(f"refusals reported, {name}", told, limit=at_least(1))
    record.measure(f"source meanwhile, {name}", await _source(rig), limit=differs_from("gps"))


async def _believed_again(rig: Rig, record: Record, name: str) -> None:
    await asyncio.sleep(60.0)
    record.measure(f"source afterwards, {name}", await _source(rig), limit=equals("gps"))


@step("a leap second is counted", timeout_s=2 * _DAY_S, requirement="UC-VI.3")
async def leap_second(rig: Rig, record: Record, announced: bool = True) -> None:
    """At the end of the UTC day one second is inserted. The head-end announces it, or the receiver's 23:59:60 tells."""
    _receiver(rig)
    events = len(rig.hes.events(kind=EVENT_LEAP))
    midnight_s = (int(rig.clock.utc_s()) // _DAY_S + 1) * _DAY_S
    rig.clock.leaps.insert(LeapSecond(midnight_s, 1))
    if announced:
        rig.hes.service.clocks.announce_leap(midnight_s, 1)
    uniform_s = rig.clock.uniform_s()
    offset_of_leaps_s = uniform_s - rig.clock.utc_s()
    await asyncio.sleep(midnight_s - 30.0 - rig.clock.utc_s())
    looked_s, before = rig.clock.uniform_s(), await rig.dcu.read_clock()
    # Half a second into 23:59:60, as its number of POSIX is the one of the second before it.
    await asyncio.sleep(looked_s + 30.5 - rig.clock.uniform_s())
    inside = await rig.dcu.read_clock()
    in_leap = rig.clock.leaps.is_inserted(rig.clock.uniform_s())
    await asyncio.sleep(60.0)
    inserted = rig.clock.uniform_s() - rig.clock.utc_s() - offset_of_leaps_s
    record.measure("seconds that the world inserted", inserted, unit="s", limit=equals(1.0))
    record.measure("looked at in 23:59:60", in_leap, limit=equals(True))
    _measure_offset(record, "true offset before", before)
    _measure_offset(record, "true offset in the leap second", inside)
    _measure_offset(record, "largest true offset behind it", await _worst_offset(rig, 120.0))
    record.measure("state", (await rig.dcu.read_clock()).state, limit=equals(ClockState.DISCIPLINED.value))
    told = [json.loads(event.details_json)["state"] for event in rig.hes.events(kind=EVENT_LEAP)[events:]]
    expected = "announced" if announced else "observed"
    record.measure("how the concentrator came to know", ", ".join(told), limit=equals(expected))
    await _head_end_s_view(rig, record, TimeSource.GPS.value)
