"""NMEA sentences: published examples, both directions, and whatever noise a line may carry."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.nmea import (
    FixQuality,
    Gga,
    LeapSeconds,
    NmeaStream,
    Position,
    Rmc,
    Sentence,
    TimeOfDay,
    Txt,
    Zda,
    decode,
    frame,
    utc_s,
)

TIMES = st.builds(TimeOfDay, st.integers(0, 23), st.integers(0, 59), st.integers(0, 60), st.integers(0, 99))
DAYS = st.dates(date(2000, 1, 1), date(2099, 12, 31))
TEN_THOUSANDTHS = st.integers(-90 * 600_000, 90 * 600_000)
POSITIONS = st.builds(lambda a, b: Position(a / 600_000, b / 300_000), TEN_THOUSANDTHS, TEN_THOUSANDTHS)
SENTENCES: st.SearchStrategy[Sentence] = st.one_of(
    st.builds(Rmc, st.none() | TIMES, st.booleans(), st.none() | DAYS, st.none() | POSITIONS),
    st.builds(
        Gga,
        st.none() | TIMES,
        st.sampled_from(FixQuality),
        st.integers(0, 99),
        st.none() | POSITIONS,
        st.none() | st.integers(-9999, 99999).map(lambda tenths: tenths / 10),
    ),
    st.builds(Zda, st.none() | TIMES, st.none() | DAYS),
    st.builds(LeapSeconds, st.none() | TIMES, st.none() | DAYS, st.integers(0, 99), st.booleans()),
    st.builds(Txt, st.integers(0, 99), st.text("ABCDEF=0123456789 ", min_size=1, max_size=20)),
)


def _near(a: Sentence, b: Sentence) -> bool:
    """Equal, positions to the ten-thousandth of a minute that is sent."""
    if isinstance(a, (Rmc, Gga)) and isinstance(b, (Rmc, Gga)) and a.position and b.position:
        same = abs(a.position.latitude_deg - b.position.latitude_deg) < 1e-6
        return same and abs(a.position.longitude_deg - b.position.longitude_deg) < 1e-6 and a.time == b.time
    return a == b


def test_published_sentences_are_understood() -> None:
    rmc = decode(b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A")
    assert isinstance(rmc, Rmc)
    assert (rmc.time, rmc.is_valid) == (TimeOfDay(12, 35, 19), True)
    assert rmc.position is not None
    assert rmc.position.latitude_deg == pytest.approx(48 + 7.038 / 60)
    gga = decode(b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47")
    assert isinstance(gga, Gga)
    assert (gga.quality, gga.satellites, gga.altitude_m) == (FixQuality.GPS, 8, 545.4)
    assert decode(b"$GPZDA,201530.00,04,07,2002,00,00*60") == Zda(TimeOfDay(20, 15, 30), date(2002, 7, 4))
    leap = decode(b"$PUBX,04,095510.00,200622,122110.00,2215,18,-340309,-2871.946,21*20")
    assert leap == LeapSeconds(TimeOfDay(9, 55, 10), date(2022, 6, 20), 18)
    leap = decode(b"$PUBX,04,005100.00,070321,3060.00,2148,18D,0,0.000,16*6A")
    assert leap == LeapSeconds(TimeOfDay(0, 51, 0), date(2021, 3, 7), 18, is_default=True)


@given(SENTENCES)
def test_every_sentence_survives_the_line(sentence: Sentence) -> None:
    found = decode(sentence.encode().removesuffix(b"\r\n"))
    assert found is not None
    assert _near(found, sentence)


@given(SENTENCES, st.data())
def test_a_truncated_sentence_is_refused(sentence: Sentence, data: st.DataObject) -> None:
    line = sentence.encode().removesuffix(b"\r\n")
    with pytest.raises(RemoteProtocolError):
        decode(line[: data.draw(st.integers(0, len(line) - 1))])


@given(SENTENCES, st.data())
def test_a_changed_character_is_refused(sentence: Sentence, data: st.DataObject) -> None:
    line = bytearray(sentence.encode().removesuffix(b"\r\n"))
    place = data.draw(st.integers(0, len(line) - 3))
    line[place] ^= data.draw(st.integers(1, 127))
    with pytest.raises(RemoteProtocolError):
        decode(bytes(line))


@given(st.binary(max_size=100) | st.text("$GPRMCZDA,0123456789.*AV", max_size=80).map(str.encode))
def test_junk_is_refused(junk: bytes) -> None:
    try:
        decode(junk)
    except RemoteProtocolError:
        return


@given(
    st.lists(st.sampled_from(["", "1", "A", "V", "N", "E", "4807.0", "-1", "250000", "99", "1e5", "  "]), max_size=16)
)
def test_wrong_fields_under_a_right_checksum_are_refused_or_understood(fields: list[str]) -> None:
    for kind in ("GPRMC", "GPGGA", "GPZDA", "PUBX,04", "GPTXT"):
        body = ",".join([kind, *fields])
        if len(body) > 70:
            continue
        try:
            decode(frame(body).removesuffix(b"\r\n"))
        except RemoteProtocolError:
            continue


def test_a_leap_second_has_the_number_of_the_second_before_it() -> None:
    day = date(2016, 12, 31)
    assert utc_s(day, TimeOfDay(23, 59, 60)) == utc_s(day, TimeOfDay(23, 59, 59)) == 1483228799
    assert utc_s(date(2017, 1, 1), TimeOfDay(0, 0, 0)) == 1483228800


def test_what_cannot_be_a_sentence_is_not_sent() -> None:
    for body in ("GPTXT,caf\u00e9", "GPTXT,*", "GPTXT," + "x" * 90, "GPTXT,\x01"):
        with pytest.raises(LocalProtocolError):
            frame(body)


@given(st.lists(SENTENCES, max_size=4), st.integers(1, 20))
def test_the_stream_finds_marks_and_lines_however_it_is_cut(sentences: list[Sentence], size_bytes: int) -> None:
    seen: list[str | bytes] = []
    stream = NmeaStream(on_mark=lambda: seen.append("mark"), on_line=seen.append)
    data = b"".join(b"\x01" + sentence.encode() for sentence in sentences)
    for start in range(0, len(data), size_bytes):
        stream.feed(data[start : start + size_bytes])
    expected: list[str | bytes] = []
    for sentence in sentences:
        expected += ["mark", sentence.encode().removesuffix(b"\r\n")]
    assert seen == expected


def test_an_endless_line_is_dropped_and_the_next_one_is_found() -> None:
    lines: list[bytes] = []
    stream = NmeaStream(on_mark=lambda: None, on_line=lines.append)
    stream.feed(b"x" * 1000 + b"\n" + b"$GPTXT,ok\r\n")
    assert lines[-1] == b"$GPTXT,ok"
    assert stream.dropped_bytes >= 900


@given(st.binary(max_size=300))
def test_the_stream_takes_any_noise(noise: bytes) -> None:
    stream = NmeaStream(on_mark=lambda: None, on_line=lambda line: None)
    stream.feed(noise)
    assert 0 <= stream.dropped_bytes <= len(noise)
