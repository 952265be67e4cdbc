"""Steps of the mesh: towns of many meters, healing, hostile frames, the race."""

from __future__ import annotations

import asyncio
import statistics

from twin.air.convergecast import Convergecast, Load
from twin.clock.seeds import Seeds
from twin.conformance.verdicts import Record, at_least, at_most, equals, within
from twin.hes.tables import MeterState
from twin.rigs.rig import Rig
from twin.scenarios.steps import step

DAY_S = 86_400.0
_READ_DEADLINE_S = 120.0


def _hours_s(rig: Rig) -> float:
    hours = rig.value("hours")
    assert isinstance(hours, int | float)
    return 3600.0 * hours


@step("every meter joins and registers", timeout_s=86_400, requirement=("NET-1", "UC-I.1"))
async def town_registers(rig: Rig, record: Record, within_s: float = 7_200.0) -> None:
    """From power on to the head-end's row, all meters at the same time."""
    started_s, wanted = rig.clock.now(), len(rig.meters)
    await rig.until(lambda: rig.mesh.operational_count > wanted, timeout_s=within_s)
    record.measure("meters in the mesh", sum(map(rig.mesh.operational, rig.meters)), limit=equals(wanted))
    record.measure("time until the last one was in", rig.clock.now() - started_s, unit="s", limit=at_most(within_s))
    await rig.until(lambda: rig.trace.counts.get("hes.registration", 0) >= wanted, timeout_s=within_s)
    record.measure("meters registered", _registered(rig), limit=equals(wanted))
    record.measure("time until the last one was registered", rig.clock.now() - started_s, unit="s")
    hops = [rig.mesh.hops(name) or 0 for name in rig.meters]
    record.measure("mean hops", statistics.fmean(hops))
    record.measure("most hops", max(hops), limit=at_least(1))


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


@step("every node sends to one sink", timeout_s=900)
async def convergecast(rig: Rig, record: Record) -> None:
    """The load that simulators are compared on, on an air of its own beside the rig's."""
    load = Load.race(int(rig.value("nodes")))
    cast = Convergecast(rig.clock.loop, Seeds(rig.options.seed), load)
    await asyncio.sleep(load.end_s)
    done = cast.outcome()
    per_node = (load.last_s - load.first_s) / load.period_s
    expected = per_node * (load.nodes - 1)
    record.measure("datagrams", done.datagrams, limit=within(0.98 * expected, 1.02 * expected))
    record.measure("mean hops", done.mean_hops)
    record.measure("most hops", done.most_hops)
    record.measure("data transmissions", done.data_transmissions, limit=at_least(1))
    record.measure("acknowledgements", done.acknowledgements)
    record.measure("receptions", done.receptions)
    record.measure("retries", done.retries)
    record.measure("datagrams that a node gave up", done.given_up)
    record.measure("datagrams delivered", done.delivered, limit=at_least(1))
    record.measure("delivery ratio", done.delivery_ratio)
