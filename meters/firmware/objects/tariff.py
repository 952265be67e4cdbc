"""Tariffs: Register activation, Script table, Special days table, Activity calendar, Single action schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from meters.firmware.calendar import Action, Calendar, Day, Season, SpecialDay, Week, fields, matches
from meters.firmware.clock import MeterClock
from meters.firmware.measurements import Measurements
from meters.firmware.objects.classes import (
    ACTIVITY_CALENDAR,
    REGISTER_ACTIVATION,
    SCRIPT_TABLE,
    SINGLE_ACTION_SCHEDULE,
    SPECIAL_DAYS,
)
from meters.firmware.scripts import Script, ScriptRunner
from meters.firmware.storage import RecordStore
from protocols.dlms.data import (
    Data,
    Readable,
    Tag,
    array,
    decode,
    encode,
    enumerated,
    integer,
    long_unsigned,
    octet_string,
    structure,
    unsigned,
)
from protocols.dlms.date_time import NOT_SPECIFIED, YEAR_NOT_SPECIFIED, Date, DateTime, Time
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.selective import Selector
from protocols.errors import RemoteProtocolError

_LARGEST_TABLE_BYTES = 3000
_SCHEDULE_DAYS = 366 * 5
_FIXED_TIMES = 1
"""Type of a single action schedule: wildcards in the date are allowed."""


class RegisterActivationObject(CosemObject):
    """Class 6: one mask for each tariff rate, with the registers that count under it."""

    INTERFACE = REGISTER_ACTIVATION
    __slots__ = ("_measurements", "_on_change", "_registers", "_store")

    def __init__(
        self,
        obis: ObisCode,
        measurements: Measurements,
        store: RecordStore,
        registers: Mapping[int, list[ObisCode]],
        on_change: Callable[[int], None],
    ) -> None:
        super().__init__(obis)
        self._measurements = measurements
        self._store = store
        self._registers = registers
        self._on_change = on_change
        saved = store.get("tariff/rate")
        if saved is not None and 1 <= saved[0] <= measurements.rate_count:
            measurements.select_rate(saved[0])

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 4:
            return octet_string(_mask_name(self._measurements.rate))
        flat = [code for rate in sorted(self._registers) for code in self._registers[rate]]
        if attribute_id == 2:
            return array(structure(long_unsigned(3), octet_string(bytes(code))) for code in flat)
        masks, index = [], 1
        for rate in sorted(self._registers):
            count = len(self._registers[rate])
            indices = array(unsigned(number) for number in range(index, index + count))
            masks.append(structure(octet_string(_mask_name(rate)), indices))
            index += count
        return array(masks)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        rates = {_mask_name(rate): rate for rate in range(1, self._measurements.rate_count + 1)}
        if attribute_id != 4:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        if value.value not in rates:
            raise AccessDenied(DataAccessResult.OTHER_REASON, "no such mask")
        rate = rates[value.value]
        if rate != self._measurements.rate:
            self._measurements.select_rate(rate)
            self._store.put("tariff/rate", bytes((rate,)))
            self._on_change(rate)

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        raise AccessDenied(ActionResult.READ_WRITE_DENIED)


def _mask_name(rate: int) -> bytes:
    return f"RATE{rate}".encode("ascii")


class ScriptTableObject(CosemObject):
    """Class 9."""

    INTERFACE = SCRIPT_TABLE
    __slots__ = ("_runner", "_scripts")

    def __init__(self, obis: ObisCode, scripts: Mapping[int, Script], runner: ScriptRunner) -> None:
        super().__init__(obis)
        self._scripts = scripts
        self._runner = runner
        runner.add_table(obis, scripts)

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        return array(
            structure(
                long_unsigned(number),
                array(
                    structure(
                        enumerated(action.service),
                        long_unsigned(action.class_id),
                        octet_string(bytes(action.obis)),
                        integer(action.index),
                        action.parameter,
                    )
                    for action in script
                ),
            )
            for number, script in self._scripts.items()
        )

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        if argument.tag != Tag.LONG_UNSIGNED:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED)
        if not self._runner.run(self.obis, argument.value):
            raise AccessDenied(ActionResult.OTHER_REASON, "no such script, or it was refused")
        return None


class SpecialDaysObject(CosemObject):
    """Class 11. `on_change` is called after the table has changed."""

    INTERFACE = SPECIAL_DAYS
    __slots__ = ("_store", "days", "on_change")

    def __init__(self, obis: ObisCode, store: RecordStore) -> None:
        super().__init__(obis)
        self._store = store
        self.on_change: Callable[[], None] | None = None
        saved = store.get("tariff/special_days")
        self.days = () if saved is None else _special_days(decode(saved))

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        return array(day.to_data() for day in self.days)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        self._keep(_special_days(value))

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        if method_id == 1:
            entry = SpecialDay.from_data(argument)
            self._keep((*(day for day in self.days if day.index != entry.index), entry))
        else:
            if argument.tag != Tag.LONG_UNSIGNED:
                raise AccessDenied(ActionResult.TYPE_UNMATCHED)
            self._keep(tuple(day for day in self.days if day.index != argument.value))
        return None

    def _keep(self, days: tuple[SpecialDay, ...]) -> None:
        self._store.put("tariff/special_days", _checked_size(encode(array(day.to_data() for day in days))))
        self.days = days
        if self.on_change is not None:
            self.on_change()


def _special_days(data: Data) -> tuple[SpecialDay, ...]:
    if data.tag != Tag.ARRAY:
        raise RemoteProtocolError("special days are an array", spec="IEC 62056-6-2, class 11")
    return tuple(SpecialDay.from_data(item) for item in data.value)


class ActivityCalendarObject(CosemObject):
    """Class 20: runs the script in effect whenever that changes, also after the clock or the calendar has."""

    INTERFACE = ACTIVITY_CALENDAR
    __slots__ = (
        "_activation",
        "_active",
        "_clock",
        "_in_effect",
        "_on_activate",
        "_on_program",
        "_on_reschedule",
        "_passive",
        "_run",
        "_special",
        "_store",
    )

    def __init__(
        self,
        obis: ObisCode,
        clock: MeterClock,
        store: RecordStore,
        default: Calendar,
        run: Callable[[bytes, int], bool],
        special: SpecialDaysObject | None,
        on_activate: Callable[[], None],
        on_program: Callable[[], None],
        on_reschedule: Callable[[], None],
    ) -> None:
        super().__init__(obis)
        self._clock = clock
        self._store = store
        self._run = run
        self._special = special
        self._on_activate = on_activate
        self._on_program = on_program
        self._on_reschedule = on_reschedule
        self._active = self._load("active", default)
        self._passive = self._load("passive", Calendar())
        saved = store.get("calendar/activation")
        self._activation = DateTime() if saved is None else DateTime.decode(saved)
        self._in_effect: Action | None = None

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 10:
            return octet_string(self._activation.encode())
        calendar = self._active if attribute_id < 6 else self._passive
        part = (attribute_id - 2) % 4
        if part == 0:
            return octet_string(calendar.name)
        rows: tuple[Season, ...] | tuple[Week, ...] | tuple[Day, ...] = (
            calendar.seasons if part == 1 else calendar.weeks if part == 2 else calendar.days
        )
        return array(row.to_data() for row in rows)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id == 10:
            self._activation = DateTime.decode(value.value)
            self._store.put("calendar/activation", self._activation.encode())
            self._on_reschedule()
            return
        if attribute_id < 6:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED, "only the passive calendar is written")
        passive = self._passive
        if attribute_id == 6:
            changed = Calendar(value.value, passive.seasons, passive.weeks, passive.days)
        elif attribute_id == 7:
            seasons = tuple(Season.from_data(item) for item in value.value)
            changed = Calendar(passive.name, seasons, passive.weeks, passive.days)
        elif attribute_id == 8:
            weeks = tuple(Week.from_data(item) for item in value.value)
            changed = Calendar(passive.name, passive.seasons, weeks, passive.days)
        else:
            days = tuple(Day.from_data(item) for item in value.value)
            changed = Calendar(passive.name, passive.seasons, passive.weeks, days)
        self._store.put("calendar/passive", _checked_size(changed.encode()))
        self._passive = changed
        self._on_program()

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        self._activate()
        return None

    # driven by the scheduler

    def following(self, utc_s: float) -> float:
        """When to look again: an action may begin, a day, or the passive calendar."""
        shift_s = self._clock.local_offset_s()
        local = _local(utc_s, shift_s)
        moments = [self._active.next_change(local, self._days()).timestamp() - shift_s]
        activation_s = self._activation_s()
        if activation_s is not None and activation_s > utc_s:
            moments.append(activation_s)
        return min(moments)

    def apply(self, utc_s: float) -> None:
        """Run the script in effect, if it is another than the last one that ran."""
        activation_s = self._activation_s()
        if activation_s is not None and activation_s <= utc_s and self._passive != self._active:
            self._activate()
            return
        action = self._active.action_at(_local(utc_s, self._clock.local_offset_s()), self._days())
        if action is not None and action != self._in_effect:
            self._in_effect = action
            self._run(action.table, action.selector)

    def _activate(self) -> None:
        self._store.put_many({"calendar/active": self._passive.encode(), "calendar/activation": None})
        self._active, self._activation = self._passive, DateTime()
        self._in_effect = None
        self._on_activate()
        self.apply(self._clock.utc_s())

    def _activation_s(self) -> float | None:
        if self._activation.date.year == YEAR_NOT_SPECIFIED:
            return None
        return self._clock.utc_of(self._activation)

    def _days(self) -> tuple[SpecialDay, ...]:
        return () if self._special is None else self._special.days

    def _load(self, name: str, default: Calendar) -> Calendar:
        saved = self._store.get(f"calendar/{name}")
        return default if saved is None else Calendar.decode(saved)


def _local(utc_s: float, shift_s: float) -> datetime:
    return datetime.fromtimestamp(utc_s + shift_s, UTC)


def _checked_size(raw: bytes) -> bytes:
    if len(raw) > _LARGEST_TABLE_BYTES:
        raise AccessDenied(DataAccessResult.OTHER_REASON, f"a table of {len(raw)} bytes")
    return raw


class SingleActionScheduleObject(CosemObject):
    """Class 22: runs one script at dates and times that may recur."""

    INTERFACE = SINGLE_ACTION_SCHEDULE
    __slots__ = ("_clock", "_run", "_selector", "_store", "_table", "_times", "on_change")

    def __init__(
        self,
        obis: ObisCode,
        clock: MeterClock,
        store: RecordStore,
        script: tuple[ObisCode, int],
        times: tuple[tuple[Time, Date], ...],
        run: Callable[[bytes, int], bool],
    ) -> None:
        super().__init__(obis)
        self._clock = clock
        self._store = store
        self._table, self._selector = script
        self._run = run
        self.on_change: Callable[[], None] | None = None
        saved = store.get(self._key)
        self._times = times if saved is None else _execution_times(decode(saved))

    @property
    def _key(self) -> str:
        return f"schedule/{self.obis}"

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        if attribute_id == 2:
            return structure(octet_string(bytes(self._table)), long_unsigned(self._selector))
        if attribute_id == 3:
            return enumerated(_FIXED_TIMES)
        return _times_data(self._times)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 4:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        times = _execution_times(value)
        self._store.put(self._key, encode(_times_data(times)))
        self._times = times
        if self.on_change is not None:
            self.on_change()

    def following(self, utc_s: float) -> float | None:
        """The next moment of execution after `utc_s`, None if there is none within five years."""
        moments = [moment for entry in self._times if (moment := self._next(entry, utc_s)) is not None]
        return min(moments, default=None)

    def execute(self, utc_s: float) -> None:
        self._run(self._table, self._selector)

    def _next(self, entry: tuple[Time, Date], utc_s: float) -> float | None:
        time, date = entry
        shift_s = self._clock.local_offset_s()
        midnight = _local(utc_s, shift_s).replace(hour=0, minute=0, second=0, microsecond=0)
        of_day = timedelta(
            hours=time.hour, minutes=time.minute, seconds=0 if time.second == NOT_SPECIFIED else time.second
        )
        for days in range(_SCHEDULE_DAYS):
            day = midnight + timedelta(days=days)
            moment_s = (day + of_day).timestamp() - shift_s
            if moment_s > utc_s and matches(date, day.date()):
                return moment_s
        return None


def _execution_times(data: Data) -> tuple[tuple[Time, Date], ...]:
    if data.tag != Tag.ARRAY:
        raise RemoteProtocolError("execution times are an array", spec="IEC 62056-6-2, class 22")
    times = []
    for item in data.value:
        time, date = fields(item, Tag.OCTET_STRING, Tag.OCTET_STRING)
        moment = Time.decode(time)
        if NOT_SPECIFIED in (moment.hour, moment.minute):
            raise AccessDenied(DataAccessResult.OTHER_REASON, "hour and minute must be given")
        times.append((moment, Date.decode(date)))
    return tuple(times)


def _times_data(times: tuple[tuple[Time, Date], ...]) -> Data:
    return array(structure(octet_string(time.encode()), octet_string(date.encode())) for time, date in times)
