"""Use case III: profiles by range, read and sent on in parts, carried on after a restart where they were."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.headend import Headend
from dcu.meter_access import MeterAccess, UnknownMeterError
from dcu.registry import Meter
from dcu.sessions import Sessions
from dcu.storage import Storage, StorageError
from dcu.tables import NoSuchTableError, TableLayout, TableReader
from dcu.tasks import TaskGroup
from protocols.errors import RemoteProtocolError, TwinError
from protocols.headend.bulk import MAX_ROWS, ProfileChunk, ProfileEnd, ProfileRequest, ProfileStatus
from protocols.headend.messages import decode_message, encode_message
from protocols.headend.topics import Channel
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_PREFIX = "profile-job."
_REMEMBERED = 1024
_PART_ROWS = 96
"""Rows that one part of the range holds at most: about 12 KB of JSON, a second or two of a satellite link."""
_RETRY_S = 5.0
_MAX_DEADLINE_S = 7 * 86_400.0


@dataclass(slots=True)
class ProfileJob:
    """One request, and how far it has come: everything before `covered_s` is in the outbox."""

    request: ProfileRequest
    covered_s: int
    rows: int = 0

    @property
    def end_s(self) -> int:
        """The first second behind the range."""
        return self.request.to_utc_ms // 1000 + 1

    @property
    def record(self) -> str:
        return _PREFIX + hashlib.sha256(self.request.id.encode()).hexdigest()[:16]

    def encode(self) -> bytes:
        request = encode_message(self.request).decode()
        return json.dumps({"request": request, "covered_s": self.covered_s, "rows": self.rows}).encode()

    @classmethod
    def decode(cls, data: bytes) -> ProfileJob:
        """Raises ValueError, KeyError, TypeError, RemoteProtocolError for what `encode` did not make."""
        fields = json.loads(data)
        request = decode_message(fields["request"].encode(), Channel.REQUEST)
        if not isinstance(request, ProfileRequest):
            raise ValueError("no profile request")
        return cls(request, int(fields["covered_s"]), int(fields["rows"]))


class ProfileJobs:
    """Takes requests, reads them part by part, and sends every part on as soon as it is there.

    A request is on storage before its delivery is acknowledged; a restart carries on behind the last part that was put
    into the outbox, so a part may go twice, and none is left out.
    """

    def __init__(
        self,
        *,
        headend: Headend,
        sessions: Sessions,
        access: MeterAccess,
        reader: TableReader,
        storage: Storage,
        tasks: TaskGroup,
        utc_s: Callable[[], float],
        on_refused: Callable[[Meter, MeterRefusedError], None],
        trace: Trace,
        limit: int = 1000,
    ) -> None:
        self._headend = headend
        self._sessions = sessions
        self._access = access
        self._reader = reader
        self._storage = storage
        self._tasks = tasks
        self._utc_s = utc_s
        self._on_refused = on_refused
        self._trace = trace
        self._limit = limit
        self._active: dict[str, ProfileJob] = {}
        self._ended: dict[str, None] = {}
        self.counters: Counter[str] = Counter()

    def resume(self) -> None:
        """Carry on with what a restart has interrupted."""
        for name in self._storage.names():
            if not name.startswith(_PREFIX):
                continue
            try:
                job = ProfileJob.decode(self._storage.read(name) or b"")
            except (ValueError, KeyError, TypeError, RemoteProtocolError) as error:
                _LOG.error("record %s is unreadable and was dropped: %s", name, error)
                self._forget(name)
                continue
            self.counters["resumed"] += 1
            self._start(job)

    def submit(self, request: ProfileRequest) -> None:
        """Take a request, unless it was taken before."""
        if request.id in self._active or request.id in self._ended:
            self.counters["duplicates"] += 1
            return
        job = ProfileJob(request, request.from_utc_ms // 1000)
        if len(self._active) >= self._limit:
            self._end(job, ProfileStatus.ERROR, f"{self._limit} requests are waiting already")
            return
        self.counters["requests"] += 1
        self._keep(job)
        self._start(job)

    def _start(self, job: ProfileJob) -> None:
        self._active[job.request.id] = job
        self._tasks.spawn(self._run(job), f"profile {job.request.name} of {job.request.serial}")

    # one job

    async def _run(self, job: ProfileJob) -> None:
        remaining_s = min(job.request.deadline_utc_ms / 1000 - self._utc_s(), _MAX_DEADLINE_S)
        trouble = ""
        try:
            async with asyncio.timeout(max(remaining_s, 0.0)):
                while True:
                    try:
                        await self._read(job)
                        break
                    except (NoAnswerError, StorageError) as error:
                        trouble = f"; last: {error}"
                        self.counters["unanswered"] += 1
                        await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            self._end(job, ProfileStatus.TIMEOUT, f"not all of the range by the deadline{trouble}")
        except UnknownMeterError as error:
            self._end(job, ProfileStatus.UNKNOWN_METER, str(error))
        except MeterRefusedError as error:
            self._end(job, ProfileStatus.REFUSED, str(error))
        except NoSuchTableError as error:
            self._end(job, ProfileStatus.UNDEFINED, str(error))
        except TwinError as error:
            _LOG.exception("profile request %s failed", job.request.id)
            self._end(job, ProfileStatus.ERROR, str(error))
        else:
            self._end(job, ProfileStatus.OK, "")

    async def _read(self, job: ProfileJob) -> None:
        """From where the job is to the end of its range."""
        meter = await self._access.registered(job.request.serial)
        try:
            layout = await self._layout(job, meter)
            await self._skip_to_first_row(job, meter, layout)
            while job.covered_s < job.end_s:
                await self._headend.room()
                await self._part(job, meter, layout)
        except MeterRefusedError as error:
            self._on_refused(meter, error)
            raise

    async def _layout(self, job: ProfileJob, meter: Meter) -> TableLayout:
        async with self._access.turn(meter):
            session = self._sessions.find(meter.eui64)
            return await self._reader.find(session, meter.kind, job.request.name, job.request.candidates)

    async def _skip_to_first_row(self, job: ProfileJob, meter: Meter, layout: TableLayout) -> None:
        """A range that begins long before the meter's memory does is not asked for part by part."""
        if not layout.period_s or job.end_s - job.covered_s <= _PART_ROWS * layout.period_s:
            return
        async with self._access.turn(meter):
            oldest_s = await self._reader.oldest_s(self._sessions.find(meter.eui64), layout)
        if oldest_s is None:
            job.covered_s = job.end_s
            return
        # A clock that was set back leaves rows that are older than the first one.
        job.covered_s = max(job.covered_s, int(oldest_s) - 86_400)

    async def _part(self, job: ProfileJob, meter: Meter, layout: TableLayout) -> None:
        step_s = _PART_ROWS * layout.period_s or job.end_s - job.covered_s
        end_s = min(job.covered_s + step_s, job.end_s)
        async with self._access.turn(meter):
            rows = await self._reader.range(self._sessions.find(meter.eui64), layout, job.covered_s, end_s - 1)
        for first in range(0, len(rows), MAX_ROWS) or (0,):
            table = layout.table(rows[first : first + MAX_ROWS])
            chunk = ProfileChunk(job.request.id, job.request.serial, job.covered_s * 1000, end_s * 1000, table)
            self._headend.deliver(f"profile.{job.request.id}.{job.covered_s}.{first}", chunk)
        job.covered_s, job.rows = end_s, job.rows + len(rows)
        self.counters["parts"] += 1
        self.counters["rows"] += len(rows)
        self._keep(job)

    def _end(self, job: ProfileJob, status: ProfileStatus, detail: str) -> None:
        request = job.request
        self._active.pop(request.id, None)
        self._ended[request.id] = None
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self.counters[f"ended_{status}"] += 1
        self._trace("dcu-profile", request=request.id, serial=request.serial, status=status.value, rows=job.rows)
        end = ProfileEnd(request.id, request.serial, status, self._headend.utc_ms(), job.rows, detail[:512])
        self._headend.deliver(f"profile.{request.id}.end", end)
        self._forget(job.record)

    def _keep(self, job: ProfileJob) -> None:
        try:
            self._storage.write(job.record, job.encode())
        except StorageError as error:
            _LOG.error("request %s would not survive a restart: %s", job.request.id, error)

    def _forget(self, name: str) -> None:
        try:
            self._storage.delete(name)
        except StorageError as error:
            _LOG.error("record %s could not be deleted: %s", name, error)
