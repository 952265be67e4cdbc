"""Announces trips to the concentrator: at once, and ever more rarely until it says that it has taken them over."""

from __future__ import annotations

from collections.abc import Callable

from meters.firmware.protection.controller import ProtectionController
from meters.firmware.storage import RecordStore
from protocols.ports import Cancellable, Timers
from protocols.trip_record import TripRecord

_TAKEN = "trips/taken"
_REPEAT_S = (10.0, 30.0, 120.0, 600.0, 3600.0)
"""Waits between announcements of the same trip; the last one recurs."""


class TripAnnouncer:
    """`push` sends the announcement, and says whether there is a way to the concentrator."""

    def __init__(
        self,
        protection: ProtectionController,
        store: RecordStore,
        timers: Timers,
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._protection = protection
        self._store = store
        self._timers = timers
        self._guard = guard
        self._timer: Cancellable | None = None
        self._repeats = 0
        self.push: Callable[[], bool] = lambda: False

    @property
    def taken(self) -> int:
        """Number of the newest trip that the concentrator has taken over."""
        return self._store.load(_TAKEN) or 0

    def start(self) -> None:
        """Trips of the time before the start may not have been told yet."""
        self._protection.on_record = lambda record: self._guard(lambda: self.recorded(record))
        if self._protection.newest_trip() > self.taken:
            self._wait()

    def stop(self) -> None:
        self._protection.on_record = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def recorded(self, record: TripRecord) -> None:
        """A new trip: say so now."""
        self._repeats = 0
        self._announce()

    def take_over(self, number: int) -> bool:
        """The concentrator has the trips up to `number`; False for one that there is not yet."""
        if number > self._protection.newest_trip():
            return False
        if number > self.taken:
            self._store.save(_TAKEN, number)
        return True

    def _announce(self) -> None:
        self.push()
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait_s = _REPEAT_S[min(self._repeats, len(_REPEAT_S) - 1)]
        self._repeats += 1
        self._timer = self._timers.call_at(self._timers.time() + wait_s, lambda: self._guard(self._again))

    def _again(self) -> None:
        self._timer = None
        if self._protection.newest_trip() > self.taken:
            self._announce()
