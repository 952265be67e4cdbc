"""Store and forward: what goes to the head-end is kept on storage until the broker has it.

Every message has an identifier of its own that the head-end knows it by, so a message that is sent again after a
restart is told from a new one. Confirmations are written together with the next message: a power cut in between
makes a message go twice under one identifier, never be lost.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from dcu.journal import Journal
from dcu.storage import Storage, StorageError
from dcu.uplink import Uplink
from protocols.cursor import Reader
from protocols.errors import RemoteProtocolError
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)
_RECORD = "outbox"
_PUT, _DONE = 1, 2
_DONE_BATCH = 32
_COMPACT_SLACK_BYTES = 64 * 1024


class Priority(enum.IntEnum):
    """What is given up first when the outbox is full: the lowest value."""

    EVENT = 1
    READING = 2
    REGISTRATION = 3


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message to the head-end. `identifier` is unique for its content, over restarts too."""

    identifier: str
    topic: str
    payload: bytes
    priority: Priority = Priority.READING

    @property
    def size_bytes(self) -> int:
        return len(self.identifier) + len(self.topic) + len(self.payload) + 16

    def encode(self, sequence: int) -> bytes:
        identifier, topic = self.identifier.encode(), self.topic.encode()
        return b"".join(
            (
                bytes((_PUT,)),
                sequence.to_bytes(8, "big"),
                bytes((self.priority,)),
                len(identifier).to_bytes(2, "big"),
                identifier,
                len(topic).to_bytes(2, "big"),
                topic,
                self.payload,
            )
        )

    @classmethod
    def decode(cls, reader: Reader) -> OutgoingMessage:
        """Read what follows the sequence number. Raises RemoteProtocolError when it is not one of ours."""
        try:
            priority = Priority(reader.u8())
            identifier = reader.take(reader.u16()).decode()
            topic = reader.take(reader.u16()).decode()
        except ValueError as error:
            raise reader.error("no record of an outgoing message") from error
        return cls(identifier, topic, reader.rest(), priority)


@dataclass(slots=True)
class OutboxCounters:
    """How many messages were taken, confirmed, repeated under a known identifier, and given up for want of room."""

    taken: int = 0
    confirmed: int = 0
    duplicates: int = 0
    dropped: int = 0
    storage_errors: int = 0


@dataclass(slots=True)
class _State:
    waiting: dict[int, OutgoingMessage] = field(default_factory=dict)
    by_identifier: dict[str, int] = field(default_factory=dict)
    in_flight: dict[int, int] = field(default_factory=dict)  # message id of the uplink: sequence
    sent: set[int] = field(default_factory=set)
    done: list[int] = field(default_factory=list)
    next_sequence: int = 1
    size_bytes: int = 0
    is_memory_only: bool = False


class Outbox:
    """Messages in the order in which they were put, at most `window` of them handed to the uplink at a time.

    `on_confirmed(identifier)` is called when the broker has a message; `on_storage(reason)` when the storage refuses,
    and with an empty reason when it takes again.
    """

    def __init__(
        self,
        uplink: Uplink,
        storage: Storage,
        *,
        limit_bytes: int,
        trace: Trace,
        window: int = 16,
        on_confirmed: Callable[[str], None] | None = None,
        on_storage: Callable[[str], None] | None = None,
    ) -> None:
        self._uplink = uplink
        self._limit_bytes = limit_bytes
        self._trace = trace
        self._window = window
        self._on_confirmed = on_confirmed
        self._on_storage = on_storage
        self._state = _State()
        self._is_open = False
        self._is_sealed = False
        self.counters = OutboxCounters()
        self._journal = Journal(storage, _RECORD)
        self._load()

    @property
    def waiting_count(self) -> int:
        return len(self._state.waiting)

    @property
    def waiting_bytes(self) -> int:
        return self._state.size_bytes

    @property
    def is_half_free(self) -> bool:
        return 2 * self._state.size_bytes <= self._limit_bytes

    def open(self) -> None:
        """The uplink has started: begin to hand over what waits."""
        self._is_open = True
        self._pump()

    def close(self) -> None:
        """Hand over nothing more, and write the confirmations that are still in memory."""
        self._is_open = False
        if self._state.done:
            self._write()

    def seal(self) -> None:
        """Touch neither uplink nor storage any more."""
        self._is_open = False
        self._is_sealed = True

    def put(self, message: OutgoingMessage) -> None:
        """Keep a message and send it. One that waits under the same identifier already is not put twice."""
        state = self._state
        if message.identifier in state.by_identifier:
            self.counters.duplicates += 1
            return
        self._make_room(message)
        sequence = state.next_sequence
        state.next_sequence += 1
        self._add(sequence, message)
        self.counters.taken += 1
        self._write(message.encode(sequence))
        self._pump()

    def confirmed(self, message_id: int) -> None:
        """The uplink's `confirmed`: the broker has the message."""
        sequence = self._state.in_flight.pop(message_id, None)
        if sequence is None:
            return
        message = self._remove(sequence)
        if message is not None:
            self.counters.confirmed += 1
            if len(self._state.done) >= _DONE_BATCH:
                self._write()
            if self._on_confirmed is not None:
                self._on_confirmed(message.identifier)
        self._pump()

    # inside

    def _load(self) -> None:
        for record in self._journal.loaded:
            reader = Reader(record)
            try:
                kind, sequence = reader.u8(), reader.u64()
                if kind == _PUT:
                    self._add(sequence, OutgoingMessage.decode(reader))
                elif kind == _DONE:
                    self._remove(sequence)
            except RemoteProtocolError as error:
                _LOG.error("a record of the outbox is unreadable and was skipped: %s", error)
                continue
            self._state.next_sequence = max(self._state.next_sequence, sequence + 1)
        self._journal.loaded.clear()
        self._state.done.clear()

    def _add(self, sequence: int, message: OutgoingMessage) -> None:
        state = self._state
        state.waiting[sequence] = message
        state.by_identifier[message.identifier] = sequence
        state.size_bytes += message.size_bytes

    def _remove(self, sequence: int) -> OutgoingMessage | None:
        state = self._state
        message = state.waiting.pop(sequence, None)
        state.sent.discard(sequence)
        if message is not None:
            del state.by_identifier[message.identifier]
            state.size_bytes -= message.size_bytes
            state.done.append(sequence)
        return message

    def _make_room(self, message: OutgoingMessage) -> None:
        state = self._state
        while state.waiting and state.size_bytes + message.size_bytes > self._limit_bytes:
            victim = min(state.waiting, key=lambda sequence: (state.waiting[sequence].priority, sequence))
            lost = self._remove(victim)
            self.counters.dropped += 1
            identifier = lost.identifier if lost is not None else ""
            _LOG.error("outbox is full at %d bytes: message %s was given up", self._limit_bytes, identifier)
            self._trace("dcu-outbox-dropped", identifier=identifier, limit_bytes=self._limit_bytes)

    def _write(self, *added: bytes) -> None:
        """Put what is new and what is done on storage; with a full storage carry on in memory and say so."""
        if self._is_sealed:
            return
        state = self._state
        done = [bytes((_DONE,)) + sequence.to_bytes(8, "big") for sequence in state.done]
        try:
            if self._journal.is_damaged or self._journal.size_bytes > 2 * state.size_bytes + _COMPACT_SLACK_BYTES:
                self._journal.rewrite([message.encode(sequence) for sequence, message in state.waiting.items()])
            else:
                self._journal.append(*done, *added)
        except StorageError as error:
            self._journal.is_damaged = True  # what is in memory only has to follow with the next write
            self.counters.storage_errors += 1
            if not state.is_memory_only:
                state.is_memory_only = True
                _LOG.error("outbox is kept in memory only until storage takes it: %s", error)
                self._trace("dcu-storage-error", record=_RECORD, error=str(error))
                self._tell(str(error))
            return
        state.done.clear()
        if state.is_memory_only:
            state.is_memory_only = False
            self._tell("")

    def _tell(self, reason: str) -> None:
        if self._on_storage is not None:
            self._on_storage(reason)

    def _pump(self) -> None:
        state = self._state
        if not self._is_open or len(state.in_flight) >= self._window:
            return
        for sequence, message in state.waiting.items():
            if sequence in state.sent:
                continue
            state.sent.add(sequence)
            message_id = self._uplink.publish(message.topic, message.payload)
            state.in_flight[message_id] = sequence
            if len(state.in_flight) >= self._window:
                return
