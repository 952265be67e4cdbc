"""Profiles, bundles and clock comparison between concentrator and head-end."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.headend.bulk import (
    BundleAck,
    BundlePart,
    BundleStatus,
    ProfileChunk,
    ProfileEnd,
    ProfileRequest,
    ProfileStatus,
    Table,
    TableColumn,
    TableRow,
)
from protocols.headend.messages import Message, channel_of, decode_message, encode_message, message_schema
from protocols.headend.tables import BY_NAME, BY_OBIS, TABLES
from protocols.headend.time_check import ClockQuery, ClockReport, TimeSource, clock_offset_s

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True)
serials = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", fullmatch=True)
names = st.text("abc-1", max_size=20)
times = st.integers(0, 253_402_300_799_999)
obis_codes = st.builds("{}-{}:{}.{}.{}*{}".format, *[st.integers(0, 255)] * 6)
cells = st.none() | names | st.builds(lambda n, e: Decimal(n).scaleb(e), st.integers(0, 2**40), st.integers(-3, 3))
columns = st.builds(TableColumn, obis_codes, st.integers(0, 65535), st.integers(-128, 127), st.sampled_from(["Wh", ""]))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    own = tuple(draw(st.lists(columns, max_size=3)))
    values = st.tuples(*[cells] * len(own))
    rows = st.builds(TableRow, values, st.none() | times, st.none() | st.integers(0, 255), st.integers(0, 255))
    found = tuple(draw(st.lists(rows, max_size=4)))
    return Table(draw(names), draw(obis_codes), draw(st.integers(0, 86_400)), own, found)


counts = st.integers(0, 2**31 - 1)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        lambda i, s, n, c, a, b, d: ProfileRequest(i, s, n, tuple(c), min(a, b), max(a, b), d),
        ids,
        serials,
        names,
        st.lists(obis_codes, min_size=1, max_size=4),
        times,
        times,
        times,
    ),
    st.builds(ProfileChunk, ids, serials, times, times, tables()),
    st.builds(ProfileEnd, ids, serials, st.sampled_from(ProfileStatus), times, counts, names),
    st.builds(
        lambda i, a, b, size, digest, data: BundlePart(i, min(a, b), max(a, b), size, digest, data),
        ids,
        st.integers(1, 1024),
        st.integers(1, 1024),
        st.integers(1, 2**20),
        st.binary(min_size=32, max_size=32),
        st.binary(max_size=100),
    ),
    st.builds(BundleAck, ids, st.sampled_from(BundleStatus), counts, counts, names),
    st.builds(ClockQuery, ids, times),
    st.builds(ClockReport, ids, times, times, times, st.sampled_from(TimeSource), counts),
)
PART = BundlePart("b-1", 1, 2, 10, bytes(32), b"abc")


@settings(deadline=None)
@given(messages)
def test_every_message_comes_back_as_it_went(message: Message) -> None:
    payload = encode_message(message)
    assert decode_message(payload, channel_of(message)) == message


@settings(deadline=None)
@given(messages)
def test_every_message_validates_against_its_schema_too(message: Message) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(message_schema(type(message))).validate(json.loads(encode_message(message)))


@settings(deadline=None)
@given(messages, st.data())
def test_what_is_cut_short_is_refused(message: Message, data: st.DataObject) -> None:
    payload = encode_message(message)
    with pytest.raises(RemoteProtocolError):
        decode_message(payload[: data.draw(st.integers(0, len(payload) - 1))])


def test_a_row_has_a_value_for_each_column() -> None:
    table = Table("load", "1-0:99.1.0*255", 1800, (), (TableRow((Decimal(1),)),))
    with pytest.raises(LocalProtocolError, match="one value for each column"):
        encode_message(ProfileChunk("r", "s", 0, 1, table))


def test_base64_has_one_text() -> None:
    good = encode_message(PART)
    assert b'"data":"YWJj"' in good
    for wrong in (b'"YWJj\\n"', b'"YWI=Yw=="', b'"YWJ"', b'"YWJ="', b"7"):
        with pytest.raises(RemoteProtocolError):
            decode_message(good.replace(b'"YWJj"', wrong))


def test_a_part_beyond_the_count_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        encode_message(BundlePart("b-1", 3, 2, 10, bytes(32), b"abc"))


def test_the_offset_of_a_clock_is_that_of_rfc_5905() -> None:
    # 5 s ahead, 0.4 s there, 0.6 s back, 0.1 s at the DCU.
    report = ClockReport("q", 100_000, 105_400, 105_500, TimeSource.GPS)
    offset_s, round_trip_s = clock_offset_s(report, 101_100)
    assert round_trip_s == pytest.approx(1.0)
    assert offset_s == pytest.approx(4.9)
    assert abs(offset_s - 5.0) <= round_trip_s / 2


def test_tables_are_found_by_name_and_by_object() -> None:
    assert BY_NAME["billing"].candidates == ("0-0:98.1.0*255", "1-0:98.1.0*255")
    assert all(BY_OBIS[obis] is table for table in TABLES for obis in table.candidates)
