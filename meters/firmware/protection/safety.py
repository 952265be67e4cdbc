"""Safety logic of one tenant line: when it may be closed, and what opens it.

A pure state machine: `now` in seconds goes in, relay commands and notices come out. It depends on no clock, no
network and no other part of the firmware, so a line trips with everything else dead.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meters.firmware.protection.settings import ProtectionSettings
from protocols.cursor import Reader
from protocols.leakage_protection import HELD_STATES, Refusal, SafetyState


class SafetyEvent(enum.Enum):
    CLOSE_REQUESTED = enum.auto()
    OPEN_REQUESTED = enum.auto()
    CHECK_PASSED = enum.auto()
    CHECK_FAILED = enum.auto()
    CHECK_TIMED_OUT = enum.auto()
    WATCH_ELAPSED = enum.auto()
    LEAKAGE = enum.auto()
    """The detector tripped."""
    TRIPS_EXHAUSTED = enum.auto()
    """The detector tripped, once too often within the window."""
    SENSOR_FAILURE = enum.auto()
    SELF_TEST_PASSED = enum.auto()
    CURRENT_PERSISTS = enum.auto()
    """Current flows through a line that was told to open."""
    LOCAL_RESET = enum.auto()
    """Somebody on site pressed the meter's button."""


_S, _E = SafetyState, SafetyEvent
_OPENED = frozenset({_S.OPEN, _S.TRIPPED, _S.LOCKED_OUT, _S.SENSOR_FAILED, _S.ISOLATION_FAILED, _S.CHECKING})


def _same(event: SafetyEvent, *states: SafetyState) -> dict[tuple[SafetyState, SafetyEvent], SafetyState]:
    return {(state, event): state for state in states}


def _all(event: SafetyEvent, target: SafetyState) -> dict[tuple[SafetyState, SafetyEvent], SafetyState]:
    return {(state, event): target for state in SafetyState}


TRANSITIONS: dict[tuple[SafetyState, SafetyEvent], SafetyState] = {
    # Closing goes through the check, from every state that allows it at all.
    (_S.OPEN, _E.CLOSE_REQUESTED): _S.CHECKING,
    (_S.TRIPPED, _E.CLOSE_REQUESTED): _S.CHECKING,
    **_same(_E.CLOSE_REQUESTED, _S.CHECKING, _S.WATCHING, _S.CLOSED, _S.LOCKED_OUT),
    **_same(_E.CLOSE_REQUESTED, _S.SENSOR_FAILED, _S.ISOLATION_FAILED),
    # Opening is always obeyed; it forgives nothing.
    (_S.CHECKING, _E.OPEN_REQUESTED): _S.OPEN,
    (_S.WATCHING, _E.OPEN_REQUESTED): _S.OPEN,
    (_S.CLOSED, _E.OPEN_REQUESTED): _S.OPEN,
    **_same(_E.OPEN_REQUESTED, _S.OPEN, _S.TRIPPED, _S.LOCKED_OUT, _S.SENSOR_FAILED, _S.ISOLATION_FAILED),
    # A result that comes after the check was given up changes nothing.
    **{(state, event): state for event in (_E.CHECK_PASSED, _E.CHECK_FAILED, _E.CHECK_TIMED_OUT) for state in _S},
    (_S.CHECKING, _E.CHECK_PASSED): _S.WATCHING,
    (_S.CHECKING, _E.CHECK_FAILED): _S.TRIPPED,
    (_S.CHECKING, _E.CHECK_TIMED_OUT): _S.TRIPPED,
    **{(state, _E.WATCH_ELAPSED): state for state in _S},
    (_S.WATCHING, _E.WATCH_ELAPSED): _S.CLOSED,
    # A leak opens a closed line, and ends a check. Where the line is open already it is noted and changes nothing.
    (_S.WATCHING, _E.LEAKAGE): _S.TRIPPED,
    (_S.CLOSED, _E.LEAKAGE): _S.TRIPPED,
    (_S.CHECKING, _E.LEAKAGE): _S.TRIPPED,
    (_S.OPEN, _E.LEAKAGE): _S.TRIPPED,
    **_same(_E.LEAKAGE, _S.TRIPPED, _S.LOCKED_OUT, _S.SENSOR_FAILED, _S.ISOLATION_FAILED),
    **_all(_E.TRIPS_EXHAUSTED, _S.LOCKED_OUT),
    (_S.ISOLATION_FAILED, _E.TRIPS_EXHAUSTED): _S.ISOLATION_FAILED,
    # A blind sensor opens the line; a lock-out outlives it.
    **_all(_E.SENSOR_FAILURE, _S.SENSOR_FAILED),
    (_S.LOCKED_OUT, _E.SENSOR_FAILURE): _S.LOCKED_OUT,
    (_S.ISOLATION_FAILED, _E.SENSOR_FAILURE): _S.ISOLATION_FAILED,
    **{(state, _E.SELF_TEST_PASSED): state for state in _S},
    (_S.SENSOR_FAILED, _E.SELF_TEST_PASSED): _S.OPEN,
    **_all(_E.CURRENT_PERSISTS, _S.ISOLATION_FAILED),
    (_S.WATCHING, _E.CURRENT_PERSISTS): _S.WATCHING,
    (_S.CLOSED, _E.CURRENT_PERSISTS): _S.CLOSED,
    # The button leads out of a lock-out to an open line, never to a closed one, and cannot mend a sensor.
    **{(state, _E.LOCAL_RESET): state for state in _S},
    (_S.LOCKED_OUT, _E.LOCAL_RESET): _S.OPEN,
    (_S.TRIPPED, _E.LOCAL_RESET): _S.OPEN,
    (_S.ISOLATION_FAILED, _E.LOCAL_RESET): _S.OPEN,
}

_REFUSED_CLOSE = {
    _S.LOCKED_OUT: Refusal.LOCKED_OUT,
    _S.SENSOR_FAILED: Refusal.SENSOR_FAILED,
    _S.ISOLATION_FAILED: Refusal.ISOLATION_FAILED,
    _S.CHECKING: Refusal.BUSY,
}

_ANSWERED_ANEW = frozenset({_E.CLOSE_REQUESTED, _E.OPEN_REQUESTED, _E.LOCAL_RESET})
"""What makes the refusal before it history."""
_REFUSED_CHECK = {
    _E.CHECK_FAILED: Refusal.LEAKAGE_PERSISTS,
    _E.LEAKAGE: Refusal.LEAKAGE_PERSISTS,
    _E.TRIPS_EXHAUSTED: Refusal.LEAKAGE_PERSISTS,
    _E.CHECK_TIMED_OUT: Refusal.CHECK_TIMED_OUT,
    _E.SENSOR_FAILURE: Refusal.SENSOR_FAILED,
    _E.CURRENT_PERSISTS: Refusal.ISOLATION_FAILED,
}


class Action(enum.Enum):
    """What the state machine asks its surroundings to do, in this order."""

    OPEN_RELAY = enum.auto()
    CLOSE_RELAY = enum.auto()
    START_CHECK = enum.auto()
    """Apply the test current and report `CHECK_PASSED` or `CHECK_FAILED`."""
    STOP_CHECK = enum.auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one event did: old and new state, actions to carry out, and why it was refused, if it was."""

    event: SafetyEvent
    before: SafetyState
    after: SafetyState
    actions: tuple[Action, ...] = ()
    refusal: Refusal = Refusal.NONE


@dataclass(frozen=True, slots=True)
class SafetyMemory:
    """What must outlive a power cut: a lock-out is not cured by pulling the fuse. 2 bytes.

    `held` is a state that keeps the line open, or None; `trips` counts towards the lock-out.
    """

    held: SafetyState | None = None
    trips: int = 0

    def encode(self) -> bytes:
        return bytes((SafetyState.OPEN.value if self.held is None else self.held.value, self.trips))

    @classmethod
    def decode(cls, data: bytes) -> SafetyMemory:
        """Raises RemoteProtocolError for anything that `encode` does not write."""
        reader = Reader(data, spec="safety memory")
        value, trips = reader.u8(), reader.u8()
        reader.expect_end()
        if value == SafetyState.OPEN.value:
            return cls(None, trips)
        if value not in {state.value for state in HELD_STATES}:
            raise reader.error(f"no state {value} that would be kept")
        return cls(SafetyState(value), trips)


class SafetyLogic:
    """The safety state of one line, from `now_s` on; `memory` is what was kept before a power cut.

    The relay latches: a line that is `closed` already is on probation, with the detector looking; whatever was held
    open stays open. How long ago the kept trips were is not known: they count as of now.
    """

    def __init__(
        self,
        settings: ProtectionSettings,
        memory: SafetyMemory | None = None,
        *,
        closed: bool = False,
        now_s: float = 0.0,
    ) -> None:
        self.settings = settings
        memory = memory or SafetyMemory()
        self._state = memory.held or (SafetyState.WATCHING if closed else SafetyState.OPEN)
        self._trips_s = [now_s] * memory.trips
        self._deadline_s: float | None = self._deadline(now_s)
        self.refusal = Refusal.NONE
        """Why the last request to close changed nothing."""

    @property
    def state(self) -> SafetyState:
        return self._state

    @property
    def trips(self) -> int:
        """Trips that count towards the lock-out."""
        return len(self._trips_s)

    @property
    def memory(self) -> SafetyMemory:
        return SafetyMemory(self._state if self._state in HELD_STATES else None, min(len(self._trips_s), 255))

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called, in seconds, or None."""
        return self._deadline_s

    def handle_timer(self, now_s: float) -> Outcome | None:
        """The check's time-out or the end of the watch, if its time has come."""
        if self._deadline_s is None or now_s < self._deadline_s:
            return None
        checking = self._state is SafetyState.CHECKING
        return self.handle(SafetyEvent.CHECK_TIMED_OUT if checking else SafetyEvent.WATCH_ELAPSED, now_s)

    def handle(self, event: SafetyEvent, now_s: float) -> Outcome:
        """Take one event. The only method that changes the state."""
        if event is SafetyEvent.LEAKAGE and self._state not in {_S.TRIPPED, _S.LOCKED_OUT, _S.ISOLATION_FAILED}:
            event = self._count_trip(now_s)
        before, after = self._state, TRANSITIONS[self._state, event]
        refusal = _refusal(event, before)
        if refusal is not Refusal.NONE or event in _ANSWERED_ANEW:
            self.refusal = refusal
        if event is SafetyEvent.LOCAL_RESET and before is SafetyState.LOCKED_OUT:
            self._trips_s.clear()
        self._state = after
        if after is not before:
            self._deadline_s = self._deadline(now_s)
        return Outcome(event, before, after, _actions(event, before, after), refusal)

    def _count_trip(self, now_s: float) -> SafetyEvent:
        self._trips_s = [at_s for at_s in self._trips_s if now_s - at_s <= self.settings.lockout_window_s] + [now_s]
        exhausted = len(self._trips_s) >= self.settings.lockout_trips
        return SafetyEvent.TRIPS_EXHAUSTED if exhausted else SafetyEvent.LEAKAGE

    def _deadline(self, now_s: float) -> float | None:
        if self._state is SafetyState.CHECKING:
            return now_s + self.settings.check_timeout_s
        if self._state is SafetyState.WATCHING:
            return now_s + self.settings.watch_s
        return None


def _actions(event: SafetyEvent, before: SafetyState, after: SafetyState) -> tuple[Action, ...]:
    actions = []
    # A leak, a blind sensor and a welded contact drive the relay open again, even where it should be open already.
    insists = event in {_E.LEAKAGE, _E.TRIPS_EXHAUSTED, _E.SENSOR_FAILURE, _E.CURRENT_PERSISTS, _E.OPEN_REQUESTED}
    if after in _OPENED and (before not in _OPENED or insists):
        actions.append(Action.OPEN_RELAY)
    if before is SafetyState.CHECKING and after is not SafetyState.CHECKING:
        actions.append(Action.STOP_CHECK)
    if after is SafetyState.WATCHING and before is not SafetyState.WATCHING:
        actions.append(Action.CLOSE_RELAY)
    if after is SafetyState.CHECKING and before is not SafetyState.CHECKING:
        actions.append(Action.START_CHECK)
    return tuple(actions)


def _refusal(event: SafetyEvent, before: SafetyState) -> Refusal:
    if event is SafetyEvent.CLOSE_REQUESTED:
        return _REFUSED_CLOSE.get(before, Refusal.NONE)
    if before is SafetyState.CHECKING:
        return _REFUSED_CHECK.get(event, Refusal.NONE)
    return Refusal.NONE
