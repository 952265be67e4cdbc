"""The concentrator: puts radio, border router, registry, sessions, jobs and uplink together."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable

from dcu import __version__
from dcu.border_router import BorderRouter, Reachability, RouterListener
from dcu.bundles import BundleStore
from dcu.clock_sync import ClockSync
from dcu.collector import Collector
from dcu.config import DcuConfig, Predecessor
from dcu.firmware_jobs import FirmwareJobs
from dcu.headend import Headend
from dcu.headend_time import HeadendTime
from dcu.identity import ClientKeys, SignerFactory
from dcu.jobs import ReadingJobs
from dcu.meter_access import MeterAccess
from dcu.meter_alarms import MeterAlarms
from dcu.meter_group import MeterGroup
from dcu.meter_trips import MeterTrips
from dcu.outbox import Outbox
from dcu.profile_jobs import ProfileJobs
from dcu.registration import Registrar
from dcu.registry import Meter, Registry
from dcu.sessions import Sessions
from dcu.storage import CountingStorage, Storage
from dcu.supply_jobs import SupplyJobs
from dcu.tables import TableReader
from dcu.tasks import TaskGroup
from dcu.timekeeper import EVENT_LEAP, Timekeeper
from dcu.timekeeping import TimeQuality, system_time
from dcu.uplink import Uplink, UplinkListener
from dcu.vault import CredentialVault
from protocols.dlms.security.signing import RandomSigner
from protocols.firmware.file import TrustedKeys
from protocols.headend.bulk import BundleAck, ProfileRequest
from protocols.headend.firmware import FirmwareCampaign, FirmwareChunk
from protocols.headend.messages import (
    Credentials,
    DcuState,
    EventKind,
    Message,
    ReadingRequest,
    RegistrationAck,
)
from protocols.headend.supply import SupplyRequest
from protocols.headend.time_check import ClockQuery, ClockReport
from protocols.mesh.config import LinkKey
from protocols.mesh.phy import FSK_MODES
from protocols.mesh.timers import profile_named
from protocols.ports import ByteLink, KeySource, Trace

_LOG = logging.getLogger(__name__)
_START_COUNT = "start-count"
EVENT_STORAGE_FULL, EVENT_STORAGE_TAKES = "storage-full", "storage-takes-again"


class Dcu:
    """One concentrator on one event loop, between a radio and an uplink.

    Everything that it knows of the outside comes in here: `radio` carries RCP frames, `storage` survives it, `utc_s`
    is its own wall clock in seconds since 1970, and `time_quality` says how good that is; a `timekeeper` that keeps it
    is given the head-end's time, too. An instance runs once; a restart is a new instance over the same storage.
    `make_signer` is how it signs where it proves itself by a certificate.

    Raises StorageError when the storage cannot be written at the start: counters would be used twice; BadInputError for
    an identity that cannot be read.
    """

    def __init__(
        self,
        config: DcuConfig,
        *,
        loop: asyncio.AbstractEventLoop,
        radio: ByteLink,
        uplink: Uplink,
        storage: Storage,
        key_source: KeySource,
        rng: random.Random,
        utc_s: Callable[[], float],
        trace: Trace,
        make_signer: SignerFactory = RandomSigner,
        time_quality: Callable[[], TimeQuality] = system_time,
        timekeeper: Timekeeper | None = None,
    ) -> None:
        self.config = config
        self._uplink = uplink
        self._time_quality = time_quality
        self._trace = trace
        self._ended = asyncio.Event()
        self._tasks = TaskGroup(loop, trace)
        storage = counting = CountingStorage(storage)
        self._start_count = start_count = _count_start(storage, config.predecessor.starts)
        self.registry = Registry(storage, trace, max_meters=config.max_meters)
        self._outbox = Outbox(
            uplink, storage, limit_bytes=config.outbox_limit_bytes, trace=trace, on_confirmed=self._drained,
            on_storage=self._storage_changed,
        )  # fmt: skip
        self._headend = Headend(
            config.dcu_id,
            uplink,
            self._outbox,
            start_count=start_count,
            utc_s=utc_s,
            trace=trace,
            firmware_version=__version__,
        )
        self._router = BorderRouter(
            config,
            RouterListener(self._reachable, self._lost, self._datagram, self._refused_access),
            timers=loop,
            radio=radio,
            storage=storage,
            rng=rng,
            trace=trace,
            start_count=start_count,
        )
        self._sessions = Sessions(
            config,
            where=self._router.where,
            send=self._router.send,
            storage=storage,
            key_source=key_source,
            trace=trace,
            on_notification=self._notified,
            client_keys=None
            if config.identity is None
            else ClientKeys(config.identity, config.system_title, utc_s=utc_s, make_signer=make_signer),
        )
        self._access = MeterAccess(
            self.registry, config.parallel_readings, where=self._router.where, usual_s=config.dlms.response_s
        )
        vault = CredentialVault(storage, config.link_key, key_source)
        self._registrar = Registrar(
            config.registration,
            registry=self.registry,
            sessions=self._sessions,
            vault=vault,
            headend=self._headend,
            rng=rng,
            tasks=self._tasks,
            on_changed=self._meter_changed,
        )
        self._jobs = ReadingJobs(
            headend=self._headend,
            registry=self.registry,
            sessions=self._sessions,
            access=self._access,
            tasks=self._tasks,
            utc_s=utc_s,
            on_refused=self._registrar.refused,
            on_clock=lambda meter, *times_s: self._clocks.noticed(meter, *times_s),
            trace=trace,
        )
        self._trips = MeterTrips(
            headend=self._headend,
            registry=self.registry,
            sessions=self._sessions,
            access=self._access,
            tasks=self._tasks,
            on_refused=self._registrar.refused,
            trace=trace,
        )
        self._supplies = SupplyJobs(
            headend=self._headend,
            sessions=self._sessions,
            access=self._access,
            tasks=self._tasks,
            utc_s=utc_s,
            on_refused=self._registrar.refused,
            trace=trace,
        )
        reader = TableReader(storage)
        self._profiles = ProfileJobs(
            headend=self._headend,
            sessions=self._sessions,
            access=self._access,
            reader=reader,
            storage=storage,
            tasks=self._tasks,
            utc_s=utc_s,
            on_refused=self._registrar.refused,
            trace=trace,
        )
        self._bundles = BundleStore(
            config.collection, headend=self._headend, storage=storage, tasks=self._tasks, trace=trace
        )
        self._collector = Collector(
            config.collection,
            config.dcu_id,
            headend=self._headend,
            registry=self.registry,
            sessions=self._sessions,
            access=self._access,
            reader=reader,
            bundles=self._bundles,
            storage=counting,
            tasks=self._tasks,
            utc_s=utc_s,
            on_refused=self._registrar.refused,
            trace=trace,
        )
        self._alarms = MeterAlarms(self._headend, self.registry, trace)
        self._group = MeterGroup(
            storage=storage,
            system_title=config.system_title,
            vault=vault,
            sessions=self._sessions,
            access=self._access,
            carrier=self._router,
            trace=trace,
        )
        self._clocks = ClockSync(
            config.clocks,
            local_offset_s=config.collection.local_offset_s,
            headend=self._headend,
            registry=self.registry,
            sessions=self._sessions,
            access=self._access,
            group=self._group,
            flood_s=self._router.flood_s,
            tasks=self._tasks,
            utc_s=utc_s,
            quality=time_quality,
            trace=trace,
        )
        self._timekeeper = timekeeper
        self._headend_time: HeadendTime | None = None
        if timekeeper is not None:
            self._headend_time = HeadendTime(
                config.time, self._headend, timekeeper, is_online=lambda: uplink.is_connected
            )
        self._headend.on(Credentials, self._credentials)
        self._headend.on(RegistrationAck, self._acknowledged)
        self._headend.on(ReadingRequest, self._requested)
        self._headend.on(ProfileRequest, self._profile_requested)
        self._headend.on(BundleAck, self._bundle_acknowledged)
        self._headend.on(ClockQuery, self._clock_asked)
        self._headend.on(SupplyRequest, self._supply_requested)
        self._firmware = FirmwareJobs(
            config.firmware,
            keys=TrustedKeys.from_pem(config.firmware_keys_pem),
            headend=self._headend,
            registry=self.registry,
            sessions=self._sessions,
            access=self._access,
            group=self._group,
            where=self._router.where,
            flood_s=self._router.flood_s,
            rate_bps=FSK_MODES[config.radio.fsk_mode].rate_bps,
            updated=self._registrar.updated,
            quiet_s=profile_named(config.timers_profile).mpl.buffer_s,
            local_offset_s=config.collection.local_offset_s,
            storage=storage,
            tasks=self._tasks,
            utc_s=utc_s,
            trace=trace,
        )
        self._headend.on(FirmwareCampaign, self._firmware_ordered)
        self._headend.on(FirmwareChunk, self._firmware_arrived)

    # life

    def start(self) -> None:
        """Reset the radio, start the mesh and the uplink. Returns at once."""
        _LOG.info("concentrator %s starts", self.config.dcu_id)
        self._trace("dcu-started", dcu=self.config.dcu_id, version=__version__)
        listener = UplinkListener(
            connected=self._connected,
            disconnected=self._disconnected,
            message=self._headend.received,
            confirmed=self._outbox.confirmed,
        )
        if self._timekeeper is not None:
            self._timekeeper.start(self._time_event)
        self._headend.subscribe()
        self._uplink.start(listener, self._headend.will())
        self._outbox.open()
        self._headend.report(EventKind.DCU_STARTED, details={"version": __version__})
        self._router.start()
        self._profiles.resume()
        self._bundles.start()
        self._collector.start()
        self._clocks.start()
        self._firmware.start()
        if self._headend_time is not None:
            self._tasks.spawn(self._headend_time.run(), "time of the head-end")

    async def stop(self) -> None:
        """Orderly end: running requests are answered `error`, the status goes to offline, the session is closed."""
        self._jobs.abort("the concentrator is being stopped")
        self._supplies.abort("the concentrator is being stopped")
        if self._uplink.is_connected:
            self._headend.announce(DcuState.OFFLINE)
        self._outbox.close()
        self._uplink.stop()
        self._end()
        await self._tasks.wait()

    def halt(self) -> None:
        """End at once, as when the power fails: nothing is sent or written any more."""
        self._outbox.seal()
        self._uplink.abort()
        self._end()

    async def run(self) -> None:
        """`start`, then wait until `stop` or `halt` was called."""
        self.start()
        await self._ended.wait()

    def _end(self) -> None:
        if self._timekeeper is not None:
            self._timekeeper.stop()
        self._router.stop()
        self._tasks.cancel()
        self._ended.set()
        self._trace("dcu-stopped", dcu=self.config.dcu_id)

    def report(self, kind: str, details: dict[str, str]) -> None:
        """Tell the head-end of something that happened to a device beside the concentrator."""
        self._headend.report(kind, details=details)

    # what it knows, for whoever runs it

    def where(self, eui64: bytes) -> Reachability | None:
        """A meter's place in the mesh."""
        return self._router.where(eui64)

    def counters(self) -> dict[str, Counter[str]]:
        """What was done, dropped and refused, by part."""
        outbox = self._outbox.counters
        return {
            "mesh": self._router.mesh_counters(),
            "router": Counter(self._router.counters),
            "dlms": self._sessions.total(),
            "registration": Counter(self._registrar.counters),
            "readings": Counter(self._jobs.counters),
            "supply": Counter(self._supplies.counters),
            "profiles": Counter(self._profiles.counters),
            "collection": Counter(self._collector.counters),
            "bundles": Counter(self._bundles.counters),
            "alarms": Counter(self._alarms.counters),
            "trips": Counter(self._trips.counters),
            "group": Counter(self._group.counters),
            "clocks": Counter(self._clocks.counters),
            "firmware": Counter(self._firmware.counters),
            "headend": Counter(self._headend.counters),
            "outbox": Counter(
                taken=outbox.taken,
                confirmed=outbox.confirmed,
                dropped=outbox.dropped,
                waiting=self._outbox.waiting_count,
            ),
        }

    @property
    def used(self) -> Predecessor:
        """What a replacement has to go on behind."""
        return Predecessor(self._start_count, self._router.frame_counter_end)

    @property
    def waiting_bundles(self) -> list[str]:
        """Bundles that the head-end has not acknowledged, the oldest first."""
        return self._bundles.waiting

    async def ping(self, eui64: bytes, *, payload: bytes = b"", timeout_s: float = 10.0) -> float | None:
        """ICMPv6 echo to a node of the mesh: the round trip in seconds; None without an answer, or a way to it."""
        place = self._router.where(eui64)
        if place is None:
            return None
        return await self._router.ping(place.address, payload=payload, timeout_s=timeout_s)

    def rotate_group_key(self, key: LinkKey) -> None:
        """Bring a new group key of the mesh into use. Raises LocalProtocolError for an index that cannot be."""
        self._router.rotate_group_key(key)

    def revoke_access(self, eui64: bytes) -> None:
        """Refuse a device in the mesh from now on; the next rotation of the group key shuts it out."""
        self._router.revoke(eui64)

    async def synchronize_clocks(self) -> None:
        """A round of time synchronization now, whatever the clocks show."""
        await self._clocks.synchronize("asked for")

    # between the parts

    def _connected(self, session_present: bool) -> None:
        _LOG.info("uplink is up, session %s", "resumed" if session_present else "new")
        self._trace("dcu-uplink", state="up", session_present=session_present)
        self._headend.announce(DcuState.ONLINE)
        self._registrar.online(True)
        self._bundles.online(True)
        self._firmware.online(True)
        if self._headend_time is not None:
            self._headend_time.online()

    def _disconnected(self, reason: str) -> None:
        _LOG.warning("uplink is down: %s", reason)
        self._trace("dcu-uplink", state="down", reason=reason)
        self._registrar.online(False)
        self._bundles.online(False)
        self._firmware.online(False)

    def _reachable(self, eui64: bytes, restarted: bool) -> None:
        place = self._router.where(eui64)
        if place is not None:
            self._sessions.moved(eui64, place.address)
        self._registrar.appeared(eui64, restarted)

    def _lost(self, eui64: bytes, why: str) -> None:
        self._registrar.vanished(eui64, why)
        meter = self.registry.find(eui64)
        if meter is not None:
            self._access.changed(meter)

    def _refused_access(self, eui64: bytes, reason: str, detail: str) -> None:
        details = {"layer": "mesh", "reason": reason, "detail": detail}
        self._headend.report(EventKind.METER_REFUSED, eui64=eui64, details=details)

    def _datagram(self, address: bytes, payload: bytes) -> None:
        self._sessions.datagram(address, payload)

    def _notified(self, eui64: bytes, apdu: bytes) -> None:
        if not self._alarms.take(eui64, apdu) and not self._trips.take(eui64, apdu):
            self._collector.notified(eui64, apdu)

    def _time_event(self, kind: str, details: dict[str, str]) -> None:
        self.report(kind, details)
        if kind == EVENT_LEAP:
            self._clocks.leap_announced(int(details["at_utc_s"]))

    def _meter_changed(self, meter: Meter) -> None:
        self._access.changed(meter)

    def _storage_changed(self, reason: str) -> None:
        """Flash refuses records, or takes them again: what cannot be kept is still sent."""
        self.report(EVENT_STORAGE_FULL if reason else EVENT_STORAGE_TAKES, {"reason": reason} if reason else {})

    def _drained(self, _identifier: str) -> None:
        self._headend.drained()

    def _credentials(self, message: Message) -> None:
        if isinstance(message, Credentials):
            self._registrar.credentials(message)

    def _acknowledged(self, message: Message) -> None:
        if isinstance(message, RegistrationAck):
            self._registrar.acknowledged(message)

    def _requested(self, message: Message) -> None:
        if isinstance(message, ReadingRequest):
            self._jobs.submit(message)

    def _profile_requested(self, message: Message) -> None:
        if isinstance(message, ProfileRequest):
            self._profiles.submit(message)

    def _firmware_ordered(self, message: Message) -> None:
        if isinstance(message, FirmwareCampaign):
            self._firmware.submit(message)

    def _firmware_arrived(self, message: Message) -> None:
        if isinstance(message, FirmwareChunk):
            self._firmware.arrived(message)

    def _supply_requested(self, message: Message) -> None:
        if isinstance(message, SupplyRequest):
            self._supplies.submit(message)

    def _bundle_acknowledged(self, message: Message) -> None:
        if isinstance(message, BundleAck):
            self._bundles.acknowledged(message)

    def _clock_asked(self, message: Message) -> None:
        """Answered at once or never: an answer that waits in a queue says nothing."""
        if isinstance(message, ClockQuery) and self._uplink.is_connected:
            quality, now_ms = self._time_quality(), self._headend.utc_ms()
            self._headend.send(
                ClockReport(
                    message.id,
                    message.sent_utc_ms,
                    now_ms,
                    now_ms,
                    quality.source,
                    int(quality.holdover_s),
                    quality.uncertainty_ms,
                )
            )


def _count_start(storage: Storage, before: int) -> int:
    """How often this concentrator has started, this start included, and `before` in a predecessor."""
    stored = storage.read(_START_COUNT)
    count = max(before, 0 if stored is None else int.from_bytes(stored, "big")) + 1
    storage.write(_START_COUNT, count.to_bytes(4, "big"))
    return count
