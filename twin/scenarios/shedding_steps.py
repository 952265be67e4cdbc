"""Steps of load shedding: groups are disconnected and restored by the system operator, and verified at the meters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from protocols.headend.supply import SupplyAction
from twin.conformance.verdicts import Record, at_least, at_most, equals, within
from twin.rigs.meters import RigMeter
from twin.rigs.rig import Rig
from twin.scenarios.steps import SkipStep, step

_PACE_S = 120.0


def _serials(rig: Rig, names: Sequence[str]) -> list[str]:
    return [rig.meter(name).serial for name in names]


def _is_on(meter: RigMeter) -> bool:
    """Where the contacts of the meter really are, and whether anything can flow."""
    return meter.metrology.flowing


def _members(rig: Rig, group: str) -> list[RigMeter]:
    serials = rig.hes.service.shedding.store.groups().get(group, [])
    return [meter for meter in rig.meters.values() if meter.serial in serials]


@step("the operator makes groups", timeout_s=60, requirement="GRID-4")
async def shedding_groups(rig: Rig, record: Record, groups: dict[str, list[str]]) -> None:
    """Over REST. A group with a meter that nobody knows is refused, and so is a meter in two groups."""
    for group, names in groups.items():
        await rig.hes.define_group(group, _serials(rig, names))
    kept = (await rig.hes.api.get("/api/shedding/groups")).json()
    wanted = {group: _serials(rig, names) for group, names in groups.items()}
    record.measure("groups kept", {item["group"]: item["serials"] for item in kept} == wanted, limit=equals(True))
    first = next(iter(groups.values()))
    for what, serials in (("an unknown meter", ["IHM0000000"]), ("a meter of another group", _serials(rig, first[:1]))):
        answer = await rig.hes.api.put("/api/shedding/groups/wrong", json={"serials": serials})
        record.measure(f"{what} in a group", answer.status_code, limit=equals(422))


@step("a group is disconnected", timeout_s=1800, requirement="GRID-4")
async def group_is_shed(rig: Rig, record: Record, group: str) -> None:
    """Every meter of the group opens, and tells so; the others stay on; the feeder's load falls by theirs."""
    members = _members(rig, group)
    others = [meter for meter in rig.meters.values() if meter not in members]
    before_w, load_w = rig.grid.feeder_w(), sum(meter.metrology.instant().active_power_w for meter in members)
    on_before = sum(map(_is_on, others))
    started_s = rig.clock.now()
    result = await rig.hes.shed(group, SupplyAction.DISCONNECT)
    record.measure("order", result["status"], limit=equals("done"))
    _judge(record, result, members, wanted_on=False)
    record.measure(
        "time until the last one was verified", rig.clock.now() - started_s, unit="s", limit=at_most(_PACE_S)
    )
    record.measure("other meters still on", sum(map(_is_on, others)), limit=equals(on_before))
    fell_w = before_w - rig.grid.feeder_w()
    record.measure("load of the group before", load_w, unit="W")
    slack_w = max(30.0, 0.25 * load_w)
    record.measure("fall of the feeder's load", fell_w, unit="W", limit=within(load_w - slack_w, load_w + slack_w))


@step("a group is restored, one meter after another", timeout_s=3600, requirement="GRID-4")
async def group_is_restored(rig: Rig, record: Record, group: str, stagger_s: float = 10.0) -> None:
    """Contacts close in the group's order, `stagger_s` apart, each verified at the meter."""
    members = _members(rig, group)
    closed_at: dict[str, float] = {}

    def note(meter: RigMeter) -> None:
        if meter.metrology.flowing:
            closed_at.setdefault(meter.name, rig.clock.now())

    listeners = [(meter, lambda meter=meter: note(meter)) for meter in members]
    for meter, listener in listeners:
        meter.metrology.on_change.append(listener)
    result = await rig.hes.shed(group, SupplyAction.RECONNECT, stagger_s=stagger_s)
    for meter, listener in listeners:
        meter.metrology.on_change.remove(listener)
    record.measure("order", result["status"], limit=equals("done"))
    _judge(record, result, members, wanted_on=True)
    times = sorted(closed_at.values())
    gaps = [after - before for before, after in pairwise(times)]
    record.measure("meters that were seen to close", len(times), limit=equals(len(members)))
    if gaps:
        # Each order leaves on time; how long it takes through backhaul and mesh differs by some seconds.
        record.measure("shortest time between two closings", min(gaps), unit="s", limit=at_least(stagger_s / 3.0))
        record.measure("mean time between two closings", sum(gaps) / len(gaps), unit="s",
                       limit=within(0.7 * stagger_s, 1.3 * stagger_s))  # fmt: skip


def _judge(record: Record, result: dict[str, Any], members: Sequence[RigMeter], *, wanted_on: bool) -> None:
    word = "on" if wanted_on else "off"
    record.measure(f"meters that say they are {word}", result["verified"], limit=equals(len(members)))
    record.measure(
        f"meters that are {word}", sum(_is_on(meter) is wanted_on for meter in members), limit=equals(len(members))
    )
    silent = [item["serial"] for item in result["meters"] if not item["verified"]]
    record.measure("meters that do not follow", ", ".join(silent) or "none")


@step("who does not follow is named", timeout_s=1800, requirement="GRID-4")
async def failures_are_named(rig: Rig, record: Record, group: str, welded: str, dark: str) -> None:
    """The contacts of one meter are welded, another has no power: the order is partial and says of each what it is."""
    stuck, off = rig.meter(welded), rig.meter(dark)
    switch = stuck.meter.disconnector
    if switch is None:
        raise SkipStep(f"{welded} cannot switch its supply")
    switch.weld()
    off.power_off()
    await asyncio.sleep(10.0)
    result = await rig.hes.shed(group, SupplyAction.DISCONNECT, timeout_s=60.0)
    found = {item["serial"]: item for item in result["meters"]}
    members = _members(rig, group)
    record.measure("order", result["status"], limit=equals("partial"))
    record.measure("verified", result["verified"], limit=equals(len(members) - 2))
    record.measure("the meter with welded contacts", found[stuck.serial]["status"], limit=equals("failed"))
    record.measure("the meter without power", found[off.serial]["status"], limit=equals("timeout"))
    switch.free()
    off.power_on()
    await rig.until(lambda: rig.mesh.operational(dark), timeout_s=300.0)
    await asyncio.sleep(60.0)
    again = await rig.hes.shed(group, SupplyAction.RECONNECT, stagger_s=2.0)
    record.measure("order to restore", again["status"], limit=equals("done"))
    record.measure("meters that are on", sum(map(_is_on, members)), limit=equals(len(members)))


@step("under-frequency load shedding by stages", timeout_s=7200, requirement="GRID-4")
async def under_frequency(
    rig: Rig, record: Record, stages: Sequence[dict[str, Any]], restore_hz: float, lowest_hz: float,
    restore_delay_s: float = 30.0, stagger_s: float = 5.0,
) -> None:  # fmt: skip
    """The frequency falls through the stages and recovers; the operator follows the plan, and it is measured how long
    each order took to the last verified meter."""
    from twin.grid.shedding import SystemOperator, plan_from

    plan = plan_from(stages, restore_hz, restore_delay_s=restore_delay_s, stagger_s=stagger_s)
    operator = SystemOperator(
        plan, lambda: rig.grid.hz, rig.clock.now,
        lambda group, action, gap_s: rig.hes.shed(group, action, stagger_s=gap_s),
    )  # fmt: skip
    watching = asyncio.get_running_loop().create_task(operator.watch(), name="system operator")
    try:
        await _fall_and_rise(rig, record, operator, lowest_hz)
    finally:
        watching.cancel()
    expected = [stage for stage in plan.stages if stage.hz > lowest_hz]
    shed = [item for item in operator.carried if item.action is SupplyAction.DISCONNECT]
    restored = [item for item in operator.carried if item.action is SupplyAction.RECONNECT]
    record.measure("stages shed, in order", " ".join(item.group for item in shed),
                   limit=equals(" ".join(stage.group for stage in expected)))  # fmt: skip
    record.measure("groups restored, in the opposite order", " ".join(item.group for item in restored),
                   limit=equals(" ".join(stage.group for stage in reversed(expected))))  # fmt: skip
    for item in operator.carried:
        what, took_s = f"{item.group}, {item.action.value} at {item.hz:.2f} Hz", item.ended_s - item.given_s
        record.measure(f"{what}: order", item.result["status"], limit=equals("done"))
        record.measure(f"{what}: time to the last verified meter", took_s, unit="s", limit=at_most(_PACE_S))
    everybody = sum(map(_is_on, rig.meters.values()))
    record.measure("meters on at the end", everybody, limit=equals(len(rig.meters)))


async def _fall_and_rise(rig: Rig, record: Record, operator: Any, lowest_hz: float) -> None:
    """Down slowly enough that stages act one after another; up again when all that should have has been shed."""
    expected = sum(stage.hz > lowest_hz for stage in operator.plan.stages)
    rig.grid.set_frequency(lowest_hz, over_s=60.0)
    await asyncio.sleep(180.0)
    off = sum(not _is_on(meter) for meter in rig.meters.values())
    record.measure("meters off at the lowest frequency", off, limit=at_least(1))
    record.measure("stages shed at the lowest frequency", len(operator.shed), limit=equals(expected))
    rig.grid.set_frequency(50.0, over_s=60.0)
    await asyncio.sleep(60.0 + operator.plan.restore_delay_s + 300.0)
