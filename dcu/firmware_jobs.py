"""Use case VII: firmware campaigns of the head-end, one after another, carried on after a restart where they were."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from dcu.border_router import Reachability
from dcu.config import FirmwarePolicy
from dcu.firmware_campaign import Campaign, CampaignParts
from dcu.firmware_images import ImageFetcher
from dcu.firmware_record import CAMPAIGN_PREFIX, CampaignRecord, MeterPart
from dcu.headend import Headend
from dcu.meter_access import MeterAccess
from dcu.meter_group import MeterGroup
from dcu.registry import Meter, Registry
from dcu.sessions import Sessions
from dcu.storage import Storage, StorageError
from dcu.tasks import TaskGroup
from protocols.errors import RemoteProtocolError, TwinError
from protocols.firmware.faults import FirmwareError
from protocols.firmware.file import TrustedKeys
from protocols.headend.firmware import CampaignPhase, FirmwareCampaign, FirmwareChunk, FirmwareReport, MeterProgress
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_REMEMBERED = 64
EVENT_REFUSED = "firmware-refused"


class FirmwareJobs:
    """Takes campaigns, runs them in their order, and reports what has changed every `policy.report_every_s`."""

    def __init__(
        self,
        policy: FirmwarePolicy,
        *,
        keys: TrustedKeys,
        headend: Headend,
        registry: Registry,
        sessions: Sessions,
        access: MeterAccess,
        group: MeterGroup,
        where: Callable[[bytes], Reachability | None],
        flood_s: Callable[[], float],
        rate_bps: int,
        quiet_s: float,
        local_offset_s: int,
        storage: Storage,
        tasks: TaskGroup,
        utc_s: Callable[[], float],
        updated: Callable[[Meter, str], None],
        trace: Trace,
    ) -> None:
        """`keys` are those whose firmware this concentrator passes on; `rate_bps` is its radio's;
        `quiet_s` is for how long the mesh keeps a multicast for newcomers."""
        self._policy = policy
        self._headend = headend
        self._storage = storage
        self._tasks = tasks
        self._utc_s = utc_s
        self._trace = trace
        self._fetcher = ImageFetcher(headend, storage, keys)
        self._parts = CampaignParts(
            policy=policy,
            registry=registry,
            sessions=sessions,
            access=access,
            group=group,
            where=where,
            flood_s=flood_s,
            utc_s=utc_s,
            local_offset_s=local_offset_s,
            rate_bps=rate_bps,
            quiet_s=quiet_s,
            keep=self._keep,
            changed=self._changed,
            updated=updated,
            trace=trace,
        )
        self._waiting: asyncio.Queue[CampaignRecord] = asyncio.Queue()
        self._known: dict[str, None] = {}
        self._dirty: dict[str, MeterPart] = {}
        self._is_stale = False
        self.counters: Counter[str] = Counter()

    def start(self) -> None:
        """Carry on with what a restart has interrupted, then take what comes."""
        for name in self._storage.names():
            if not name.startswith(CAMPAIGN_PREFIX):
                continue
            try:
                record = CampaignRecord.decode(self._storage.read(name) or b"")
            except (ValueError, KeyError, TypeError, IndexError, RemoteProtocolError) as error:
                _LOG.error("record %s is unreadable and was dropped: %s", name, error)
                self._storage.delete(name)
                continue
            self.counters["resumed"] += 1
            self._take(record)
        self._tasks.spawn(self._run(), "firmware")

    def online(self, is_online: bool) -> None:
        """The uplink came or went."""
        self._fetcher.online(is_online)

    def submit(self, order: FirmwareCampaign) -> None:
        """Take a campaign, unless it was taken before."""
        if order.id in self._known:
            self.counters["duplicates"] += 1
            return
        self.counters["campaigns"] += 1
        record = CampaignRecord(order)
        self._keep(record)
        self._take(record)

    def arrived(self, chunk: FirmwareChunk) -> None:
        self._fetcher.arrived(chunk)

    def _take(self, record: CampaignRecord) -> None:
        self._known[record.order.id] = None
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._waiting.put_nowait(record)

    async def _run(self) -> None:
        while True:
            record = await self._waiting.get()
            self._dirty, self._is_stale = {}, True
            reporter = self._tasks.spawn(self._report_changes(record), "firmware reports")
            try:
                await self._campaign(record)
            except FirmwareError as error:
                self._refuse(record, str(error))
            except TwinError as error:
                _LOG.exception("campaign %s failed", record.order.id)
                self._refuse(record, f"it cannot be carried out: {error}")
            finally:
                reporter.cancel()
            self._forget(record)

    async def _campaign(self, record: CampaignRecord) -> None:
        remaining_s = record.order.deadline_utc_ms / 1000 - self._utc_s()
        try:
            async with asyncio.timeout(max(remaining_s, 0.0)):
                data, file = await self._fetcher.image(record)
                await Campaign(self._parts, record, data, file).run()
        except TimeoutError:
            for part in record.meters.values():
                if not part.progress.has_ended:
                    trouble = f"; last: {part.detail}" if part.detail else ""
                    part.detail = f"was {part.progress} at the deadline{trouble}"
                    part.progress = MeterProgress.FAILED
                    self._dirty[part.serial] = part
        self._end(record, CampaignPhase.DONE)

    def _refuse(self, record: CampaignRecord, why: str) -> None:
        record.detail = f"refused by the concentrator: {why}"[:512]
        _LOG.error("campaign %s: %s", record.order.id, record.detail)
        self._headend.report(EVENT_REFUSED, details={"campaign": record.order.id, "reason": why})
        self._end(record, CampaignPhase.REFUSED)

    def _end(self, record: CampaignRecord, phase: CampaignPhase) -> None:
        record.phase = phase
        self.counters[f"ended_{phase}"] += 1
        self._trace("dcu-firmware-phase", campaign=record.order.id, phase=phase.value, detail=record.detail)
        self._report(record)

    def _forget(self, record: CampaignRecord) -> None:
        try:
            self._storage.delete(record.name)
            self._fetcher.drop_unused()
        except StorageError as error:
            _LOG.error("what campaign %s has left could not be deleted: %s", record.order.id, error)

    def _keep(self, record: CampaignRecord) -> None:
        try:
            self._storage.write(record.name, record.encode())
        except StorageError as error:
            _LOG.error("campaign %s would not survive a restart: %s", record.order.id, error)

    # reports

    def _changed(self, record: CampaignRecord, part: MeterPart | None) -> None:
        self._is_stale = True
        if part is not None:
            self._dirty[part.serial] = part

    async def _report_changes(self, record: CampaignRecord) -> None:
        while True:
            await asyncio.sleep(self._policy.report_every_s)
            if self._is_stale:
                self._report(record)

    def _report(self, record: CampaignRecord) -> None:
        """What has changed since the last report."""
        self._is_stale = False
        record.reports += 1
        meters, self._dirty = tuple(part.report() for part in self._dirty.values()), {}
        report = FirmwareReport(
            campaign_id=record.order.id,
            number=record.reports,
            time_utc_ms=self._headend.utc_ms(),
            phase=record.phase,
            fetched_bytes=min(self._fetcher.have_bytes(record), record.order.size_bytes),
            blocks_total=record.blocks_total,
            blocks_multicast=record.blocks_multicast,
            blocks_unicast=record.blocks_unicast,
            meters=meters,
            detail=record.detail,
        )
        self._headend.deliver(f"firmware.{record.order.id}.{record.reports}", report)
