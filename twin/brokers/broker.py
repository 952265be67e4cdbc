"""An MQTT 3.1.1 broker without I/O: bytes of each connection in, bytes out, timers from the run.

QoS 0 and 1, persistent sessions, redelivery with DUP after a resumption, retained messages, wills, wildcards,
keep-alive, access rules for each client, bounded queues. Like mosquitto, it acknowledges and drops what a client may
not write, and drops the newest message when a session's queue is full.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from protocols.errors import RemoteProtocolError
from protocols.ports import Cancellable, Timers, Trace
from twin.brokers.access import AccessRules, Client
from twin.brokers.filters import topic_matches
from twin.brokers.packets import (
    SUBSCRIBE_FAILURE,
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
    Unsuback,
    Unsubscribe,
)
from twin.brokers.transport import Transport


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one broker keeps. `connect_timeout_s` is how long a connection may stay without CONNECT."""

    max_packet_bytes: int = 1_048_576
    max_queued: int = 100_000
    max_inflight: int = 20
    max_retained: int = 10_000
    connect_timeout_s: float = 30.0


class State(Enum):
    NEW = auto()
    CONNECTED = auto()
    CLOSED = auto()


@dataclass(slots=True)
class _Held:
    """A message on its way to one session."""

    publish: Publish
    sent: bool = False


@dataclass(slots=True)
class _Session:
    client_id: str
    owner: Client
    clean: bool
    connection: Connection | None = None
    filters: dict[str, int] = field(default_factory=dict)
    queue: deque[Publish] = field(default_factory=deque)
    inflight: dict[int, _Held] = field(default_factory=dict)
    next_packet_id: int = 1


class Broker:
    """The sessions and retained messages of one broker. `dropped_count` says how many messages it had to drop."""

    def __init__(
        self, timers: Timers, access: AccessRules, *, limits: Limits | None = None, trace: Trace | None = None
    ) -> None:
        self.timers = timers
        self.limits = limits or Limits()
        self.dropped_count = 0
        self.error_count = 0
        self._access = access
        self._trace = trace
        self._sessions: dict[str, _Session] = {}
        self._retained: dict[str, Publish] = {}
        self._connections: dict[Connection, None] = {}

    def attach(self, transport: Transport) -> Connection:
        """A connection was opened: whoever owns it feeds the result with `received` and `lost`."""
        connection = Connection(self, transport)
        self._connections[connection] = None
        return connection

    def close_all(self) -> None:
        """The broker goes away: every connection is dropped, and its clients notice. Sessions are kept."""
        for connection in list(self._connections):
            connection.shut(publish_will=False)

    def note(self, kind: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace(kind, **fields)

    # sessions

    def connect(self, connection: Connection, packet: Connect) -> tuple[ConnectReturn, _Session | None, bool]:
        """The return code, the session and whether it was there before."""
        if packet.protocol_name != "MQTT" or packet.protocol_level != 4:
            return ConnectReturn.UNACCEPTABLE_PROTOCOL, None, False
        if not packet.client_id and not packet.clean_session:
            return ConnectReturn.IDENTIFIER_REJECTED, None, False
        owner = self._access.authenticate(packet.username, packet.password)
        if owner is None:
            return ConnectReturn.NOT_AUTHORIZED, None, False
        client_id = packet.client_id or f"anonymous-{len(self._sessions)}-{owner.username}"
        old = self._sessions.get(client_id)
        if old is not None and old.owner.username != owner.username:
            return ConnectReturn.IDENTIFIER_REJECTED, None, False
        if old is not None and old.connection is not None:
            old.connection.shut(publish_will=True)
        kept = old is not None and not packet.clean_session and not old.clean
        session = old if kept and old is not None else _Session(client_id, owner, packet.clean_session)
        session.connection = connection
        self._sessions[client_id] = session
        return ConnectReturn.ACCEPTED, session, kept

    def detached(self, connection: Connection, session: _Session | None) -> None:
        self._connections.pop(connection, None)
        if session is not None and session.connection is connection:
            session.connection = None
            if session.clean:
                del self._sessions[session.client_id]

    # messages

    def publish(self, sender: Client, publish: Publish) -> None:
        """Route one message, if its sender may write there."""
        if not sender.may_write(publish.topic):
            self.note("broker.refused_publish", client=sender.username, topic=publish.topic)
            return
        if publish.retain:
            self._retain(publish)
        for session in list(self._sessions.values()):
            granted = [qos for text, qos in session.filters.items() if topic_matches(text, publish.topic)]
            if granted and session.owner.may_read(publish.topic):
                self.offer(session, Publish(publish.topic, publish.payload, min(publish.qos, max(granted))))

    def _retain(self, publish: Publish) -> None:
        if not publish.payload:
            self._retained.pop(publish.topic, None)
        elif publish.topic in self._retained or len(self._retained) < self.limits.max_retained:
            self._retained[publish.topic] = publish
        else:
            self._drop("retained", publish.topic)

    def retained_under(self, session: _Session, topic_filter: str, qos: int) -> list[Publish]:
        return [
            Publish(topic, kept.payload, min(kept.qos, qos), retain=True)
            for topic, kept in self._retained.items()
            if topic_matches(topic_filter, topic) and session.owner.may_read(topic)
        ]

    def offer(self, session: _Session, publish: Publish) -> None:
        """Send to a session, or keep for it what has QoS 1."""
        if publish.qos == 0:
            if session.connection is not None:
                session.connection.send(publish)
            return
        if len(session.queue) >= self.limits.max_queued:
            self._drop(session.client_id, publish.topic)
            return
        session.queue.append(publish)
        self.flush(session)

    def flush(self, session: _Session) -> None:
        """Move queued messages into flight, as far as the window allows."""
        while session.connection is not None and session.queue and len(session.inflight) < self.limits.max_inflight:
            packet_id = session.next_packet_id
            while packet_id in session.inflight:
                packet_id = packet_id % 65_535 + 1
            session.next_packet_id = packet_id % 65_535 + 1
            waiting = session.queue.popleft()
            held = _Held(Publish(waiting.topic, waiting.payload, 1, waiting.retain, packet_id=packet_id))
            session.inflight[packet_id] = held
            session.connection.send_held(held)

    def _drop(self, where: str, topic: str) -> None:
        self.dropped_count += 1
        self.note("broker.dropped", session=where, topic=topic)


class Connection:
    """One connection of a broker: NEW until CONNECT, CONNECTED, then CLOSED for good."""

    def __init__(self, broker: Broker, transport: Transport) -> None:
        self._broker = broker
        self._transport = transport
        self._stream = PacketStream(broker.limits.max_packet_bytes)
        self._state = State.NEW
        self._session: _Session | None = None
        self._will: Publish | None = None
        self._patience_s = broker.limits.connect_timeout_s
        self._heard_s = broker.timers.time()
        self._timer: Cancellable | None = None
        self._watch()

    def received(self, data: bytes) -> None:
        """Bytes from the client. What breaks the protocol ends the connection and is counted."""
        self._heard_s = self._broker.timers.time()
        self._stream.feed(data)
        try:
            while self._state is not State.CLOSED:
                packet = self._stream.next_packet()
                if packet is None:
                    return
                self._handle(packet)
        except RemoteProtocolError as error:
            self._broker.error_count += 1
            self._broker.note("broker.protocol_error", client=self._name(), error=str(error))
            self.shut(publish_will=True)

    def lost(self, _reason: str = "") -> None:
        """The connection ended without our doing."""
        self._leave(publish_will=True)

    def shut(self, *, publish_will: bool) -> None:
        """End the connection from this side."""
        if self._state is not State.CLOSED:
            self._leave(publish_will=publish_will)
            self._transport.close()

    def send(self, packet: Packet) -> None:
        self._transport.write(packet.encode())

    def send_held(self, held: _Held) -> None:
        sent, publish = held.sent, held.publish
        held.sent = True
        self.send(Publish(publish.topic, publish.payload, 1, publish.retain, sent, publish.packet_id))

    def _name(self) -> str:
        return "" if self._session is None else self._session.client_id

    def _handle(self, packet: Packet) -> None:
        session = self._session
        if session is None:
            if not isinstance(packet, Connect):
                raise RemoteProtocolError(f"client began with {packet.TYPE.name}", spec="MQTT 3.1.1, 3.1")
            self._connect(packet)
            return
        match packet:
            case Publish():
                self._broker.publish(session.owner, packet)
                # The publication may have cut this very connection off (a takeover by will); then it is not answered.
                if packet.packet_id is not None and self._state is State.CONNECTED:
                    self.send(Puback(packet.packet_id))
            case Puback():
                session.inflight.pop(packet.packet_id, None)
                self._broker.flush(session)
            case Subscribe():
                self._subscribe(session, packet)
            case Unsubscribe():
                for text in packet.filters:
                    session.filters.pop(text, None)
                self.send(Unsuback(packet.packet_id))
            case Pingreq():
                self.send(Pingresp())
            case Disconnect():
                self.shut(publish_will=False)
            case _:
                raise RemoteProtocolError(f"client sent {packet.TYPE.name}", spec="MQTT 3.1.1")

    def _connect(self, packet: Connect) -> None:
        code, session, present = self._broker.connect(self, packet)
        self._broker.note("broker.connect", client=packet.client_id, result=code.name.lower(), session_present=present)
        if session is None:
            self.send(Connack(session_present=False, return_code=code))
            self.shut(publish_will=False)
            return
        self._session, self._state = session, State.CONNECTED
        if packet.will is not None:
            topic, payload, qos, retain = packet.will
            self._will = Publish(topic, payload, min(qos, 1), retain, packet_id=1 if qos else None)
        self._patience_s = 1.5 * packet.keep_alive_s
        self._watch()
        self.send(Connack(session_present=present, return_code=code))
        for held in session.inflight.values():
            self.send_held(held)
        self._broker.flush(session)

    def _subscribe(self, session: _Session, packet: Subscribe) -> None:
        codes = []
        retained: list[Publish] = []
        for text, qos in packet.filters:
            if not session.owner.may_subscribe(text):
                self._broker.note("broker.refused_subscribe", client=session.client_id, filter=text)
                codes.append(SUBSCRIBE_FAILURE)
                continue
            session.filters[text] = min(qos, 1)
            codes.append(min(qos, 1))
            retained += self._broker.retained_under(session, text, min(qos, 1))
        self.send(Suback(packet.packet_id, tuple(codes)))
        for publish in retained:
            self._broker.offer(session, publish)

    def _watch(self) -> None:
        """Keep-alive (3.1.2.10): one and a half times the client's own interval."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._patience_s and self._state is not State.CLOSED:
            self._timer = self._broker.timers.call_at(self._heard_s + self._patience_s, self._check_silence)

    def _check_silence(self) -> None:
        self._timer = None
        if self._broker.timers.time() < self._heard_s + self._patience_s:
            self._watch()
            return
        self._broker.note("broker.silent_client", client=self._name())
        self.shut(publish_will=True)

    def _leave(self, *, publish_will: bool) -> None:
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        session, will = self._session, self._will
        self._broker.detached(self, session)
        if publish_will and will is not None and session is not None:
            self._broker.publish(session.owner, will)
