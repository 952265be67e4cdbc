"""The operator's disconnection and reconnection of a line, asked of the meter's concentrator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from protocols.errors import BadInputError
from protocols.headend.messages import Message
from protocols.headend.supply import SupplyAction, SupplyRequest, SupplyResponse, SupplyStatus
from protocols.leakage_protection import MAX_LINES
from protocols.ports import Cancellable, Timers, Trace
from twin.hes.supply_store import SupplyStore
from twin.hes.supply_tables import SupplyRecord
from twin.hes.tables import Meter, MeterState, RequestStatus

_log = logging.getLogger(__name__)

MIN_TIMEOUT_S = 1.0
MAX_TIMEOUT_S = 86_400.0
DEFAULT_TIMEOUT_S = 60.0


@dataclass(slots=True)
class SupplyCounters:
    """Answers that fitted no request, and those that came twice or after the deadline."""

    rejected: int = 0
    late: int = 0


class SupplyService:
    """`send(dcu_id, message)` publishes; `meter_of` finds a registered meter; `notify` tells whoever watches."""

    def __init__(
        self,
        store: SupplyStore,
        *,
        timers: Timers,
        now_ms: Callable[[], int],
        send: Callable[[str, Message], None],
        meter_of: Callable[[str], Meter | None],
        notify: Callable[[], None],
        prefix: str,
        trace: Trace,
        uplink_margin_s: float,
    ) -> None:
        self.store = store
        self.counters = SupplyCounters()
        self._timers = timers
        self._now_ms = now_ms
        self._send = send
        self._meter_of = meter_of
        self._notify = notify
        self._prefix = prefix
        self._trace = trace
        self._margin_s = uplink_margin_s
        self._deadlines: dict[str, Cancellable] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        for record in store.pending():
            self._arm(record)

    def stop(self) -> None:
        """Forget the deadlines; pending requests are taken up at the next start."""
        for timer in self._deadlines.values():
            timer.cancel()
        self._deadlines.clear()

    def request(
        self, serial: str, action: SupplyAction, line: int = 1, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> SupplyRecord:
        """Ask for a line to be switched. A meter that never registered, or is revoked, ends the request at once.

        Raises BadInputError for a line or a time-out out of range.
        """
        if not 1 <= line <= MAX_LINES:
            raise BadInputError(f"must be 1 to {MAX_LINES}", key="line")
        if not MIN_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
            raise BadInputError(f"must be {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S:g}", key="timeout_s")
        meter, sequence, now_ms = self._meter_of(serial), self.store.next_sequence(), self._now_ms()
        record = SupplyRecord(
            request_id=f"supply-{self._prefix}-{sequence}",
            sequence=sequence,
            serial=serial,
            dcu_id="" if meter is None else meter.dcu_id,
            line=line,
            action=action.value,
            status=RequestStatus.PENDING.value,
            created_utc_ms=now_ms,
            deadline_utc_ms=now_ms + round(timeout_s * 1000),
        )
        self.store.add(record)
        self._trace("hes.supply_request", request=record.request_id, serial=serial, line=line, action=action.value)
        if meter is None:
            self._finish(record.request_id, SupplyStatus.UNKNOWN_METER, "no meter of this serial number is registered")
        elif meter.state == MeterState.REVOKED:
            self._finish(record.request_id, SupplyStatus.REFUSED, "the meter is revoked")
        else:
            self._arm(record)
            deadline_ms = record.deadline_utc_ms - round(min(self._margin_s, timeout_s / 4) * 1000)
            self._send(record.dcu_id, SupplyRequest(record.request_id, serial, line, action, deadline_ms))
        return self.store.request(record.request_id) or record

    async def wait(self, request_id: str) -> SupplyRecord:
        """The request when it has ended, by its deadline at the latest. Raises KeyError for an unknown id."""
        record = self.store.request(request_id)
        if record is None:
            raise KeyError(request_id)
        if record.status == RequestStatus.PENDING:
            ended = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(request_id, []).append(ended)
            await ended
            record = self.store.request(request_id) or record
        return record

    def take(self, dcu_id: str, response: SupplyResponse) -> None:
        """A concentrator's answer."""
        record = self.store.request(response.request_id)
        if record is None or (record.dcu_id, record.serial, record.line) != (dcu_id, response.serial, response.line):
            self.counters.rejected += 1
            reason = "no such request" if record is None else "another concentrator, meter or line was asked"
            _log.warning("answer to %s dropped: %s", response.request_id, reason)
            self._trace("hes.rejected_message", what=f"answer to {response.request_id}", reason=reason)
            return
        done = self._finish(
            response.request_id,
            response.status,
            response.detail,
            connected=response.connected,
            reason="" if response.reason is None else response.reason.value,
        )
        self.counters.late += not done

    def _arm(self, record: SupplyRecord) -> None:
        remaining_s = max(0.0, (record.deadline_utc_ms - self._now_ms()) / 1000)
        self._deadlines[record.request_id] = self._timers.call_at(
            self._timers.time() + remaining_s,
            self._finish,
            record.request_id,
            SupplyStatus.TIMEOUT,
            "no answer from the concentrator before the deadline",
        )

    def _finish(
        self, request_id: str, status: SupplyStatus, detail: str, *, connected: bool | None = None, reason: str = ""
    ) -> bool:
        ended = self.store.complete(
            request_id, status.value, detail, self._now_ms(), connected=connected, reason=reason
        )
        if not ended:
            return False
        timer = self._deadlines.pop(request_id, None)
        if timer is not None:
            timer.cancel()
        self._trace("hes.supply_ended", request=request_id, status=status.value, reason=reason, detail=detail)
        for waiter in self._waiters.pop(request_id, []):
            if not waiter.done():
                waiter.set_result(None)
        self._notify()
        return True
