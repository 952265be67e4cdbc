"""Alarms that a meter sends by itself: what they are, and the push that carries them.

Bits of the alarm registers are this project's own numbering: companion profiles differ.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.dlms.data import Data, Tag, double_long_unsigned, octet_string, structure
from protocols.dlms.date_time import DateTime
from protocols.dlms.obis import ObisCode
from protocols.errors import RemoteProtocolError

ALARM_REGISTER = ObisCode.parse("0-0:97.98.0*255")
"""Class 1: alarms since it was cleared."""
ALARM_FILTER = ObisCode.parse("0-0:97.98.10*255")
"""Class 1: alarms that are raised at all."""
ALARM_DESCRIPTOR = ObisCode.parse("0-0:97.98.20*255")
"""Class 1: alarms that were not sent yet."""
ALARM_PUSH = ObisCode.parse("0-4:25.9.0*255")
"""Class 40: sends logical device name, its own logical name, time and descriptor."""
_SPEC = "IEC 62056-6-2, class 40"


class MeterAlarm(enum.IntFlag):
    """Bits of register, filter and descriptor."""

    POWER_FAILED = 1 << 0
    """The last gasp of the capacitor."""
    CLOCK_INVALID = 1 << 1
    BATTERY_REPLACE = 1 << 2
    NONVOLATILE_MEMORY_ERROR = 1 << 3
    METER_COVER_OPENED = 1 << 4
    TERMINAL_COVER_OPENED = 1 << 5
    MAGNET_DETECTED = 1 << 6
    NEUTRAL_LOST = 1 << 7
    CURRENT_REVERSED = 1 << 8
    ASSOCIATION_LOCKED = 1 << 9
    REPLAY_REFUSED = 1 << 10
    VOLTAGE_SAG = 1 << 11
    VOLTAGE_SWELL = 1 << 12
    VOLTAGE_MISSING = 1 << 13
    VOLTAGE_UNBALANCED = 1 << 14
    LEAKAGE_TRIP = 1 << 15
    DISCONNECTOR_FAILED = 1 << 16

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bits that are set, lowest first; a bit that is not known as its number."""
        known = {item.value: (item.name or "").lower() for item in MeterAlarm}
        bits = (bit for bit in range(32) if self.value >> bit & 1)
        return tuple(known.get(1 << bit, f"bit-{bit}") for bit in bits)


ALL_ALARMS = MeterAlarm(sum(MeterAlarm))


@dataclass(frozen=True, slots=True)
class AlarmNotice:
    """The body of the push: whose it is, when it was made by the meter's clock, what has happened."""

    logical_device_name: bytes
    time: DateTime
    alarms: MeterAlarm

    def to_data(self) -> Data:
        return structure(
            octet_string(self.logical_device_name),
            octet_string(bytes(ALARM_PUSH)),
            octet_string(self.time.encode()),
            double_long_unsigned(int(self.alarms)),
        )

    @classmethod
    def from_data(cls, body: Data) -> AlarmNotice:
        """Raises RemoteProtocolError for a body of another shape."""
        if not is_alarm(body):
            raise RemoteProtocolError("not the body of an alarm", spec=_SPEC)
        name, _, time, alarms = body.value
        return cls(name.value, DateTime.decode(time.value), MeterAlarm(alarms.value))


def is_alarm(body: Data) -> bool:
    """Whether the body of a notification comes from the push setup of alarms, and has its shape."""
    tags = [Tag.OCTET_STRING, Tag.OCTET_STRING, Tag.OCTET_STRING, Tag.DOUBLE_LONG_UNSIGNED]
    if body.tag != Tag.STRUCTURE or [item.tag for item in body.value] != tags:
        return False
    return bool(body.value[1].value == bytes(ALARM_PUSH))
