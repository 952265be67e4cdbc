"""Connecting and disconnecting a line: the state machine of the Disconnect control (IEC 62056-6-2, class 70).

A line is closed by its relay at once, or, where there is leakage protection, by the protection after its check.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

from meters.firmware.event_names import MeterEvent
from meters.firmware.events import EventRecorder
from meters.firmware.protection.controller import ProtectionController
from meters.firmware.protection.unit import LineEvent
from meters.firmware.storage import RecordStore
from meters.hardware.disconnector import Disconnector
from protocols.leakage_protection import HELD_STATES, Refusal, SafetyState


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
_SAFETY_EVENTS = {
    SafetyState.TRIPPED: MeterEvent.LEAKAGE_TRIP,
    SafetyState.LOCKED_OUT: MeterEvent.LEAKAGE_LOCKED_OUT,
    SafetyState.SENSOR_FAILED: MeterEvent.LEAKAGE_SENSOR_FAILED,
    SafetyState.ISOLATION_FAILED: MeterEvent.ISOLATION_FAILED,
}


class Closing(enum.Enum):
    """What became of a request to close."""

    CLOSED = enum.auto()
    CHECKING = enum.auto()
    """The line closes once the leakage check has passed; what came of it is told later."""
    REFUSED = enum.auto()


class Line(Protocol):
    """What a line is switched by."""

    @property
    def is_closed(self) -> bool:
        """Feedback of the contacts."""
        ...

    @property
    def held(self) -> SafetyState | None:
        """The state of the protection that keeps the line open, if one does."""
        ...

    def open(self) -> bool:
        """Returns whether the contacts are open."""
        ...

    def close(self) -> Closing: ...

    def reset(self) -> None:
        """Somebody on site asks for what holds the line open to be looked at anew."""
        ...


class PlainLine:
    """A relay without leakage protection. `now_s` is the time that the relay's contacts move by."""

    def __init__(self, disconnector: Disconnector, number: int, now_s: Callable[[], float]) -> None:
        self._disconnector = disconnector
        self._number = number
        self._now_s = now_s

    @property
    def is_closed(self) -> bool:
        return self._disconnector.is_closed(self._number)

    @property
    def held(self) -> SafetyState | None:
        return None

    def open(self) -> bool:
        self._disconnector.relays[self._number - 1].open(self._now_s())
        return not self.is_closed

    def close(self) -> Closing:
        self._disconnector.relays[self._number - 1].close(self._now_s())
        return Closing.CLOSED if self.is_closed else Closing.REFUSED

    def reset(self) -> None:
        """There is nothing that could be held."""


class ProtectedLine:
    """A relay that the leakage protection drives: the application asks, and never closes it by itself."""

    def __init__(self, protection: ProtectionController, number: int) -> None:
        self._protection = protection
        self._number = number

    @property
    def is_closed(self) -> bool:
        return self._protection.is_closed(self._number)

    @property
    def held(self) -> SafetyState | None:
        state = self._protection.state(self._number).state
        return state if state in HELD_STATES else None

    def open(self) -> bool:
        self._protection.request_open(self._number)
        return not self.is_closed

    def close(self) -> Closing:
        outcome = self._protection.request_close(self._number)
        if outcome.refusal is not Refusal.NONE:
            return Closing.REFUSED
        return Closing.CHECKING if outcome.after is SafetyState.CHECKING else Closing.CLOSED

    def reset(self) -> None:
        self._protection.reset_locally(self._number)


class SupplyControl:
    """One line's state and mode, which survive in flash.

    An opening is written before the contacts move, a closing after they have: after a power cut a line is never closed
    that was not to be. `may_close` is asked before every closing: prepayment refuses there.
    """

    def __init__(
        self, line: Line, store: RecordStore, events: EventRecorder, *, number: int = 1, default_mode: int = 4
    ) -> None:
        self._line = line
        self._key = "supply_control" if number == 1 else f"supply_control/{number}"
        self._store = store
        self._events = events
        saved = store.get(self._key)
        self.state = ControlState(saved[0]) if saved else ControlState.CONNECTED
        self.mode = saved[1] if saved else default_mode
        self._asked: Trigger | None = None
        self.may_close: list[Callable[[], bool]] = []

    def start(self) -> None:
        """Power may have failed between record and contacts, and the line may have tripped while nobody looked."""
        if self.state is not ControlState.CONNECTED:
            if self._line.is_closed:
                self._open()
        elif self._line.held is not None:
            self._tripped(self._line.held)
        elif not self._line.is_closed:
            self._close(None)

    @property
    def is_closed(self) -> bool:
        """Feedback of the contacts: attribute 2, output_state."""
        return self._line.is_closed

    @property
    def needs_reset(self) -> bool:
        """The leakage protection keeps the line open."""
        return self._line.held is not None

    def apply(self, trigger: Trigger) -> bool:
        """Do what the mode lets this trigger do. False if it is refused, or the contacts do not follow.

        True with a line that is not closed yet: its leakage check is running.
        """
        after = TRANSITIONS[self.mode].get((self.state, trigger))
        if after is None:
            return False
        if after is ControlState.CONNECTED:
            return all(allowed() for allowed in self.may_close) and self._close(trigger)
        self._asked = None
        self._change(after, self.mode)
        self._events.record(_EVENTS[trigger])
        return self._open()

    def set_mode(self, mode: int) -> bool:
        """False if there is no such mode. Mode 0 is always connected, unless the protection holds the line open."""
        if mode not in TRANSITIONS:
            return False
        self._change(self.state, mode)
        if mode == 0 and not self._line.is_closed:
            self._close(None)
        return True

    def reset(self) -> None:
        """The button, on a line that the protection keeps open."""
        self._line.reset()

    def line_event(self, event: LineEvent) -> None:
        """What the leakage protection has done by itself, or has found in its check."""
        outcome = event.outcome
        if outcome.after is SafetyState.WATCHING and outcome.before is SafetyState.CHECKING:
            self._closed(self._asked)
        elif outcome.before is SafetyState.CHECKING and outcome.refusal is not Refusal.NONE:
            self._asked = None
            self._events.record(MeterEvent.LEAKAGE_CLOSE_REFUSED)
            self._give_up()
        elif outcome.after in HELD_STATES and outcome.after is not outcome.before:
            self._tripped(outcome.after)

    # inside

    def _close(self, trigger: Trigger | None) -> bool:
        """`trigger` None is no event: what should be so is made so."""
        closing = self._line.close()
        if closing is Closing.REFUSED:
            if self._line.held is None:
                self._events.record(MeterEvent.DISCONNECTOR_FAILED)
            self._give_up()
            return False
        if closing is Closing.CHECKING:
            self._asked = trigger
        else:
            self._closed(trigger)
        return True

    def _closed(self, trigger: Trigger | None) -> None:
        self._asked = None
        self._change(ControlState.CONNECTED, self.mode)
        if trigger is not None:
            self._events.record(_EVENTS[trigger])

    def _give_up(self) -> None:
        """A line that cannot be closed is not connected."""
        if self.state is ControlState.CONNECTED:
            self._change(self._after_trip(), self.mode)

    def _tripped(self, held: SafetyState) -> None:
        self._events.record(_SAFETY_EVENTS[held])
        self._give_up()

    def _after_trip(self) -> ControlState:
        """As after a local disconnection (transition g); in mode 0, which has none, disconnected."""
        return TRANSITIONS[self.mode].get((ControlState.CONNECTED, Trigger.LOCAL_DISCONNECT), ControlState.DISCONNECTED)

    def _change(self, state: ControlState, mode: int) -> None:
        self._store.put(self._key, bytes((state, mode)))
        self.state, self.mode = state, mode

    def _open(self) -> bool:
        opened = self._line.open()
        if not opened:
            self._events.record(MeterEvent.DISCONNECTOR_FAILED)
        return opened


def press_button(supplies: Sequence[SupplyControl]) -> None:
    """The button on the case: it first resets what the protection keeps open, and closes nothing by that; pressed
    again, it connects what is ready; where nothing is, it disconnects what the mode lets it."""
    held = [supply for supply in supplies if supply.needs_reset]
    if held:
        for supply in held:
            supply.reset()
        return
    ready = [supply for supply in supplies if supply.state is ControlState.READY_FOR_RECONNECTION]
    for supply in ready or supplies:
        supply.apply(Trigger.MANUAL_RECONNECT if ready else Trigger.MANUAL_DISCONNECT)
