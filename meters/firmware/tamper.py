"""Somebody at the meter: covers and magnets, noted when it happens, or at the next start."""

from __future__ import annotations

from collections.abc import Callable

from meters.firmware.event_names import MeterEvent
from meters.firmware.events import EventRecorder
from meters.firmware.storage import RecordStore
from meters.hardware.enclosure import Contact, Enclosure

_KEY = "tamper"
_EVENTS = {
    Contact.METER_COVER: (MeterEvent.METER_COVER_CLOSED, MeterEvent.METER_COVER_OPENED),
    Contact.TERMINAL_COVER: (MeterEvent.TERMINAL_COVER_CLOSED, MeterEvent.TERMINAL_COVER_OPENED),
    Contact.MAGNET: (MeterEvent.MAGNET_GONE, MeterEvent.MAGNET_DETECTED),
}


class TamperWatch:
    """Compares the case's pins with what flash says of them. An event is in its log before the new state is kept: a
    power failure between the two has it noted twice rather than never."""

    def __init__(
        self,
        enclosure: Enclosure,
        events: EventRecorder,
        store: RecordStore,
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._enclosure = enclosure
        self._events = events
        self._store = store
        self._guard = guard
        saved = store.get(_KEY)
        self._known = 0 if saved is None else saved[0]

    def start(self) -> None:
        self._enclosure.on_change.append(self._changed)
        self._look()

    def stop(self) -> None:
        if self._changed in self._enclosure.on_change:
            self._enclosure.on_change.remove(self._changed)

    def _changed(self) -> None:
        self._guard(self._look)

    def _look(self) -> None:
        for number, contact in enumerate(Contact):
            disturbed = self._enclosure.disturbed(contact)
            if disturbed != bool(self._known >> number & 1):
                self._events.record(_EVENTS[contact][disturbed])
                self._known ^= 1 << number
                self._store.put(_KEY, bytes((self._known,)))
