"""Selective access to a profile's buffer: by range (four cases) and by entry (three)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms.data import Data, Tag, octet_string
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import Conformance, DataAccessResult
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.dlms.reading import read_capture_objects
from protocols.dlms.selective import CaptureObject, EntryDescriptor, RangeDescriptor, Selector
from protocols.errors import RemoteProtocolError
from twin.conformance.cases import Plan, case
from twin.conformance.needs import SkipCase
from twin.conformance.plans.answers import DATA, NOT_SERVED, result_in_words
from twin.conformance.tester import Dialogue, Role, Tester
from twin.conformance.verdicts import Record, at_least, equals

_PROFILE, _CLOCK = 7, 8
_LOAD_PROFILE = ObisCode.parse("1-0:99.1.0*255")
_LEAST_ROWS = 6
_FILLING_S = 6 * 3600.0
_CASE_S = 24 * 3600.0
"""In an emulated meter's time: the profile is filled first."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile with rows in it, and the association that reads it. `rows` are the whole buffer's."""

    dialogue: Dialogue
    obis: ObisCode
    columns: tuple[CaptureObject, ...]
    rows: tuple[tuple[Data, ...], ...]

    @property
    def clock(self) -> CaptureObject:
        return self.columns[0]

    def moment(self, index: int) -> Data:
        return self.rows[index][0]

    async def part(self, selector: Selector) -> Data | DataAccessResult:
        (result,) = await self.dialogue.get(AttributeReference(_PROFILE, self.obis, 2, selector))
        return result

    async def rows_of(self, selector: Selector) -> tuple[tuple[Data, ...], ...] | None:
        """The rows that a selection gives, None if it is refused."""
        result = await self.part(selector)
        return None if isinstance(result, DataAccessResult) else rows_of(result)


def rows_of(buffer: Data) -> tuple[tuple[Data, ...], ...]:
    """Raises RemoteProtocolError if `buffer` is not an array of structures."""
    if buffer.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY):
        raise RemoteProtocolError("a buffer that is not an array", spec="IEC 62056-6-2, class 7")
    items = buffer.value.items if buffer.tag == Tag.COMPACT_ARRAY else buffer.value
    if any(row.tag != Tag.STRUCTURE for row in items):
        raise RemoteProtocolError("a row that is not a structure", spec="IEC 62056-6-2, class 7")
    return tuple(tuple(row.value) for row in items)


async def _profile(tester: Tester) -> Profile:
    """The load profile, or another profile over time, with at least six rows. Raises SkipCase if there is none."""
    if tester.bench is not None:
        await tester.bench.pass_time(_FILLING_S)
    dialogue = await _reader(tester)
    if not dialogue.client.conformance & Conformance.SELECTIVE_ACCESS:
        raise SkipCase("the meter does not negotiate selective access")
    elements = [element for element in await tester.object_list(dialogue) if element.class_id == _PROFILE]
    elements.sort(key=lambda element: element.obis != _LOAD_PROFILE)
    for element in elements:
        columns = await dialogue.run(read_capture_objects(dialogue.client, element.obis))
        if not columns or (columns[0].class_id, columns[0].attribute_id) != (_CLOCK, 2) or len(columns) < 2:
            continue
        rows = rows_of(await dialogue.value(_PROFILE, element.obis))
        if len(rows) >= _LEAST_ROWS:
            return Profile(dialogue, element.obis, columns, rows)
    raise SkipCase(f"the meter has no profile over time with {_LEAST_ROWS} rows or more")


async def _reader(tester: Tester) -> Dialogue:
    try:
        return await tester.associate(Role.READER)
    except SkipCase:
        return await tester.associate(Role.MANAGEMENT)


@case(
    "PROFILE_RANGE_1",
    Plan.COSEM,
    "A range of time gives the rows in it, both ends included, all columns.",
    shows=("UC-III.1", "OSI-7"),
    timeout_s=_CASE_S,
)
async def _range_1(tester: Tester, record: Record) -> None:
    profile = await _profile(tester)
    wanted = profile.rows[1:5]
    rows = await profile.rows_of(RangeDescriptor(profile.clock, profile.moment(1), profile.moment(4)))
    record.measure("rows in the buffer", len(profile.rows), limit=at_least(_LEAST_ROWS))
    record.measure("rows from the second to the fifth", _count(rows), limit=equals(4))
    record.measure("they are those of the whole buffer", rows == wanted, limit=equals(True))
    rows = await profile.rows_of(RangeDescriptor(profile.clock, profile.moment(2), profile.moment(2)))
    record.measure("rows from the third to the third", _count(rows), limit=equals(1))


@case(
    "PROFILE_RANGE_2",
    Plan.COSEM,
    "A range of time in which nothing lies gives an empty array, and so does one that ends before it begins.",
    shows=("UC-III.1", "OSI-7"),
    timeout_s=_CASE_S,
)
async def _range_2(tester: Tester, record: Record) -> None:
    profile = await _profile(tester)
    before_s = _instant_s(profile.moment(0)) - 10 * 365 * 86_400.0
    start, end = (octet_string(DateTime.from_utc_s(before_s + extra_s).encode()) for extra_s in (0.0, 3600.0))
    rows = await profile.rows_of(RangeDescriptor(profile.clock, start, end))
    record.measure("rows of ten years ago", _count(rows), limit=equals(0))
    backwards = await profile.part(RangeDescriptor(profile.clock, profile.moment(4), profile.moment(1)))
    is_none = isinstance(backwards, DataAccessResult) or not rows_of(backwards)
    record.measure("a range from the fifth back to the second gives no row", is_none, limit=equals(True))


@case(
    "PROFILE_RANGE_3",
    Plan.COSEM,
    "A range with selected columns gives those columns alone, in the order that was asked for.",
    shows=("UC-III.1", "OSI-7"),
    timeout_s=_CASE_S,
)
async def _range_3(tester: Tester, record: Record) -> None:
    profile = await _profile(tester)
    last = len(profile.columns) - 1
    for name, chosen in (("the clock and the last", (0, last)), ("the last", (last,))):
        columns = tuple(profile.columns[index] for index in chosen)
        selector = RangeDescriptor(profile.clock, profile.moment(1), profile.moment(4), columns)
        rows = await profile.rows_of(selector)
        wanted = tuple(tuple(row[index] for index in chosen) for row in profile.rows[1:5])
        record.measure(f"columns: {name}: rows", _count(rows), limit=equals(4))
        record.measure(f"columns: {name}: right cells", rows == wanted, limit=equals(True))


@case(
    "PROFILE_RANGE_4",
    Plan.COSEM,
    "A range over a column that the profile does not have, or a malformed one, is refused.",
    shows=("UC-III.1", "OSI-7"),
    timeout_s=_CASE_S,
)
async def _range_4(tester: Tester, record: Record) -> None:
    profile = await _profile(tester)
    stranger = CaptureObject(3, ObisCode.parse("1-0:199.8.0*255"), 2)
    right = RangeDescriptor(profile.clock, profile.moment(1), profile.moment(4))
    wrong: dict[str, RangeDescriptor] = {
        "restricting column that is not there": RangeDescriptor(stranger, right.start, right.end),
        "selected column that is not there": RangeDescriptor(profile.clock, right.start, right.end, (stranger,)),
        "bounds that are no times": RangeDescriptor(profile.clock, octet_string(b"soon"), octet_string(b"later")),
    }
    for name, selector in wrong.items():
        record.measure(name, result_in_words(await profile.part(selector)), limit=NOT_SERVED)
    record.measure("the right range afterwards", result_in_words(await profile.part(right)), limit=equals(DATA))


@case(
    "PROFILE_ENTRY_1",
    Plan.COSEM,
    "Entries from a to b are those rows of the buffer, counted from 1.",
    shows=("UC-III.1", "OSI-7"),
    timeout_s=_CASE_S,
)
async def _entry_1(tester: Tester, record: Record) -> None:
    profile = await _profile(tester)
    for first, last in ((1, 1), (2, 5), (1, len(profile.rows))):
        rows = await profile.rows_of(EntryDescriptor(first, last))
        record.measure(f"entries {first} to {last}", _count(rows), limit=equals(last - first + 1))
        right = rows == profile.rows[first - 1 : last]
        record.measure(f"entries {first} to {last} are those of the buffer", right, limit=equals(True))


@case(
    "PROFILE_ENTRY_2",
    Plan.COSEM,
    "An upper end of 0 means the last entry and column; beyond the end there is nothing.",
    shows=("UC-III.1", "OSI-7"),
    timeout_s=_CASE_S,
)
async def _entry_2(tester: Tester, record: Record) -> None:
    profile = await _profile(tester)
    count = len(profile.rows)
    rows = await profile.rows_of(EntryDescriptor(count - 2, 0))
    record.measure("the last three", rows == profile.rows[-3:], limit=equals(True))
    beyond = await profile.part(EntryDescriptor(count + 1000, count + 1001))
    is_none = isinstance(beyond, DataAccessResult) or not rows_of(beyond)
    record.measure("entries beyond the end give no row", is_none, limit=equals(True))


@case(
    "PROFILE_ENTRY_3",
    Plan.COSEM,
    "Entries with selected columns give those columns; columns that are not there are refused.",
    shows=("UC-III.1", "OSI-7"),
    timeout_s=_CASE_S,
)
async def _entry_3(tester: Tester, record: Record) -> None:
    profile = await _profile(tester)
    for first, last in ((1, 1), (2, 2), (1, len(profile.columns))):
        rows = await profile.rows_of(EntryDescriptor(1, 3, first, last))
        wanted = tuple(row[first - 1 : last] for row in profile.rows[:3])
        record.measure(f"columns {first} to {last}", rows == wanted, limit=equals(True))
    beyond = len(profile.columns) + 1
    result = result_in_words(await profile.part(EntryDescriptor(1, 3, beyond, beyond)))
    record.measure("a column that is not there", result, limit=NOT_SERVED)


def _count(rows: tuple[tuple[Data, ...], ...] | None) -> int | None:
    return None if rows is None else len(rows)


def _instant_s(moment: Data) -> float:
    value = moment.value
    return (DateTime.decode(value) if isinstance(value, bytes) else value).to_utc_s()
