"""The concentrator's end of the messages with the head-end: topics, identifiers, what to keep and what to repeat."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from dcu.outbox import Outbox, OutgoingMessage, Priority
from dcu.uplink import Uplink, Will
from protocols.errors import RemoteProtocolError
from protocols.headend.bulk import BundleAck, ProfileRequest
from protocols.headend.messages import (
    Credentials,
    CredentialsRequest,
    DcuState,
    DcuStatus,
    Event,
    Message,
    ReadingRequest,
    ReadingResponse,
    Registration,
    RegistrationAck,
    channel_of,
    decode_message,
    encode_message,
)
from protocols.headend.time_check import ClockQuery
from protocols.headend.topics import TO_DCU, Channel, Topic, dcu_subscriptions
from protocols.ports import Trace

_LOG = logging.getLogger(__name__)


class Headend:
    """Publishes typed messages and hands out what comes in.

    Readings, registrations and events are stored until the broker has them. Status and credentials requests are not:
    the first is made anew at every connection, the second by whoever waits for the answer.
    """

    def __init__(
        self,
        dcu_id: str,
        uplink: Uplink,
        outbox: Outbox,
        *,
        start_count: int,
        utc_s: Callable[[], float],
        trace: Trace,
        firmware_version: str,
    ) -> None:
        self._dcu_id = dcu_id
        self._uplink = uplink
        self._outbox = outbox
        self._start_count = start_count
        self._utc_s = utc_s
        self._trace = trace
        self._firmware_version = firmware_version
        self._id_count = 0
        self._waiting_for_room: list[asyncio.Future[None]] = []
        self._handlers: dict[type[Message], Callable[[Message], None]] = {}
        self.counters: Counter[str] = Counter()

    def on(self, of: type[Message], handler: Callable[[Message], None]) -> None:
        """Call `handler` with every message of this type that comes in."""
        self._handlers[of] = handler

    def utc_ms(self) -> int:
        return round(self._utc_s() * 1000)

    def new_id(self) -> str:
        """An identifier that this concentrator never gives again, over restarts too."""
        self._id_count += 1
        return f"{self._dcu_id[:40]}.{self._start_count}.{self._id_count}"

    def will(self) -> Will:
        """What the broker says for us when we vanish."""
        status = DcuStatus(state=DcuState.OFFLINE, firmware_version=self._firmware_version)
        return Will(self._topic(status), encode_message(status))

    def subscribe(self) -> None:
        for topic_filter in dcu_subscriptions(self._dcu_id):
            self._uplink.subscribe(topic_filter)

    def announce(self, state: DcuState) -> None:
        """Publish the retained status."""
        status = DcuStatus(state=state, firmware_version=self._firmware_version, clean=True, time_utc_ms=self.utc_ms())
        self._uplink.publish(self._topic(status), encode_message(status), retain=True)

    def ask_credentials(self, request: CredentialsRequest) -> None:
        self._uplink.publish(self._topic(request), encode_message(request))

    def register(self, registration: Registration) -> None:
        self._put(registration.id, registration, Priority.REGISTRATION)

    def respond(self, response: ReadingResponse) -> None:
        self._put(f"reading.{response.request_id}", response, Priority.READING)

    def deliver(self, identifier: str, message: Message) -> None:
        """Store and send something that a job has brought. `identifier` is unique for its content."""
        self._put(identifier, message, Priority.READING)

    def send(self, message: Message) -> int:
        """Publish without storing: for what its sender repeats until it is answered, or is of use only now."""
        return self._uplink.publish(self._topic(message), encode_message(message))

    async def room(self) -> None:
        """Wait until half of the outbox is free: who brings much must not push out what others brought."""
        while not self._outbox.is_half_free:
            future = asyncio.get_running_loop().create_future()
            self._waiting_for_room.append(future)
            await future

    def drained(self) -> None:
        """The broker has taken a message out of the outbox."""
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def report(
        self, kind: str, *, serial: str | None = None, eui64: bytes | None = None, details: dict[str, str] | None = None
    ) -> None:
        """Publish an event."""
        pairs = tuple(sorted((name, text[:512]) for name, text in (details or {}).items()))
        event = Event(id=self.new_id(), kind=kind, time_utc_ms=self.utc_ms(), serial=serial, eui64=eui64, details=pairs)
        self._trace("dcu-event", event=kind, serial=serial, eui64=eui64.hex() if eui64 else None, **dict(pairs))
        self._put(event.id, event, Priority.EVENT)

    def received(self, topic: str, payload: bytes) -> None:
        """The uplink's `message`. What is not well-formed is counted and dropped."""
        try:
            place = Topic.decode(topic)
            if place.dcu_id != self._dcu_id or place.channel not in TO_DCU:
                raise RemoteProtocolError("topic is not one of ours", spec="openami/v1")
            message = decode_message(payload, Channel(place.channel))
        except RemoteProtocolError as error:
            self.counters["malformed"] += 1
            _LOG.warning("message on %s was dropped: %s", topic, error)
            self._trace("dcu-message-dropped", topic=topic, error=str(error))
            return
        handler = self._handlers.get(type(message))
        if handler is None:
            self.counters["unhandled"] += 1
            return
        handler(message)

    def _topic(self, message: Message) -> str:
        return Topic(self._dcu_id, channel_of(message)).encode()

    def _put(self, identifier: str, message: Message, priority: Priority) -> None:
        self._outbox.put(OutgoingMessage(identifier, self._topic(message), encode_message(message), priority))


IncomingMessage = Credentials | RegistrationAck | ReadingRequest | ProfileRequest | BundleAck | ClockQuery
