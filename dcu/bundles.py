"""Daily bundles on their way to the head-end: kept until it says that they are in its database."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from dcu.config import CollectionPolicy
from dcu.headend import Headend
from dcu.storage import Storage, StorageError
from dcu.tasks import TaskGroup
from protocols.errors import RemoteProtocolError
from protocols.headend.bulk import Bundle, BundleAck, BundleStatus
from protocols.headend.bundle import pack_bundle, split_bundle, unpack_bundle
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_PREFIX = "bundle."
_BUNDLE_REFUSED = "bundle-refused"


class BundleStore:
    """Bundles are sent one after another, the oldest first, part by part; without an acknowledgement, again."""

    def __init__(
        self,
        policy: CollectionPolicy,
        *,
        headend: Headend,
        storage: Storage,
        tasks: TaskGroup,
        trace: Trace,
    ) -> None:
        self._policy = policy
        self._headend = headend
        self._storage = storage
        self._tasks = tasks
        self._trace = trace
        self._online = asyncio.Event()
        self._added = asyncio.Event()
        self._acks: dict[str, asyncio.Future[BundleAck]] = {}
        self.counters: Counter[str] = Counter()

    def start(self) -> None:
        self._tasks.spawn(self._run(), "bundles")

    @property
    def waiting(self) -> list[str]:
        """Records of bundles that are not acknowledged, the oldest first."""
        return [name for name in self._storage.names() if name.startswith(_PREFIX)]

    def online(self, is_online: bool) -> None:
        """The uplink came or went."""
        if is_online:
            self._online.set()
        else:
            self._online.clear()

    def keep(self, bundle: Bundle) -> None:
        """On storage when this returns. Raises StorageError, LocalProtocolError when it cannot be packed."""
        data = pack_bundle(bundle)
        last = self.waiting[-1:]
        number = int(last[0].removeprefix(_PREFIX)) + 1 if last else 1
        self._storage.write(f"{_PREFIX}{number:010d}", data)
        self.counters["made"] += 1
        rows = sum(len(table.rows) for meter in bundle.meters for table in meter.tables)
        self._trace("dcu-bundle", bundle=bundle.bundle_id, size_bytes=len(data), meters=len(bundle.meters), rows=rows)
        self._added.set()

    def acknowledged(self, ack: BundleAck) -> None:
        waiting = self._acks.get(ack.bundle_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(ack)

    async def _run(self) -> None:
        while True:
            names = self.waiting
            if not names:
                self._added.clear()
                await self._added.wait()
                continue
            await self._online.wait()
            for name in names:
                await self._send(name)

    async def _send(self, name: str) -> None:
        data = self._storage.read(name)
        try:
            bundle_id = unpack_bundle(data or b"").bundle_id
        except RemoteProtocolError as error:
            _LOG.error("record %s is no bundle any more and was dropped: %s", name, error)
            self._drop(name)
            return
        answer: asyncio.Future[BundleAck] = asyncio.get_running_loop().create_future()
        self._acks[bundle_id] = answer
        try:
            await self._online.wait()
            for part in split_bundle(bundle_id, data or b""):
                self._headend.send(part)
            self.counters["sent"] += 1
            async with asyncio.timeout(self._policy.ack_timeout_s):
                ack = await answer
        except TimeoutError:
            self.counters["unacknowledged"] += 1
            return
        finally:
            self._acks.pop(bundle_id, None)
        if ack.status is BundleStatus.STORED:
            self.counters["acknowledged"] += 1
            self._trace("dcu-bundle-acknowledged", bundle=bundle_id, rows=ack.rows, duplicates=ack.duplicates)
            self._drop(name)
            return
        self.counters["refused"] += 1
        _LOG.error("the head-end refused bundle %s: %s", bundle_id, ack.detail)
        self._headend.report(_BUNDLE_REFUSED, details={"bundle": bundle_id, "detail": ack.detail})
        await asyncio.sleep(self._policy.refused_retry_s)

    def _drop(self, name: str) -> None:
        try:
            self._storage.delete(name)
        except StorageError as error:
            # It goes again, and the head-end counts its rows as duplicates.
            _LOG.error("record %s could not be deleted: %s", name, error)
