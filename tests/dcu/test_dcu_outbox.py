"""Store and forward: nothing is lost, and what is sent twice has one identifier."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcu.outbox import Outbox, OutgoingMessage, Priority
from dcu.storage import MemoryStorage, StorageError
from dcu.uplink import UplinkListener, Will
from protocols.cursor import Reader
from protocols.errors import RemoteProtocolError


class RecordingUplink:
    """Takes messages; the test confirms them."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, str, bytes]] = []

    def start(self, listener: UplinkListener, will: Will | None = None) -> None: ...
    def stop(self) -> None: ...
    def abort(self) -> None: ...
    def subscribe(self, topic_filter: str, qos: int = 1) -> None: ...

    @property
    def is_connected(self) -> bool:
        return True

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        self.sent.append((len(self.sent) + 1, topic, payload))
        return len(self.sent)


class FullStorage(MemoryStorage):
    is_full = False

    def write(self, name: str, data: bytes) -> None:
        if self.is_full:
            raise StorageError("no space left")
        super().write(name, data)

    def append(self, name: str, data: bytes) -> None:
        if self.is_full:
            super().append(name, data[: len(data) // 2])
            raise StorageError("no space left")
        super().append(name, data)


def trace(_kind: str, /, **_fields: Any) -> None: ...


def make(storage: MemoryStorage, *, limit_bytes: int = 100_000, window: int = 4) -> tuple[Outbox, RecordingUplink]:
    uplink = RecordingUplink()
    outbox = Outbox(uplink, storage, limit_bytes=limit_bytes, trace=trace, window=window)
    outbox.open()
    return outbox, uplink


def message(number: int, priority: Priority = Priority.READING, size_bytes: int = 10) -> OutgoingMessage:
    return OutgoingMessage(f"id-{number}", "topic", b"%d" % number + bytes(size_bytes), priority)


def payload_numbers(uplink: RecordingUplink) -> list[int]:
    return [int(payload.rstrip(b"\0")) for _, _, payload in uplink.sent]


def test_messages_leave_in_order_and_within_the_window() -> None:
    outbox, uplink = make(MemoryStorage(), window=2)
    for number in range(5):
        outbox.put(message(number))
    assert payload_numbers(uplink) == [0, 1]
    outbox.confirmed(1)
    assert payload_numbers(uplink) == [0, 1, 2]
    for message_id in (2, 3, 4, 5):
        outbox.confirmed(message_id)
    assert payload_numbers(uplink) == [0, 1, 2, 3, 4]
    assert outbox.waiting_count == 0
    assert outbox.waiting_bytes == 0


def test_what_was_not_confirmed_is_sent_again_after_a_restart() -> None:
    storage = MemoryStorage()
    outbox, _ = make(storage)
    for number in range(3):
        outbox.put(message(number))
    outbox.confirmed(2)
    outbox.put(message(3))
    _, uplink = make(storage)
    assert payload_numbers(uplink) == [0, 2, 3]


def test_a_closed_outbox_has_written_its_confirmations() -> None:
    storage = MemoryStorage()
    outbox, _ = make(storage)
    outbox.put(message(1))
    outbox.confirmed(1)
    outbox.close()
    assert make(storage)[1].sent == []


def test_an_identifier_that_waits_is_not_taken_twice() -> None:
    outbox, uplink = make(MemoryStorage())
    outbox.put(message(1))
    outbox.put(message(1))
    assert payload_numbers(uplink) == [1]
    assert outbox.counters.duplicates == 1
    outbox.confirmed(1)
    outbox.put(message(1))
    assert payload_numbers(uplink) == [1, 1]


def test_a_confirmation_for_somebody_else_is_ignored() -> None:
    outbox, _ = make(MemoryStorage())
    outbox.put(message(1))
    outbox.confirmed(77)
    assert outbox.waiting_count == 1


def test_a_full_outbox_gives_up_events_before_readings_and_counts_them() -> None:
    outbox, _ = make(MemoryStorage(), limit_bytes=200)
    outbox.put(message(1, Priority.READING, 50))
    outbox.put(message(2, Priority.EVENT, 50))
    outbox.put(message(3, Priority.READING, 50))
    assert outbox.counters.dropped == 1
    assert outbox.waiting_count == 2
    assert outbox.waiting_bytes <= 200


def test_storage_stays_bounded_however_many_messages_pass() -> None:
    storage = MemoryStorage()
    outbox, uplink = make(storage)
    for number in range(3000):
        outbox.put(message(number, size_bytes=100))
        outbox.confirmed(len(uplink.sent))
    assert len(storage.read("outbox") or b"") < 100_000


def test_a_full_storage_is_survived_and_caught_up_with() -> None:
    storage = FullStorage()
    outbox, uplink = make(storage, window=100)
    outbox.put(message(1))
    storage.is_full = True
    outbox.put(message(2))
    outbox.put(message(3))
    assert payload_numbers(uplink) == [1, 2, 3]
    assert outbox.counters.storage_errors > 0
    storage.is_full = False
    outbox.put(message(4))
    assert payload_numbers(make(storage, window=100)[1]) == [1, 2, 3, 4]


@settings(max_examples=50)
@given(actions=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40), cut=st.floats(0, 1))
def test_no_message_is_lost_wherever_the_power_is_cut(actions: list[tuple[bool, int]], cut: float) -> None:
    storage = MemoryStorage()
    outbox, uplink = make(storage)
    put = 0
    confirmed: set[int] = set()
    durable: list[tuple[int, set[int]]] = []
    for is_put, which in actions:
        if is_put:
            outbox.put(message(put))
            put += 1
            durable.append((len(storage.read("outbox") or b""), set(range(put))))
        elif uplink.sent:
            sent = uplink.sent[max(0, len(uplink.sent) - 1 - which)]
            outbox.confirmed(sent[0])
            confirmed.add(int(sent[2].rstrip(b"\0")))
    whole = storage.read("outbox") or b""
    size = int(len(whole) * cut)
    storage.write("outbox", whole[:size])
    again = set(payload_numbers(make(storage, window=1000)[1]))
    must_be_there = max((numbers for end, numbers in durable if end <= size), key=len, default=set())
    assert must_be_there - confirmed <= again


@given(identifier=st.text(max_size=20), topic=st.text(max_size=20), payload=st.binary(max_size=40))
def test_a_record_round_trips_and_every_truncation_is_an_error(identifier: str, topic: str, payload: bytes) -> None:
    original = OutgoingMessage(identifier, topic, payload, Priority.REGISTRATION)
    record = original.encode(7)
    reader = Reader(record)
    assert (reader.u8(), reader.u64()) == (1, 7)
    assert OutgoingMessage.decode(reader) == original
    for end in range(9, len(record) - len(payload)):
        with pytest.raises(RemoteProtocolError):
            OutgoingMessage.decode(Reader(record[9:end]))
