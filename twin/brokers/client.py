"""An MQTT client without I/O of its own: real packets over any `Connector`, on the timers of the run.

It keeps the contract of `dcu.uplink.Uplink`, so a concentrator can be given one, and the head-end uses it too.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from dcu.uplink import UplinkListener, Will
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ports import Cancellable, Timers
from twin.brokers.filters import check_filter, check_topic
from twin.brokers.packets import (
    Connack,
    Connect,
    ConnectReturn,
    Disconnect,
    Packet,
    PacketStream,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
)
from twin.brokers.transport import Connector, Transport, TransportHandler


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Identity and timing of one client; times in seconds."""

    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    clean_session: bool = False
    keep_alive_s: int = 60
    response_timeout_s: float = 30.0
    retry_first_s: float = 1.0
    retry_max_s: float = 60.0
    max_inflight: int = 20


class State(Enum):
    IDLE = auto()
    OPENING = auto()
    GREETING = auto()
    CONNECTED = auto()
    WAITING = auto()
    STOPPED = auto()


class Step(Enum):
    START = auto()
    OPENED = auto()
    ACCEPTED = auto()
    LOST = auto()
    RETRY = auto()
    STOP = auto()


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.IDLE, Step.START): State.OPENING,
    (State.IDLE, Step.STOP): State.STOPPED,
    (State.OPENING, Step.OPENED): State.GREETING,
    (State.OPENING, Step.LOST): State.WAITING,
    (State.OPENING, Step.STOP): State.STOPPED,
    (State.GREETING, Step.ACCEPTED): State.CONNECTED,
    (State.GREETING, Step.LOST): State.WAITING,
    (State.GREETING, Step.STOP): State.STOPPED,
    (State.CONNECTED, Step.LOST): State.WAITING,
    (State.CONNECTED, Step.STOP): State.STOPPED,
    (State.WAITING, Step.RETRY): State.OPENING,
    (State.WAITING, Step.STOP): State.STOPPED,
    (State.STOPPED, Step.STOP): State.STOPPED,
}


@dataclass(slots=True)
class _Outgoing:
    message_id: int
    topic: str
    payload: bytes
    retain: bool
    sent: bool = False


class MqttClient:
    """`dcu.uplink.Uplink` over a connector: QoS 1, session resumption, keep-alive, will, back-off with jitter."""

    def __init__(self, timers: Timers, connector: Connector, options: ClientOptions, rng: random.Random) -> None:
        self._timers = timers
        self._connector = connector
        self._options = options
        self._rng = rng
        self._state = State.IDLE
        self._listener: UplinkListener | None = None
        self._will: Will | None = None
        self._transport: Transport | None = None
        self._give_up: Callable[[], None] | None = None
        self._stream = PacketStream()
        self._timer: Cancellable | None = None
        self._answer_timer: Cancellable | None = None
        self._last_sent_s = 0.0
        self._last_heard_s = 0.0
        self._failures = 0
        self._next_message_id = 1
        self._next_packet_id = 1
        self._waiting: deque[_Outgoing] = deque()
        self._inflight: dict[int, _Outgoing] = {}
        self._filters: dict[str, int] = {}
        self._settled_filters: set[str] = set()
        self._subscribing: dict[int, tuple[str, ...]] = {}
        self.refused_filters: set[str] = set()
        """Filters that the broker answered with a failure."""

    # the port

    @property
    def state(self) -> State:
        return self._state

    @property
    def is_connected(self) -> bool:
        return self._state is State.CONNECTED

    def start(self, listener: UplinkListener, will: Will | None = None) -> None:
        if self._state is not State.IDLE:
            raise LocalProtocolError("the client was already started")
        self._listener, self._will = listener, will
        self._step(Step.START)
        self._open()

    def stop(self) -> None:
        if self._transport is not None and self._state is State.CONNECTED:
            self._transport.write(Disconnect().encode())
        self._end(orderly=True)

    def abort(self) -> None:
        self._end(orderly=False)

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        self._filters[check_filter(topic_filter)] = qos
        self._settled_filters.discard(topic_filter)
        if self.is_connected:
            self._send_subscribe(((topic_filter, qos),))

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        if qos not in (0, 1):
            raise LocalProtocolError(f"QoS {qos} is not supported")
        message_id = self._next_message_id
        self._next_message_id += 1
        if qos == 0:
            if self.is_connected:
                self._send(Publish(check_topic(topic), payload, 0, retain))
                self._timers.call_at(self._timers.time(), self._confirm, message_id)
            return message_id
        self._waiting.append(_Outgoing(message_id, check_topic(topic), payload, retain))
        self._send_waiting()
        return message_id

    def reconnect(self, reason: str) -> None:
        """Drop a connection, or an attempt at one, and make a new one at once. Nothing to do before `start`."""
        if self._state in (State.OPENING, State.GREETING, State.CONNECTED):
            self._drop(reason)
        if self._state is State.WAITING:
            self._set_timer(None, None)
            self._failures = 0
            self._retry()

    @property
    def unconfirmed_count(self) -> int:
        return len(self._waiting) + len(self._inflight)

    # connection

    def _step(self, step: Step) -> None:
        following = TRANSITIONS.get((self._state, step))
        if following is None:
            raise LocalProtocolError(f"{step.name} is not possible in state {self._state.name}")
        self._state = following

    def _open(self) -> None:
        self._stream = PacketStream()
        handler = TransportHandler(received=self._received, lost=self._lost)
        self._give_up = self._connector.open(handler, self._opened, self._lost)
        self._expect_answer("no connection within {} s")

    def _opened(self, transport: Transport) -> None:
        self._transport, self._give_up = transport, None
        self._step(Step.OPENED)
        options, will = self._options, self._will
        self._send(
            Connect(
                options.client_id,
                options.clean_session,
                options.keep_alive_s,
                None if will is None else (will.topic, will.payload, will.qos, will.retain),
                options.username,
                None if options.password is None else options.password.encode(),
            )
        )
        self._expect_answer("no CONNACK within {} s")

    def _accepted(self, session_present: bool) -> None:
        self._step(Step.ACCEPTED)
        self._failures = 0
        self._answered()
        self._set_timer(self._keep_alive_due(), self._keep_alive)
        self._subscribing.clear()
        if not session_present:
            self._settled_filters.clear()
        asked = tuple((text, qos) for text, qos in self._filters.items() if text not in self._settled_filters)
        if asked:
            self._send_subscribe(asked)
        for packet_id, outgoing in self._inflight.items():
            self._send_publish(packet_id, outgoing)
        self._send_waiting()
        if self._listener is not None:
            self._listener.connected(session_present)

    def _lost(self, reason: str) -> None:
        self._transport = self._give_up = None
        self._step(Step.LOST)
        self._answered()
        delay_s = min(self._options.retry_first_s * 2**self._failures, self._options.retry_max_s)
        self._failures = min(self._failures + 1, 16)
        self._set_timer(self._timers.time() + delay_s * self._rng.uniform(0.5, 1.0), self._retry)
        if self._listener is not None:
            self._listener.disconnected(reason)

    def _retry(self) -> None:
        self._step(Step.RETRY)
        self._open()

    def _drop(self, reason: str) -> None:
        """This side ends the connection, and tries again later."""
        if self._give_up is not None:
            self._give_up()
        if self._transport is not None:
            self._transport.abort()
        self._lost(reason)

    def _end(self, *, orderly: bool) -> None:
        self._step(Step.STOP)
        self._answered()
        self._set_timer(None, None)
        if self._give_up is not None:
            self._give_up()
        if self._transport is not None:
            if orderly:
                self._transport.close()
            else:
                self._transport.abort()
        self._transport = self._give_up = self._listener = None

    # timers

    def _set_timer(self, when: float | None, callback: Callable[[], None] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None or callback is None else self._timers.call_at(when, callback)

    def _expect_answer(self, complaint: str) -> None:
        self._answered()
        timeout_s = self._options.response_timeout_s
        self._answer_timer = self._timers.call_at(
            self._timers.time() + timeout_s, self._drop, complaint.format(f"{timeout_s:g}")
        )

    def _answered(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _keep_alive_due(self) -> float | None:
        """A little before the broker would wonder about us, or when we wonder about it."""
        if not self._options.keep_alive_s:
            return None
        return min(self._last_sent_s, self._last_heard_s) + 0.9 * self._options.keep_alive_s

    def _keep_alive(self) -> None:
        due = self._keep_alive_due()
        if due is not None and due <= self._timers.time():
            self._send(Pingreq())
            if self._answer_timer is None:
                self._expect_answer("no answer within {} s")
            due = self._last_sent_s + 0.9 * self._options.keep_alive_s
        self._set_timer(due, self._keep_alive)

    # packets

    def _send(self, packet: Packet) -> None:
        if self._transport is None:
            raise LocalProtocolError("there is no connection")
        self._last_sent_s = self._timers.time()
        self._transport.write(packet.encode())

    def _received(self, data: bytes) -> None:
        self._last_heard_s = self._timers.time()
        if self._state is State.CONNECTED:
            self._answered()
        self._stream.feed(data)
        transport = self._transport
        try:
            while self._transport is not None and self._transport is transport:
                packet = self._stream.next_packet()
                if packet is None:
                    return
                self._handle(packet)
        except RemoteProtocolError as error:
            self._drop(str(error))

    def _handle(self, packet: Packet) -> None:
        if self._state is State.GREETING:
            if not isinstance(packet, Connack):
                raise RemoteProtocolError("broker began without CONNACK", spec="MQTT 3.1.1")
            if packet.return_code is not ConnectReturn.ACCEPTED:
                self._drop(f"broker refused the connection: {packet.return_code.name.lower().replace('_', ' ')}")
                return
            self._accepted(packet.session_present)
            return
        match packet:
            case Publish():
                self._deliver(packet)
            case Puback():
                self._acknowledged(packet.packet_id)
            case Suback():
                self._subscribed(packet)
            case Pingresp():
                return  # any byte from the broker shows that it lives; `_received` has noted it
            case _:
                raise RemoteProtocolError(f"broker sent {packet.TYPE.name}", spec="MQTT 3.1.1")

    def _deliver(self, packet: Publish) -> None:
        if self._listener is not None:
            self._listener.message(packet.topic, packet.payload)
        if packet.packet_id is not None and self.is_connected:
            self._send(Puback(packet.packet_id))

    def _acknowledged(self, packet_id: int) -> None:
        outgoing = self._inflight.pop(packet_id, None)
        if outgoing is None:
            return
        self._confirm(outgoing.message_id)
        self._send_waiting()

    def _subscribed(self, packet: Suback) -> None:
        asked = self._subscribing.pop(packet.packet_id, ())
        if len(asked) != len(packet.return_codes):
            raise RemoteProtocolError("SUBACK does not answer its SUBSCRIBE", spec="MQTT 3.1.1")
        for topic_filter, code in zip(asked, packet.return_codes, strict=True):
            self._settled_filters.add(topic_filter)
            if code > 1:
                self.refused_filters.add(topic_filter)

    def _confirm(self, message_id: int) -> None:
        if self._listener is not None:
            self._listener.confirmed(message_id)

    def _send_waiting(self) -> None:
        while self.is_connected and self._waiting and len(self._inflight) < self._options.max_inflight:
            outgoing = self._waiting.popleft()
            packet_id = self._free_packet_id()
            self._inflight[packet_id] = outgoing
            self._send_publish(packet_id, outgoing)

    def _send_publish(self, packet_id: int, outgoing: _Outgoing) -> None:
        self._send(Publish(outgoing.topic, outgoing.payload, 1, outgoing.retain, outgoing.sent, packet_id))
        outgoing.sent = True

    def _send_subscribe(self, filters: tuple[tuple[str, int], ...]) -> None:
        packet_id = self._free_packet_id()
        self._subscribing[packet_id] = tuple(text for text, _ in filters)
        self._send(Subscribe(packet_id, filters))

    def _free_packet_id(self) -> int:
        while self._next_packet_id in self._inflight or self._next_packet_id in self._subscribing:
            self._next_packet_id = self._next_packet_id % 65_535 + 1
        packet_id = self._next_packet_id
        self._next_packet_id = packet_id % 65_535 + 1
        return packet_id
