"""Steps of the spine: joining, use cases I and II, healing, power recovery, quiet running."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from protocols.headend.quantities import ON_DEMAND
from twin.conformance.verdicts import Record, at_least, at_most, differs_from, equals, within
from twin.hes.hes import ReadResult
from twin.hes.tables import EventRecord, MeterState
from twin.hes.tables import Meter as MeterRow
from twin.rigs.meters import RigMeter
from twin.rigs.rig import DCU_NODE, Rig
from twin.scenarios.steps import SkipStep, step

_ENERGY = "active_energy_import"
_DEADLINE_S = 60.0
_GRACE_S = 15.0
"""How much later than its deadline an operator's answer may be: the way over the backhaul."""


@step("all meters join the mesh", timeout_s=180)
async def join(rig: Rig, record: Record, within_s: float = 120.0) -> None:
    """Every meter scans, synchronizes, gets its configuration and a route."""
    started_s = rig.clock.now()
    names = list(rig.meters)
    await rig.until(lambda: all(rig.mesh.operational(name) for name in names), timeout_s=within_s)
    record.measure("meters in the mesh", sum(rig.mesh.operational(name) for name in names), limit=equals(len(names)))
    record.measure("time until the last one was in", rig.clock.now() - started_s, unit="s", limit=at_most(within_s))
    record.measure("most hops", max(rig.mesh.hops(name) or 0 for name in names))


@step("use case I: every meter is registered", timeout_s=180, requirement=("UC-I.1", "UC-I.2"))
async def register(rig: Rig, record: Record, meters: Sequence[str] | None = None, within_s: float = 120.0) -> None:
    """Mutual authentication, and the row that the head-end keeps: serial, MAC, public keys, hardware revision."""
    started_s = rig.clock.now()
    expected = [rig.meter(name) for name in meters or rig.meters]
    wanted = {meter.serial for meter in expected}

    def registered() -> dict[str, MeterRow]:
        return {row.serial: row for row in rig.hes.meters() if row.state == MeterState.REGISTERED}

    await rig.until(lambda: wanted <= registered().keys(), timeout_s=within_s)
    rows = {serial: row for serial, row in registered().items() if serial in wanted}
    record.measure("meters registered", len(rows), limit=equals(len(wanted)))
    record.measure("time until the last one was registered", rig.clock.now() - started_s, unit="s")
    agreed = sum(_row_agrees(meter, rows.get(meter.serial)) for meter in expected)
    record.measure("rows that agree with the meters' own identity", agreed, limit=equals(len(wanted)))
    for suite, how in enumerate(("HLS 5 (GMAC)", "HLS 7 (ECDSA, certificates)")):
        of_suite = [meter for meter in expected if meter.settings.suite == suite]
        mutual = sum(_is_mutual(suite, rows.get(meter.serial)) for meter in of_suite)
        if of_suite:
            record.measure(f"meters authenticated mutually by {how}", mutual, limit=equals(len(of_suite)))


def _is_mutual(suite: int, row: MeterRow | None) -> bool:
    """Both sides proved themselves: under suite 1 by signatures, and the head-end has the meter's certificate."""
    if row is None:
        return False
    has_certificate = row.signing_certificate_pem is not None
    return (row.security_suite, row.authentication_mechanism, has_certificate) == ((0, 5, False), (1, 7, True))[suite]


def _row_agrees(meter: RigMeter, row: MeterRow | None) -> bool:
    """Every field of UC-I.2, compared with what the meter was made with."""
    if row is None:
        return False
    keys = {purpose: key.lower() for purpose, key in json.loads(row.public_keys_json)}
    signing, agreement = meter.provision.keys.public_key_points()
    return (
        row.eui64.lower() == meter.eui64.hex()
        and row.system_title.lower() == meter.provision.keys.system_title.hex()
        and row.hardware_revision == meter.provision.model.hardware_revision
        and keys == {"signing": signing.hex(), "agreement": agreement.hex()}
    )


@step("a meter is refused", timeout_s=240, requirement="UC-I.3")
async def refused(
    rig: Rig, record: Record, meter: str, event: str, within_s: float = 60.0, reason: str | None = None
) -> None:
    """It is in the mesh, but the head-end keeps no row of it, and has an event that says why: with `reason` in it."""
    target = rig.meter(meter)
    mine = target.eui64.hex()

    def logged() -> list[EventRecord]:
        return [row for row in rig.hes.events(kind=event) if (row.eui64 or "").lower() == mine]

    await rig.until(lambda: bool(logged()), timeout_s=within_s)
    record.measure(f"events {event!r} about the meter", len(logged()), limit=at_least(1))
    record.measure("what the event says", logged()[0].details_json if logged() else None, limit=differs_from("{}"))
    if reason is not None:
        saying = sum(reason in row.details_json for row in logged())
        record.measure(f"events that say {reason!r}", saying, limit=at_least(1))
    await asyncio.sleep(within_s)
    state = next((row.state for row in rig.hes.meters() if row.serial == target.serial), "no row")
    record.measure("the meter at the head-end", state, limit=differs_from(MeterState.REGISTERED.value))
    result = await rig.hes.read_meter(target.serial, timeout_s=10) if target.settings.known_to_hes else None
    if result is not None:
        record.measure("a reading of it", result.status, limit=differs_from("ok"))


@step("a far meter is relayed", timeout_s=60, requirement="NET-1")
async def relayed(rig: Rig, record: Record, meter: str) -> None:
    """The meter has no link to the DCU: it is further than 400 m away, and its traffic takes a relay."""
    far = rig.meter(meter)
    reach = {(link.sender, link.receiver): link for link in rig.air.links()}
    distance_m = math.dist(far.settings.position, rig.scenario.dcu.position)
    record.measure(f"distance of {meter} from the DCU", distance_m, unit="m", limit=at_least(400))
    record.measure(f"links between {meter} and the DCU", int((meter, DCU_NODE) in reach), limit=equals(0))
    longest_m = max((link.distance_m for link in reach.values() if link.received), default=0.0)
    record.measure("longest link that carried a frame", longest_m, unit="m", limit=at_most(400))
    record.measure(f"hops from {meter} to the DCU", rig.mesh.hops(meter), limit=at_least(2))
    record.measure(f"relay of {meter}", rig.mesh.parent(meter) or "none", limit=differs_from(DCU_NODE))


@step("use case II: the operator reads every meter", timeout_s=300, requirement="UC-II.1")
async def read_all(rig: Rig, record: Record) -> None:
    """On-demand readings through REST, MQTT and mesh, compared with what the meters' hardware has counted."""
    alive = [meter for meter in rig.meters.values() if meter.alive]
    started_s = rig.clock.now()
    results = await asyncio.gather(*(_read(rig, meter) for meter in alive))
    record.measure("readings answered", sum(result.ok for result in results), limit=equals(len(alive)))
    record.measure("readings with every quantity", sum(result.complete for result in results), limit=equals(len(alive)))
    truthful = sum(result.truthful for result in results)
    record.measure("readings that agree with the meter's own count", truthful, limit=equals(len(alive)))
    slowest_s = max(item.result.elapsed_s for item in results)
    record.measure("slowest reading", slowest_s, unit="s", limit=at_most(_DEADLINE_S))
    record.measure("time for all", rig.clock.now() - started_s, unit="s")


@step("the operator reads one meter", timeout_s=120, requirement="UC-II.1")
async def read(rig: Rig, record: Record, meter: str) -> None:
    """One on-demand reading; its values are in the report."""
    reading = await _read(rig, rig.meter(meter))
    record.measure("status", reading.result.status, limit=equals("ok"))
    record.measure("every quantity is there", reading.complete, limit=equals(True))
    record.measure("agrees with the meter's own count", reading.truthful, limit=equals(True))
    record.measure("duration", reading.result.elapsed_s, unit="s", limit=at_most(_DEADLINE_S))
    for value in reading.result.values.values():
        record.measure(value.name, value.display)


@step("a relay dies and its children heal", timeout_s=180, requirement="NET-2")
async def relay_dies(rig: Rig, record: Record, meter: str, within_s: float = 90.0) -> None:
    """Whoever relays the meter now loses its power while the meter is read. The mesh finds another way by itself."""
    relay = rig.mesh.parent(meter) or "none"
    if relay not in rig.meters:
        raise SkipStep(f"no meter relays {meter} now")
    record.measure(f"relay of {meter} before", relay)
    victim, orphan = rig.meter(relay), rig.meter(meter)
    died_s = rig.clock.now()
    victim.die()
    under_way = asyncio.ensure_future(_read(rig, orphan, deadline_s=within_s))
    healed = await rig.until(lambda: rig.mesh.parent(meter) not in (None, relay), timeout_s=within_s)
    record.measure(f"{meter} has another relay", healed, limit=equals(True))
    record.measure(f"relay of {meter} after", rig.mesh.parent(meter) or "none", limit=differs_from(relay))
    record.measure("time to heal", rig.clock.now() - died_s, unit="s", limit=at_most(within_s))
    reading = await under_way
    record.measure("the reading that was under way", reading.result.status, limit=equals("ok"))
    others = [item for item in rig.meters.values() if item.alive and item is not orphan]
    results = await asyncio.gather(*(_read(rig, item) for item in others))
    record.measure("readings of the other meters lost", sum(not item.ok for item in results), limit=equals(0))


@step("an unreachable meter gives a clear time-out", timeout_s=180, requirement="UC-II.2")
async def read_unreachable(rig: Rig, record: Record, deadline_s: float = 12.0) -> None:
    """A meter that lives no more is asked: the operator is told at the deadline, and it is not tried after that."""
    target = next((meter for meter in rig.meters.values() if not meter.alive), None)
    if target is None:
        raise SkipStep("every meter is alive")
    record.measure("meter", target.name)
    result = (await _read(rig, target, deadline_s=deadline_s)).result
    record.measure("status", result.status, limit=equals("timeout"))
    record.measure("what the operator is told", result.detail, limit=differs_from(""))
    record.measure("answered after", result.elapsed_s, unit="s", limit=within(0, deadline_s + _GRACE_S))
    before = rig.mesh.frames_down_to(target.name)
    await asyncio.sleep(2 * deadline_s)
    late = rig.mesh.frames_down_to(target.name) - before
    record.measure("attempts after the deadline", late, limit=equals(0))
    row = rig.hes.store.request(result.request_id)
    record.measure("the request's state at the head-end", row.status if row else None, limit=equals("timeout"))


@step("a meter's power fails and returns", timeout_s=240, requirement="UC-I.4")
async def power_recovery(rig: Rig, record: Record, meter: str, off_s: float = 5.0, within_s: float = 120.0) -> None:
    """The meter joins and registers again; the head-end keeps one row, and the energy register has not gone back."""
    target = rig.meter(meter)
    registrations = len(rig.hes.registrations(target.serial))
    before_wh = (await _read(rig, target)).energy_wh
    target.power_off()
    await asyncio.sleep(off_s)
    target.power_on()
    back_s = rig.clock.now()
    again = await rig.until(lambda: len(rig.hes.registrations(target.serial)) > registrations, timeout_s=within_s)
    record.measure("registered again", again, limit=equals(True))
    record.measure("time until it was back", rig.clock.now() - back_s, unit="s", limit=at_most(within_s))
    rows = [row for row in rig.hes.meters() if row.serial == target.serial]
    record.measure("rows of the meter at the head-end", len(rows), limit=equals(1))
    after = await _read(rig, target)
    record.measure("read after its return", after.result.status, limit=equals("ok"))
    since_wh = None if before_wh is None or after.energy_wh is None else float(after.energy_wh - before_wh)
    record.measure("energy counted since", since_wh, unit="Wh", limit=at_least(0))


@step("quiet running with scheduled reads", timeout_s=400 * 86_400.0, requirement="UC-II.1")
async def quiet_running(rig: Rig, record: Record, every_min: float = 60.0) -> None:
    """For the parameter `hours`: every meter that lives is read on a schedule; nothing may be lost."""
    hours = rig.value("hours")
    if not hours:
        raise SkipStep("no quiet running was asked for; --set hours=24 adds it")
    if not rig.virtual:
        raise SkipStep("hours of quiet running need the virtual clock")
    assert isinstance(hours, int | float)
    began_s = rig.clock.now()
    asked = answered = truthful = 0
    for round_number in range(1, int(hours * 60 / every_min) + 1):
        await asyncio.sleep(began_s + round_number * every_min * 60 - rig.clock.now())
        alive = [meter for meter in rig.meters.values() if meter.alive]
        results = await asyncio.gather(*(_read(rig, meter) for meter in alive))
        asked += len(alive)
        answered += sum(result.ok for result in results)
        truthful += sum(result.truthful for result in results)
    record.measure("hours", float(hours), unit="h")
    record.measure("scheduled readings", asked, limit=at_least(1))
    record.measure("scheduled readings answered", answered, limit=equals(asked))
    record.measure("scheduled readings that agree with the meter's own count", truthful, limit=equals(asked))


@dataclass(frozen=True, slots=True)
class _Reading:
    """One on-demand reading as the operator saw it, and between what the meter's hardware had counted meanwhile."""

    result: ReadResult
    lowest_wh: float
    highest_wh: float

    @property
    def ok(self) -> bool:
        return self.result.is_ok

    @property
    def complete(self) -> bool:
        return all(name in self.result.values for name in ON_DEMAND)

    @property
    def energy_wh(self) -> Decimal | None:
        value = self.result.values.get(_ENERGY)
        return value.value if value is not None and isinstance(value.value, Decimal) and value.unit == "Wh" else None

    @property
    def truthful(self) -> bool:
        """The energy lies between what the hardware had counted before and after, to the register's watt-hour."""
        return self.energy_wh is not None and math.floor(self.lowest_wh) <= self.energy_wh <= self.highest_wh


async def _read(rig: Rig, meter: RigMeter, deadline_s: float = _DEADLINE_S) -> _Reading:
    lowest_wh = meter.imported_wh()
    result = await rig.hes.read_meter(meter.serial, timeout_s=deadline_s)
    return _Reading(result, lowest_wh, meter.imported_wh())
