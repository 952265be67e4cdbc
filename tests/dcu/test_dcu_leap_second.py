"""A leap second at the concentrator: the meters, who know nothing of it, are set right behind it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from dcu_fakes import CONFIG, START_UTC_S, FakeUplink, NoRadio
from dcu_fakes import Bench as PlainBench
from dcu_fakes import bench as bench
from profile_fakes import ProfileMeter

import dcu.daemon
from dcu.config import TimePolicy
from dcu.discipline import TimeSample
from dcu.timekeeper import Timekeeper
from protocols.headend.time_check import TimeSource
from twin.clock.seeds import SeededKeys

MIDNIGHT = int(START_UTC_S) + 86_400


def keeper_of(bench: PlainBench) -> Timekeeper:
    return Timekeeper(
        TimePolicy(),
        oscillator_s=bench.loop.time,
        initial_utc_s=START_UTC_S,
        timers=bench.loop,
        trace=bench.trace,
    )


@pytest.mark.requirement("UC-VI.3", "UC-VI.2")
@pytest.mark.parametrize("step_s", [1, -1])
def test_every_clock_is_set_within_seconds_of_a_leap_second(bench: PlainBench, step_s: int) -> None:
    meters = [ProfileMeter(1), ProfileMeter(2)]
    bench.headend.known(*meters)
    keeper = keeper_of(bench)
    config = replace(CONFIG, clocks=replace(CONFIG.clocks, check_after_s=43_200.0))
    concentrator = dcu.daemon.Dcu(
        config,
        loop=bench.loop,
        radio=NoRadio(),
        uplink=FakeUplink(bench.headend),
        storage=bench.storage,
        key_source=SeededKeys(b"dcu"),
        rng=random.Random(1),
        utc_s=keeper.utc_s,
        trace=bench.trace,
        time_quality=keeper.quality,
        timekeeper=keeper,
    )

    async def body() -> None:
        concentrator.start()
        for meter in meters:
            bench.mesh.join(meter)
        await asyncio.sleep(86_400 - 3600)
        keeper.offer(TimeSource.GPS, TimeSample(bench.loop.time(), START_UTC_S + bench.loop.time(), 0.001))
        keeper.announce_leap(MIDNIGHT, step_s)
        keeper.announce_leap(MIDNIGHT, step_s)
        await asyncio.sleep(3500)
        before = [meter.offset_s for meter in meters]
        assert all(abs(offset_s) < 0.5 for offset_s in before)
        for second in range(150):
            await asyncio.sleep(1.0)
            if second < 60:
                keeper.offer(TimeSource.GPS, TimeSample(bench.loop.time(), keeper.utc_s(), 0.001))
        await concentrator.stop()

    bench.run(body)
    # Theirs is the time without the leap second.
    assert all(meter.offset_s == pytest.approx(-step_s, abs=0.6) for meter in meters)
    rounds = [dict(event.details)["why"] for event in bench.headend.events("clocks-synchronized")]
    assert rounds == ["daily check", "leap second"] or rounds == ["leap second"]
