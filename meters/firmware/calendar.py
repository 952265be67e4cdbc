"""The activity calendar: seasons, weeks and days, and which script is in effect when (IEC 62056-6-2, class 20)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from meters.firmware.clock import occurrence_s
from protocols.dlms.data import Data, Tag, array, decode, encode, long_unsigned, octet_string, structure, unsigned
from protocols.dlms.date_time import NOT_SPECIFIED, YEAR_NOT_SPECIFIED, Date, DateTime, Time
from protocols.dlms.obis import ObisCode
from protocols.errors import RemoteProtocolError

_SPEC = "IEC 62056-6-2, class 20"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Season:
    """From `start` on, every year if its year is not specified, the week of that name holds."""

    name: bytes
    start: DateTime
    week: bytes

    def to_data(self) -> Data:
        return structure(octet_string(self.name), octet_string(self.start.encode()), octet_string(self.week))

    @classmethod
    def from_data(cls, data: Data) -> Season:
        name, start, week = fields(data, Tag.OCTET_STRING, Tag.OCTET_STRING, Tag.OCTET_STRING)
        return cls(name, DateTime.decode(start), week)


@dataclass(frozen=True, slots=True)
class Week:
    """Day identifiers from Monday to Sunday."""

    name: bytes
    days: tuple[int, ...]

    def to_data(self) -> Data:
        return structure(octet_string(self.name), *(unsigned(day) for day in self.days))

    @classmethod
    def from_data(cls, data: Data) -> Week:
        name, *days = fields(data, Tag.OCTET_STRING, *(Tag.UNSIGNED,) * 7)
        return cls(name, tuple(days))


@dataclass(frozen=True, slots=True)
class Action:
    """At `start` (local time of day) a script of a script table is executed."""

    start: Time
    table: ObisCode
    selector: int

    def to_data(self) -> Data:
        return structure(
            octet_string(self.start.encode()), octet_string(bytes(self.table)), long_unsigned(self.selector)
        )

    @classmethod
    def from_data(cls, data: Data) -> Action:
        start, table, selector = fields(data, Tag.OCTET_STRING, Tag.OCTET_STRING, Tag.LONG_UNSIGNED)
        time = Time.decode(start)
        if time.hour == NOT_SPECIFIED or len(table) != 6:
            raise RemoteProtocolError("an action needs a time of day and a script table", spec=_SPEC)
        return cls(time, ObisCode(table), selector)

    @property
    def second_of_day(self) -> int:
        minute = 0 if self.start.minute == NOT_SPECIFIED else self.start.minute
        second = 0 if self.start.second == NOT_SPECIFIED else self.start.second
        return self.start.hour * 3600 + minute * 60 + second


@dataclass(frozen=True, slots=True)
class Day:
    day_id: int
    actions: tuple[Action, ...]

    def to_data(self) -> Data:
        return structure(unsigned(self.day_id), array(action.to_data() for action in self.actions))

    @classmethod
    def from_data(cls, data: Data) -> Day:
        day_id, actions = fields(data, Tag.UNSIGNED, Tag.ARRAY)
        return cls(day_id, tuple(Action.from_data(item) for item in actions))


@dataclass(frozen=True, slots=True)
class SpecialDay:
    """A date, or one that recurs, on which another day profile holds (class 11)."""

    index: int
    date: Date
    day_id: int

    def to_data(self) -> Data:
        return structure(long_unsigned(self.index), octet_string(self.date.encode()), unsigned(self.day_id))

    @classmethod
    def from_data(cls, data: Data) -> SpecialDay:
        index, raw, day_id = fields(data, Tag.LONG_UNSIGNED, Tag.OCTET_STRING, Tag.UNSIGNED)
        return cls(index, Date.decode(raw), day_id)


@dataclass(frozen=True, slots=True)
class Calendar:
    """One whole calendar, active or passive."""

    name: bytes = b""
    seasons: tuple[Season, ...] = ()
    weeks: tuple[Week, ...] = ()
    days: tuple[Day, ...] = ()

    def encode(self) -> bytes:
        return encode(
            structure(
                octet_string(self.name),
                array(season.to_data() for season in self.seasons),
                array(week.to_data() for week in self.weeks),
                array(day.to_data() for day in self.days),
            )
        )

    @classmethod
    def decode(cls, raw: bytes) -> Calendar:
        """Raises RemoteProtocolError if `raw` is not what `encode` makes."""
        name, seasons, weeks, days = fields(decode(raw), Tag.OCTET_STRING, Tag.ARRAY, Tag.ARRAY, Tag.ARRAY)
        return cls(
            name,
            tuple(Season.from_data(item) for item in seasons),
            tuple(Week.from_data(item) for item in weeks),
            tuple(Day.from_data(item) for item in days),
        )

    def day_at(self, local: datetime, special: tuple[SpecialDay, ...] = ()) -> Day | None:
        """The day profile of a local date, None if the calendar has none."""
        exception = next((item for item in special if matches(item.date, local.date())), None)
        day_id = self._day_id(local) if exception is None else exception.day_id
        return next((day for day in self.days if day.day_id == day_id), None)

    def action_at(self, local: datetime, special: tuple[SpecialDay, ...] = ()) -> Action | None:
        """The action in effect at a local moment: the day's latest up to then, None before the first."""
        day = self.day_at(local, special)
        second = local.hour * 3600 + local.minute * 60 + local.second
        begun = [] if day is None else [action for action in day.actions if action.second_of_day <= second]
        return max(begun, key=lambda action: action.second_of_day, default=None)

    def next_change(self, local: datetime, special: tuple[SpecialDay, ...] = ()) -> datetime:
        """The next local moment at which another action may begin: one of the day's, or midnight."""
        day = self.day_at(local, special)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        moments = [midnight + timedelta(days=1)]
        if day is not None:
            moments += [midnight + timedelta(seconds=action.second_of_day) for action in day.actions]
        return min(moment for moment in moments if moment > local)

    def _day_id(self, local: datetime) -> int | None:
        week_name = self._week_name(local)
        week = next((week for week in self.weeks if week.name == week_name), None)
        return None if week is None else week.days[local.isoweekday() - 1]

    def _week_name(self, local: datetime) -> bytes | None:
        """Of the season that began last; before the year's first, of last year's last."""
        now_s = (local - _EPOCH).total_seconds()
        begun = [
            (occurrence_s(season.start, year), season.week)
            for season in self.seasons
            for year in (local.year - 1, local.year)
            if season.start.date.year in (YEAR_NOT_SPECIFIED, year)
        ]
        past = [entry for entry in begun if entry[0] <= now_s]
        return max(past)[1] if past else None


def matches(pattern: Date, day: date) -> bool:
    """Whether a local date fits a COSEM date with its "not specified" fields."""
    return (
        pattern.year in (YEAR_NOT_SPECIFIED, day.year)
        and pattern.month in (NOT_SPECIFIED, day.month)
        and (pattern.day in (NOT_SPECIFIED, day.day) or pattern.day == _from_end(day))
        and pattern.weekday in (NOT_SPECIFIED, day.isoweekday())
    )


def _from_end(day: date) -> int:
    """0xFE on the last day of a month, 0xFD on the one before it, else 0."""
    if (day + timedelta(days=1)).month != day.month:
        return 0xFE
    return 0xFD if (day + timedelta(days=2)).month != day.month else 0


def fields(data: Data, *tags: Tag) -> list[Any]:
    """Values of a structure with exactly these types. Raises RemoteProtocolError for anything else."""
    if data.tag != Tag.STRUCTURE or tuple(item.tag for item in data.value) != tags:
        raise RemoteProtocolError(f"not a structure of {', '.join(tag.name for tag in tags)}", spec=_SPEC)
    return [item.value for item in data.value]
