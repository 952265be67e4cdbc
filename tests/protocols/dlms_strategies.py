"""Hypothesis strategies for COSEM data and APDUs."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from protocols.dlms import action, get
from protocols.dlms import set as set_apdu
from protocols.dlms.data import CompactArray, Data, Tag, TypeDescription
from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.selective import RawSelector

quick = settings(max_examples=40, deadline=None)
"""For properties of which many are shown: no deadline, as the machine may be busy."""

_RANGES = {
    Tag.DOUBLE_LONG: (-(2**31), 2**31 - 1),
    Tag.DOUBLE_LONG_UNSIGNED: (0, 2**32 - 1),
    Tag.INTEGER: (-128, 127),
    Tag.LONG: (-(2**15), 2**15 - 1),
    Tag.UNSIGNED: (0, 255),
    Tag.LONG_UNSIGNED: (0, 2**16 - 1),
    Tag.LONG64: (-(2**63), 2**63 - 1),
    Tag.LONG64_UNSIGNED: (0, 2**64 - 1),
    Tag.ENUM: (0, 255),
    Tag.BCD: (0, 99),
    Tag.DELTA_INTEGER: (-128, 127),
    Tag.DELTA_LONG: (-(2**15), 2**15 - 1),
    Tag.DELTA_DOUBLE_LONG: (-(2**31), 2**31 - 1),
    Tag.DELTA_UNSIGNED: (0, 255),
    Tag.DELTA_LONG_UNSIGNED: (0, 2**16 - 1),
    Tag.DELTA_DOUBLE_LONG_UNSIGNED: (0, 2**32 - 1),
}

u8 = st.integers(0, 255)
u32 = st.integers(0, 2**32 - 1)
octets = st.binary(max_size=40)
obis_codes = st.binary(min_size=6, max_size=6).map(ObisCode)

dates = st.builds(
    Date,
    st.integers(0, 0xFFFF),
    st.one_of(st.integers(1, 12), st.sampled_from((0xFD, 0xFE, 0xFF))),
    st.one_of(st.integers(1, 31), st.sampled_from((0xFD, 0xFE, 0xFF))),
    st.one_of(st.integers(1, 7), st.just(0xFF)),
)


def _or_any(limit: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(0, limit), st.just(0xFF))


times = st.builds(Time, _or_any(23), _or_any(59), _or_any(59), _or_any(99))
date_times = st.builds(DateTime, dates, times, st.one_of(st.integers(-720, 840), st.just(-0x8000)), u8)


def _content(tag: int) -> st.SearchStrategy[object]:
    """Values of a tag that has no elements."""
    if tag in _RANGES:
        return st.integers(*_RANGES[Tag(tag)])
    return {
        Tag.NULL: st.none(),
        Tag.DONT_CARE: st.none(),
        Tag.BOOLEAN: st.booleans(),
        Tag.BIT_STRING: st.text("01", max_size=40),
        Tag.OCTET_STRING: octets,
        Tag.VISIBLE_STRING: st.text(st.characters(max_codepoint=127), max_size=20),
        Tag.UTF8_STRING: st.text(max_size=20),
        Tag.FLOAT32: st.floats(width=32, allow_nan=False),
        Tag.FLOAT64: st.floats(allow_nan=False),
        Tag.DATE_TIME: date_times,
        Tag.DATE: dates,
        Tag.TIME: times,
    }[Tag(tag)]


_LEAVES = sorted(set(Tag) - {Tag.ARRAY, Tag.STRUCTURE, Tag.COMPACT_ARRAY})
_SOLID_LEAVES = [tag for tag in _LEAVES if tag not in (Tag.NULL, Tag.DONT_CARE)]
leaves = st.sampled_from(_LEAVES).flatmap(lambda tag: _content(tag).map(lambda value: Data(int(tag), value)))

descriptions = st.recursive(
    st.sampled_from(_SOLID_LEAVES).map(lambda tag: TypeDescription(int(tag))),
    lambda items: st.one_of(
        st.builds(lambda item, count: TypeDescription(int(Tag.ARRAY), (item,), count), items, st.integers(1, 3)),
        st.lists(items, min_size=1, max_size=3).map(lambda found: TypeDescription(int(Tag.STRUCTURE), tuple(found))),
    ),
    max_leaves=4,
)


def of_shape(description: TypeDescription) -> st.SearchStrategy[Data]:
    if description.tag == Tag.ARRAY:
        count = description.count
        items = st.lists(of_shape(description.items[0]), min_size=count, max_size=count)
        return items.map(lambda found: Data(int(Tag.ARRAY), tuple(found)))
    if description.tag == Tag.STRUCTURE:
        return st.tuples(*map(of_shape, description.items)).map(lambda found: Data(int(Tag.STRUCTURE), found))
    return _content(description.tag).map(lambda value: Data(description.tag, value))


compact_arrays = descriptions.flatmap(
    lambda shape: st.lists(of_shape(shape), max_size=4).map(
        lambda items: Data(int(Tag.COMPACT_ARRAY), CompactArray(shape, tuple(items)))
    )
)
data = st.recursive(
    st.one_of(leaves, compact_arrays),
    lambda items: st.builds(
        lambda tag, found: Data(int(tag), tuple(found)),
        st.sampled_from((Tag.ARRAY, Tag.STRUCTURE)),
        st.lists(items, max_size=4),
    ),
    max_leaves=8,
)

small = st.one_of(
    leaves,
    st.lists(leaves, max_size=3).map(lambda found: Data(int(Tag.STRUCTURE), tuple(found))),
)
"""Data for inside an APDU: that any data comes back is shown elsewhere."""

selectors = st.builds(RawSelector, u8, small)
references = st.builds(
    get.AttributeReference, st.integers(0, 0xFFFF), obis_codes, st.integers(-128, 127), st.none() | selectors
)
methods = st.builds(action.MethodReference, st.integers(0, 0xFFFF), obis_codes, st.integers(-128, 127))
access_results = st.sampled_from(DataAccessResult)
get_results = st.one_of(small, access_results)
blocks = st.builds(set_apdu.DataBlock, st.booleans(), u32, octets)
outcomes = st.builds(action.MethodOutcome, st.sampled_from(ActionResult), st.none() | get_results)


def tuples(items: st.SearchStrategy[object], size: int | None = None) -> st.SearchStrategy[tuple[object, ...]]:
    least, most = (0, 3) if size is None else (size, size)
    return st.lists(items, min_size=least, max_size=most).map(tuple)
