"""The Clock object: class 8, 0-0:1.0.0*255."""

from __future__ import annotations

from dataclasses import replace

from meters.firmware.clock import MeterClock, check_recurring
from meters.firmware.objects.classes import CLOCK
from protocols.dlms.data import Data, Readable, Tag, boolean, enumerated, integer, long, octet_string, unsigned
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.selective import Selector
from protocols.errors import RemoteProtocolError

_INTERNAL_CRYSTAL = 1
_QUARTER_S = 900
_MINUTE_S = 60
_SHIFT_LIMIT_S = 900
_AGE_LIMIT_S = 900.0
"""A broadcast that was on its way for longer is not believed: forwarders count its age, and one might not."""
_ZONE_MIN = range(-720, 841)
_DST_MIN = range(-120, 121)


class ClockObject(CosemObject):
    """Shows and sets the meter's clock."""

    INTERFACE = CLOCK
    __slots__ = ("_clock", "_measuring_period_s", "_preset")

    def __init__(self, obis: ObisCode, clock: MeterClock, *, measuring_period_s: int) -> None:
        super().__init__(obis)
        self._clock = clock
        self._measuring_period_s = measuring_period_s
        self._preset: tuple[float, float, float] | None = None

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        clock, settings = self._clock, self._clock.settings
        if attribute_id == 2:
            return octet_string(clock.date_time().encode())
        if attribute_id == 3:
            return long(settings.zone_min)
        if attribute_id == 4:
            return unsigned(clock.status())
        if attribute_id == 5:
            return octet_string(settings.dst_begin.encode())
        if attribute_id == 6:
            return octet_string(settings.dst_end.encode())
        if attribute_id == 7:
            return integer(settings.dst_min)
        if attribute_id == 8:
            return boolean(settings.dst_enabled)
        return enumerated(_INTERNAL_CRYSTAL)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        clock, settings = self._clock, self._clock.settings
        if attribute_id == 2:
            self._set_time(value, caller.age_s)
        elif attribute_id == 3:
            clock.configure(replace(settings, zone_min=_within(value, _ZONE_MIN)))
        elif attribute_id == 5:
            clock.configure(replace(settings, dst_begin=_yearly(value)))
        elif attribute_id == 6:
            clock.configure(replace(settings, dst_end=_yearly(value)))
        elif attribute_id == 7:
            clock.configure(replace(settings, dst_min=_within(value, _DST_MIN)))
        elif attribute_id == 8:
            clock.configure(replace(settings, dst_enabled=value.value))
        else:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        now_s = self._clock.utc_s()
        if method_id == 1:
            self._clock.set_utc(_nearest(now_s, _QUARTER_S))
        elif method_id == 2:
            self._clock.set_utc(_nearest(now_s, self._measuring_period_s))
        elif method_id == 3:
            self._clock.set_utc(_nearest(now_s, _MINUTE_S))
        elif method_id == 4:
            self._adjust_to_preset(now_s)
        elif method_id == 5:
            self._preset = self._read_preset(argument)
        elif method_id == 6:
            self._shift(argument, now_s)
        else:
            raise AccessDenied(ActionResult.OBJECT_UNDEFINED)
        return None

    def _set_time(self, value: Data, age_s: float) -> None:
        """The time that it was when the request was made: since then, `age_s` have gone by."""
        if age_s > _AGE_LIMIT_S:
            raise AccessDenied(DataAccessResult.OTHER_REASON, f"a time that is {age_s:.0f} s old")
        try:
            self._clock.set_utc(self._clock.utc_of(_date_time(value)) + age_s)
        except RemoteProtocolError:
            raise AccessDenied(DataAccessResult.OTHER_REASON, "not one instant") from None

    def _shift(self, argument: Data, now_s: float) -> None:
        """Move by whole seconds, at most 15 minutes. By none, nothing happens, and nothing is logged."""
        if argument.tag != Tag.LONG:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED)
        if abs(argument.value) > _SHIFT_LIMIT_S:
            raise AccessDenied(ActionResult.OTHER_REASON, f"a shift by more than {_SHIFT_LIMIT_S} s")
        if argument.value:
            self._clock.set_utc(now_s + argument.value)

    def _read_preset(self, argument: Data) -> tuple[float, float, float]:
        """Preset time, and the interval of validity in which `adjust_to_preset_time` takes it."""
        if argument.tag != Tag.STRUCTURE or len(argument.value) != 3:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED)
        try:
            preset_s, start_s, end_s = (self._clock.utc_of(_date_time(item)) for item in argument.value)
        except (RemoteProtocolError, AccessDenied):
            raise AccessDenied(ActionResult.OTHER_REASON, "not three instants") from None
        return preset_s, start_s, end_s

    def _adjust_to_preset(self, now_s: float) -> None:
        if self._preset is None:
            raise AccessDenied(ActionResult.OTHER_REASON, "no preset time")
        preset_s, start_s, end_s = self._preset
        if not start_s <= now_s <= end_s:
            raise AccessDenied(ActionResult.OTHER_REASON, "outside the interval of validity")
        self._clock.set_utc(preset_s)
        self._preset = None


def _nearest(utc_s: float, period_s: int) -> float:
    return float((utc_s + period_s / 2) // period_s * period_s)


def _within(value: Data, allowed: range) -> int:
    if value.value not in allowed:
        raise AccessDenied(DataAccessResult.OTHER_REASON, f"{value.value} is out of range")
    return int(value.value)


def _date_time(value: Data) -> DateTime:
    if value.tag == Tag.DATE_TIME:
        date_time: DateTime = value.value
        return date_time
    try:
        return DateTime.decode(value.value if value.tag == Tag.OCTET_STRING else b"")
    except RemoteProtocolError:
        raise AccessDenied(DataAccessResult.TYPE_UNMATCHED, "not a date-time") from None


def _yearly(value: Data) -> DateTime:
    moment = _date_time(value)
    try:
        check_recurring(moment)
    except RemoteProtocolError:
        raise AccessDenied(DataAccessResult.OTHER_REASON, "no moment of a year") from None
    return moment
