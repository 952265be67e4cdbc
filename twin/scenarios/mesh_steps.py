"""Steps of the mesh: towns of many meters, healing, hostile frames, the race."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable

from twin.conformance.verdicts import Record, at_least, at_most, equals
from twin.hes.tables import MeterState
from twin.rigs.rig import Rig
from twin.scenarios.steps import step

DAY_S = 86_400.0
_READ_DEADLINE_S = 120.0
_LOOK_EVERY_S = 0.5


def _hours_s(rig: Rig) -> float:
    hours = rig.value("hours")
    assert isinstance(hours, int | float)
    return 3600.0 * hours


@step("every meter joins and registers", timeout_s=86_400, requirement=("NET-1", "UC-I.1"))
async def town_registers(rig: Rig, record: Record, within_s: float = 7_200.0) -> None:
    """From power on to the head-end's row, all meters at the same time."""
    started_s, wanted = rig.clock.now(), len(rig.meters)
    await _settled(rig, lambda: all(map(rig.mesh.operational, rig.meters)), timeout_s=within_s)
    record.measure("meters in the mesh", sum(map(rig.mesh.operational, rig.meters)), limit=equals(wanted))
    record.measure("time until the last one was in", rig.clock.now() - started_s, unit="s", limit=at_most(within_s))
    await _settled(rig, lambda: _registered(rig) >= wanted, timeout_s=within_s)
    record.measure("meters registered", _registered(rig), limit=equals(wanted))
    record.measure("time until the last one was registered", rig.clock.now() - started_s, unit="s")
    hops = [rig.mesh.hops(name) or 0 for name in rig.meters]
    record.measure("mean hops", statistics.fmean(hops))
    record.measure("most hops", max(hops), limit=at_least(1))


async def _settled(rig: Rig, condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Wait for a condition over all meters, looked at twice a second: events come far more often in a town."""
    deadline_s = rig.clock.now() + timeout_s
    while not condition() and rig.clock.now() < deadline_s:
        await asyncio.sleep(_LOOK_EVERY_S)


def _registered(rig: Rig) -> int:
    return sum(row.state == MeterState.REGISTERED for row in rig.hes.meters())


@step("every meter is read every day at its own minute", timeout_s=400 * DAY_S, requirement="UC-II.1")
async def daily_readings(rig: Rig, record: Record) -> None:
    """Until the run is `hours` old: readings are spread evenly over the day. None may be lost."""
    names = list(rig.meters)
    end_s = _hours_s(rig)
    began_s = rig.clock.now()
    outcomes: list[str] = []

    async def read_daily(index: int, name: str) -> None:
        at_s = began_s + 1.0 + (index + 0.5) / len(names) * (min(DAY_S, end_s - began_s) - _READ_DEADLINE_S)
        while at_s < end_s:
            await asyncio.sleep(at_s - rig.clock.now())
            result = await rig.hes.read_meter(rig.meter(name).serial, timeout_s=_READ_DEADLINE_S)
            outcomes.append(result.status)
            at_s += DAY_S

    await asyncio.gather(*(read_daily(index, name) for index, name in enumerate(names)))
    await asyncio.sleep(max(0.0, end_s - rig.clock.now()))
    record.measure("readings asked for", len(outcomes), limit=at_least(len(names)))
    record.measure("readings answered", outcomes.count("ok"), limit=equals(len(outcomes)))
    record.measure("hours", rig.clock.now() / 3600.0, unit="h")
    record.measure("most loaded node on the air", _busiest(rig), unit="%")


def _busiest(rig: Rig) -> float:
    return 100.0 * max(node.worst_hour_duty_cycle for node in rig.air.statistics().nodes)
