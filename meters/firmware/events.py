"""The event recorder: what happens goes to the log and under the code that the companion profile gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meters.firmware.clock import MeterClock
from meters.firmware.event_names import MeterEvent
from meters.firmware.profiles import Profile
from meters.models.companion import EventRow
from protocols.ports import Trace


class EventRecorder:
    """Writes events to their logs. `listeners` are told of every event, recorded or not."""

    def __init__(self, rows: Mapping[MeterEvent, EventRow], clock: MeterClock, trace: Trace) -> None:
        self._rows = rows
        self._clock = clock
        self._trace = trace
        self._logs: dict[str, Profile] = {}
        self._newest: dict[str, int] = {}
        self.listeners: list[Callable[[MeterEvent], None]] = []

    def attach(self, name: str, log: Profile) -> None:
        """`log` is the event log of that name from now on."""
        self._logs[name] = log
        log.on_clear = lambda: self._cleared(name)

    def newest_code(self, log: str) -> int:
        """The code that an event log's row is being written with; 0 before the first event since the start."""
        return self._newest.get(log, 0)

    def record(self, event: MeterEvent, utc_s: float | None = None) -> None:
        """Note an event, now or at `utc_s`."""
        at_s = self._clock.utc_s() if utc_s is None else utc_s
        row = self._rows.get(event)
        self._trace("meter.event", event=event.value, log=None if row is None else row.log, utc_s=round(at_s, 2))
        if row is not None and row.log in self._logs:
            self._newest[row.log] = row.code
            self._logs[row.log].capture(at_s)
        for listener in self.listeners:
            listener(event)

    def _cleared(self, name: str) -> None:
        """A log that was cleared begins with saying so, where the companion profile has a code for it."""
        row = self._rows.get(MeterEvent.LOG_CLEARED)
        if row is not None:
            self._newest[name] = row.code
            self._logs[name].capture(self._clock.utc_s())
