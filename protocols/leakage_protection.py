"""What meter, concentrator and head-end share of a line's relay and its leakage protection: codes and objects.

The relay of each tenant line is a Disconnect control (class 70, 0-b:96.3.10, IEC 62056-6-1); line 1 is channel b = 0.
The objects 0-b:96.60.x and 0-0:96.61.x are the manufacturer's own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.dlms.data import Data, Tag, double_long_unsigned, enumerated, structure, unsigned
from protocols.dlms.obis import ObisCode
from protocols.errors import RemoteProtocolError

CLASS_DATA, CLASS_REGISTER, CLASS_DISCONNECT_CONTROL = 1, 3, 70
MAX_LINES = 8
"""Tenant lines that one meter may have."""
KEPT_TRIPS = 10
"""Trip records that the meter keeps at least; record number n stands in slot n % 10."""

DC_THRESHOLD = ObisCode.parse("0-0:96.60.1*255")
AC_THRESHOLD = ObisCode.parse("0-0:96.60.2*255")
TRIPS = ObisCode.parse("0-0:96.60.3*255")
"""Class 1: the trips that the meter keeps, without their waveforms, oldest first."""
TRIPS_READ = ObisCode.parse("0-0:96.60.4*255")
"""Class 1, writable: number of the newest trip that the concentrator has taken over."""
TRIP_PUSH = ObisCode.parse("0-7:25.9.0*255")
"""Class 40: the push setup that announces trips."""


def disconnect_control(line: int) -> ObisCode:
    """The class 70 object of a line, counted from 1."""
    return ObisCode.parse(f"0-{line - 1}:96.3.10*255")


def protection_state(line: int) -> ObisCode:
    """The class 1 object that holds a line's `ProtectionState`."""
    return ObisCode.parse(f"0-{line - 1}:96.60.0*255")


def trip_slot(number: int) -> ObisCode:
    """The class 1 object that holds trip `number` as an octet string of its record, until ten more have come."""
    return ObisCode.parse(f"0-0:96.61.{number % KEPT_TRIPS}*255")


class Cause(enum.IntEnum):
    """Which rule of the detector opened a line."""

    NONE = 0
    SENSOR = 1
    """A sample was not a number: the sensor cannot be trusted."""
    AC = 2
    SMOOTH_DC = 3
    SMOOTH_DC_UNDER_AC = 4

    @property
    def text(self) -> str:
        """For messages and people."""
        return self.name.lower().replace("_", "-")


class SafetyState(enum.Enum):
    """State of a line's safety logic."""

    OPEN = 0
    """Open by command, or after a start."""
    CHECKING = 1
    """Open; the test current looks for a leak before the line may close."""
    WATCHING = 2
    """Closed, on probation."""
    CLOSED = 3
    TRIPPED = 4
    """Opened by a leak. May be closed remotely once the check finds none."""
    LOCKED_OUT = 5
    """Too many trips. Only a reset on site leads out."""
    SENSOR_FAILED = 6
    """The sensor, or its self-test, failed. Open until a self-test passes."""
    ISOLATION_FAILED = 7
    """Told to open, yet current still flows: welded contact. Only a reset on site leads out."""


HELD_STATES = frozenset(
    {SafetyState.TRIPPED, SafetyState.LOCKED_OUT, SafetyState.SENSOR_FAILED, SafetyState.ISOLATION_FAILED}
)
"""States in which the protection keeps the line open, and which outlive a power cut."""


class Refusal(enum.StrEnum):
    """Why a request to close changed nothing. On the wire of the meter a number: the place in this list."""

    NONE = "none"
    LEAKAGE_PERSISTS = "leakage-persists"
    CHECK_TIMED_OUT = "check-timed-out"
    LOCKED_OUT = "locked-out"
    SENSOR_FAILED = "sensor-failed"
    ISOLATION_FAILED = "isolation-failed"
    BUSY = "busy"

    @property
    def code(self) -> int:
        return list(Refusal).index(self)

    @property
    def text(self) -> str:
        """For people."""
        return _TEXTS[self]


_TEXTS = {
    Refusal.NONE: "",
    Refusal.LEAKAGE_PERSISTS: "the leakage persists",
    Refusal.CHECK_TIMED_OUT: "the leakage check gave no result",
    Refusal.LOCKED_OUT: "locked out after repeated trips, to be reset on site",
    Refusal.SENSOR_FAILED: "the leakage sensor has failed",
    Refusal.ISOLATION_FAILED: "a contact is welded",
    Refusal.BUSY: "a check is running",
}


@dataclass(frozen=True, slots=True)
class ProtectionState:
    """Value of a line's state object: `refusal` is that of the last request to close, `trips` those that count towards
    the lock-out, `newest_trip` the number of the meter's newest trip record (0 where there is none yet)."""

    state: SafetyState
    refusal: Refusal = Refusal.NONE
    trips: int = 0
    newest_trip: int = 0

    def to_data(self) -> Data:
        return structure(
            enumerated(self.state.value),
            enumerated(self.refusal.code),
            unsigned(min(self.trips, 255)),
            double_long_unsigned(self.newest_trip),
        )

    @classmethod
    def from_data(cls, data: Data) -> ProtectionState:
        """Raises RemoteProtocolError for anything that `to_data` does not make."""
        tags = (Tag.ENUM, Tag.ENUM, Tag.UNSIGNED, Tag.DOUBLE_LONG_UNSIGNED)
        if data.tag != Tag.STRUCTURE or tuple(item.tag for item in data.value) != tags:
            raise RemoteProtocolError("a protection state that is no structure of two enums and two numbers")
        state, refusal, trips, newest = (item.value for item in data.value)
        refusals = list(Refusal)
        if state not in {member.value for member in SafetyState} or refusal >= len(refusals):
            raise RemoteProtocolError(f"no protection state {state} with refusal {refusal}")
        return cls(SafetyState(state), refusals[refusal], trips, newest)
