"""The logs and profiles of one running meter: which there are, and when they capture."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from meters.firmware.clock import MeterClock
from meters.firmware.companion_tables import CompanionTables
from meters.firmware.events import EventRecorder
from meters.firmware.partitions import EVENT_LOGS, PROFILES, FlashPartition, PartitionView
from meters.firmware.profile_status import StatusRegister
from meters.firmware.profiles import Profile, TableLayout
from meters.firmware.row_log import RowLog
from meters.firmware.scheduler import RtcScheduler
from meters.hardware.flash import Flash
from protocols.dlms.data import Data, long_unsigned, unsigned
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import CosemObject

_DAY_S = 86_400
Period = Literal["day", "month"] | int


class PeriodicProfile:
    """A profile that captures at the ends of its periods, and its status byte."""

    def __init__(self, profile: Profile, status: StatusRegister, period: Period, clock: MeterClock) -> None:
        self.profile = profile
        self.status = status
        self._period = period
        self._clock = clock

    @property
    def period_s(self) -> int:
        """As attribute 4 of the profile shows it: 0 where the calendar triggers."""
        return self._period if isinstance(self._period, int) else {"day": _DAY_S, "month": 0}[self._period]

    @property
    def is_monthly(self) -> bool:
        return self._period == "month"

    def capture_now(self) -> None:
        self._capture(self._clock.utc_s())

    def schedule(self, scheduler: RtcScheduler) -> None:
        if isinstance(self._period, int):
            scheduler.every(self._period, self._capture)
        else:
            scheduler.every(_DAY_S, self._at_midnight, shift_s=self._clock.local_offset_s)

    def _at_midnight(self, utc_s: float) -> None:
        local = datetime.fromtimestamp(utc_s + self._clock.local_offset_s(), UTC)
        if self._period == "day" or local.day == 1:
            self._capture(utc_s)

    def _capture(self, utc_s: float) -> None:
        self.profile.capture(utc_s)
        self.status.captured()


class Tables:
    """All logs and profiles by name; empty without a companion profile."""

    def __init__(self, applied: CompanionTables | None, flash: Flash, clock: MeterClock, events: EventRecorder) -> None:
        self._events = events
        self._wide_codes = applied is not None and applied.wide_codes
        self.logs: dict[str, Profile] = {}
        self.profiles: dict[str, PeriodicProfile] = {}
        self._billing_obis: ObisCode | None = None
        self._obis: dict[str, ObisCode] = {}
        if applied is None:
            return
        self._obis = {table.name: ObisCode.parse(table.obis) for table in applied.companion.profiles}
        monthly = [table for table in applied.companion.profiles if table.period == "month"]
        self._billing_obis = ObisCode.parse(monthly[0].obis) if monthly else None
        for name, layout in applied.logs.items():
            self.logs[name] = log = _open(flash, EVENT_LOGS, layout, clock)
            events.attach(name, log)
        periods = {table.name: table.period for table in applied.companion.profiles}
        for name, layout in applied.profiles.items():
            status = StatusRegister(clock)
            events.listeners.append(status.note)
            profile = _open(flash, PROFILES, layout, clock)
            self.profiles[name] = PeriodicProfile(profile, status, periods[name], clock)

    def bind(self, find: Callable[[bytes], CosemObject | None]) -> None:
        """Give logs and profiles the objects that they capture."""
        for log in self.logs.values():
            log.bind(find)
        for recorder in self.profiles.values():
            recorder.profile.bind(find)

    def schedule(self, scheduler: RtcScheduler, *, calendar_months: bool = True) -> None:
        """Capture from now on; months by themselves only if `calendar_months`."""
        for recorder in self.profiles.values():
            if calendar_months or not recorder.is_monthly:
                recorder.schedule(scheduler)

    def obis_of(self, profile: str) -> ObisCode | None:
        """A profile's object by its name in the companion profile."""
        return self._obis.get(profile)

    @property
    def billing_obis(self) -> ObisCode | None:
        """The monthly profile's object."""
        return self._billing_obis

    def event_code(self, log: str) -> Data:
        code = self._events.newest_code(log)
        return long_unsigned(code) if self._wide_codes else unsigned(code)


def _open(flash: Flash, partition: FlashPartition, layout: TableLayout, clock: MeterClock) -> Profile:
    log = RowLog(
        PartitionView(flash, partition),
        row_bytes=layout.row_bytes,
        first_block=layout.first_block,
        block_count=layout.block_count,
    )
    return Profile(layout, log, clock)
