"""The protection's own small processor: starts with the supply, before the application, and does not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from meters.firmware.protection.flash_store import FlashTripStore
from meters.firmware.protection.safety import Outcome
from meters.firmware.protection.settings import ProtectionSettings
from meters.firmware.protection.unit import LineEvent, ProtectionUnit
from meters.hardware.disconnector import Disconnector
from meters.hardware.flash import Flash, PowerLostError
from meters.hardware.leakage_front_end import LeakageFrontEnd
from meters.hardware.leakage_test_path import LeakageTestPath
from meters.hardware.rtc import Rtc
from protocols.leakage_protection import ProtectionState, Refusal
from protocols.ports import Cancellable, Timers, Trace
from protocols.trip_record import TripRecord

if TYPE_CHECKING:
    from meters.hardware.leakage_front_end import Samples


class ProtectionController:
    """Runs a `ProtectionUnit` on the meter's hardware. Lines are counted from 1.

    The application talks to it by calls, and sets `on_line_event` and `on_record` to be told what happened; where it
    hangs, nobody is told, and the lines open all the same.
    """

    def __init__(
        self,
        disconnector: Disconnector,
        front_end: LeakageFrontEnd,
        test_path: LeakageTestPath,
        flash: Flash,
        rtc: Rtc,
        timers: Timers,
        trace: Trace,
        *,
        line_hz: float,
    ) -> None:
        self._disconnector = disconnector
        self._front_end = front_end
        self._test_path = test_path
        self._flash = flash
        self._rtc = rtc
        self._timers = timers
        self._trace = trace
        self._line_hz = line_hz
        self._unit: ProtectionUnit | None = None
        self._store: FlashTripStore | None = None
        self._timer: Cancellable | None = None
        self._due_s: float | None = None
        self.on_line_event: Callable[[LineEvent], None] | None = None
        self.on_record: Callable[[TripRecord], None] | None = None

    # the processor's pins

    def power_good(self) -> None:
        if self._unit is None:
            self._guard(self._start)

    def power_failing(self) -> None:
        """The capacitor holds this processor, too: it goes on."""

    def power_gone(self) -> None:
        self._front_end.on_samples = None
        self._unit = self._store = None
        self._arm()

    def _start(self) -> None:
        store = FlashTripStore(self._flash)
        relays = list(self._disconnector.relays)
        memories = [store.safety(line) for line in range(len(relays))]
        self._store = store
        self._unit = ProtectionUnit(
            relays, self._test_path, self._front_end, store, lambda: round(self._rtc.read().utc_s * 1000),
            store.settings(self._line_hz), memories, now_s=self._timers.time(),
        )  # fmt: skip
        self._unit.on_record = self._recorded
        self._front_end.on_samples = self._samples
        self._arm()

    # the application's face

    @property
    def lines(self) -> int:
        return len(self._disconnector.relays)

    @property
    def settings(self) -> ProtectionSettings:
        return self._running().settings

    def set_threshold(self, *, dc_ma: float | None = None, ac_ma: float | None = None) -> bool:
        """Lower a threshold, or bring it back to its limit; False where flash does not keep it: nothing changes then.

        Raises BadInputError for a value outside its range: none lies above its limit.
        """
        unit = self._running()
        settings = unit.settings
        if dc_ma is not None:
            settings = replace(settings, dc_threshold_ma=dc_ma)
        if ac_ma is not None:
            settings = replace(settings, ac_threshold_ma=ac_ma)
        if not self._stored().save_settings(settings):
            return False
        unit.configure(settings)
        self._trace("protection.settings", dc_ma=settings.dc_threshold_ma, ac_ma=settings.ac_threshold_ma)
        return True

    def is_closed(self, line: int) -> bool:
        """Feedback of the contacts."""
        return self._disconnector.is_closed(line)

    def state(self, line: int) -> ProtectionState:
        safety = self._running().safety(line - 1)
        return ProtectionState(safety.state, safety.refusal, safety.trips, self.newest_trip())

    def request_open(self, line: int) -> Outcome:
        return self._request(line, self._running().request_open)

    def request_close(self, line: int) -> Outcome:
        return self._request(line, self._running().request_close)

    def reset_locally(self, line: int) -> Outcome:
        """Somebody on site has pressed the button."""
        return self._request(line, self._running().reset_locally)

    def newest_trip(self) -> int:
        """Number of the newest trip, 0 before the first."""
        return self._running().next_number - 1

    def trip(self, number: int) -> TripRecord | None:
        """The record of that number: from flash, or from this power-up if flash could not keep it."""
        kept = self._stored().trip(number)
        return kept or next((record for record in self._unkept() if record.number == number), None)

    def trips(self) -> list[TripRecord]:
        """All that there are, oldest first."""
        return sorted([*self._stored().trips(), *self._unkept()], key=lambda record: record.number)

    # inside

    def _unkept(self) -> list[TripRecord]:
        """Trips of this power-up that flash had no room for."""
        unit, store = self._running(), self._stored()
        records = [record for line in range(self.lines) for record in unit.records(line)]
        return [record for record in records if store.trip(record.number) is None]

    def _running(self) -> ProtectionUnit:
        if self._unit is None:
            raise PowerLostError("the protection has no power")
        return self._unit

    def _stored(self) -> FlashTripStore:
        if self._store is None:
            raise PowerLostError("the protection has no power")
        return self._store

    def _request(self, line: int, request: Callable[[int, float], Outcome]) -> Outcome:
        outcome = request(line - 1, self._timers.time())
        self._note(LineEvent(line - 1, self._timers.time(), outcome))
        self._arm()
        return outcome

    def _samples(self, block: Samples, now_s: float) -> None:
        self._guard(lambda: self._tell(self._running().process(block, now_s)))

    def _due(self) -> None:
        self._timer = self._due_s = None
        self._guard(lambda: self._tell(self._running().handle_timer(self._timers.time())))

    def _tell(self, events: list[LineEvent]) -> None:
        self._arm()
        for event in events:
            self._note(event)
            if self.on_line_event is not None:
                self.on_line_event(event)

    def _note(self, event: LineEvent) -> None:
        outcome = event.outcome
        if outcome.after is not outcome.before or outcome.refusal is not Refusal.NONE:
            self._trace(
                "protection.line", line=event.line + 1, at_s=round(event.at_s, 6), event=outcome.event.name.lower(),
                before=outcome.before.name.lower(), after=outcome.after.name.lower(), refusal=outcome.refusal.value,
            )  # fmt: skip

    def _recorded(self, record: TripRecord) -> None:
        kept = self._stored().trip(record.number) is not None
        self._trace(
            "protection.trip", line=record.line, number=record.number, cause=record.cause.text, kept=kept,
            total_ma=round(record.components.total_ma, 3), smooth_dc_ma=round(record.components.smooth_dc_ma, 3),
        )  # fmt: skip
        if self.on_record is not None:
            self.on_record(record)

    def _arm(self) -> None:
        due_s = None if self._unit is None else self._unit.next_timer()
        if due_s == self._due_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        self._timer = None if due_s is None else self._timers.call_at(max(due_s, self._timers.time()), self._due)

    def _guard(self, work: Callable[[], None]) -> None:
        """A power failure in the middle of its work is the end of it, and nobody's error."""
        try:
            work()
        except PowerLostError:
            self.power_gone()
