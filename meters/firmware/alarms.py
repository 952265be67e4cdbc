"""Alarms: events that the utility hears of at once, in registers, and by a push of their own."""

from __future__ import annotations

from collections.abc import Callable

from meters.firmware.event_names import MeterEvent
from meters.firmware.storage import RecordStore
from protocols.dlms.data import Data
from protocols.meter_alarms import ALL_ALARMS, AlarmNotice, MeterAlarm, is_alarm
from protocols.ports import Timers

_REGISTER, _FILTER = "alarm/register", "alarm/filter"
_BYTES = 4
_SAME_ALARM_S = 60.0
"""Whoever plays with a magnet must not keep the mesh busy: the same alarm is sent once in this time."""

_ALARMS = {
    MeterEvent.CLOCK_INVALID: MeterAlarm.CLOCK_INVALID,
    MeterEvent.BATTERY_REPLACE: MeterAlarm.BATTERY_REPLACE,
    MeterEvent.NONVOLATILE_MEMORY_ERROR: MeterAlarm.NONVOLATILE_MEMORY_ERROR,
    MeterEvent.METER_COVER_OPENED: MeterAlarm.METER_COVER_OPENED,
    MeterEvent.TERMINAL_COVER_OPENED: MeterAlarm.TERMINAL_COVER_OPENED,
    MeterEvent.MAGNET_DETECTED: MeterAlarm.MAGNET_DETECTED,
    MeterEvent.NEUTRAL_LOST: MeterAlarm.NEUTRAL_LOST,
    MeterEvent.CURRENT_REVERSED: MeterAlarm.CURRENT_REVERSED,
    MeterEvent.ASSOCIATION_LOCKED: MeterAlarm.ASSOCIATION_LOCKED,
    MeterEvent.REPLAY_REFUSED: MeterAlarm.REPLAY_REFUSED,
    MeterEvent.VOLTAGE_SAG_L1: MeterAlarm.VOLTAGE_SAG,
    MeterEvent.VOLTAGE_SAG_L2: MeterAlarm.VOLTAGE_SAG,
    MeterEvent.VOLTAGE_SAG_L3: MeterAlarm.VOLTAGE_SAG,
    MeterEvent.VOLTAGE_SWELL_L1: MeterAlarm.VOLTAGE_SWELL,
    MeterEvent.VOLTAGE_SWELL_L2: MeterAlarm.VOLTAGE_SWELL,
    MeterEvent.VOLTAGE_SWELL_L3: MeterAlarm.VOLTAGE_SWELL,
    MeterEvent.VOLTAGE_MISSING_L1: MeterAlarm.VOLTAGE_MISSING,
    MeterEvent.VOLTAGE_MISSING_L2: MeterAlarm.VOLTAGE_MISSING,
    MeterEvent.VOLTAGE_MISSING_L3: MeterAlarm.VOLTAGE_MISSING,
    MeterEvent.VOLTAGE_UNBALANCED: MeterAlarm.VOLTAGE_UNBALANCED,
    MeterEvent.LEAKAGE_TRIP: MeterAlarm.LEAKAGE_TRIP,
    MeterEvent.DISCONNECTOR_FAILED: MeterAlarm.DISCONNECTOR_FAILED,
}


class Alarms:
    """Register (until it is cleared), filter, and descriptor (until it is sent).

    `send` begins a push, at once; with `retries` 0 there is one attempt. It says whether it is on its way.
    """

    def __init__(self, store: RecordStore, timers: Timers) -> None:
        self._store = store
        self._timers = timers
        self._register = MeterAlarm(self._load(_REGISTER, 0))
        self._filter = MeterAlarm(self._load(_FILTER, int(ALL_ALARMS)))
        self._descriptor = MeterAlarm(0)
        self._raised_at: dict[MeterAlarm, float] = {}
        self.send: Callable[[bool], None] = lambda is_last: None
        """Begins a push; True: there will be no other attempt."""

    @property
    def register(self) -> MeterAlarm:
        return self._register

    @property
    def filter(self) -> MeterAlarm:
        return self._filter

    @property
    def descriptor(self) -> MeterAlarm:
        return self._descriptor

    def set_filter(self, value: int) -> None:
        self._filter = MeterAlarm(value)
        self._save(_FILTER, self._filter)

    def clear(self, kept: int) -> None:
        """Clear the register's bits but those of `kept`."""
        self._register &= MeterAlarm(kept)
        self._save(_REGISTER, self._register)

    def note(self, event: MeterEvent) -> None:
        """An event has been recorded: raise its alarm, if it is one and the filter lets it pass."""
        alarm = _ALARMS.get(event)
        if alarm is None or not self._filter & alarm:
            return
        if not self._register & alarm:
            self._register |= alarm
            self._save(_REGISTER, self._register)
        now_s, last_s = self._timers.time(), self._raised_at.get(alarm)
        if last_s is None or now_s - last_s >= _SAME_ALARM_S:
            self._raised_at[alarm] = now_s
            self._descriptor |= alarm
            self.send(False)

    def last_gasp(self) -> None:
        """Mains is gone, the capacitor lasts for one message."""
        if self._filter & MeterAlarm.POWER_FAILED:
            self._register |= MeterAlarm.POWER_FAILED
            self._save(_REGISTER, self._register)
            self._descriptor |= MeterAlarm.POWER_FAILED
            self.send(True)

    def remind(self) -> None:
        """A quarter of an hour has passed: what could not be sent is tried again."""
        if self._descriptor:
            self.send(False)

    def lost(self, body: Data) -> None:
        """A notification with this body was given up on its way: if it was an alarm, it is still to be sent."""
        if is_alarm(body):
            self._descriptor |= AlarmNotice.from_data(body).alarms

    def sent(self) -> None:
        """The descriptor is on its way."""
        self._descriptor = MeterAlarm(0)

    def _load(self, key: str, otherwise: int) -> int:
        saved = self._store.get(key)
        return otherwise if saved is None else int.from_bytes(saved, "big")

    def _save(self, key: str, value: MeterAlarm) -> None:
        self._store.put(key, int(value).to_bytes(_BYTES, "big"))
