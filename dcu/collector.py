"""Use case IV: what meters push is buffered, gaps are pulled by range, and one bundle a day goes to the head-end."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from dcu.bundles import BundleStore
from dcu.config import CollectionPolicy
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.headend import Headend
from dcu.meter_access import MeterAccess, UnknownMeterError
from dcu.pushes import pushed_rows, read_push_objects
from dcu.registry import Meter, MeterIdentity, Registry
from dcu.row_buffer import BufferedTable, RowBuffer, TableKey
from dcu.sessions import Sessions
from dcu.storage import CountingStorage, StorageError
from dcu.tables import NoSuchTableError, TableLayout, TableReader, decode_row
from dcu.tasks import TaskGroup
from protocols.dlms.data import Data, encode
from protocols.dlms.obis import ObisCode
from protocols.dlms.selective import CaptureObject
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.headend.bulk import MAX_ROWS, Bundle, MeterTables, Table
from protocols.headend.tables import TABLES
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_DAY_RECORD = "collected-day"
_DAY_S = 86_400
_LONGEST_SLEEP_S = 600.0
"""The concentrator's clock may be corrected while it waits for midnight."""
_FULL_RETRY_S = 600.0
_RETRY_S = 30.0
_LATE = 1.5
"""Periods between two rows from which one is missing."""


class Collector:
    """Everything that meters capture, once a day. A meter that cannot be reached is caught up with the next day."""

    def __init__(
        self,
        policy: CollectionPolicy,
        dcu_id: str,
        *,
        headend: Headend,
        registry: Registry,
        sessions: Sessions,
        access: MeterAccess,
        reader: TableReader,
        bundles: BundleStore,
        storage: CountingStorage,
        tasks: TaskGroup,
        utc_s: Callable[[], float],
        on_refused: Callable[[Meter, MeterRefusedError], None],
        trace: Trace,
    ) -> None:
        self._policy = policy
        self._dcu_id = dcu_id
        self._headend = headend
        self._registry = registry
        self._sessions = sessions
        self._access = access
        self._reader = reader
        self._bundles = bundles
        self._storage = storage
        self._tasks = tasks
        self._utc_s = utc_s
        self._on_refused = on_refused
        self._trace = trace
        self._buffer = RowBuffer(storage)
        self._push_objects: dict[str, tuple[CaptureObject, ...]] = {}
        self.counters: Counter[str] = Counter()

    def start(self) -> None:
        self._tasks.spawn(self._every_day(), "collection")

    # pushes

    def notified(self, eui64: bytes, apdu: bytes) -> None:
        """A DataNotification whose protection was right."""
        meter = self._registry.find(eui64)
        if meter is None or meter.identity is None:
            self.counters["pushes_of_strangers"] += 1
            return
        objects = self._push_objects.get(meter.kind)
        if objects is None:
            self._tasks.spawn(self._learn_and_take(meter, apdu), f"push of {meter.name}")
        else:
            self._take_push(meter, meter.identity, objects, apdu)

    async def _learn_and_take(self, meter: Meter, apdu: bytes) -> None:
        """The first push of its kind: find out what the meters of this kind push. What is lost here is pulled."""
        try:
            async with self._access.turn(meter):
                if meter.kind not in self._push_objects:
                    self._push_objects[meter.kind] = await read_push_objects(self._sessions.find(meter.eui64))
        except (NoAnswerError, MeterRefusedError, RemoteProtocolError) as error:
            self.counters["pushes_not_understood"] += 1
            _LOG.warning("a push of meter %s is given up: %s", meter.name, error)
            return
        except StorageError as error:
            self._push_not_kept(meter, error)
            return
        if meter.identity is not None:
            self._take_push(meter, meter.identity, self._push_objects[meter.kind], apdu)

    def _take_push(self, meter: Meter, identity: MeterIdentity, objects: Sequence[CaptureObject], apdu: bytes) -> None:
        try:
            for pushed in pushed_rows(apdu, objects):
                key = TableKey(identity.serial, meter.kind, str(pushed.obis))
                added = self._buffer.add(key, pushed.rows, pushed=True)
                self.counters["rows_pushed"] += added
                self._trace("dcu-push", serial=identity.serial, obis=key.obis, rows=len(pushed.rows), added=added)
        except RemoteProtocolError as error:
            self.counters["pushes_not_understood"] += 1
            _LOG.warning("a push of meter %s is malformed: %s", meter.name, error)
        except StorageError as error:
            self._push_not_kept(meter, error)

    def _push_not_kept(self, meter: Meter, error: StorageError) -> None:
        """Unconfirmed: it will be missing, and pulled."""
        self.counters["storage_errors"] += 1
        _LOG.error("a push of meter %s cannot be kept: %s", meter.name, error)

    # the day

    async def _every_day(self) -> None:
        if self._last_day() is None:
            self._note_day(self._day_due())
        while True:
            today = self._day_due()
            if today > (self._last_day() or 0):
                if not await self.collect() or not self._note_day(today):
                    await asyncio.sleep(_FULL_RETRY_S)
            else:
                await asyncio.sleep(min(self._seconds_to_next(), _LONGEST_SLEEP_S))

    def _day_due(self) -> int:
        """The local day whose collection is due: that of the last midnight that is `bundle_after_s` ago."""
        return int((self._utc_s() + self._policy.local_offset_s - self._policy.bundle_after_s) // _DAY_S)

    def _seconds_to_next(self) -> float:
        elapsed_s = (self._utc_s() + self._policy.local_offset_s - self._policy.bundle_after_s) % _DAY_S
        return _DAY_S - elapsed_s + 0.001

    def _last_day(self) -> int | None:
        stored = self._storage.read(_DAY_RECORD)
        return None if stored is None else int.from_bytes(stored, "big")

    def _note_day(self, day: int) -> bool:
        """Whether flash has taken it."""
        try:
            self._storage.write(_DAY_RECORD, day.to_bytes(4, "big"))
        except StorageError as error:
            _LOG.error("the day of the last collection is not kept: %s", error)
            return False
        return True

    async def collect(self) -> bool:
        """Fill the gaps of every meter, and make a bundle of all that is there; False if flash has no room for it."""
        meters = [meter for meter in self._registry.meters() if meter.identity is not None]
        self._trace("dcu-collection", state="begins", meters=len(meters))
        refusals = self._storage.refusals
        troubles = await asyncio.gather(*(self._complete(meter) for meter in meters))
        troubled = {
            meter.identity.serial: trouble
            for meter, trouble in zip(meters, troubles, strict=True)
            if trouble and meter.identity is not None
        }
        # Rows that found no room are pulled again, and so is a meter that could not register without room for its
        # counters: a bundle without them would only look like the day's.
        is_kept = self._storage.refusals == refusals and self._make_bundle(troubled)
        self._trace("dcu-collection", state="done", meters=len(meters), troubled=len(troubled))
        return is_kept

    async def _complete(self, meter: Meter) -> str:
        """Pull what a meter has and the buffer has not; why that failed, empty if it did not."""
        identity = meter.identity
        if identity is None:
            return ""
        try:
            async with asyncio.timeout(self._policy.patience_s) as patience:
                registered = await self._access.registered(identity.serial, announced_too=True)
                while True:
                    try:
                        await self._pull(registered, identity, patience)
                        return ""
                    except NoAnswerError:
                        self.counters["unanswered"] += 1
                        await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            return "out of reach"
        except MeterRefusedError as error:
            self._on_refused(meter, error)
            return str(error)
        except (UnknownMeterError, RemoteProtocolError, StorageError) as error:
            _LOG.warning("meter %s cannot be collected: %s", meter.name, error)
            return str(error)

    @asynccontextmanager
    async def _turn(self, meter: Meter, patience: asyncio.Timeout) -> AsyncIterator[None]:
        """The meter's turn on the air. Patience is for one that does not answer: the queue of others uses up none."""
        loop, ends_s = asyncio.get_running_loop(), patience.when()
        began_s = loop.time()
        patience.reschedule(None)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._access.unhurried_turn(meter))
            finally:
                if ends_s is not None:
                    patience.reschedule(ends_s + loop.time() - began_s)
            yield

    async def _pull(self, meter: Meter, identity: MeterIdentity, patience: asyncio.Timeout) -> None:
        async with self._turn(meter, patience):
            session = self._sessions.find(meter.eui64)
            layouts = []
            for table in TABLES:
                try:
                    layouts.append(await self._reader.find(session, meter.kind, table.name, table.candidates))
                except NoSuchTableError:
                    continue
            wanted = []
            for layout in layouts:
                start_s = self._missing_from_s(TableKey(identity.serial, meter.kind, str(layout.obis)), layout)
                if start_s is not None:
                    wanted.append((layout, start_s))
            if not wanted:
                return
            end_s = int(self._utc_s())
            answers = await self._reader.ranges(session, wanted, end_s)
        for (layout, _), rows in zip(wanted, answers, strict=True):
            key = TableKey(identity.serial, meter.kind, str(layout.obis))
            known_s = self._buffer.mark_s(key.serial, key.obis)
            mark_s = _newest_s(layout, rows, known_s, end_s)
            added = self._buffer.add(key, [encode(row) for row in rows], mark_s=mark_s)
            self.counters["rows_pulled"] += added
            self._trace("dcu-pull", serial=identity.serial, obis=key.obis, rows=len(rows), added=added)

    def _missing_from_s(self, key: TableKey, layout: TableLayout) -> int | None:
        """From when on rows have to be pulled; None if those that were pushed follow each other up to midnight."""
        mark_s = self._buffer.mark_s(key.serial, key.obis)
        now_s = self._utc_s()
        if mark_s is None:
            return int(now_s) - self._policy.backfill_days * _DAY_S
        if not layout.period_s:
            return mark_s - self._policy.margin_s
        reached_s = float(mark_s)
        for captured_s in sorted(_times(layout, self._buffer.table(key))):
            if captured_s > reached_s + _LATE * layout.period_s:
                break
            reached_s = max(reached_s, captured_s)
        midnight_s = self._day_due() * _DAY_S - self._policy.local_offset_s
        if reached_s < midnight_s - layout.period_s / 2:
            return int(reached_s) - self._policy.margin_s
        self._buffer.add(key, [], mark_s=int(min(reached_s, now_s)))
        return None

    # the bundle

    def _make_bundle(self, troubled: dict[str, str]) -> bool:
        taken = self._buffer.snapshot()
        tables: dict[str, list[Table]] = {serial: [] for serial in troubled}
        pushed: Counter[str] = Counter()
        for key, buffered in sorted(taken.items(), key=lambda item: (item[0].serial, item[0].obis, item[0].kind)):
            layout = self._reader.known(key.kind, ObisCode.parse(key.obis))
            if layout is None or not buffered.rows:
                # Rows of a meter whose tables were never read stay for a later bundle.
                taken[key] = BufferedTable()
                continue
            tables.setdefault(key.serial, []).extend(_tables(layout, buffered.rows))
            pushed[key.serial] += buffered.pushed
        bundle = Bundle(
            self._dcu_id,
            self._headend.new_id(),
            self._headend.utc_ms(),
            tuple(
                MeterTables(serial, tuple(found), pushed[serial], troubled.get(serial, "")[:512])
                for serial, found in sorted(tables.items())
            ),
        )
        try:
            self._bundles.keep(bundle)
            self._buffer.drop(taken)
        except (StorageError, LocalProtocolError) as error:
            # What is in the buffer goes with the next bundle.
            self.counters["storage_errors"] += 1
            _LOG.error("no bundle today: %s", error)
            self._trace("dcu-storage-error", record="bundle", error=str(error))
            return False
        return True


def _times(layout: TableLayout, buffered: BufferedTable) -> list[float]:
    times = (layout.captured_s(decode_row(row)) for row in buffered.rows)
    return [captured_s for captured_s in times if captured_s is not None]


def _newest_s(layout: TableLayout, rows: Sequence[Data], known_s: int | None, now_s: int) -> int | None:
    """The new mark of a table: its newest row, but no time that is still to come, as a clock that is ahead gives it."""
    times = [captured_s for row in rows if (captured_s := layout.captured_s(row)) is not None]
    return min(int(max(times)), now_s) if times else known_s


def _tables(layout: TableLayout, rows: Sequence[bytes]) -> list[Table]:
    """Rows in the order of their times; those that came by a push and those that were pulled are mixed."""
    decoded = [decode_row(row) for row in rows]
    decoded.sort(key=lambda row: layout.captured_s(row) or 0.0)
    return [layout.table(decoded[first : first + MAX_ROWS]) for first in range(0, len(decoded), MAX_ROWS)]
