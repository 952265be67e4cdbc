"""The status byte of a profile: what makes the interval behind it doubtful (AMR profile status)."""

from __future__ import annotations

import enum
from collections.abc import Callable

from meters.firmware.clock import MeterClock
from meters.firmware.event_names import MeterEvent
from protocols.dlms.data import Data, unsigned


class ProfileStatus(enum.IntFlag):
    """Bits of the status byte, as IDIS and DSMR give them."""

    OK = 0
    CRITICAL_ERROR = 0x01
    CLOCK_INVALID = 0x02
    DATA_NOT_VALID = 0x04
    DAYLIGHT_SAVING = 0x08
    BILLING_RESET = 0x10
    CLOCK_ADJUSTED = 0x20
    POWER_UP = 0x40
    POWER_DOWN = 0x80


_BITS = {
    MeterEvent.POWER_DOWN: ProfileStatus.POWER_DOWN,
    MeterEvent.POWER_UP: ProfileStatus.POWER_UP,
    MeterEvent.CLOCK_ADJUSTED_NEW: ProfileStatus.CLOCK_ADJUSTED,
    MeterEvent.DEMAND_RESET: ProfileStatus.BILLING_RESET,
    MeterEvent.NONVOLATILE_MEMORY_ERROR: ProfileStatus.CRITICAL_ERROR,
}


class StatusRegister:
    """Collects bits from events until a row is captured. An interval in which power failed is not valid as a whole."""

    def __init__(self, clock: MeterClock) -> None:
        self._clock = clock
        self._bits = ProfileStatus.OK

    def note(self, event: MeterEvent) -> None:
        self._bits |= _BITS.get(event, ProfileStatus.OK)

    def value(self) -> Data:
        bits = self._bits
        if bits & (ProfileStatus.POWER_DOWN | ProfileStatus.POWER_UP | ProfileStatus.CLOCK_ADJUSTED):
            bits |= ProfileStatus.DATA_NOT_VALID
        if not self._clock.valid:
            bits |= ProfileStatus.CLOCK_INVALID | ProfileStatus.DATA_NOT_VALID
        if self._clock.is_dst(self._clock.utc_s()):
            bits |= ProfileStatus.DAYLIGHT_SAVING
        return unsigned(int(bits))

    def captured(self) -> None:
        """A row has been captured: the next interval begins clean."""
        self._bits = ProfileStatus.OK


Note = Callable[[MeterEvent], None]
