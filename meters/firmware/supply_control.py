"""Connecting and disconnecting the home: the state machine of the Disconnect control (IEC 62056-6-2, class 70)."""

from __future__ import annotations

import enum
from collections.abc import Callable

from meters.firmware.event_names import MeterEvent
from meters.firmware.events import EventRecorder
from meters.firmware.storage import RecordStore
from meters.hardware.disconnector import Disconnector

_KEY = "supply_control"


class ControlState(enum.IntEnum):
    DISCONNECTED = 0
    CONNECTED = 1
    READY_FOR_RECONNECTION = 2


class Trigger(enum.Enum):
    REMOTE_DISCONNECT = "remote disconnect"
    REMOTE_RECONNECT = "remote reconnect"
    MANUAL_DISCONNECT = "manual disconnect"
    MANUAL_RECONNECT = "manual reconnect"
    LOCAL_DISCONNECT = "local disconnect"
    LOCAL_RECONNECT = "local reconnect"


_D, _C, _R = ControlState.DISCONNECTED, ControlState.CONNECTED, ControlState.READY_FOR_RECONNECTION
_A = {(_D, Trigger.REMOTE_RECONNECT): _C}
_BC = {(_C, Trigger.REMOTE_DISCONNECT): _D, (_R, Trigger.REMOTE_DISCONNECT): _D}
_D_ = {(_D, Trigger.REMOTE_RECONNECT): _R}
_E = {(_R, Trigger.MANUAL_RECONNECT): _C}
_F = {(_C, Trigger.MANUAL_DISCONNECT): _R}
_G = {(_C, Trigger.LOCAL_DISCONNECT): _R}
_H = {(_R, Trigger.LOCAL_RECONNECT): _C}

TRANSITIONS: dict[int, dict[tuple[ControlState, Trigger], ControlState]] = {
    0: {},
    1: _BC | _D_ | _E | _F | _G,
    2: _BC | _A | _E | _F | _G,
    3: _BC | _D_ | _E | _G,
    4: _BC | _A | _E | _G,
    5: _BC | _D_ | _E | _F | _G | _H,
    6: _BC | _D_ | _E | _G | _H,
}
"""By control mode. What is missing is refused. Letters of the standard's transitions: a to h."""

_EVENTS = {
    Trigger.REMOTE_DISCONNECT: MeterEvent.REMOTE_DISCONNECT,
    Trigger.REMOTE_RECONNECT: MeterEvent.REMOTE_RECONNECT,
    Trigger.MANUAL_DISCONNECT: MeterEvent.MANUAL_DISCONNECT,
    Trigger.MANUAL_RECONNECT: MeterEvent.MANUAL_RECONNECT,
    Trigger.LOCAL_DISCONNECT: MeterEvent.LOCAL_DISCONNECT,
    Trigger.LOCAL_RECONNECT: MeterEvent.LOCAL_RECONNECT,
}


class SupplyControl:
    """State and mode survive in flash; they are written before the contacts move.

    `may_close` is asked before every closing: leakage protection and prepayment refuse there.
    """

    def __init__(
        self, disconnector: Disconnector, store: RecordStore, events: EventRecorder, *, default_mode: int = 4
    ) -> None:
        self._disconnector = disconnector
        self._store = store
        self._events = events
        saved = store.get(_KEY)
        self.state = ControlState(saved[0]) if saved else ControlState.CONNECTED
        self.mode = saved[1] if saved else default_mode
        self.may_close: list[Callable[[], bool]] = []

    def start(self) -> None:
        """Power may have failed between the record and the contacts: the record is what was asked for."""
        if (self.state is ControlState.CONNECTED) != self._disconnector.is_closed:
            self._drive()

    @property
    def is_closed(self) -> bool:
        """Feedback of the contacts: attribute 2, output_state."""
        return self._disconnector.is_closed

    def apply(self, trigger: Trigger) -> bool:
        """Do what the mode lets this trigger do. False if it is refused, or the contacts do not follow."""
        after = TRANSITIONS[self.mode].get((self.state, trigger))
        if after is None:
            return False
        if after is ControlState.CONNECTED and not all(allowed() for allowed in self.may_close):
            return False
        self._change(after, self.mode)
        self._events.record(_EVENTS[trigger])
        return self._drive()

    def set_mode(self, mode: int) -> bool:
        """False if there is no such mode. Mode 0 is always connected."""
        if mode not in TRANSITIONS:
            return False
        self._change(ControlState.CONNECTED if mode == 0 else self.state, mode)
        self._drive()
        return True

    def press_button(self) -> None:
        """The customer's button: connects what is ready, and disconnects where the mode lets it."""
        ready = self.state is ControlState.READY_FOR_RECONNECTION
        self.apply(Trigger.MANUAL_RECONNECT if ready else Trigger.MANUAL_DISCONNECT)

    def _change(self, state: ControlState, mode: int) -> None:
        self._store.put(_KEY, bytes((state, mode)))
        self.state, self.mode = state, mode

    def _drive(self) -> bool:
        connected = self.state is ControlState.CONNECTED
        followed = self._disconnector.close() if connected else self._disconnector.open()
        if not followed:
            self._events.record(MeterEvent.DISCONNECTOR_FAILED)
        return followed
