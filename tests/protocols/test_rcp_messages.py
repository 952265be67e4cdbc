"""RCP messages: both directions, every truncation, junk, keys out of sight."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.wisun import FrameType
from protocols.rcp.codes import ChannelFunction, RefusalCode, ResetReason, Status
from protocols.rcp.messages import (
    ClearKey,
    Configure,
    HostMessage,
    RadioMessage,
    Ready,
    Received,
    Refused,
    Reset,
    SetKey,
    SetReplayFloor,
    Transmit,
    TransmitDone,
    decode_host_message,
    decode_radio_message,
)

u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
i16 = st.integers(-0x7FFF, 0x7FFF)
eui64s = st.binary(min_size=8, max_size=8)
blobs = st.binary(max_size=80)

host_messages: st.SearchStrategy[HostMessage] = st.one_of(
    st.builds(Reset, u8),
    st.builds(
        Configure, eui64s, u16, u16, u8, u8, st.sampled_from(ChannelFunction), u16, u8, u32, u8, u16, st.booleans()
    ),
    st.builds(SetKey, u8, st.binary(min_size=16, max_size=16), u32),
    st.builds(ClearKey, u8),
    st.builds(SetReplayFloor, eui64s, u8, u32),
    st.builds(Transmit, u16, st.sampled_from(FrameType), st.one_of(st.none(), eui64s), u8, blobs, blobs),
)
radio_messages: st.SearchStrategy[RadioMessage] = st.one_of(
    st.builds(Ready, u8, st.sampled_from(ResetReason), u16),
    st.builds(TransmitDone, u16, st.sampled_from(Status), u8, u32, st.one_of(st.none(), i16)),
    st.builds(
        Received,
        st.sampled_from(FrameType),
        eui64s,
        st.one_of(st.none(), eui64s),
        u16,
        u8,
        u32,
        i16,
        u8,
        u16,
        u64,
        blobs,
        blobs,
    ),
    st.builds(Refused, u8, st.sampled_from(RefusalCode)),
)


@given(host_messages)
def test_host_messages_round_trip(message: HostMessage) -> None:
    assert decode_host_message(message.encode()) == message


@given(radio_messages)
def test_radio_messages_round_trip(message: RadioMessage) -> None:
    assert decode_radio_message(message.encode()) == message


@given(host_messages, radio_messages)
def test_truncated_messages_are_refused_or_shorter(host: HostMessage, radio: RadioMessage) -> None:
    for decode, message in ((decode_host_message, host), (decode_radio_message, radio)):
        encoded = message.encode()
        for size in range(len(encoded)):
            try:
                shorter = decode(encoded[:size])
            except RemoteProtocolError:
                continue
            assert isinstance(shorter, Transmit | Received), "only a free payload can be cut unnoticed"
            assert shorter.encode() == encoded[:size]


@given(st.sampled_from([*range(1, 8), *range(0x81, 0x86)]), st.binary(max_size=60))
@settings(max_examples=500)
def test_junk_is_read_or_refused(kind: int, junk: bytes) -> None:
    data = bytes((kind,)) + junk
    for decode in (decode_host_message, decode_radio_message):
        try:
            message = decode(data)
        except RemoteProtocolError:
            continue
        assert message.encode() == data


def test_nothing_and_unknown_types_are_refused() -> None:
    for decode in (decode_host_message, decode_radio_message):
        for data in (b"", b"\x00", b"\xff\x00"):
            with pytest.raises(RemoteProtocolError):
                decode(data)


@pytest.mark.parametrize(
    "message",
    [
        Configure(bytes(7)),
        Configure(bytes(8), pan_id=0x1_0000),
        SetKey(1, bytes(15)),
        SetKey(1, bytes(16), -1),
        Transmit(1, FrameType.DATA, bytes(9)),
        Transmit(0x1_0000, FrameType.DATA, None),
        Transmit(1, FrameType.DATA, None, 0, bytes(0x1_0000)),
    ],
)
def test_values_out_of_range_are_our_fault(message: HostMessage) -> None:
    with pytest.raises(LocalProtocolError):
        message.encode()


def test_keys_are_not_shown() -> None:
    assert "key=" not in repr(SetKey(1, b"0123456789abcdef")).replace("SetKey", "")
