"""Leakage protection on the wire: state objects, trip records, and the messages between concentrator and head-end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.data import Data, decode, encode
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.headend.messages import decode_message, encode_message
from protocols.headend.supply import SupplyAction, SupplyRequest, SupplyResponse, SupplyStatus
from protocols.headend.topics import Channel
from protocols.headend.trips import TripReport
from protocols.leakage_protection import (
    KEPT_TRIPS,
    MAX_LINES,
    Cause,
    ProtectionState,
    Refusal,
    SafetyState,
    disconnect_control,
    protection_state,
    trip_slot,
)
from protocols.trip_record import Components, TripRecord, decode_counts, encode_counts

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True)
serials = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", fullmatch=True)
times = st.integers(0, 253_402_300_799_999)
lines = st.integers(1, MAX_LINES)
refusals = st.sampled_from([item for item in Refusal if item is not Refusal.NONE])
states = st.builds(
    ProtectionState,
    st.sampled_from(SafetyState),
    st.sampled_from(Refusal),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
)
currents = st.floats(-600.0, 600.0, width=32)
records = st.builds(
    TripRecord,
    st.integers(1, 2**32 - 1), times, lines, st.sampled_from(Cause),
    st.builds(Components, currents, currents, currents, currents, currents, st.floats(40.0, 70.0, width=32)),
    st.just(2), st.lists(currents, min_size=2, max_size=30).map(tuple),
)  # fmt: skip
requests = st.builds(SupplyRequest, ids, serials, lines, st.sampled_from(SupplyAction), times)
responses = st.one_of(
    st.builds(
        SupplyResponse, ids, serials, lines, st.sampled_from(SupplyStatus), times, st.none() | st.booleans(),
        st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    ),
    st.builds(
        SupplyResponse, ids, serials, lines, st.just(SupplyStatus.REFUSED), times, st.just(False), refusals,
    ),
)  # fmt: skip


@settings(deadline=None)
@given(states)
def test_a_state_survives_its_own_data_and_nothing_shorter(state: ProtectionState) -> None:
    raw = encode(state.to_data())
    assert ProtectionState.from_data(decode(raw)) == state
    for cut in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            ProtectionState.from_data(decode(raw[:cut]))


@settings(deadline=None)
@given(st.binary(max_size=24))
def test_junk_is_no_state_and_only_refused(raw: bytes) -> None:
    try:
        data: Data = decode(b"\x02\x04" + raw)
        state = ProtectionState.from_data(data)
    except RemoteProtocolError:
        return
    assert encode(state.to_data()) == b"\x02\x04" + raw


@settings(deadline=None)
@given(records, ids, serials, times)
def test_a_record_becomes_a_report_with_the_same_samples(
    record: TripRecord, report_id: str, serial: str, collected_ms: int
) -> None:
    report = TripReport.from_record(record, report_id=report_id, serial=serial, collected_utc_ms=collected_ms)
    raw = encode_message(report)
    assert decode_message(raw, Channel.EVENT) == report
    assert report.samples_ma == pytest.approx(decode_counts(encode_counts(record.samples_ma)))
    assert (report.number, report.line, report.time_utc_ms) == (record.number, record.line, record.time_ms)
    for cut in range(0, len(raw), 7):
        with pytest.raises(RemoteProtocolError):
            decode_message(raw[:cut], Channel.EVENT)


@settings(deadline=None)
@given(requests | responses)
def test_supply_messages_survive_their_own_bytes_and_nothing_shorter(message: SupplyRequest | SupplyResponse) -> None:
    channel = Channel.REQUEST if isinstance(message, SupplyRequest) else Channel.RESPONSE
    raw = encode_message(message)
    assert decode_message(raw, channel) == message
    for cut in range(0, len(raw), 5):
        with pytest.raises(RemoteProtocolError):
            decode_message(raw[:cut], channel)
    with pytest.raises(RemoteProtocolError):
        decode_message(raw, Channel.EVENT)


def test_a_reason_goes_with_a_refusal_only_and_an_odd_waveform_is_none() -> None:
    with pytest.raises(LocalProtocolError, match="reason"):
        encode_message(SupplyResponse("a", "b", 1, SupplyStatus.OK, 0, reason=Refusal.LOCKED_OUT))
    with pytest.raises(LocalProtocolError, match="reason"):
        encode_message(SupplyResponse("a", "b", 1, SupplyStatus.REFUSED, 0, reason=Refusal.NONE))
    report = TripReport("a", "b", 1, 1, "ac", 0, 0, 0, 0, 0, 0, 0, 50_000, 8000, 20, 1, b"\0\0\0")
    with pytest.raises(LocalProtocolError, match="samples"):
        encode_message(report)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_junk_is_no_trip_record(raw: bytes) -> None:
    try:
        record = TripRecord.decode(raw)
    except RemoteProtocolError:
        return
    assert TripRecord.decode(record.encode()).samples_ma == record.samples_ma


def test_objects_of_lines_and_slots_have_codes_of_their_own() -> None:
    codes = [f(line) for f in (disconnect_control, protection_state) for line in range(1, MAX_LINES + 1)]
    codes += [trip_slot(number) for number in range(1, KEPT_TRIPS + 1)]
    assert len(set(codes)) == 2 * MAX_LINES + KEPT_TRIPS
    assert str(disconnect_control(1)) == "0-0:96.3.10*255"
    assert trip_slot(3) == trip_slot(3 + KEPT_TRIPS)


def test_every_refusal_has_its_number_and_its_words() -> None:
    assert [item.code for item in Refusal] == list(range(len(Refusal)))
    assert all(item.text for item in Refusal if item is not Refusal.NONE)
