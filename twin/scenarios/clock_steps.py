"""Steps of use case VI: clocks that drift, are set by broadcast, and are not set by anybody else."""

from __future__ import annotations

import asyncio
import json
import statistics

from dcu.broadcast import BROADCAST_SAP, CLASS_CLOCK, CLOCK
from protocols.dlms.data import octet_string
from protocols.dlms.date_time import DateTime
from protocols.dlms.get import AttributeReference
from protocols.dlms.security.ciphering import GENERAL_GLO, wrap_general
from protocols.dlms.security.gcm import AUTHENTICATED, BROADCAST, ENCRYPTED, Gcm
from protocols.dlms.set import SetRequestNormal
from protocols.meter_identity import SERVER_SAP
from twin.conformance.verdicts import Record, at_least, at_most, equals, within
from twin.hes.clocks import EVENT_RIGHT, EVENT_WRONG
from twin.rigs.clock_pictures import clock_figures
from twin.rigs.meters import RigMeter
from twin.rigs.rig import Rig
from twin.scenarios.steps import SkipStep, step

_LIMIT_S = 2.0
_FIRST_OFF_S = 2.7
_UNCONFIRMED = 0x80


def _alive(rig: Rig) -> list[RigMeter]:
    return [meter for meter in rig.meters.values() if meter.meter.running]


def _off(rig: Rig) -> list[float]:
    return [abs(meter.rtc.offset_s) for meter in _alive(rig)]


@step("use case VI: drift is found in a reading, and every clock is set", timeout_s=3600.0, requirement="UC-VI.2")
async def clocks_are_set(rig: Rig, record: Record, meter: str, within_s: float = 600.0) -> None:
    """At least half of the clocks are off by more than 2 s, one by an hour; a reading finds it; all are set."""
    meters = _alive(rig)
    for number, item in enumerate(meters):
        # Not all: both sides of the limit, and one that no shift can reach.
        item.rtc.advance((-1) ** number * (0.4 if number % 3 == 2 else _FIRST_OFF_S + 3.1 * number))
    rig.meter(meter).rtc.advance(3600.0)
    before = _off(rig)
    beyond = sum(off_s > _LIMIT_S for off_s in before)
    record.measure("clocks off by more than 2 s before", beyond, limit=at_least(len(meters) / 2))
    record.measure("largest offset before", max(before), unit="s")
    rounds = len(rig.hes.events(kind="clocks-synchronized"))
    result = await rig.hes.read_meter(rig.meter(meter).serial)
    record.measure("the reading that finds it", result.status, limit=equals("ok"))
    await rig.until(lambda: len(rig.hes.events(kind="clocks-synchronized")) > rounds, timeout_s=within_s)
    events = rig.hes.events(kind="clocks-synchronized")
    record.measure("rounds reported", len(events) - rounds, limit=at_least(1))
    record.measure("what the DCU reports", events[-1].details_json if events else "nothing")
    told = json.loads(events[-1].details_json) if events else {}
    suites = len({item.provision.keys.suite for item in meters})
    record.measure("multicasts sent, one a security suite", int(told.get("broadcasts", 0)), limit=equals(suites))
    outliers = int(told.get("outliers", len(meters)))
    record.measure("clocks left to unicast", outliers, limit=at_most(len(meters) // 2))
    after = _off(rig)
    rig.figures += clock_figures(before, after)
    record.measure("clocks within 2 s afterwards", sum(off <= _LIMIT_S for off in after), limit=equals(len(meters)))
    record.measure("largest offset after", max(after), unit="s", limit=at_most(_LIMIT_S))
    record.measure("median offset after", statistics.median(after), unit="s")


@step("a forged and a replayed time are refused", timeout_s=600.0, requirement="UC-VI.4")
async def forged_time_is_refused(rig: Rig, record: Record, meter: str) -> None:
    """Under another encryption or authentication key, and under the right ones with a counter that was used: the clock
    stays, the log knows."""
    target = rig.meter(meter)
    firmware = target.meter.firmware
    if firmware is None:
        raise SkipStep(f"{meter} has no power")
    before_s = target.rtc.offset_s
    used = max(firmware.services.security.least_broadcast_counter - 1, 0)
    record.measure("broadcasts that the meter has seen", used, limit=at_least(1))
    keys = firmware.services.security.keys
    genuine = (keys.broadcast or b"", keys.broadcast_authentication or keys.authentication)
    tampered = (((bytes(16), genuine[1]), used + 10), ((genuine[0], bytes(16)), used + 11), (genuine, used))
    for (key, authentication_key), counter in tampered:
        apdu = _time_apdu(rig, key, authentication_key, counter, rig.clock.utc_s() + 7200.0)
        answer = target.meter.handle_apdu(BROADCAST_SAP, SERVER_SAP, apdu, channel="stranger")
        record.measure(f"answer to counter {counter}", answer.hex() if answer else "none", limit=equals("none"))
        await asyncio.sleep(90.0)
    moved_s = target.rtc.offset_s - before_s
    record.measure("the clock has moved by", moved_s, unit="s", limit=within(-0.1, 0.1))
    refusals = firmware.server.refusals
    record.measure("replays refused", refusals["replay"], limit=at_least(1))
    record.measure("all refusals", ", ".join(f"{name} {count}" for name, count in sorted(refusals.items())))


def _time_apdu(rig: Rig, key: bytes, authentication_key: bytes, counter: int, utc_s: float) -> bytes:
    value = octet_string(DateTime.from_utc_s(utc_s).encode())
    plain = SetRequestNormal(_UNCONFIRMED, AttributeReference(CLASS_CLOCK, CLOCK, 2), value).encode()
    control = AUTHENTICATED | ENCRYPTED | BROADCAST
    title, number = rig.parts.dcu_system_title, counter.to_bytes(4, "big")
    sealed = Gcm(key, authentication_key).seal(control, title + number, plain)
    return wrap_general(GENERAL_GLO, title, bytes((control,)) + number + sealed)


@step("a DCU whose clock is wrong is flagged", timeout_s=4 * 3600.0, requirement="UC-VI.5")
async def wrong_dcu_is_flagged(rig: Rig, record: Record, offset_s: float = 5.0) -> None:
    """The head-end compares with network time; and takes the flag back when the clock is right again."""
    dcu_id = rig.scenario.dcu.id
    compared = await rig.until(lambda: rig.hes.store.profiles.clock(dcu_id) is not None, timeout_s=3700.0)
    row = rig.hes.store.profiles.clock(dcu_id)
    record.measure("compared with network time", compared, limit=equals(True))
    record.measure("offset found while it is right", row.offset_s if row else None, unit="s", limit=within(-1.0, 1.0))
    record.measure("flagged while it is right", row.is_flagged if row else None, limit=equals(False))
    await rig.dcu.shift_clock(offset_s)
    rig.hes.service.clocks.check(dcu_id)
    await rig.until(lambda: bool(rig.hes.events(kind=EVENT_WRONG)), timeout_s=60.0)
    row = rig.hes.store.profiles.clock(dcu_id)
    record.measure("flagged when it is wrong", row.is_flagged if row else None, limit=equals(True))
    limit = within(offset_s - 1.0, offset_s + 1.0)
    record.measure("offset found when it is wrong", row.offset_s if row else None, unit="s", limit=limit)
    await rig.dcu.shift_clock(-offset_s)
    rig.hes.service.clocks.check(dcu_id)
    await rig.until(lambda: bool(rig.hes.events(kind=EVENT_RIGHT)), timeout_s=60.0)
    row = rig.hes.store.profiles.clock(dcu_id)
    record.measure("flagged when it is right again", row.is_flagged if row else None, limit=equals(False))


@step("clocks have stayed right", timeout_s=60.0, requirement="UC-VI.2")
async def clocks_stay_right(rig: Rig, record: Record) -> None:
    """Crystals drift by seconds a day at most, and the daily check sets what is beyond 2 s."""
    off = _off(rig)
    worst_day_s = max(abs(meter.rtc.rate_error_ppm) for meter in _alive(rig)) * 86_400e-6
    record.measure("largest drift in a day", worst_day_s, unit="s")
    record.measure("largest offset now", max(off), unit="s", limit=at_most(_LIMIT_S + worst_day_s))
    record.measure("rounds of synchronization", len(rig.hes.events(kind="clocks-synchronized")))
