"""Steps of space and malice: the range limit, woods, replayed and forged frames, a node that floods the air."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from protocols.mesh.checksum import append_fcs, fcs_size
from protocols.mesh.ieee802154 import AuxiliarySecurity, MacFrameType, MacHeader
from protocols.mesh.link_security import LinkCipher
from protocols.mesh.mac import Mac
from protocols.mesh.wisun import FrameType, HeaderElements
from twin.air.obstacles import Position
from twin.air.propagation import RANGE_LIMIT_M
from twin.air.stations import Transmission
from twin.clock.seeds import Seeds
from twin.conformance.verdicts import Record, at_least, at_most, equals, within
from twin.errors import RigError
from twin.rigs.meters import RigMeter
from twin.rigs.rig import DCU_NODE, Rig
from twin.scenarios.steps import SkipStep, step

_SETTLING_S = 2.0


@step("a meter beyond everybody's reach stays out", timeout_s=3_600, requirement="NET-1")
async def stays_out(rig: Rig, record: Record, meter: str, for_s: float = 300.0) -> None:
    """It is farther than 400 m from everybody that lives; it looks for a PAN all the time and finds none."""
    lonely = rig.meter(meter)
    await asyncio.sleep(max(0.0, lonely.settings.installed_at_s - rig.clock.now()) + for_s)
    nearest_m = min(
        lonely.radio.position.distance_m(radio.position)
        for name, radio in rig.air.radios.items()
        if name != meter and radio.alive
    )
    record.measure("distance of its nearest neighbour", nearest_m, unit="m", limit=at_least(RANGE_LIMIT_M))
    record.measure("frames that it sent", lonely.radio.station.statistics.sent, limit=at_least(1))
    record.measure("frames that it received", lonely.radio.station.statistics.received, limit=equals(0))
    record.measure("in the mesh", rig.mesh.operational(meter), limit=equals(False))


@step("a relay is put between, and the meter joins", timeout_s=3_600, requirement="NET-1")
async def relay_between(rig: Rig, record: Record, meter: str, relay: str, within_s: float = 300.0) -> None:
    """The relay gets its power now."""
    began_s = rig.clock.now()
    rig.meter(relay).power_on()
    joined = await rig.until(lambda: rig.mesh.operational(meter), timeout_s=within_s)
    record.measure("in the mesh", joined, limit=equals(True))
    record.measure("time from the relay's power to that", rig.clock.now() - began_s, unit="s", limit=at_most(within_s))
    record.measure("its relay", rig.mesh.parent(meter) or "none", limit=equals(relay))


@step("traffic goes around a wood", timeout_s=3_600, requirement="NET-1")
async def goes_around(rig: Rig, record: Record, meter: str, around: str, within_s: float = 300.0) -> None:
    """The meter is near enough to the concentrator, but a wood stands between: its frames go around."""
    away_m = rig.meter(meter).radio.position.distance_m(rig.air.radio(DCU_NODE).position)
    await rig.until(lambda: rig.mesh.parent(meter) == around, timeout_s=within_s)
    record.measure(f"distance of {meter} from the concentrator", away_m, unit="m", limit=at_most(RANGE_LIMIT_M))
    record.measure(f"relay of {meter}", rig.mesh.parent(meter) or "none", limit=equals(around))
    result = await rig.hes.read_meter(rig.meter(meter).serial, timeout_s=60.0)
    record.measure("reading", result.status, limit=equals("ok"))
    direct = next((link for link in rig.air.links() if link.sender == meter and link.receiver == DCU_NODE), None)
    through = 0.0 if direct is None else direct.expected_delivery
    record.measure("share of frames that would come through the wood", through, limit=at_most(0.5))


def _fcs_bytes(rig: Rig) -> int:
    return fcs_size(rig.scenario.radio.max_psdu_bytes)


@contextmanager
def _frames_to(rig: Rig, meter: RigMeter) -> Iterator[list[Transmission]]:
    """Secured data frames that go on the air for that meter meanwhile."""
    seen: list[Transmission] = []
    address, fcs_bytes = meter.eui64, _fcs_bytes(rig)

    def note(transmission: Transmission) -> None:
        header, _ = MacHeader.decode(transmission.psdu[:-fcs_bytes])
        if header.destination == address and header.security and header.frame_type is MacFrameType.DATA:
            seen.append(transmission)

    rig.air.medium.on_air.append(note)
    try:
        yield seen
    finally:
        rig.air.medium.on_air.remove(note)


def _counters(meter: RigMeter) -> Counter[str]:
    mac = meter.radio.mac
    if not isinstance(mac, Mac):
        raise RigError(f"the radio of {meter.name} has no counters to look at")
    return Counter(mac.counters)


@step("replayed, damaged and forged frames are refused and counted", timeout_s=3_600, requirement="NET-3")
async def hostile_frames(rig: Rig, record: Record, meter: str, times: int = 20) -> None:
    """A frame of a reading is recorded and sent again; with one bit turned in its body; and under another key."""
    target, draw = rig.meter(meter), Seeds(rig.options.seed).stream("scenario/hostile")
    with _frames_to(rig, target) as seen:
        first = await rig.hes.read_meter(target.serial, timeout_s=60.0)
    record.measure("reading before", first.status, limit=equals("ok"))
    frame, place = seen[0].psdu, Position(target.radio.position.x_m + 10.0, target.radio.position.y_m)
    fcs_bytes = _fcs_bytes(rig)
    attacks: dict[str, tuple[str, Callable[[], bytes]]] = {
        "replayed": ("rx_replayed", lambda: frame),
        "with a bit turned": ("rx_bad_mic", lambda: _with_turned_bit(frame, fcs_bytes, draw)),
        "forged under another key": ("rx_bad_mic", lambda: _forged(frame, fcs_bytes, draw)),
        "with a wrong FCS": ("rx_bad_fcs", lambda: frame[:-1] + bytes((frame[-1] ^ 1,))),
    }
    for name, (counter, make) in attacks.items():
        before = _counters(target)
        for _ in range(times):
            rig.air.inject(make(), place, seen[0].channel)
            await asyncio.sleep(_SETTLING_S)
        grown = _counters(target)[counter] - before[counter]
        record.measure(f"frames {name}: refused and counted", grown, limit=equals(times))
    last = await rig.hes.read_meter(target.serial, timeout_s=60.0)
    record.measure("reading after", last.status, limit=equals("ok"))


def _with_turned_bit(psdu: bytes, fcs_bytes: int, draw: random.Random) -> bytes:
    """The frame under a fresh counter with one bit of its body turned, and an FCS that fits."""
    content = _with_fresh_counter(psdu[:-fcs_bytes])
    _, body_at = MacHeader.decode(content)
    at = draw.randrange(body_at, len(content))
    turned = content[:at] + bytes((content[at] ^ 1 << draw.randrange(8),)) + content[at + 1 :]
    return append_fcs(turned, fcs_bytes)


def _forged(psdu: bytes, fcs_bytes: int, draw: random.Random) -> bytes:
    """A frame with the same header under a fresh counter, sealed with a key that is nobody's."""
    content = _with_fresh_counter(psdu[:-fcs_bytes])
    header, body_at = MacHeader.decode(content)
    security = header.security or AuxiliarySecurity(6, 0)
    cipher = LinkCipher(draw.randbytes(16), security.level)
    body = cipher.seal(content[:body_at], draw.randbytes(40), header.source or bytes(8), security.frame_counter)
    return append_fcs(content[:body_at] + body, fcs_bytes)


def _with_fresh_counter(content: bytes) -> bytes:
    """The frame with a frame counter that is not used up, so that only its integrity code can give it away."""
    header, body_at = MacHeader.decode(content)
    if header.security is None:
        return content
    old = header.security.encode()
    fresh = AuxiliarySecurity(
        header.security.level, header.security.frame_counter + 0x10000, header.security.key_id_mode,
        header.security.key_index, header.security.key_source,
    ).encode()  # fmt: skip
    return content[:body_at].replace(old, fresh, 1) + content[body_at:]


@step("a node floods the air at its duty-cycle limit", timeout_s=86_400, requirement="NET-3")
async def flooding(
    rig: Rig,
    record: Record,
    position: list[float],
    deadline_s: float = 60.0,
    rounds: int = 5,
) -> None:
    """It sends long junk without listening before. All meters are read meanwhile, and once more when it has stopped.

    The limit is the scenario's `radio.duty_cycle_limit`.
    """
    duty_cycle = rig.scenario.radio.duty_cycle_limit
    if duty_cycle is None:
        raise SkipStep("this scenario's radio has no duty-cycle limit; give it radio.duty_cycle_limit")
    size_bytes = min(1500, rig.scenario.radio.max_psdu_bytes)
    fcs_bytes = _fcs_bytes(rig)
    draw = Seeds(rig.options.seed).stream("scenario/flood")
    elements = HeaderElements(FrameType.DATA).encode()
    airtime_s = rig.air.mode.airtime_s(size_bytes)
    sent = 0
    began_s = rig.clock.now()

    async def flood() -> None:
        nonlocal sent
        while True:
            header = MacHeader(
                MacFrameType.DATA, sent & 0xFF, b"\xff\xff", draw.randbytes(8), 0x1234, None, True, header_ies=elements
            ).encode()
            junk = draw.randbytes(size_bytes - len(header) - fcs_bytes)
            rig.air.inject(append_fcs(header + junk, fcs_bytes), Position(*position), 0)
            sent += 1
            await asyncio.sleep(airtime_s / duty_cycle * draw.uniform(0.5, 1.5))

    task = asyncio.create_task(flood())
    try:
        meanwhile = sum([await _read_all(rig, deadline_s) for _ in range(rounds)])
    finally:
        task.cancel()
    share = sent * airtime_s / (rig.clock.now() - began_s)
    afterwards = await _read_all(rig, deadline_s)
    wanted = len(rig.meters)
    record.measure("frames of the flood", sent, limit=at_least(1))
    record.measure("share of the time that they took", share, limit=within(0.8 * duty_cycle, 1.2 * duty_cycle))
    record.measure("readings during the flood, share", meanwhile / (rounds * wanted), limit=at_least(0.95))
    record.measure("readings after it", afterwards, limit=equals(wanted))


async def _read_all(rig: Rig, deadline_s: float) -> int:
    """How many of all meters, asked one every two seconds, answered within their deadline."""

    async def read(index: int, meter: RigMeter) -> bool:
        await asyncio.sleep(2.0 * index)
        return (await rig.hes.read_meter(meter.serial, timeout_s=deadline_s)).is_ok

    return sum(await asyncio.gather(*(read(index, meter) for index, meter in enumerate(rig.meters.values()))))
