"""Profile generic: class 7, for profiles and event logs alike."""

from __future__ import annotations

import math
from collections.abc import Callable

from meters.firmware.clock import MeterClock
from meters.firmware.objects.classes import PROFILE_GENERIC
from meters.firmware.profiles import Column, Profile
from protocols.dlms.data import Data, Readable, Tag, array, double_long_unsigned, enumerated
from protocols.dlms.date_time import YEAR_NOT_SPECIFIED, DateTime
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.selective import CaptureObject, EntryDescriptor, RangeDescriptor, Selector, profile_selector
from protocols.errors import RemoteProtocolError

_FIFO = 1


class ProfileObject(CosemObject):
    """Buffer, columns and period of one profile. `capture_now` is what method 2 does, None where a client may not."""

    INTERFACE = PROFILE_GENERIC
    __slots__ = ("_capture_now", "_clock", "_period_s", "_profile")

    def __init__(
        self,
        obis: ObisCode,
        profile: Profile,
        clock: MeterClock,
        *,
        period_s: int,
        capture_now: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(obis)
        self._profile = profile
        self._clock = clock
        self._period_s = period_s
        self._capture_now = capture_now

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        profile = self._profile
        if attribute_id == 2:
            return self._buffer(None if selector is None else profile_selector(selector))
        if attribute_id == 3:
            return array(column.source.to_data() for column in profile.layout.columns)
        if attribute_id == 4:
            return double_long_unsigned(self._period_s)
        if attribute_id == 5:
            return enumerated(_FIFO)
        if attribute_id == 6:
            return profile.layout.columns[0].source.to_data()
        if attribute_id == 7:
            return double_long_unsigned(len(profile))
        return double_long_unsigned(profile.layout.entries)

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        if method_id == 1:
            self._profile.clear()
            return None
        if self._capture_now is None:
            raise AccessDenied(ActionResult.READ_WRITE_DENIED, "an event log is captured by events")
        self._capture_now()
        return None

    def _buffer(self, selector: RangeDescriptor | EntryDescriptor | None) -> Readable:
        if selector is None:
            return self._profile.stream(self._profile.sequences())
        if isinstance(selector, EntryDescriptor):
            return self._by_entry(selector)
        return self._by_range(selector)

    def _by_entry(self, selector: EntryDescriptor) -> Readable:
        sequences = self._profile.sequences()
        count = len(self._profile.layout.columns)
        first, last = selector.from_entry, selector.to_entry or len(sequences)
        first_column, last_column = selector.from_column, selector.to_column or count
        if first < 1 or first_column < 1 or last < first or not first_column <= last_column <= count:
            raise AccessDenied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        columns = None if (first_column, last_column) == (1, count) else tuple(range(first_column - 1, last_column))
        return self._profile.stream(sequences[first - 1 : last], columns)

    def _by_range(self, selector: RangeDescriptor) -> Readable:
        columns = self._profile.layout.columns
        if not _same(columns[0], selector.restricting):
            raise AccessDenied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED, "rows are found by the clock only")
        start_s, end_s = self._instant(selector.start, 0.0), self._instant(selector.end, math.inf)
        wanted = tuple(self._column(column) for column in selector.columns) or None
        return self._profile.stream(self._profile.between(start_s, end_s), wanted)

    def _column(self, wanted: CaptureObject) -> int:
        for index, column in enumerate(self._profile.layout.columns):
            if _same(column, wanted):
                return index
        raise AccessDenied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED, f"no column {wanted.obis}")

    def _instant(self, value: Data, otherwise: float) -> float:
        """A limit of the range in UTC; `otherwise` if its year is not specified."""
        if value.tag not in (Tag.OCTET_STRING, Tag.DATE_TIME):
            raise RemoteProtocolError(
                "the limits of a range by the clock are date-times", spec="IEC 62056-6-2, class 7"
            )
        limit = value.value if value.tag == Tag.DATE_TIME else DateTime.decode(value.value)
        return otherwise if limit.date.year == YEAR_NOT_SPECIFIED else self._clock.utc_of(limit)


def _same(column: Column, wanted: CaptureObject) -> bool:
    source = column.source
    return (source.class_id, source.obis, source.attribute_id) == (wanted.class_id, wanted.obis, wanted.attribute_id)
