"""The meter's clock as its firmware keeps it: the RTC, a time zone, daylight saving, and what can be relied on."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from meters.firmware.storage import RecordStore
from meters.hardware.rtc import Rtc
from protocols.cursor import Reader
from protocols.dlms.date_time import (
    DAY_LAST,
    DAY_SECOND_LAST,
    NOT_SPECIFIED,
    ClockStatus,
    Date,
    DateTime,
    Time,
)
from protocols.errors import RemoteProtocolError

_SETTINGS = "clock"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SUNDAY_OF_MARCH = DateTime(Date(month=3, day=DAY_LAST, weekday=7), Time(2, 0, 0, 0))
_LAST_SUNDAY_OF_OCTOBER = DateTime(Date(month=10, day=DAY_LAST, weekday=7), Time(3, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """What can be set beside the time. Deviations in minutes: zone as the Clock's attribute 3, DST as attribute 7.

    `dst_begin` and `dst_end` recur every year where their year is not specified.
    """

    zone_min: int = 0
    dst_begin: DateTime = _LAST_SUNDAY_OF_MARCH
    dst_end: DateTime = _LAST_SUNDAY_OF_OCTOBER
    dst_min: int = 60
    dst_enabled: bool = False

    def encode(self) -> bytes:
        head = self.zone_min.to_bytes(2, "big", signed=True) + self.dst_min.to_bytes(1, "big", signed=True)
        return head + bytes((self.dst_enabled,)) + self.dst_begin.encode() + self.dst_end.encode()

    @classmethod
    def decode(cls, raw: bytes) -> ClockSettings:
        """Raises RemoteProtocolError if `raw` is not what `encode` makes."""
        reader = Reader(raw)
        zone_min = int.from_bytes(reader.take(2), "big", signed=True)
        dst_min = int.from_bytes(reader.take(1), "big", signed=True)
        enabled = bool(reader.u8())
        begin, end = DateTime.decode(reader.take(12)), DateTime.decode(reader.take(12))
        reader.expect_end()
        return cls(zone_min, begin, end, dst_min, enabled)


class MeterClock:
    """Time for everything in the firmware. `on_change` is called with old and new time (UTC) after it was set."""

    def __init__(self, rtc: Rtc, store: RecordStore, *, zone_min: int = 0) -> None:
        self._rtc = rtc
        self._store = store
        saved = store.get(_SETTINGS)
        self._settings = ClockSettings(zone_min=zone_min) if saved is None else ClockSettings.decode(saved)
        self.on_change: list[Callable[[float, float], None]] = []
        self.set_count = 0
        """How often the clock was set since the firmware started."""

    @property
    def settings(self) -> ClockSettings:
        return self._settings

    def configure(self, settings: ClockSettings) -> None:
        """Keep new settings, in flash too."""
        self._store.put(_SETTINGS, settings.encode())
        self._settings = settings

    def utc_s(self) -> float:
        """Seconds since 1970-01-01 UTC by this clock."""
        return self._rtc.read().utc_s

    @property
    def valid(self) -> bool:
        return self._rtc.read().valid

    def set_utc(self, utc_s: float) -> None:
        before_s = self.utc_s()
        self._rtc.write(utc_s)
        self.set_count += 1
        for listener in self.on_change:
            listener(before_s, utc_s)

    def local_offset_s(self) -> int:
        """Local time minus UTC, now."""
        return -60 * self._deviation_min(self.utc_s())

    def date_time(self, utc_s: float | None = None) -> DateTime:
        """Local date-time with deviation and status, now or at `utc_s`."""
        at_s = self.utc_s() if utc_s is None else utc_s
        return DateTime.from_utc_s(at_s, deviation_min=self._deviation_min(at_s), status=self.status(at_s))

    def status(self, utc_s: float | None = None) -> int:
        """Clock status: invalid after a loss of time, with the DST bit."""
        at_s = self.utc_s() if utc_s is None else utc_s
        status = ClockStatus.OK if self.valid else ClockStatus.INVALID
        if self.is_dst(at_s):
            status |= ClockStatus.DAYLIGHT_SAVING
        return int(status)

    def utc_of(self, value: DateTime) -> float:
        """The instant that a client means: with its deviation, or in this meter's local time without one.

        Raises RemoteProtocolError if it is not one instant.
        """
        if value.deviation_min == DateTime().deviation_min:
            standard_s = DateTime(value.date, value.time, self._settings.zone_min, 0).to_utc_s()
            shifted_s = standard_s - 60 * self._settings.dst_min
            return shifted_s if self.is_dst(shifted_s) else standard_s
        return value.to_utc_s()

    def is_dst(self, utc_s: float) -> bool:
        settings = self._settings
        if not settings.dst_enabled:
            return False
        local = _EPOCH + timedelta(seconds=utc_s, minutes=-settings.zone_min)
        begin_s = occurrence_s(settings.dst_begin, local.year) + 60 * settings.zone_min
        end_s = occurrence_s(settings.dst_end, local.year) + 60 * (settings.zone_min - settings.dst_min)
        if begin_s <= end_s:
            return begin_s <= utc_s < end_s
        return not end_s <= utc_s < begin_s

    def _deviation_min(self, utc_s: float) -> int:
        settings = self._settings
        return settings.zone_min - (settings.dst_min if self.is_dst(utc_s) else 0)


def check_recurring(value: DateTime) -> None:
    """Raises RemoteProtocolError if `value` names no moment of a year."""
    occurrence_s(value, 2000)


def occurrence_s(value: DateTime, year: int) -> float:
    """Local seconds since 1970 of a yearly moment, such as "last Sunday of March, 2:00".

    Raises RemoteProtocolError if it names no moment of a year.
    """
    date, time = value.date, value.time
    if date.year != DateTime().date.year:
        year = date.year
    if not 1 <= date.month <= 12 or time.hour == NOT_SPECIFIED:
        raise RemoteProtocolError(f"{value} names no moment of a year", spec="IEC 62056-6-2, class 8")
    last = calendar.monthrange(year, date.month)[1]
    day = {DAY_LAST: last, DAY_SECOND_LAST: last - 1, NOT_SPECIFIED: 1}.get(date.day, min(date.day, last))
    found = datetime(year, date.month, day, tzinfo=UTC)
    if date.weekday != NOT_SPECIFIED:
        ahead = (date.weekday - found.isoweekday()) % 7
        backwards = date.day in (DAY_LAST, DAY_SECOND_LAST)
        found += timedelta(days=ahead - 7 if backwards and ahead else ahead)
    minute = 0 if time.minute == NOT_SPECIFIED else time.minute
    second = 0 if time.second == NOT_SPECIFIED else time.second
    return (found - _EPOCH).total_seconds() + time.hour * 3600 + minute * 60 + second
