"""Use case VI at the head-end: the concentrators' clocks against network time."""

from __future__ import annotations

from collections.abc import Callable

from protocols.headend.messages import DcuState, Event, Message
from protocols.headend.time_check import ClockQuery, ClockReport, TimeAnswer, TimeRequest, clock_offset_s
from protocols.ports import Cancellable, Timers, Trace
from twin.hes.profile_tables import DcuClockRecord
from twin.hes.store import Store

FIRST_CHECK_S = 300.0
CHECK_EVERY_S = 3600.0
LIMIT_S = 1.0
EVENT_WRONG, EVENT_RIGHT = "dcu-clock-wrong", "dcu-clock-right"


class ClockService:
    """Asks every concentrator that is on line once an hour, and flags one that certainly disagrees by over a second.

    The head-end's own clock is network time. Half of the round trip is not known and counts in the DCU's favour.
    """

    def __init__(
        self,
        store: Store,
        *,
        timers: Timers,
        now_ms: Callable[[], int],
        send: Callable[[str, Message], None],
        add_event: Callable[[Event], bool],
        prefix: str,
        trace: Trace,
    ) -> None:
        self._store = store
        self._timers = timers
        self._now_ms = now_ms
        self._send = send
        self._add_event = add_event
        self._prefix = prefix
        self._trace = trace
        self._count = 0
        self._asked: dict[str, str] = {}
        self._leap: tuple[int, int] | None = None
        self._timer: Cancellable = timers.call_at(timers.time() + FIRST_CHECK_S, self._check)

    def stop(self) -> None:
        self._timer.cancel()

    def announce_leap(self, at_utc_s: int, step_s: int) -> None:
        """Tell every concentrator that asks for the time of a leap second before this midnight: 1 inserted, -1 left
        out."""
        self._leap = (at_utc_s * 1000, step_s)

    def time_for(self, request: TimeRequest) -> TimeAnswer:
        """Network time, and a leap second that is still to come."""
        now_ms = self._now_ms()
        leap_at_ms, step_s = self._leap if self._leap is not None and self._leap[0] > now_ms else (None, None)
        return TimeAnswer(request.id, now_ms, now_ms, leap_at_ms, step_s)

    def check(self, dcu_id: str) -> None:
        """Ask one concentrator for its time now."""
        self._count += 1
        query = ClockQuery(f"clock-{self._prefix}-{self._count}", self._now_ms())
        self._asked[dcu_id] = query.id
        self._send(dcu_id, query)

    def take(self, dcu_id: str, report: ClockReport) -> bool:
        """Judge an answer; False for one that nobody waits for: it may be old."""
        if self._asked.get(dcu_id) != report.request_id:
            return False
        del self._asked[dcu_id]
        now_ms = self._now_ms()
        offset_s, round_trip_s = clock_offset_s(report, now_ms)
        before = self._store.profiles.clock(dcu_id)
        was_flagged = before is not None and before.is_flagged
        is_flagged = abs(offset_s) - round_trip_s / 2 > LIMIT_S
        record = DcuClockRecord(
            dcu_id=dcu_id,
            offset_s=offset_s,
            round_trip_s=round_trip_s,
            source=report.source.value,
            holdover_s=report.holdover_s,
            uncertainty_ms=report.uncertainty_ms,
            is_flagged=is_flagged,
            checked_utc_ms=now_ms,
        )
        self._store.profiles.put_clock(record)
        self._trace("hes.dcu_clock", dcu=dcu_id, offset_s=offset_s, flagged=is_flagged, source=report.source.value)
        if is_flagged is not was_flagged:
            details = (("dcu", dcu_id), ("offset_s", f"{offset_s:.3f}"), ("source", report.source.value))
            kind = EVENT_WRONG if is_flagged else EVENT_RIGHT
            self._add_event(Event(report.request_id, kind, now_ms, details=details))
        return True

    def _check(self) -> None:
        for row in self._store.dcus():
            if row.state == DcuState.ONLINE:
                self.check(row.dcu_id)
        self._timer = self._timers.call_at(self._timers.time() + CHECK_EVERY_S, self._check)
