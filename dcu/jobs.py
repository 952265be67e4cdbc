"""Use case II: on-demand readings, each answered once, by its deadline."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.headend import Headend
from dcu.meter_access import MeterAccess, RouteBrokenError, TooLateError
from dcu.readings import ReadingOutcome
from dcu.registry import Meter, MeterState, Registry
from dcu.sessions import Sessions
from dcu.storage import StorageError
from dcu.tasks import TaskGroup
from protocols.errors import TwinError
from protocols.headend.messages import ReadingRequest, ReadingResponse, ReadingStatus
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_REMEMBERED_REQUESTS = 4096
_MAX_DEADLINE_S = 86_400.0
_RETRY_S = 1.0
_READABLE = (MeterState.ANNOUNCED, MeterState.REGISTERED)
"""A meter whose registration waits for the acknowledgement has proved itself, and the head-end asks for it."""


class _Job:
    """One request while it runs, and what its answer will say about the way there."""

    def __init__(self, request: ReadingRequest) -> None:
        self.request = request
        self.attempts = 0
        self.last_trouble = ""
        self.ends_s: float | None = None
        """Its deadline on the loop's clock."""


class ReadingJobs:
    """Readings wait for their turn with `MeterAccess`.

    A meter that is out of reach is waited for until the deadline, and tried again when its route has healed; after
    the deadline nothing is sent any more. A request that is delivered twice is answered once.
    """

    def __init__(
        self,
        *,
        headend: Headend,
        registry: Registry,
        sessions: Sessions,
        access: MeterAccess,
        tasks: TaskGroup,
        utc_s: Callable[[], float],
        on_refused: Callable[[Meter, MeterRefusedError], None],
        on_clock: Callable[[Meter, float, float, float], None],
        trace: Trace,
        limit: int = 1000,
    ) -> None:
        """`on_clock` is told meter, its time, and our time before and after it was read (UTC, s). `limit` is how many
        requests may wait together; those beyond it are answered with an error."""
        self._headend = headend
        self._registry = registry
        self._sessions = sessions
        self._tasks = tasks
        self._utc_s = utc_s
        self._on_refused = on_refused
        self._on_clock = on_clock
        self._trace = trace
        self._limit = limit
        self._access = access
        self._active: dict[str, tuple[_Job, asyncio.Task[None]]] = {}
        self._answered: dict[str, None] = {}
        self.counters: Counter[str] = Counter()

    def submit(self, request: ReadingRequest) -> None:
        """Take a request, unless it was taken before."""
        if request.id in self._active or request.id in self._answered:
            self.counters["duplicates"] += 1
            return
        job = _Job(request)
        if len(self._active) >= self._limit:
            self._respond(job, ReadingStatus.ERROR, f"{self._limit} requests are waiting already")
            return
        self.counters["requests"] += 1
        self._active[request.id] = (job, self._tasks.spawn(self._run(job), f"read {request.serial}"))

    def abort(self, why: str) -> None:
        """Answer every running request with an error."""
        for job, task in list(self._active.values()):
            task.cancel()
            self._respond(job, ReadingStatus.ERROR, why)

    # one job

    async def _run(self, job: _Job) -> None:
        remaining_s = job.request.deadline_utc_ms / 1000 - self._utc_s()
        if remaining_s <= 0:
            self._respond(job, ReadingStatus.TIMEOUT, "the deadline had passed before the request came")
            return
        try:
            async with asyncio.timeout(min(remaining_s, _MAX_DEADLINE_S)) as limit:
                job.ends_s = limit.when()
                await self._read(job)
        except TimeoutError:
            trouble = f"; last: {job.last_trouble}" if job.last_trouble else ""
            self._respond(job, ReadingStatus.TIMEOUT, f"no reading by the deadline{trouble}")

    async def _read(self, job: _Job) -> None:
        """Try until there is an answer for the head-end. Ends by the deadline's cancellation at the latest."""
        while True:
            meter = self._registry.find_serial(job.request.serial)
            if meter is None:
                self._respond(job, ReadingStatus.UNKNOWN_METER, "no meter with this serial number has registered here")
                return
            if meter.state is MeterState.REFUSED:
                self._respond(job, ReadingStatus.REFUSED, "the meter's registration was refused")
                return
            if meter.state not in _READABLE:
                job.last_trouble = f"the meter is {meter.state.value}"
                await self._access.until_changed(meter)
                continue
            try:
                outcome = await self._attempt(job, meter)
            except RouteBrokenError as error:
                job.last_trouble = str(error)
                await self._access.until_changed(meter)
            except TooLateError as error:
                self._respond(job, ReadingStatus.TIMEOUT, f"no reading by the deadline; {error}")
                return
            except (NoAnswerError, StorageError) as error:
                job.last_trouble = str(error)
                await asyncio.sleep(_RETRY_S)
            except MeterRefusedError as error:
                self._respond(job, ReadingStatus.REFUSED, str(error))
                self._on_refused(meter, error)
                return
            except TwinError as error:
                _LOG.exception("reading %s of meter %s failed", job.request.id, job.request.serial)
                self._respond(job, ReadingStatus.ERROR, str(error))
                return
            else:
                self._respond(job, ReadingStatus.OK, "", outcome)
                return

    async def _attempt(self, job: _Job, meter: Meter) -> ReadingOutcome:
        async with self._access.turn(meter, ends_s=job.ends_s):
            job.attempts += 1
            asked_s = self._utc_s()
            outcome = await self._sessions.find(meter.eui64).read(job.request.objects)
            if outcome.meter_time_utc_ms is not None:
                self._on_clock(meter, outcome.meter_time_utc_ms / 1000, asked_s, self._utc_s())
            return outcome

    def _respond(self, job: _Job, status: ReadingStatus, detail: str, outcome: ReadingOutcome | None = None) -> None:
        request = job.request
        self._active.pop(request.id, None)
        self._answered[request.id] = None
        if len(self._answered) > _REMEMBERED_REQUESTS:
            del self._answered[next(iter(self._answered))]
        self.counters[f"answered_{status}"] += 1
        if detail:
            _LOG.warning("reading %s of meter %s: %s (%s)", request.id, request.serial, status, detail)
        self._trace("dcu-reading", request=request.id, serial=request.serial, status=status.value, detail=detail)
        self._headend.respond(
            ReadingResponse(
                request_id=request.id,
                serial=request.serial,
                status=status,
                completed_utc_ms=self._headend.utc_ms(),
                values=outcome.values if outcome else (),
                missing=outcome.missing if outcome else (),
                meter_time_utc_ms=outcome.meter_time_utc_ms if outcome else None,
                attempts=min(job.attempts, 1000),
                detail=detail[:512],
            )
        )
