"""Steps that hurt the mesh and measure how it heals: relays die, a fifth of the town dies, every link loses frames."""

from __future__ import annotations

import asyncio
import math
import random
from functools import partial

from twin.air.graph import connected_with
from twin.clock.seeds import Seeds
from twin.conformance.verdicts import Record, at_least, at_most, equals
from twin.hes.tables import RequestStatus
from twin.rigs.meters import RigMeter
from twin.rigs.rig import DCU_NODE, Rig
from twin.scenarios.steps import SkipStep, step

_ASK_AGAIN_S = 10.0
_LEAST_WAIT_S = 1.0
"""The shortest deadline that the head-end takes for a reading."""
_TOLD = (RequestStatus.ERROR, RequestStatus.REFUSED, RequestStatus.TIMEOUT)
"""What an operator is told of a reading that did not arrive."""


def _draw(rig: Rig, name: str) -> random.Random:
    return Seeds(rig.options.seed).stream(f"scenario/{name}")


def _ways(rig: Rig) -> dict[str, list[str]]:
    """Relays between each meter and the concentrator, along the preferred parents."""
    ways: dict[str, list[str]] = {}
    for name in rig.meters:
        way: list[str] = []
        here = rig.mesh.parent(name)
        while here is not None and here != DCU_NODE and here not in way:
            way.append(here)
            here = rig.mesh.parent(here)
        ways[name] = way
    return ways


def with_a_path(rig: Rig) -> set[str]:
    """Living meters that usable links of living nodes connect with the concentrator."""
    return connected_with(DCU_NODE, rig.air.links(), lambda name: rig.meters[name].alive)


def quantile(values: list[float], share: float) -> float:
    """The least of the values that at least `share` (0 to 1) of them do not exceed. There is one value or more."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _distribution(record: Record, what: str, values: list[float], limit_s: float) -> None:
    if values:
        record.measure(f"{what}, median", quantile(values, 0.5), unit="s")
        record.measure(f"{what}, 95 % within", quantile(values, 0.95), unit="s")
        record.measure(f"{what}, longest", max(values), unit="s", limit=at_most(limit_s))


async def _until_read(rig: Rig, meter: RigMeter, within_s: float) -> float | None:
    """Seconds until the operator has a reading of the meter again; None if not in time."""
    began_s = rig.clock.now()
    while (left_s := began_s + within_s - rig.clock.now()) >= _LEAST_WAIT_S:
        result = await rig.hes.read_meter(meter.serial, timeout_s=min(left_s, _ASK_AGAIN_S))
        if result.is_ok:
            return rig.clock.now() - began_s
    return None


@step("any relay dies, and its orphans are reachable again", timeout_s=30 * 86_400.0, requirement="NET-2")
async def relays_die(rig: Rig, record: Record, within_s: float = 180.0) -> None:
    """As many relays as the parameter `relays` says, drawn by the seed, one after the other; each returns afterwards.

    The time of an orphan runs from the death to the operator's next reading of it, asked for again every 10 s.
    """
    draw = _draw(rig, "relays")
    times_s: list[float] = []
    lost = killed = 0
    for _ in range(int(rig.value("relays"))):
        ways = _ways(rig)
        relays = sorted({relay for way in ways.values() for relay in way if rig.meters[relay].alive})
        if not relays:
            raise SkipStep("no meter of this mesh relays another")
        victim = rig.meter(draw.choice(relays))
        victim.die()
        killed += 1
        reachable = with_a_path(rig)
        orphans = [rig.meter(name) for name, way in ways.items() if victim.name in way and name in reachable]
        found = await asyncio.gather(*(_until_read(rig, orphan, within_s) for orphan in orphans))
        times_s += [time_s for time_s in found if time_s is not None]
        lost += sum(time_s is None for time_s in found)
        victim.power_on()
        await rig.until(partial(rig.mesh.operational, victim.name), timeout_s=within_s)
    record.measure("relays killed", killed, limit=at_least(1))
    record.measure("orphans read again", len(times_s), limit=at_least(1))
    record.measure("orphans that stayed away", lost, limit=equals(0))
    _distribution(record, "time until an orphan was read again", times_s, within_s)


@step("a share of all meters dies at once", timeout_s=86_400, requirement="NET-2")
async def many_die(rig: Rig, record: Record, share: float = 0.2, within_s: float = 600.0) -> None:
    """All that still have a path are read again; those that die are drawn by the seed. They return afterwards."""
    names = list(rig.meters)
    victims = [rig.meter(name) for name in sorted(_draw(rig, "many").sample(names, round(share * len(names))))]
    for victim in victims:
        victim.die()
    connected = sorted(with_a_path(rig))
    found = await asyncio.gather(*(_until_read(rig, rig.meter(name), within_s) for name in connected))
    times_s = [time_s for time_s in found if time_s is not None]
    record.measure("meters killed", len(victims), limit=at_least(1))
    record.measure("living meters cut off by distance", len(names) - len(victims) - len(connected))
    record.measure("meters with a path left", len(connected), limit=at_least(1))
    record.measure("of them read again", len(times_s), limit=equals(len(connected)))
    _distribution(record, "time until a meter was read again", times_s, within_s)
    for victim in victims:
        victim.power_on()
    everybody = len(names)
    await rig.until(lambda: rig.mesh.operational_count > everybody, timeout_s=within_s)
    record.measure("meters in the mesh at the end", rig.mesh.operational_count - 1, limit=equals(everybody))


@step("every link loses frames, and no reading is lost silently", timeout_s=30 * 86_400.0, requirement="NET-2")
async def lossy_links(rig: Rig, record: Record, loss: float = 0.2, deadline_s: float = 60.0) -> None:
    """As many readings as the parameter `readings` says: each arrives, or the operator is told that it failed."""
    pairs = sorted({tuple(sorted((link.sender, link.receiver))) for link in rig.air.links()})
    for a, b in pairs:
        rig.air.set_loss(a, b, loss)
    names, wanted = list(rig.meters), int(rig.value("readings"))
    draw = _draw(rig, "lossy")
    outcomes: list[str] = []
    waits_s: list[float] = []

    async def read(number: int) -> None:
        await asyncio.sleep(number * draw.uniform(1.9, 2.1))
        result = await rig.hes.read_meter(rig.meter(names[number % len(names)]).serial, timeout_s=deadline_s)
        row = rig.hes.store.request(result.request_id)
        outcomes.append(result.status if row is not None and row.status == result.status else "untold")
        if result.is_ok:
            waits_s.append(result.elapsed_s)

    await asyncio.gather(*(read(number) for number in range(wanted)))
    for a, b in pairs:
        rig.air.set_loss(a, b, 0.0)
    failed = sum(outcome in _TOLD for outcome in outcomes)
    record.measure("readings asked for", len(outcomes), limit=equals(wanted))
    record.measure("readings that arrived", outcomes.count("ok"), limit=at_least(math.ceil(0.95 * wanted)))
    record.measure("readings reported to the operator as failed", failed)
    record.measure("readings lost silently", wanted - outcomes.count("ok") - failed, limit=equals(0))
    _distribution(record, "time of a reading", waits_s, deadline_s + _ASK_AGAIN_S)
