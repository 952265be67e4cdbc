"""Steps of access control in the mesh: joining by certificate, refusals, rotation of the group key, revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from protocols.mesh.timers import profile_named
from twin.conformance.verdicts import Record, at_least, at_most, differs_from, equals
from twin.hes.tables import EventRecord
from twin.rigs.radio import timers_profile
from twin.rigs.rig import Rig
from twin.scenarios.steps import SkipStep, step

_EVENT = "meter-refused"


@step("every device with a good certificate joins", timeout_s=400, requirement=("NET-3", "UC-I.1"))
async def authenticate(rig: Rig, record: Record, outside: Sequence[str] = (), within_s: float = 240.0) -> None:
    """EAPOL, EAP-TLS and the 4-way handshake, directly or through relays; nobody has the group key before."""
    if rig.scenario.radio.security != "certificates":
        raise SkipStep("radio.security of this scenario is not certificates")
    inside = [name for name in rig.meters if name not in outside]
    await rig.until(lambda: all(rig.mesh.operational(name) for name in inside), timeout_s=within_s)
    record.measure("devices in the mesh", sum(map(rig.mesh.operational, inside)), limit=equals(len(inside)))
    granted = rig.trace.counts.get("mesh.access_granted", 0)
    record.measure("devices that proved themselves", granted, limit=at_least(len(inside)))
    record.measure("time until the last one was in", rig.clock.now(), unit="s", limit=at_most(within_s))
    record.measure("most hops", max(rig.mesh.hops(name) or 0 for name in inside))


def _events(rig: Rig, meter: str) -> list[EventRecord]:
    mine = rig.meter(meter).eui64.hex()
    return [row for row in rig.hes.events(kind=_EVENT) if (row.eui64 or "").lower() == mine]


@step("a device with a bad certificate stays out", timeout_s=400, requirement="UC-I.3")
async def shut_out(rig: Rig, record: Record, meter: str, reason: str, within_s: float = 240.0) -> None:
    """It asks and is refused; the head-end has an event with the reason; it is not in the mesh, now or later."""
    await rig.until(lambda: bool(_events(rig, meter)), timeout_s=within_s)
    events = _events(rig, meter)
    record.measure(f"events {_EVENT!r} about the meter", len(events), limit=at_least(1))
    told = sum(reason in row.details_json for row in events)
    record.measure(f"of them with the reason {reason!r}", told, limit=equals(len(events)))
    was_in = any(span.node == meter and span.state == "operational" for span in rig.mesh.spans)
    record.measure("the meter was in the mesh", was_in, limit=equals(False))
    record.measure("its join state", rig.mesh.state(meter), limit=differs_from("operational"))


@step("every node answers an echo", timeout_s=300, requirement=("NET-4", "OSI-3"))
async def echo(rig: Rig, record: Record, outside: Sequence[str] = (), payload_bytes: int = 1232) -> None:
    """ICMPv6 echo from the concentrator to every member, by default in packets of the minimum MTU (1,280 bytes)."""
    inside = [meter for name, meter in rig.meters.items() if name not in outside]
    times_s = [await rig.dcu.ping(meter.eui64, payload=bytes(payload_bytes), timeout_s=20.0) for meter in inside]
    answered_s = [time_s for time_s in times_s if time_s is not None]
    record.measure("nodes that answered", len(answered_s), limit=equals(len(inside)))
    record.measure("longest round trip", max(answered_s, default=None), unit="s", limit=at_most(20.0))
    strangers = [await rig.dcu.ping(rig.meter(name).eui64, timeout_s=5.0) for name in outside]
    answers = sum(time_s is not None for time_s in strangers)
    record.measure("answers of nodes that are not in the mesh", answers, limit=equals(0))


@step("a new group key comes into use", timeout_s=4000, requirement=("NET-3", "UC-I.3"))
async def rotate_group_key(
    rig: Rig, record: Record, revoke: str | None = None, outside: Sequence[str] = (), within_s: float = 120.0
) -> None:
    """Installed at all members first, then used, then the old one ends. A meter that was revoked does not get it."""
    if not rig.spare_group_keys:
        raise SkipStep("radio.security of this scenario is not certificates: its group key stays")
    times = profile_named(timers_profile(rig.scenario)).authentication
    shut = {*outside, *([revoke] if revoke else [])}
    inside = [name for name in rig.meters if name not in shut]
    if revoke is not None:
        await rig.dcu.revoke_access(rig.meter(revoke).eui64)
    key = rig.spare_group_keys.pop(0)
    await rig.dcu.rotate_group_key(key)

    def holders() -> list[str]:
        return [name for name in inside if key.index in rig.meters[name].group_key_indices]

    await rig.until(lambda: len(holders()) == len(inside), timeout_s=times.activation_s)
    record.measure("members that have the new key before its use", len(holders()), limit=equals(len(inside)))
    live = max((len(rig.meters[name].group_key_indices) for name in inside), default=0)
    record.measure("group keys that a member holds at the same time", live, limit=at_least(2))
    await asyncio.sleep(times.activation_s + times.removal_s + within_s)
    alone = sum(rig.meters[name].group_key_indices == {key.index} for name in inside)
    record.measure("members that hold the new key alone afterwards", alone, limit=equals(len(inside)))
    record.measure("members in the mesh", sum(map(rig.mesh.operational, inside)), limit=equals(len(inside)))
    for name in sorted(shut):
        record.measure(f"{name} has the new key", key.index in rig.meters[name].group_key_indices, limit=equals(False))
        record.measure(f"join state of {name}", rig.mesh.state(name), limit=differs_from("operational"))
    if revoke is not None:
        told = sum("revoked" in row.details_json for row in _events(rig, revoke))
        record.measure(f"events about the revocation of {revoke}", told, limit=at_least(1))
