"""Meters that have been in service before a run begins: their profiles and logs, as flash keeps them."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

from meters.firmware.partitions import EVENT_LOGS, PROFILES
from meters.hardware.flash import Flash
from meters.meter import Meter, MeterHardware
from twin.clock.clocks import VirtualClock
from twin.clock.seeds import SeededKeys
from twin.rigs.meters import RigMeter


def serve(meter: RigMeter, until_utc_s: float, hours: float) -> None:
    """Give a meter that has no power yet the rows of `hours` in service up to `until_utc_s`, captured by its own
    firmware in virtual time, away from any mesh."""
    clock = VirtualClock(datetime.fromtimestamp(until_utc_s - hours * 3600.0, UTC))
    provision = meter.provision
    hardware = MeterHardware.for_model(
        provision.model, clock, clock.timers, meter.household, random.Random(provision.settings.serial), crystal_ppm=0.0
    )
    double = Meter(
        provision.model,
        provision.identity,
        provision.keys,
        hardware,
        timers=clock.timers,
        rng=random.Random(1),
        key_source=SeededKeys(b"in service"),
    )
    double.power_on()
    clock.run(asyncio.sleep(hours * 3600.0))
    double.power_off()
    _copy(double.flash, meter.flash)


def _copy(source: Flash, target: Flash) -> None:
    """What was captured, and nothing else: keys and counters are the meter's own."""
    page_bytes = target.geometry.page_bytes
    for partition in (PROFILES, EVENT_LOGS):
        for offset in range(partition.offset_bytes, partition.end_bytes, page_bytes):
            target.program(offset, source.read(offset, page_bytes))
