"""What the guest's channels are on the simulator's side: serial lines, and connections over the backhaul."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from protocols.ports import Trace
from twin.brokers.transport import Connector, Transport, TransportHandler
from twin.rigs.lockstep.protocol import Channel, Event, Record

_LOG = logging.getLogger(__name__)
Send = Callable[[Record], None]


class SerialChannel:
    """One serial line of the guest, as a `ByteLink`: `write` sends to the guest, `on_data` hears it."""

    def __init__(self, channel: Channel, send: Send) -> None:
        self._channel = channel
        self._send = send
        self._receiver: Callable[[bytes], None] | None = None

    def write(self, data: bytes) -> None:
        """Bytes for the guest; lost if the machine is off or still boots."""
        if data:
            self._send(Record(self._channel, Event.DATA, 0, data))

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = callback

    def received(self, record: Record) -> None:
        if self._receiver is not None:
            self._receiver(record.data)


class TraceLines:
    """The daemon's trace file, a JSON object a line, as events of the run. What is no event is logged and left out."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._rest = b""

    def restart(self) -> None:
        """Another daemon begins: half a line of the old one stays half."""
        self._rest = b""

    def add(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
                kind = str(event.pop("kind"))
                event.pop("t_s", None)  # the run has its own time
            except (ValueError, KeyError, AttributeError, TypeError):
                _LOG.error("the concentrator's trace file has a line that is no event: %.80r", line)
            else:
                self._trace(kind, **event)


class _Connection:
    """One TCP connection of the guest, carried on over the backhaul; bytes wait until it is open there."""

    def __init__(self, number: int, channel: UplinkChannel) -> None:
        self._number = number
        self._channel = channel
        self._transport: Transport | None = None
        self._waiting = b""
        handler = TransportHandler(received=self._received, lost=self._lost)
        self._give_up = channel.connector.open(handler, self._opened, self._lost)

    def write(self, data: bytes) -> None:
        if self._transport is None:
            self._waiting += data
        else:
            self._transport.write(data)

    def close(self) -> None:
        """The guest closed its end."""
        if self._transport is None:
            self._give_up()
        else:
            self._transport.close()

    def abort(self) -> None:
        """The guest is gone."""
        if self._transport is None:
            self._give_up()
        else:
            self._transport.abort()

    def _opened(self, transport: Transport) -> None:
        self._transport = transport
        if self._waiting:
            transport.write(self._waiting)
            self._waiting = b""

    def _received(self, data: bytes) -> None:
        self._channel.send(Event.DATA, self._number, data)

    def _lost(self, _reason: str) -> None:
        self._channel.forget(self._number)
        self._channel.send(Event.CLOSE, self._number, b"")


class UplinkChannel:
    """One of the guest's ways to the broker."""

    def __init__(self, channel: Channel, connector: Connector, send: Send) -> None:
        self.connector = connector
        self._channel = channel
        self._send = send
        self._connections: dict[int, _Connection] = {}

    def received(self, record: Record) -> None:
        """What the guest did. Bytes of a connection that has ended meanwhile go nowhere."""
        if record.event is Event.OPEN:
            self._connections[record.connection] = _Connection(record.connection, self)
            return
        connection = self._connections.get(record.connection)
        if connection is None:
            return
        if record.event is Event.CLOSE:
            self.forget(record.connection)
            connection.close()
        else:
            connection.write(record.data)

    def send(self, event: Event, number: int, data: bytes) -> None:
        self._send(Record(self._channel, event, number, data))

    def forget(self, number: int) -> None:
        self._connections.pop(number, None)

    def abort(self) -> None:
        """The guest has lost its power: nobody says goodbye."""
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.abort()
