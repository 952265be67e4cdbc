"""COSEM data in A-XDR: every type, every truncation, junk."""

from __future__ import annotations

from datetime import UTC, datetime

import dlms_strategies as strategies
import pytest
from dlms_strategies import quick
from hypothesis import given
from hypothesis import strategies as st

from protocols.cursor import Reader
from protocols.dlms import data
from protocols.dlms.data import (
    ArrayStream,
    CompactArray,
    Data,
    Encoded,
    Tag,
    TypeDescription,
    array,
    bcd,
    bit_string,
    boolean,
    compact_array,
    date_time,
    decode,
    double_long,
    double_long_unsigned,
    encode,
    enumerated,
    float32,
    float64,
    integer,
    long,
    long64,
    long64_unsigned,
    long_unsigned,
    octet_string,
    skip,
    structure,
    unsigned,
    utf8_string,
    visible_string,
)
from protocols.dlms.date_time import Date, DateTime, Time
from protocols.dlms.obis import ObisCode
from protocols.dlms.units import ScalerUnit, Unit
from protocols.errors import LocalProtocolError, RemoteProtocolError

KNOWN = [
    (data.NULL, "00"),
    (boolean(True), "0301"),
    (bit_string("10110"), "0405B0"),
    (bit_string(""), "0400"),
    (double_long(-2), "05FFFFFFFE"),
    (double_long_unsigned(1234), "06000004D2"),
    (octet_string(b"\x01\x02"), "09020102"),
    (octet_string(b"a" * 128), "098180" + "61" * 128),
    (visible_string("abc"), "0A03616263"),
    (utf8_string("é"), "0C02C3A9"),
    (bcd(42), "0D42"),
    (integer(-1), "0FFF"),
    (long(-1), "10FFFF"),
    (unsigned(255), "11FF"),
    (long_unsigned(65535), "12FFFF"),
    (long64(-1), "14FFFFFFFFFFFFFFFF"),
    (long64_unsigned(1), "150000000000000001"),
    (enumerated(30), "161E"),
    (float32(1.5), "173FC00000"),
    (float64(1.5), "183FF8000000000000"),
    (date_time(DateTime(Date(2026, 11, 23, 1), Time(12, 30, 0, 0), -180, 0)), "1907EA0B17010C1E0000FF4C00"),
    (data.date(Date()), "1AFFFFFFFFFF"),
    (data.time(Time(0, 0, 0, 0)), "1B00000000"),
    (array([unsigned(1), unsigned(2)]), "010211011102"),
    (structure(integer(0), enumerated(30)), "02020F00161E"),
    (data.DONT_CARE, "FF"),
    (
        compact_array(
            TypeDescription(Tag.STRUCTURE, (TypeDescription(Tag.LONG_UNSIGNED), TypeDescription(Tag.UNSIGNED))),
            [structure(long_unsigned(1), unsigned(2)), structure(long_unsigned(3), unsigned(4))],
        ),
        "13020212110600010200" + "0304",
    ),
]


@pytest.mark.parametrize(("value", "hexadecimal"), KNOWN, ids=lambda item: str(item)[:40])
@pytest.mark.requirement("OSI-6")
def test_known_bytes_in_both_directions(value: Data, hexadecimal: str) -> None:
    raw = bytes.fromhex(hexadecimal)
    assert encode(value) == raw
    assert decode(raw) == value
    for end in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            decode(raw[:end])
    with pytest.raises(RemoteProtocolError, match="left over"):
        decode(raw + b"\x00")


@quick
@given(strategies.data)
def test_any_value_comes_back_as_it_was(value: Data) -> None:
    raw = encode(value)
    assert decode(raw) == value
    reader = Reader(raw)
    skip(reader)
    assert reader.remaining == 0


@quick
@given(strategies.data, st.data())
def test_truncated_value_is_the_peers_error(value: Data, draw: st.DataObject) -> None:
    raw = encode(value)
    end = draw.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(RemoteProtocolError):
        decode(raw[:end])


@quick
@given(st.binary(max_size=200))
def test_junk_is_a_value_or_the_peers_error(raw: bytes) -> None:
    try:
        value = decode(raw)
    except RemoteProtocolError:
        return
    assert decode(encode(value)) == value or value != value


def test_nesting_has_an_end() -> None:
    with pytest.raises(RemoteProtocolError, match="deeper"):
        decode(b"\x01\x01" * 500 + b"\x00")


def test_elements_that_take_no_room_cannot_be_multiplied() -> None:
    for raw in ("1301FFFF000100", "1302020101FFFF000100", "13000100", "1301000501000500010000"):
        with pytest.raises(RemoteProtocolError):
            decode(bytes.fromhex(raw))


@pytest.mark.parametrize(
    "value",
    [
        unsigned(256),
        long(-40000),
        bcd(100),
        bit_string("012"),
        visible_string("é"),
        octet_string("text"),  # type: ignore[arg-type]
        double_long_unsigned(-1),
        Data(99, None),
        Data(Tag.DATE_TIME, "yesterday"),
        compact_array(TypeDescription(Tag.UNSIGNED), [long(1)]),
        compact_array(TypeDescription(Tag.NULL), [data.NULL]),
    ],
    ids=str,
)
def test_value_that_does_not_fit_its_type_is_our_bug(value: Data) -> None:
    with pytest.raises(LocalProtocolError):
        encode(value)


def test_encoded_bytes_and_streams_are_sent_as_they_are() -> None:
    assert encode(Encoded(b"\x11\x05")) == b"\x11\x05"
    stream = ArrayStream(2, iter((encode(unsigned(1)), encode(unsigned(2)))))
    assert b"".join(stream.chunks()) == encode(array([unsigned(1), unsigned(2)]))
    with pytest.raises(LocalProtocolError, match="3 rows"):
        b"".join(ArrayStream(3, iter((b"\x00",))).chunks())


def test_plain_drops_types() -> None:
    nested = structure(unsigned(1), array([visible_string("a")]))
    assert nested.plain() == [1, ["a"]]
    shape = TypeDescription(Tag.UNSIGNED)
    assert Data(Tag.COMPACT_ARRAY, CompactArray(shape, (unsigned(7),))).plain() == [7]


def test_local_time_and_deviation_make_one_instant() -> None:
    nairobi = DateTime.from_utc_s(1_790_000_000, deviation_min=-180)
    assert nairobi.to_datetime() == datetime.fromtimestamp(1_790_000_000, UTC)
    assert (nairobi.time.hour - DateTime.from_utc_s(1_790_000_000).time.hour) % 24 == 3
    assert nairobi.to_utc_s() == 1_790_000_000


@pytest.mark.parametrize("value", [DateTime(), DateTime(Date(2026, 2, 30, 255), Time(0, 0, 0, 0), 0, 0)])
def test_what_is_not_one_instant_says_so(value: DateTime) -> None:
    with pytest.raises(RemoteProtocolError, match="instant"):
        value.to_datetime()


def test_obis_codes_are_written_in_both_ways() -> None:
    assert ObisCode.parse("1-0:1.8.0*255") == ObisCode.parse("1.0.1.8.0") == bytes((1, 0, 1, 8, 0, 255))
    assert str(ObisCode.parse("1.0.1.8.0.255")) == "1-0:1.8.0*255"
    assert ObisCode.parse("1-0:1.8.0*255").dotted == "1.0.1.8.0.255"
    for text in ("1.8.0", "1-0:1.8.0*256", "", "a.b.c.d.e.f"):
        with pytest.raises(ValueError, match=r"OBIS|value group"):
            ObisCode.parse(text)


def test_scaler_and_unit_make_an_exact_quantity() -> None:
    scaler_unit = ScalerUnit.from_data(ScalerUnit(-1, Unit.VOLT).to_data())
    assert str(scaler_unit.quantity(2301)) == "230.1 V"
    with pytest.raises(RemoteProtocolError):
        ScalerUnit.from_data(structure(integer(0), enumerated(200)))
    with pytest.raises(RemoteProtocolError):
        ScalerUnit.from_data(octet_string(b""))
