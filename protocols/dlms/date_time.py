"""COSEM date, time and date-time, with their "not specified" and recurring forms (IEC 62056-6-2, clause 4.1.6.1)."""

from __future__ import annotations

import enum
import functools
import struct
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

from protocols.errors import RemoteProtocolError

NOT_SPECIFIED = 0xFF
YEAR_NOT_SPECIFIED = 0xFFFF
DEVIATION_NOT_SPECIFIED = -0x8000
MONTH_DST_END = 0xFD
MONTH_DST_BEGIN = 0xFE
DAY_SECOND_LAST = 0xFD
DAY_LAST = 0xFE

_DATE = struct.Struct(">HBBB")
_TIME = struct.Struct("BBBB")
_DATE_TIME = struct.Struct(">HBBBBBBBhB")
_SPEC = "IEC 62056-6-2"


class ClockStatus(enum.IntFlag):
    """Clock status byte; 0xFF is "not specified"."""

    OK = 0
    INVALID = 0x01
    DOUBTFUL = 0x02
    DIFFERENT_BASE = 0x04
    INVALID_STATUS = 0x08
    DAYLIGHT_SAVING = 0x80
    NOT_SPECIFIED = 0xFF


@dataclass(frozen=True, slots=True)
class Date:
    """Year 0xFFFF, month, day and weekday 0xFF are "not specified"; month 0xFD/0xFE and day 0xFD/0xFE recur.

    Weekdays run from 1 (Monday) to 7.
    """

    year: int = YEAR_NOT_SPECIFIED
    month: int = NOT_SPECIFIED
    day: int = NOT_SPECIFIED
    weekday: int = NOT_SPECIFIED

    def encode(self) -> bytes:
        return _DATE.pack(self.year, self.month, self.day, self.weekday)

    @classmethod
    def decode(cls, raw: bytes) -> Date:
        """From 5 bytes. Raises RemoteProtocolError on another length or a field out of its range."""
        if len(raw) != 5:
            raise RemoteProtocolError(f"a date has 5 bytes, not {len(raw)}", spec=_SPEC)
        date = cls(*_DATE.unpack(raw))
        date.check()
        return date

    def check(self) -> None:
        """Raises RemoteProtocolError if a field is out of its range."""
        month_ok = 1 <= self.month <= 12 or self.month >= MONTH_DST_END
        day_ok = 1 <= self.day <= 31 or self.day >= DAY_SECOND_LAST
        weekday_ok = 1 <= self.weekday <= 7 or self.weekday == NOT_SPECIFIED
        if not (month_ok and day_ok and weekday_ok):
            raise RemoteProtocolError(f"month {self.month}, day {self.day}, weekday {self.weekday}", spec=_SPEC)


@dataclass(frozen=True, slots=True)
class Time:
    """Every field at 0xFF is "not specified"."""

    hour: int = NOT_SPECIFIED
    minute: int = NOT_SPECIFIED
    second: int = NOT_SPECIFIED
    hundredths: int = NOT_SPECIFIED

    def encode(self) -> bytes:
        return _TIME.pack(self.hour, self.minute, self.second, self.hundredths)

    @classmethod
    def decode(cls, raw: bytes) -> Time:
        """From 4 bytes. Raises RemoteProtocolError on another length or a field out of its range."""
        if len(raw) != 4:
            raise RemoteProtocolError(f"a time has 4 bytes, not {len(raw)}", spec=_SPEC)
        time = cls(*raw)
        time.check()
        return time

    def check(self) -> None:
        """Raises RemoteProtocolError if a field is out of its range."""
        limits = ((self.hour, 23), (self.minute, 59), (self.second, 59), (self.hundredths, 99))
        if any(value > limit and value != NOT_SPECIFIED for value, limit in limits):
            raise RemoteProtocolError(
                f"{self.hour}:{self.minute}:{self.second}.{self.hundredths} is no time of day", spec=_SPEC
            )


@dataclass(frozen=True, slots=True)
class DateTime:
    """A date, a time, the deviation of local time from UTC and the clock status.

    `deviation_min` is what must be added to local time to get UTC, in minutes (-720 to 840), -0x8000 when not
    specified: Nairobi (UTC+3) has -180.
    """

    date: Date = Date()
    time: Time = Time()
    deviation_min: int = DEVIATION_NOT_SPECIFIED
    status: int = ClockStatus.NOT_SPECIFIED

    def encode(self) -> bytes:
        date, time = self.date, self.time
        return _DATE_TIME.pack(
            date.year,
            date.month,
            date.day,
            date.weekday,
            time.hour,
            time.minute,
            time.second,
            time.hundredths,
            self.deviation_min,
            self.status,
        )

    @classmethod
    def decode(cls, raw: bytes) -> DateTime:
        """From 12 bytes. Raises RemoteProtocolError on another length or a field out of its range."""
        if len(raw) != 12:
            raise RemoteProtocolError(f"a date-time has 12 bytes, not {len(raw)}", spec=_SPEC)
        year, month, day, weekday, hour, minute, second, hundredths, deviation_min, status = _DATE_TIME.unpack(raw)
        if deviation_min != DEVIATION_NOT_SPECIFIED and not -720 <= deviation_min <= 840:
            raise RemoteProtocolError(f"a deviation of {deviation_min} min from UTC", spec=_SPEC)
        value = cls(Date(year, month, day, weekday), Time(hour, minute, second, hundredths), deviation_min, status)
        value.date.check()
        value.time.check()
        return value

    @classmethod
    def from_utc_s(cls, utc_s: float, *, deviation_min: int = 0, status: int = ClockStatus.OK) -> DateTime:
        """The instant `utc_s` (seconds since 1970-01-01 UTC), shown in local time by `deviation_min`."""
        local = datetime.fromtimestamp(0, UTC) + timedelta(seconds=utc_s) - timedelta(minutes=deviation_min)
        return cls(
            Date(local.year, local.month, local.day, local.isoweekday()),
            Time(local.hour, local.minute, local.second, local.microsecond // 10_000),
            deviation_min,
            status,
        )

    def to_datetime(self) -> datetime:
        """An aware datetime; a deviation that is not specified counts as UTC, hundredths that are not as 0.

        Raises RemoteProtocolError if a field that it needs is not specified or recurs, or there is no such day.
        """
        date, time = self.date, self.time
        deviation_min = 0 if self.deviation_min == DEVIATION_NOT_SPECIFIED else self.deviation_min
        hundredths = 0 if time.hundredths == NOT_SPECIFIED else time.hundredths
        second = 0 if time.second == NOT_SPECIFIED else time.second
        try:
            return datetime(
                date.year,
                date.month,
                date.day,
                time.hour,
                time.minute,
                second,
                hundredths * 10_000,
                timezone(timedelta(minutes=-deviation_min)),
            )
        except ValueError as error:
            raise RemoteProtocolError(f"{self} is not one instant", spec=_SPEC) from error

    def to_utc_s(self) -> float:
        """Seconds since 1970-01-01 UTC. Raises RemoteProtocolError as `to_datetime` does."""
        return self.to_datetime().timestamp()

    def __str__(self) -> str:
        date, time = self.date, self.time
        return (
            f"{_text(date.year, 4)}-{_text(date.month)}-{_text(date.day)} "
            f"{_text(time.hour)}:{_text(time.minute)}:{_text(time.second)}"
        )


_EPOCH_DAY = date(1970, 1, 1).toordinal()


def instant_s(raw: bytes) -> int | None:
    """Seconds since 1970-01-01 UTC of 12 encoded bytes, hundredths dropped; None if they are not one instant.

    The fast way for a column of times: what is not specified in the time of day counts as 0.
    """
    if len(raw) != 12:
        return None
    days = _days(raw[:4])
    if days is None:
        return None
    _, _, _, _, hour, minute, second, _, deviation_min, _ = _DATE_TIME.unpack(raw)
    if deviation_min == DEVIATION_NOT_SPECIFIED:
        deviation_min = 0
    seconds: int = (0 if second > 59 else second) + 60 * ((0 if minute > 59 else minute) + deviation_min)
    seconds += 3600 * (0 if hour > 23 else hour)
    return days * 86_400 + seconds


@functools.lru_cache(maxsize=1024)
def _days(raw: bytes) -> int | None:
    """Days since 1970-01-01 of year, month and day as encoded; the rows of a profile share few of them."""
    try:
        return date(int.from_bytes(raw[:2], "big"), raw[2], raw[3]).toordinal() - _EPOCH_DAY
    except ValueError:
        return None


def _text(value: int, width: int = 2) -> str:
    not_specified = YEAR_NOT_SPECIFIED if width == 4 else NOT_SPECIFIED
    return "*" * width if value == not_specified else f"{value:0{width}d}"
