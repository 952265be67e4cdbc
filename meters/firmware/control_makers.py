"""How the objects of tariffs and supply control are built from a model's rows."""

from __future__ import annotations

from collections.abc import Callable

from meters.firmware.calendar import Action, Calendar, Day, Season, Week
from meters.firmware.event_names import MeterEvent
from meters.firmware.objects.control import LimiterObject, RegisterMonitorObject, Watched
from meters.firmware.objects.push_setup import PushSetupObject
from meters.firmware.objects.tariff import (
    ActivityCalendarObject,
    RegisterActivationObject,
    ScriptTableObject,
    SingleActionScheduleObject,
    SpecialDaysObject,
)
from meters.firmware.protection_makers import announces_trips
from meters.firmware.push import Pusher
from meters.firmware.push import PushSettings as PushDefaults
from meters.firmware.scripts import Script, ScriptAction, call, write_text
from meters.firmware.services import Services
from meters.firmware.watch import ThresholdWatch
from meters.models.schema import ObjectRow
from meters.models.settings import (
    CalendarSettings,
    PushSettings,
    ScheduleSettings,
    ScriptStep,
    ScriptTableSettings,
    WatchSettings,
)
from protocols.dlms.data import Data
from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import Caller, CosemObject, object_key
from protocols.dlms.selective import CaptureObject
from protocols.leakage_protection import CLASS_DISCONNECT_CONTROL, disconnect_control

END_OF_BILLING = ObisCode.parse("0-0:15.0.0*255")
_WEEK = b"WEEK"
_NEW_YEAR = DateTime(Date(month=1, day=1), Time(0, 0, 0, 0))


def make_register_activation(services: Services, row: ObjectRow) -> CosemObject:
    registers: dict[int, list[ObisCode]] = {}
    for other in services.model.objects:
        name, _, rate = (other.measures or "").rpartition("_rate_")
        if name:
            registers.setdefault(int(rate), []).append(services.obis(other))
    return RegisterActivationObject(
        services.obis(row),
        services.measurements,
        services.parameters,
        registers,
        lambda rate: services.trace("meter.tariff", rate=rate),
    )


def make_script_table(services: Services, row: ObjectRow) -> CosemObject:
    return ScriptTableObject(
        services.obis(row), services.shared(row, lambda: _scripts(services, row)), services.scripts
    )


def _scripts(services: Services, row: ObjectRow) -> dict[int, Script]:
    settings = ScriptTableSettings.model_validate(row.settings)
    return {
        number: tuple(action for step in steps for action in _script_actions(services, step))
        for number, steps in settings.scripts.items()
    }


def _script_actions(services: Services, step: ScriptStep) -> tuple[ScriptAction, ...]:
    """Nothing for a step on the monthly profile of a companion that has none; a step on the Disconnect control of
    line 1 means that of every line."""
    place = step.set or step.call
    obis = services.tables.billing_obis if place == "billing" else ObisCode.parse(place or "")
    if obis is None:
        return ()
    if step.set is not None:
        return (write_text(step.class_id, obis, step.attribute or 0, step.text or ""),)
    if (step.class_id, obis) == (CLASS_DISCONNECT_CONTROL, disconnect_control(1)):
        lines = range(1, services.model.tenant_lines + 1)
        return tuple(call(step.class_id, disconnect_control(line), step.method or 0) for line in lines)
    return (call(step.class_id, obis, step.method or 0),)


def make_special_days(services: Services, row: ObjectRow) -> CosemObject:
    special = SpecialDaysObject(services.obis(row), services.parameters)
    special.on_change = services.scheduler.clock_changed
    services.special_days = special
    return special


def make_activity_calendar(services: Services, row: ObjectRow) -> CosemObject:
    clock, scheduler = services.clock, services.scheduler

    def activated() -> None:
        services.events.record(MeterEvent.TARIFF_ACTIVATED)
        scheduler.clock_changed()

    calendar = ActivityCalendarObject(
        services.obis(row),
        clock,
        services.parameters,
        services.shared(row, lambda: _default_calendar(CalendarSettings.model_validate(row.settings))),
        services.scripts.run,
        services.special_days,
        activated,
        lambda: services.events.record(MeterEvent.TARIFF_PROGRAMMED),
        scheduler.clock_changed,
    )

    def start() -> None:
        calendar.apply(clock.utc_s())
        scheduler.at(calendar.following, calendar.apply)
        clock.on_change.append(lambda before_s, after_s: calendar.apply(after_s))

    services.on_start.append(start)
    return calendar


def _default_calendar(settings: CalendarSettings) -> Calendar:
    table = ObisCode.parse(settings.table)
    days = tuple(
        Day(
            day.id,
            tuple(
                Action(Time(int(time[:2]), int(time[3:]), 0, 0), table, script) for time, script in day.actions.items()
            ),
        )
        for day in settings.days
    )
    return Calendar(
        settings.name.encode("ascii"), (Season(b"YEAR", _NEW_YEAR, _WEEK),), (Week(_WEEK, settings.week),), days
    )


def make_schedule(services: Services, row: ObjectRow) -> CosemObject:
    settings = ScheduleSettings.model_validate(row.settings)
    times: tuple[tuple[Time, Date], ...] = ()
    if settings.time is not None:
        date = Date() if settings.day == "every" else Date(day=settings.day)
        times = ((Time(int(settings.time[:2]), int(settings.time[3:]), 0, 0), date),)
    schedule = SingleActionScheduleObject(
        services.obis(row),
        services.clock,
        services.parameters,
        (ObisCode.parse(settings.table), settings.script),
        times,
        services.scripts.run,
    )
    if row.code == END_OF_BILLING:
        services.schedules_billing = True
    schedule.on_change = services.scheduler.clock_changed
    services.on_start.append(lambda: services.scheduler.at(schedule.following, schedule.execute))
    return schedule


def make_limiter(services: Services, row: ObjectRow) -> CosemObject:
    settings = WatchSettings.model_validate(row.settings)
    limiter = LimiterObject(
        services.obis(row),
        _watched(services, settings),
        _watch_maker(services),
        ObisCode.parse(settings.table),
        services.scripts.run,
        services.parameters,
        services.events,
    )
    services.on_start.append(limiter.start)
    return limiter


def make_register_monitor(services: Services, row: ObjectRow) -> CosemObject:
    settings = WatchSettings.model_validate(row.settings)
    monitor = RegisterMonitorObject(
        services.obis(row),
        _watched(services, settings),
        _watch_maker(services),
        ObisCode.parse(settings.table),
        services.scripts.run,
        services.parameters,
    )
    services.on_start.append(monitor.start)
    return monitor


def _watched(services: Services, settings: WatchSettings) -> Watched:
    obis = ObisCode.parse(settings.monitors)
    key, caller = object_key(settings.class_id, obis), Caller(client_sap=0)

    def read() -> float:
        target = services.find(key)
        value = None if target is None else target.read(2, None, caller)
        return float(value.value) if isinstance(value, Data) else 0.0

    return Watched(settings.class_id, obis, 2, read)


def _watch_maker(
    services: Services,
) -> Callable[[Callable[[], float], Callable[[], None], Callable[[], None]], ThresholdWatch]:
    def make(read: Callable[[], float], on_over: Callable[[], None], on_under: Callable[[], None]) -> ThresholdWatch:
        watch = ThresholdWatch(services.timers, services.guard, read, on_over, on_under)
        services.watches.append(watch)
        return watch

    return make


def make_push_setup(services: Services, row: ObjectRow) -> CosemObject:
    settings = PushSettings.model_validate(row.settings)
    objects, profiles = [], {}
    for item in settings.objects:
        if item.obis is not None and item.class_id is not None:
            objects.append(CaptureObject(item.class_id, ObisCode.parse(item.obis), item.attribute))
            continue
        table = services.tables.profiles.get(item.profile or "")
        obis = services.tables.obis_of(item.profile or "")
        if table is not None and obis is not None:
            objects.append(CaptureObject(7, obis, 2))
            profiles[object_key(7, obis)] = table.profile
    pusher = Pusher(
        row.obis,
        tuple(objects),
        profiles,
        services.clock,
        services.parameters,
        services.timers,
        services.rng,
        services.guard,
        PushDefaults(randomisation_s=settings.randomisation_s),
    )
    services.pushers.append(pusher)
    services.on_start.append(lambda: pusher.bind(services.find, services.notify))
    if settings.alarms:
        alarms = services.alarms
        pusher.on_sent = alarms.sent
        alarms.send = lambda is_last: pusher.push_now(is_last=is_last)
    if announces_trips(row) and services.announcer is not None:
        services.announcer.push = pusher.push
    return PushSetupObject(services.obis(row), pusher)
