"""Disconnecting and reconnecting lines of meters: each request answered once, by its deadline, with what was read back.

The request goes to the meter's Disconnect control (class 70) as a ciphered ACTION, sent once; what came of it is always
read from the meter, never concluded from an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dcu.dlms_session import MeterSession
from dcu.errors import MeterRefusedError, NoAnswerError
from dcu.headend import Headend
from dcu.meter_access import MeterAccess, UnknownMeterError
from dcu.registry import Meter
from dcu.sessions import Sessions
from dcu.storage import StorageError
from dcu.tasks import TaskGroup
from protocols.dlms.action import MethodReference
from protocols.dlms.client import AttributeReference
from protocols.dlms.data import Data, Tag, integer
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.errors import RemoteProtocolError, TwinError
from protocols.headend.supply import SupplyAction, SupplyRequest, SupplyResponse, SupplyStatus
from protocols.leakage_protection import (
    CLASS_DATA,
    CLASS_DISCONNECT_CONTROL,
    HELD_STATES,
    ProtectionState,
    Refusal,
    SafetyState,
    disconnect_control,
    protection_state,
)
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_REMEMBERED = 4096
_MAX_DEADLINE_S = 86_400.0
_RETRY_S = 1.0
_SETTLING_S = 0.5
"""Between two looks at a line whose leakage check is running."""
_DISCONNECTED, _CONNECTED, _READY = 0, 1, 2
"""Control states of class 70."""
_REMOTE_DISCONNECT, _REMOTE_RECONNECT = 1, 2


@dataclass(frozen=True, slots=True)
class LineReport:
    """What a meter says about one line. `protection` is None on a meter without leakage protection."""

    connected: bool
    control_state: int
    protection: ProtectionState | None


@dataclass(frozen=True, slots=True)
class SupplyOutcome:
    """How a request ended, as its answer will say."""

    status: SupplyStatus
    connected: bool | None = None
    reason: Refusal | None = None
    detail: str = ""


class SupplyJobs:
    """Requests wait for their turn with `MeterAccess`, until their deadline. One that is delivered twice is answered
    once; after the deadline nothing is sent any more."""

    def __init__(
        self,
        *,
        headend: Headend,
        sessions: Sessions,
        access: MeterAccess,
        tasks: TaskGroup,
        utc_s: Callable[[], float],
        on_refused: Callable[[Meter, MeterRefusedError], None],
        trace: Trace,
        limit: int = 1000,
    ) -> None:
        self._headend = headend
        self._sessions = sessions
        self._access = access
        self._tasks = tasks
        self._utc_s = utc_s
        self._on_refused = on_refused
        self._trace = trace
        self._limit = limit
        self._active: dict[str, tuple[SupplyRequest, asyncio.Task[None]]] = {}
        self._answered: dict[str, None] = {}
        self.counters: Counter[str] = Counter()

    def submit(self, request: SupplyRequest) -> None:
        """Take a request, unless it was taken before."""
        if request.id in self._active or request.id in self._answered:
            self.counters["duplicates"] += 1
            return
        if len(self._active) >= self._limit:
            self._respond(
                request, SupplyOutcome(SupplyStatus.ERROR, detail=f"{self._limit} requests are waiting already")
            )
            return
        self.counters["requests"] += 1
        task = self._tasks.spawn(self._run(request), f"{request.action} {request.serial}")
        self._active[request.id] = (request, task)

    def abort(self, why: str) -> None:
        """Answer every running request with an error."""
        for request, task in list(self._active.values()):
            task.cancel()
            self._respond(request, SupplyOutcome(SupplyStatus.ERROR, detail=why))

    # one job

    async def _run(self, request: SupplyRequest) -> None:
        remaining_s = request.deadline_utc_ms / 1000 - self._utc_s()
        if remaining_s <= 0:
            detail = "the deadline had passed before the request came"
            self._respond(request, SupplyOutcome(SupplyStatus.TIMEOUT, detail=detail))
            return
        trouble: list[str] = []
        try:
            async with asyncio.timeout(min(remaining_s, _MAX_DEADLINE_S)):
                outcome = await self._carry_out(request, trouble)
        except TimeoutError:
            last = f"; last: {trouble[-1]}" if trouble else "; the meter is out of reach"
            outcome = SupplyOutcome(SupplyStatus.TIMEOUT, detail=f"not done by the deadline{last}")
        self._respond(request, outcome)

    async def _carry_out(self, request: SupplyRequest, trouble: list[str]) -> SupplyOutcome:
        """Try until there is an outcome. Ends by the deadline's cancellation at the latest."""
        while True:
            meter = None
            try:
                meter = await self._access.registered(request.serial)
                async with self._access.turn(meter):
                    return await self._switch(self._sessions.find(meter.eui64), request)
            except (NoAnswerError, StorageError) as error:
                trouble.append(str(error))
                await asyncio.sleep(_RETRY_S)
            except UnknownMeterError as error:
                return SupplyOutcome(SupplyStatus.UNKNOWN_METER, detail=str(error))
            except MeterRefusedError as error:
                if meter is not None:
                    self._on_refused(meter, error)
                return SupplyOutcome(SupplyStatus.REFUSED, detail=str(error))
            except TwinError as error:
                _LOG.exception("%s of meter %s failed", request.action, request.serial)
                return SupplyOutcome(SupplyStatus.ERROR, detail=str(error))

    async def _switch(self, session: MeterSession, request: SupplyRequest) -> SupplyOutcome:
        before = await read_line(session, request.line)
        if before is None:
            detail = f"the meter has no line {request.line} that can be switched"
            return SupplyOutcome(SupplyStatus.UNDEFINED, detail=detail)
        if request.action is SupplyAction.DISCONNECT:
            return await self._disconnect(session, request.line, before)
        return await self._reconnect(session, request.line, before)

    async def _disconnect(self, session: MeterSession, line: int, before: LineReport) -> SupplyOutcome:
        if before.control_state == _DISCONNECTED and not before.connected:
            return SupplyOutcome(SupplyStatus.OK, False, detail="it was disconnected already")
        result = await _invoke(session, line, _REMOTE_DISCONNECT)
        after = await read_line(session, line)
        if after is None:
            raise NoAnswerError("the line cannot be read back")
        if not after.connected and after.control_state == _DISCONNECTED:
            return SupplyOutcome(SupplyStatus.OK, False)
        if result is ActionResult.SUCCESS or after.control_state == _DISCONNECTED:
            return SupplyOutcome(SupplyStatus.FAILED, after.connected, detail="the contacts do not open")
        return SupplyOutcome(SupplyStatus.REFUSED, after.connected, detail=_denied(result))

    async def _reconnect(self, session: MeterSession, line: int, before: LineReport) -> SupplyOutcome:
        if before.connected:
            return SupplyOutcome(SupplyStatus.OK, True, detail="it was connected already")
        if before.control_state == _READY:
            # From "ready for reconnection" class 70 has no remote way but through "disconnected".
            await _invoke(session, line, _REMOTE_DISCONNECT)
        result = await _invoke(session, line, _REMOTE_RECONNECT)
        after = await self._settled(session, line)
        if after.connected:
            return SupplyOutcome(SupplyStatus.OK, True)
        refusal = _refusal(after.protection, result)
        if refusal is not None:
            return SupplyOutcome(SupplyStatus.REFUSED, False, refusal, refusal.text)
        if after.control_state == _READY:
            return SupplyOutcome(SupplyStatus.READY, False, detail="the customer has to press the meter's button")
        if result is not ActionResult.SUCCESS:
            return SupplyOutcome(SupplyStatus.REFUSED, False, detail=_denied(result))
        return SupplyOutcome(SupplyStatus.FAILED, False, detail="the contacts do not close")

    async def _settled(self, session: MeterSession, line: int) -> LineReport:
        """The line when no leakage check runs any more; the deadline bounds the wait."""
        while True:
            report = await read_line(session, line)
            if report is None:
                raise NoAnswerError("the line cannot be read back")
            if report.protection is None or report.protection.state is not SafetyState.CHECKING:
                return report
            await asyncio.sleep(_SETTLING_S)

    def _respond(self, request: SupplyRequest, outcome: SupplyOutcome) -> None:
        self._active.pop(request.id, None)
        self._answered[request.id] = None
        if len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]
        self.counters[f"answered_{outcome.status}"] += 1
        if outcome.detail:
            _LOG.warning(
                "%s of meter %s, line %d: %s (%s)",
                request.action, request.serial, request.line, outcome.status, outcome.detail,
            )  # fmt: skip
        self._trace(
            "dcu-supply", request=request.id, serial=request.serial, line=request.line, action=request.action.value,
            status=outcome.status.value, reason=outcome.reason, detail=outcome.detail,
        )  # fmt: skip
        response = SupplyResponse(
            request_id=request.id,
            serial=request.serial,
            line=request.line,
            status=outcome.status,
            completed_utc_ms=self._headend.utc_ms(),
            connected=outcome.connected,
            reason=outcome.reason,
            detail=outcome.detail[:512],
        )
        self._headend.deliver(f"supply.{request.id}", response)


async def read_line(session: MeterSession, line: int) -> LineReport | None:
    """What the meter says about a line; None if it has none of that number that could be switched.

    Raises NoAnswerError, MeterRefusedError, RemoteProtocolError.
    """
    control = disconnect_control(line)
    output, state, protection = await session.get(
        [
            AttributeReference(CLASS_DISCONNECT_CONTROL, control, 2),
            AttributeReference(CLASS_DISCONNECT_CONTROL, control, 3),
            AttributeReference(CLASS_DATA, protection_state(line), 2),
        ]
    )
    if isinstance(output, DataAccessResult) or isinstance(state, DataAccessResult):
        return None
    if output.tag != Tag.BOOLEAN or state.tag != Tag.ENUM:
        raise RemoteProtocolError(f"{control} is no Disconnect control", spec="IEC 62056-6-2, class 70")
    found = ProtectionState.from_data(protection) if isinstance(protection, Data) else None
    return LineReport(bool(output.value), int(state.value), found)


async def _invoke(session: MeterSession, line: int, method: int) -> ActionResult | None:
    """The meter's answer, None where none came: what happened is read afterwards."""
    reference = MethodReference(CLASS_DISCONNECT_CONTROL, disconnect_control(line), method)
    try:
        return await session.action_once(reference, integer(0))
    except NoAnswerError:
        return None


def _refusal(protection: ProtectionState | None, result: ActionResult | None) -> Refusal | None:
    """Why the leakage protection has refused this very request, as far as the request has reached it."""
    if protection is None or protection.refusal is Refusal.NONE:
        return None
    reached = result in (ActionResult.SUCCESS, None) or protection.state in HELD_STATES
    return protection.refusal if reached else None


def _denied(result: ActionResult | None) -> str:
    if result is None:
        return "the meter gave no answer, and has not done it"
    return f"the meter answers {result.name.lower().replace('_', '-')}"
