"""Steps around a meter's case and supply: who tampers is known at the head-end, and who loses the mains says so."""

from __future__ import annotations

import asyncio
import json

from twin.conformance.verdicts import Record, at_least, equals
from twin.rigs.rig import Rig
from twin.scenarios.steps import step

EVENT_ALARM = "meter-alarm"


def alarms_of(rig: Rig, serial: str) -> list[str]:
    """Names of the alarms of a meter that the head-end was told of, in order; several of one message one by one."""
    told = [event for event in rig.hes.events(kind=EVENT_ALARM) if event.serial == serial]
    return [name for event in told for name in json.loads(event.details_json)["alarms"].split()]


@step("tampering with a meter is known at the head-end", timeout_s=600.0, requirement="UC-IV.3")
async def tampering(rig: Rig, record: Record, meter: str, within_s: float = 60.0) -> None:
    """Covers, a magnet, the neutral and swapped currents: one alarm each, and rows in the meter's log."""
    target = rig.meter(meter)
    enclosure, metrology = target.enclosure, target.metrology
    begin = {
        "terminal_cover_opened": enclosure.open_terminal_cover,
        "meter_cover_opened": enclosure.open_meter_cover,
        "magnet_detected": enclosure.apply_magnet,
        "neutral_lost": metrology.lose_neutral,
        "current_reversed": metrology.reverse_current,
    }
    before = len(alarms_of(rig, target.serial))
    metrology_was_reversed = metrology.instant().active_power_w < 0
    record.measure("current reversed before", metrology_was_reversed, limit=equals(False))
    for act in begin.values():
        act()
        await asyncio.sleep(1.0)

    def told() -> list[str]:
        return alarms_of(rig, target.serial)[before:]

    await rig.until(lambda: len(told()) >= len(begin), timeout_s=within_s)
    record.measure("alarms at the head-end", " ".join(sorted(told())), limit=equals(" ".join(sorted(begin))))
    enclosure.close_terminal_cover()
    enclosure.close_meter_cover()
    enclosure.remove_magnet()
    metrology.lose_neutral(False)
    metrology.reverse_current(False)
    await asyncio.sleep(30.0)
    record.measure("alarms when all is over", len(told()), limit=equals(len(begin)))


@step("a meter that loses the mains says so with its last gasp", timeout_s=1800.0, requirement="HW-6")
async def last_gasp(rig: Rig, record: Record, meter: str, off_s: float = 120.0) -> None:
    """The capacitor lasts for one message: it reaches the head-end once."""
    target = rig.meter(meter)
    before = alarms_of(rig, target.serial).count("power_failed")
    record.measure("hops of the meter", rig.mesh.hops(meter), limit=at_least(1))
    target.power_off()
    await asyncio.sleep(off_s)
    record.measure("meter runs", target.meter.running, limit=equals(False))
    heard = alarms_of(rig, target.serial).count("power_failed") - before
    record.measure("last gasps at the head-end", heard, limit=equals(1))
    target.power_on()
    await rig.until(lambda: rig.mesh.operational(meter), timeout_s=900.0)
    heard = alarms_of(rig, target.serial).count("power_failed") - before
    record.measure("last gasps when it is back", heard, limit=equals(1))
