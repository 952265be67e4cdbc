"""RCP framing on a line that loses, damages and cuts bytes anyhow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.rcp.framing import MAX_MESSAGE_BYTES, FrameDecoder, encode_frame

messages = st.binary(min_size=1, max_size=60) | st.lists(
    st.sampled_from([0x7E, 0x7D, 0x5E, 0x5D, 0]), min_size=1, max_size=30
).map(bytes)


@given(st.lists(messages, max_size=6), st.data())
def test_messages_arrive_however_the_bytes_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    line = b"".join(map(encode_frame, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=8)))
    decoder = FrameDecoder()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        received += decoder.feed(line[start:end])
    assert received == sent
    assert decoder.bad_frames == decoder.oversized_frames == 0


@given(messages)
def test_flags_appear_at_the_ends_only_and_may_be_shared(message: bytes) -> None:
    frame = encode_frame(message)
    assert frame.count(b"\x7e") == 2
    assert frame[0] == frame[-1] == 0x7E
    assert FrameDecoder().feed(frame + frame[1:] + frame) == [message] * 3


@given(messages, messages, st.data())
def test_a_half_frame_costs_itself_only(lost: bytes, kept: bytes, data: st.DataObject) -> None:
    half = encode_frame(lost)[: data.draw(st.integers(0, len(encode_frame(lost)) - 2))]
    decoder = FrameDecoder()
    assert decoder.feed(half + encode_frame(kept)) == [kept]
    assert decoder.bad_frames == (1 if len(half) > 1 else 0)


@given(messages, st.integers(0), st.integers(1, 255))
def test_a_damaged_byte_gives_no_wrong_message(message: bytes, place: int, change: int) -> None:
    frame = bytearray(encode_frame(message))
    frame[place % len(frame)] ^= change
    decoder = FrameDecoder()
    assert decoder.feed(bytes(frame) + encode_frame(b"next"))[-1] == b"next"
    assert FrameDecoder().feed(bytes(frame)) in ([], [message])


@given(st.lists(st.binary(max_size=300), max_size=10))
@settings(max_examples=200)
def test_garbage_never_raises_and_the_line_recovers(garbage: list[bytes]) -> None:
    decoder = FrameDecoder()
    for piece in garbage:
        decoder.feed(piece)
    decoder.feed(b"\x7e")
    assert decoder.feed(encode_frame(b"ok")) == [b"ok"]


def test_endless_bytes_without_a_flag_stay_bounded_and_are_counted_once() -> None:
    decoder = FrameDecoder()
    for _ in range(100):
        assert decoder.feed(bytes(1000)) == []
    assert decoder.oversized_frames == 1
    assert decoder.feed(encode_frame(b"ok")) == [b"ok"]
    assert decoder.bad_frames == 0


def test_reset_forgets_a_begun_frame() -> None:
    decoder = FrameDecoder()
    decoder.feed(encode_frame(b"first")[:-3])
    decoder.reset()
    assert decoder.feed(encode_frame(b"second")) == [b"second"]
    assert decoder.bad_frames == 0


def test_largest_message_passes_and_larger_ones_are_our_fault() -> None:
    largest = b"\x7e" * MAX_MESSAGE_BYTES
    assert FrameDecoder().feed(encode_frame(largest)) == [largest]
    for size in (0, MAX_MESSAGE_BYTES + 1):
        with pytest.raises(LocalProtocolError):
            encode_frame(bytes(size))
