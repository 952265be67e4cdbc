"""PTP messages: both directions, every truncation, junk, and tshark's opinion of our bytes."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ptp import (
    EVENT_MESSAGES,
    HEADER_BYTES,
    Announce,
    DelayReq,
    DelayResp,
    Flags,
    FollowUp,
    Header,
    Message,
    MessageType,
    PortIdentity,
    Signaling,
    Sync,
    Timestamp,
    TlvType,
    UnicastTlv,
    decode,
    encode,
    milliseconds,
)

U8, U16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
PORTS = st.builds(PortIdentity, st.binary(min_size=8, max_size=8), U16)
TIMES = st.builds(Timestamp, st.integers(0, (1 << 48) * 10**9 - 1))
HEADERS = st.builds(
    Header,
    PORTS,
    U16,
    st.sampled_from(Flags) | st.just(Flags(0)),
    U8,
    st.integers(-(2**40), 2**40).map(lambda value: value / 65536),
    st.integers(-128, 127),
)
TLVS = st.one_of(
    st.builds(
        UnicastTlv,
        st.sampled_from([TlvType.REQUEST_UNICAST, TlvType.GRANT_UNICAST]),
        st.sampled_from(MessageType),
        st.integers(-128, 127),
        st.integers(0, 2**32 - 1),
    ),
    st.builds(
        UnicastTlv,
        st.sampled_from([TlvType.CANCEL_UNICAST, TlvType.ACKNOWLEDGE_CANCEL]),
        st.sampled_from(MessageType),
    ),
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Sync, HEADERS, TIMES),
    st.builds(FollowUp, HEADERS, TIMES),
    st.builds(DelayReq, HEADERS, TIMES),
    st.builds(DelayResp, HEADERS, TIMES, PORTS),
    st.builds(
        Announce,
        HEADERS,
        st.integers(-(2**15), 2**15 - 1),
        st.binary(min_size=8, max_size=8),
        U8,
        U8,
        U16,
        U8,
        U8,
        U16,
        U8,
    ),
    st.builds(Signaling, HEADERS, PORTS, st.lists(TLVS, max_size=4).map(tuple)),
)


@given(MESSAGES)
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@given(MESSAGES, st.binary(max_size=4))
def test_padding_behind_a_message_is_passed_over(message: Message, padding: bytes) -> None:
    assert decode(encode(message) + padding) == message


@given(MESSAGES, st.data())
def test_a_truncated_message_is_refused(message: Message, data: st.DataObject) -> None:
    whole = encode(message)
    with pytest.raises(RemoteProtocolError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=120) | st.builds(lambda data: b"\x0b\x02" + data, st.binary(max_size=120)))
def test_junk_is_refused(junk: bytes) -> None:
    try:
        decode(junk)
    except RemoteProtocolError:
        return


@given(MESSAGES, st.integers(0, 200), st.integers(1, 255))
def test_a_changed_octet_raises_nothing_else(message: Message, place: int, change: int) -> None:
    data = bytearray(encode(message))
    data[place % len(data)] ^= change
    try:
        decode(bytes(data))
    except RemoteProtocolError:
        return


def test_what_has_no_place_in_a_message_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        PortIdentity(b"short", 1).encode()
    with pytest.raises(LocalProtocolError):
        Timestamp((1 << 48) * 10**9).encode()


@pytest.mark.parametrize(("log_interval", "expected"), [(0, 1000), (1, 2000), (-3, 125), (10, 1_024_000)])
def test_intervals_are_powers_of_two(log_interval: int, expected: int) -> None:
    assert milliseconds(log_interval) == expected


@pytest.mark.parametrize("log_interval", [-8, 11, 127])
def test_an_interval_that_nobody_can_keep_is_refused(log_interval: int) -> None:
    with pytest.raises(RemoteProtocolError):
        milliseconds(log_interval)


def _udp_packet(data: bytes, port: int) -> bytes:
    udp = struct.pack(">HHHH", port, port, 8 + len(data), 0) + data
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes((10, 0, 2, 2)), bytes((10, 0, 2, 15))
    )
    return ip + udp


def _dissect(messages: list[Message], folder: Path) -> list[dict[str, str]]:
    """What tshark makes of them: the fields of its PTP layer, the first of each name."""
    capture = folder / "ptp.pcap"
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    for message in messages:
        packet = _udp_packet(encode(message), 319 if message.TYPE in EVENT_MESSAGES else 320)
        parts.append(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)
    capture.write_bytes(b"".join(parts))
    done = subprocess.run(
        ["tshark", "-r", str(capture), "-T", "ek"], capture_output=True, text=True, check=True, timeout=60
    )
    layers = [json.loads(line)["layers"] for line in done.stdout.splitlines() if '"layers"' in line]
    return [
        {
            name.removeprefix("ptp_ptp_"): value[0] if isinstance(value, list) else value
            for name, value in found["ptp"].items()
        }
        for found in layers
    ]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed: nobody else looked at our bytes")
def test_tshark_reads_what_we_write(tmp_path: Path) -> None:
    source, slave = PortIdentity(bytes.fromhex("02494844fffe0001"), 1), PortIdentity(bytes(range(8)), 2)
    moment = Timestamp(1_782_864_037 * 10**9 + 123_456_789)
    flags = Flags.UNICAST | Flags.PTP_TIMESCALE | Flags.UTC_OFFSET_VALID | Flags.LEAP_61
    head = Header(source, 513, flags, domain=4, log_interval=-3)
    messages: list[Message] = [
        Announce(head, 37, source.clock, clock_class=7, steps_removed=0),
        Sync(Header(source, 513, Flags.UNICAST | Flags.TWO_STEP, correction_ns=2.5), moment),
        FollowUp(head, moment),
        DelayResp(head, moment, slave),
        Signaling(head, slave, (UnicastTlv(TlvType.GRANT_UNICAST, MessageType.SYNC, -3, 300),)),
        DelayReq(Header(slave, 7), Timestamp(0)),
    ]
    found = _dissect(messages, tmp_path)
    assert [int(layer["v2_messagetype"], 0) for layer in found] == [message.TYPE for message in messages]
    assert [int(layer["v2_messagelength"]) for layer in found] == [len(encode(message)) for message in messages]
    assert [int(layer["v2_sequenceid"]) for layer in found] == [message.header.sequence for message in messages]
    announce, sync, follow_up, response, signaling, _ = found
    assert int(announce["v2_an_origincurrentutcoffset"]) == 37
    assert int(announce["v2_an_grandmasterclockclass"]) == 7
    assert int(announce["v2_domainnumber"]) == 4
    for name in ("li61", "utcreasonable", "timescale", "unicast"):
        assert announce[f"v2_flags_{name}"] is True, name
    assert sync["v2_flags_twostep"] is True
    assert float(sync["v2_correction_ns"]) == 2
    assert int(follow_up["v2_fu_preciseorigintimestamp_seconds"]) == 1_782_864_037
    assert int(follow_up["v2_fu_preciseorigintimestamp_nanoseconds"]) == 123_456_789
    assert int(response["v2_dr_receivetimestamp_nanoseconds"]) == 123_456_789
    assert int(response["v2_dr_requestingsourceportid"]) == 2
    assert int(signaling["v2_sig_tlv_tlvType"]) == TlvType.GRANT_UNICAST
    assert int(signaling["v2_sig_tlv_durationField"]) == 300
    assert int(announce["v2_messagelength"]) == HEADER_BYTES + 30
