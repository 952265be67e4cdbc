"""The words between simulator and agent: round trip, every truncation, junk; and the C side's numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import images.agent.build
from protocols.errors import LocalProtocolError, RemoteProtocolError
from twin.rigs.lockstep.protocol import (
    ENTROPY_BYTES,
    HEAD_BYTES,
    MAGIC,
    MESSAGE_BYTES,
    VERSION,
    Channel,
    Detach,
    Event,
    Grant,
    Hello,
    Kind,
    Message,
    Record,
    Report,
    Welcome,
    decode,
)

TIMES = st.integers(0, 2**64 - 1)
COUNTS = st.integers(0, 2**32 - 1)
RECORDS = st.lists(
    st.builds(
        Record, st.sampled_from(Channel), st.sampled_from(Event), st.integers(0, 2**16 - 1), st.binary(max_size=40)
    ),
    max_size=4,
).map(tuple)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, TIMES, st.integers(0, 255)),
    st.builds(Welcome, st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)),
    st.builds(Report, TIMES, TIMES, TIMES, TIMES, COUNTS, COUNTS, COUNTS, RECORDS),
    st.builds(Grant, TIMES, TIMES, RECORDS),
    st.builds(Detach, TIMES),
)


@given(MESSAGES)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(message.encode()) == message


@given(MESSAGES)
def test_every_truncation_and_every_byte_too_much_is_refused(message: Message) -> None:
    whole = message.encode()
    for size in range(len(whole)):
        with pytest.raises(RemoteProtocolError):
            decode(whole[:size])
    with pytest.raises(RemoteProtocolError):
        decode(whole + b"\0")


@given(st.binary(max_size=120))
def test_junk_raises_nothing_else(junk: bytes) -> None:
    for data in (junk, MAGIC.to_bytes(4, "little") + junk, Grant(1, 2).encode()[:HEAD_BYTES] + junk):
        try:
            decode(data)
        except RemoteProtocolError:
            continue


def test_another_version_is_refused_but_its_greeting_is_understood() -> None:
    assert decode(Hello(5, VERSION + 1).encode()) == Hello(5, VERSION + 1)
    grant = bytearray(Grant(1, 2).encode())
    grant[4] = VERSION + 1
    with pytest.raises(RemoteProtocolError, match=f"version {VERSION + 1}"):
        decode(bytes(grant))


def test_a_message_that_the_agent_could_not_hold_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="longer than"):
        Grant(1, 2, (Record(Channel.RADIO, Event.DATA, 0, bytes(MESSAGE_BYTES)),)).encode()


def test_the_agent_s_sources_have_the_same_numbers() -> None:
    text = (Path(images.agent.build.__file__).with_name("protocol.h")).read_text()
    assert f"PROTOCOL_MAGIC = {MAGIC:#010x}" in text
    assert images.agent.build.protocol_version() == VERSION
    for kind in Kind:
        assert re.search(rf"KIND_{kind.name} = {kind.value}\b", text)
    in_order = re.findall(r"CHANNEL_(\w+)", text.partition("enum channel")[2].partition("}")[0])
    assert in_order == [channel.name for channel in Channel]
    in_order = re.findall(r"EVENT_(\w+)", text.partition("enum event")[2].partition("}")[0])
    assert in_order == [event.name for event in Event]
