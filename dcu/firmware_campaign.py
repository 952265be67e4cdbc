"""One firmware campaign: the image to all by multicast, what is missing to each alone, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dcu.border_router import Reachability
from dcu.config import FirmwarePolicy
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.firmware_meter import ImageClient, ImageStatus, MeterLook, block_request
from dcu.firmware_record import CampaignRecord, MeterPart
from dcu.meter_access import MeterAccess, UnknownMeterError
from dcu.meter_group import MeterGroup
from dcu.registry import Meter, MeterState, Registry
from dcu.sessions import Sessions
from dcu.storage import StorageError
from protocols.dlms.enums import ActionResult
from protocols.firmware.file import FirmwareFile
from protocols.headend.firmware import CampaignPhase, MeterProgress
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_P, _S = MeterProgress, ImageStatus
_BLOCKS_A_TURN = 4
"""Blocks to one meter before others have their turn on the air."""
_FOR_GOOD = ("unsupported", "inconsistent")
"""Reasons of a meter's refusal that time does not heal."""
_REFUSALS = 2
"""A meter that refuses an image which is good here is sent all of it once more: something may have been torn."""


@dataclass(frozen=True, slots=True)
class CampaignParts:
    """What a campaign works with. `keep` stores its record, `changed` is told of a meter that has got further,
    `updated` of one that runs the campaign's version, `where`
    is a meter's place in the mesh, `flood_s` how long a multicast takes to the farthest. For `quiet_s` after a
    multicast the mesh would send it again to every meter that restarts."""

    policy: FirmwarePolicy
    registry: Registry
    sessions: Sessions
    access: MeterAccess
    group: MeterGroup
    where: Callable[[bytes], Reachability | None]
    flood_s: Callable[[], float]
    utc_s: Callable[[], float]
    local_offset_s: int
    rate_bps: int
    quiet_s: float
    keep: Callable[[CampaignRecord], None]
    changed: Callable[[CampaignRecord, MeterPart | None], None]
    updated: Callable[[Meter, str], None]
    trace: Trace


class Campaign:
    """Carries on wherever its record is. What a meter is asked for follows from what it says, not from the record."""

    def __init__(self, parts: CampaignParts, record: CampaignRecord, data: bytes, file: FirmwareFile) -> None:
        self._parts = parts
        self._record = record
        self._data = data
        self._signature = file.head.signature
        self._restarts = asyncio.Semaphore(parts.policy.parallel_restarts)
        self._version = file.manifest.version
        self._identifier = file.manifest.identification.encode("ascii")

    async def run(self) -> None:
        """Until every meter has ended. The deadline is the caller's."""
        if self._record.phase in (CampaignPhase.FETCHING, CampaignPhase.PREPARING):
            self._enter(CampaignPhase.PREPARING)
            await asyncio.gather(*(self._prepare(part) for part in self._unended()))
            self._enter(CampaignPhase.MULTICAST)
        if self._record.phase is CampaignPhase.MULTICAST:
            await self._multicast()
            self._enter(CampaignPhase.REPAIR)
        # The farthest first: who relays for others restarts when they have done so.
        parts = sorted(self._unended(), key=lambda part: -self._hops(part))
        await asyncio.gather(*(self._bring(part) for part in parts))

    # to all

    async def _prepare(self, part: MeterPart) -> None:
        """Initiate a meter that is in reach now; the others are taken up later, each alone."""
        meter = self._parts.registry.find_serial(part.serial)
        if meter is None or meter.state is not MeterState.REGISTERED:
            return
        for _ in range(self._parts.policy.prepare_attempts):
            try:
                async with self._parts.access.turn(meter):
                    if await self._step(part, self._client(meter), may_send=False):
                        return
            except (NoAnswerError, StorageError) as error:
                part.detail = str(error)
            except MeterRefusedError as error:
                part.detail = str(error)
                return

    async def _multicast(self) -> None:
        """Every block to all who are ready, then those again that many lack."""
        record, policy = self._record, self._parts.policy
        members = await self._ready_members()
        if len(members) < policy.multicast_from:
            return
        blocks = self._blocks()
        await self._send_to_all(members, range(record.next_block, len(blocks)))
        for _ in range(policy.multicast_rounds):
            await asyncio.sleep(self._settle_s())
            wanted = await self._lacking(members, len(blocks))
            if not wanted:
                return
            await self._send_to_all(members, wanted)

    async def _ready_members(self) -> list[Meter]:
        """Those who are initiated and in reach. After a restart of the concentrator the mesh must form again."""
        ready = [part for part in self._unended() if part.progress is _P.INITIATED]
        with contextlib.suppress(TimeoutError, UnknownMeterError, MeterRefusedError):
            async with asyncio.timeout(self._parts.policy.gather_s):
                for part in ready:
                    await self._parts.access.registered(part.serial)
        found = [self._parts.registry.find_serial(part.serial) for part in ready]
        return await self._parts.group.admit(meter for meter in found if meter is not None)

    async def _send_to_all(self, members: Sequence[Meter], numbers: Sequence[int]) -> None:
        record, group, blocks = self._record, self._parts.group, self._blocks()
        group.begin_round(members)
        for number in numbers:
            request = block_request(number, blocks[number])
            record.blocks_multicast += group.broadcast(members, lambda request=request: request)  # type: ignore[misc]
            record.multicast_utc_s = self._parts.utc_s()
            record.next_block = max(record.next_block, number + 1)
            if number % self._parts.policy.keep_every_blocks == 0:
                self._parts.keep(record)
                self._parts.changed(record, None)
            # Blocks that overtake each other are refused as replays: one must be everywhere before the next.
            await asyncio.sleep(self._spacing_s(len(request)))
        self._parts.keep(record)
        self._parts.changed(record, None)

    async def _lacking(self, members: Sequence[Meter], block_count: int) -> list[int]:
        """Blocks that so many meters lack that one multicast is cheaper than a copy for each."""
        counts = [0] * block_count
        results = await asyncio.gather(*(self._missing(meter, block_count) for meter in members))
        for missing in results:
            for number in missing:
                counts[number] += 1
        least = max(self._parts.policy.multicast_from, round(len(members) * self._parts.policy.multicast_share))
        return [number for number, count in enumerate(counts) if count >= least]

    async def _missing(self, meter: Meter, block_count: int) -> list[int]:
        try:
            async with self._parts.access.turn(meter):
                return await self._client(meter).missing(block_count)
        except (NoAnswerError, MeterRefusedError, StorageError):
            return []

    def _spacing_s(self, request_bytes: int) -> float:
        """Between two multicasts: the way to the farthest meter, and the airtime that the flood takes around each."""
        policy = self._parts.policy
        airtime_s = (request_bytes + policy.frame_overhead_bytes) * 8 / self._parts.rate_bps
        return max(policy.least_spacing_s, policy.flood_times * self._parts.flood_s(), policy.airtimes * airtime_s)

    def _settle_s(self) -> float:
        return self._parts.policy.settle_s

    # to each

    async def _bring(self, part: MeterPart) -> None:
        """One meter to its end, through whatever restarts and absences."""
        parts = self._parts
        while not part.progress.has_ended:
            try:
                meter = await parts.access.registered(part.serial)
                if part.progress is _P.VERIFIED and self._is_due():
                    wait_s = await self._bring_over(part, meter)
                else:
                    wait_s = await self._turn(part, meter)
            except (NoAnswerError, StorageError) as error:
                part.detail, wait_s = str(error), parts.policy.retry_s
            except UnknownMeterError as error:
                part.detail, wait_s = str(error), parts.policy.absent_s
            except MeterRefusedError as error:
                if error.reason in _FOR_GOOD:
                    self._set(part, _P.FAILED, str(error))
                    return
                part.detail, wait_s = str(error), parts.policy.absent_s
            await asyncio.sleep(wait_s)

    async def _turn(self, part: MeterPart, meter: Meter) -> float:
        """One step with a meter. Gives how long to wait before the next."""
        async with self._parts.access.turn(meter):
            has_more = await self._step(part, self._client(meter), may_send=True)
        return 0.0 if has_more else self._wait_s(part)

    async def _bring_over(self, part: MeterPart, meter: Meter) -> float:
        """Let a meter restart into its new program, and few at a time: the others' ways lead over it."""
        policy = self._parts.policy
        async with self._restarts:
            wait_s = await self._turn(part, meter)
            if part.progress is _P.ACTIVATED:
                await asyncio.sleep(policy.restart_s)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(policy.restart_limit_s):
                        await self._parts.access.registered(part.serial)
        return wait_s

    def _is_due(self) -> bool:
        """Whether meters that are ready may change over now."""
        order, now_s = self._record.order, self._parts.utc_s()
        if order.activate_utc_ms is not None:
            return order.activate_utc_ms / 1000 <= now_s
        return now_s >= self._record.multicast_utc_s + self._parts.quiet_s

    def _hops(self, part: MeterPart) -> int:
        meter = self._parts.registry.find_serial(part.serial)
        place = None if meter is None else self._parts.where(meter.eui64)
        return 0 if place is None else place.hops

    def _wait_s(self, part: MeterPart) -> float:
        """Until the next look at a meter that does something by itself."""
        if part.progress is _P.VERIFIED and self._record.order.activate_utc_ms is None:
            return max(self._record.multicast_utc_s + self._parts.quiet_s - self._parts.utc_s(), 1.0)
        activate_ms = self._record.order.activate_utc_ms
        if part.progress is _P.SCHEDULED and activate_ms is not None:
            left_s = activate_ms / 1000 - self._parts.utc_s()
            return max(left_s, 0.0) + self._parts.policy.trial_look_s
        return self._parts.policy.trial_look_s

    async def _step(self, part: MeterPart, client: ImageClient, *, may_send: bool) -> bool:
        """Look at the meter and do what is next. False if there is nothing to do now but wait."""
        look = await client.look()
        if look.version == self._version and look.status is not _S.ACTIVATION_INITIATED:
            self._set(part, _P.CONFIRMED, "")
            meter = self._parts.registry.find_serial(part.serial)
            if meter is not None:
                self._parts.updated(meter, self._version)
            return True
        is_ours = part.initiated and (not look.signature or look.signature == self._signature)
        if not is_ours or look.status in (_S.NOT_INITIATED, _S.ACTIVATION_SUCCESSFUL):
            await self._initiate(part, client)
            return True
        if not may_send:
            self._set(part, _P.INITIATED, "")
            return True
        return await self._advance(part, client, look)

    async def _advance(self, part: MeterPart, client: ImageClient, look: MeterLook) -> bool:
        match look.status:
            case _S.INITIATED:
                await self._repair(part, client)
            case _S.VERIFICATION_INITIATED:
                await self._verify(part, client)
            case _S.VERIFICATION_FAILED:
                await self._refused(part, client)
            case _S.VERIFICATION_SUCCESSFUL:
                return await self._activate(part, client)
            case _S.ACTIVATION_FAILED:
                await self._given_up(part, client)
            case _:
                self._set(part, _P.ACTIVATED, "on trial" if look.version == self._version else "restarting")
                return False
        return True

    async def _initiate(self, part: MeterPart, client: ImageClient) -> None:
        await self._know_blocks(client)
        # From now on the meter's transfer is ours, whether or not its answer comes.
        part.initiated, part.activated = True, False
        self._parts.keep(self._record)
        if await client.initiate(self._identifier, len(self._data)):
            part.blocks = 0
            self._set(part, _P.INITIATED, "")
            return
        report = await client.report()
        raise NoAnswerError(f"the meter does not begin a transfer now{': ' if report else ''}{report}")

    async def _repair(self, part: MeterPart, client: ImageClient) -> None:
        """Send what is missing, a few blocks; with none missing, let the meter check the image."""
        await self._know_blocks(client)
        blocks = self._blocks()
        missing = await client.missing(len(blocks))
        part.blocks = len(blocks) - len(missing)
        if not missing:
            self._set(part, _P.TRANSFERRED, "")
            await self._verify(part, client)
            return
        for number in missing[:_BLOCKS_A_TURN]:
            if not await client.send_block(number, blocks[number]):
                raise NoAnswerError(f"the meter did not take block {number}")
            part.blocks += 1
            part.repaired += 1
            self._record.blocks_unicast += 1
        self._set(part, _P.INITIATED, "")

    async def _verify(self, part: MeterPart, client: ImageClient) -> None:
        """What a meter finds wrong, its next status says: the answer may be that to a repetition."""
        if await client.verify() is ActionResult.SUCCESS:
            self._set(part, _P.VERIFIED, "")

    async def _refused(self, part: MeterPart, client: ImageClient) -> None:
        why = await client.report() or "the meter has refused the image"
        part.refusals += 1
        self._parts.trace("dcu-firmware-refused", serial=part.serial, reason=why, count=part.refusals)
        if part.refusals >= _REFUSALS:
            self._set(part, _P.REFUSED, why)
        else:
            part.initiated = False
            self._set(part, _P.WAITING, why)

    async def _activate(self, part: MeterPart, client: ImageClient) -> bool:
        """At the campaign's time, by the meter itself; without one, or later, now."""
        order = self._record.order
        if part.progress not in (_P.VERIFIED, _P.SCHEDULED, _P.ACTIVATED):
            self._set(part, _P.VERIFIED, "")
            return True
        if not self._is_due():
            if order.activate_utc_ms is None:
                return False  # until the mesh has forgotten the multicasts
            if part.progress is not _P.SCHEDULED:
                if not await client.schedule(order.activate_utc_ms / 1000 + self._parts.local_offset_s):
                    raise MeterRefusedError("unsupported", "it takes no time for the activation")
                self._set(part, _P.SCHEDULED, "")
            return False
        part.activated = True
        self._parts.keep(self._record)
        if await client.activate() is not ActionResult.SUCCESS:
            return True  # what has become of it, the next look says
        self._set(part, _P.ACTIVATED, "")
        return False

    async def _given_up(self, part: MeterPart, client: ImageClient) -> None:
        if part.activated or part.progress is _P.SCHEDULED:
            self._set(part, _P.ROLLED_BACK, await client.report() or "the meter has gone back to its old version")
        else:
            await self._initiate(part, client)

    # its record

    async def _know_blocks(self, client: ImageClient) -> None:
        """How the image is cut: as the first meter says, and all of a model do."""
        if not self._record.block_bytes:
            self._record.block_bytes = await client.block_bytes()
            self._record.blocks_total = len(self._blocks())

    def _client(self, meter: Meter) -> ImageClient:
        return ImageClient(self._parts.sessions.find(meter.eui64))

    def _blocks(self) -> list[bytes]:
        size = self._record.block_bytes
        return [self._data[at : at + size] for at in range(0, len(self._data), size)] if size else []

    def _unended(self) -> list[MeterPart]:
        return [part for part in self._record.meters.values() if not part.progress.has_ended]

    def _enter(self, phase: CampaignPhase) -> None:
        self._record.phase = phase
        self._parts.keep(self._record)
        self._parts.changed(self._record, None)
        self._parts.trace("dcu-firmware-phase", campaign=self._record.order.id, phase=phase.value)

    def _set(self, part: MeterPart, progress: MeterProgress, detail: str) -> None:
        if (part.progress, part.detail) == (progress, detail):
            return
        is_new, part.progress, part.detail = part.progress is not progress, progress, detail
        if progress in (_P.VERIFIED, _P.SCHEDULED, _P.ACTIVATED, _P.CONFIRMED, _P.TRANSFERRED):
            part.blocks = self._record.blocks_total or part.blocks
        if is_new:
            self._parts.keep(self._record)
            self._parts.changed(self._record, part)
            fields = {"serial": part.serial, "progress": progress.value, "detail": detail, "repaired": part.repaired}
            self._parts.trace("dcu-firmware-meter", **fields)
