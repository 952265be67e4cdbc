"""Ties a mesh node to its radio's byte link and to a clock, for meters and the DCU alike. Callbacks only."""

from __future__ import annotations

import random
from collections.abc import Callable

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.config import LinkKey, MeshConfig
from protocols.mesh.events import DatagramReceived, MeshEvent
from protocols.mesh.join import JoinState
from protocols.mesh.node import MeshNode
from protocols.mesh.timers import TimersProfile
from protocols.ports import ByteLink, Cancellable, Timers, Trace
from protocols.rcp.codes import ResetReason
from protocols.rcp.framing import FrameDecoder, encode_frame
from protocols.rcp.messages import HostMessage, Ready, Reset, decode_radio_message

_RESET_EVERY_S = 2.0
"""A `Reset` or its `Ready` may be lost on the line: how long to wait before the next."""

UdpHandler = Callable[[bytes, int, bytes], None]
"""Called with source address (16 bytes), source port, payload."""


class MeshRunner:
    """One node in operation: frames from and to the radio, timers, UDP ports, events.

    `on_event` gets every event of the node but those datagrams that a handler of `bind_udp` took. The radio is reset
    at the start; when it says `Ready` unasked, it has restarted, and the node configures it and joins again.
    """

    def __init__(
        self,
        config: MeshConfig,
        profile: TimersProfile,
        *,
        timers: Timers,
        link: ByteLink,
        rng: random.Random,
        on_event: Callable[[MeshEvent], None] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.node = MeshNode(config, profile, rng, trace=trace)
        self._timers = timers
        self._link = link
        self.on_event = on_event
        self._decoder = FrameDecoder()
        self._handlers: dict[int, Callable[[DatagramReceived], None]] = {}
        self._is_running = False
        self._timer: Cancellable | None = None
        self._timer_at = 0.0
        self._reset_timer: Cancellable | None = None
        link.on_data(self._on_data)

    # life

    def start(self) -> None:
        """Reset the radio and join. Does nothing if it runs."""
        if self._is_running:
            return
        self._is_running = True
        self._decoder = FrameDecoder()
        self._reset_radio()

    def stop(self) -> None:
        """Leave: timers are cancelled, and bytes from the radio are ignored until the next start."""
        if not self._is_running:
            return
        self._is_running = False
        for timer in (self._timer, self._reset_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._reset_timer = None
        self.node.stop(self._timers.time())
        self._send(Reset())
        self.node.take_messages()
        self._report()

    def _reset_radio(self) -> None:
        self._send(Reset())
        self._reset_timer = self._timers.call_at(self._timers.time() + _RESET_EVERY_S, self._reset_radio)

    # the radio

    def _on_data(self, data: bytes) -> None:
        if not self._is_running:
            return
        now = self._timers.time()
        for frame in self._decoder.feed(data):
            try:
                message = decode_radio_message(frame)
            except RemoteProtocolError:
                self.node.counters["rcp_malformed"] += 1
                continue
            if isinstance(message, Ready):
                self._radio_is_ready(message, now)
            elif self.node.state is not JoinState.OFF:
                self.node.receive(message, now)
        self._settle()

    def _radio_is_ready(self, message: Ready, now: float) -> None:
        if self.node.state is not JoinState.OFF:
            # A reset that was asked for went out before the configuration did, which therefore stands.
            if message.reason is not ResetReason.REQUESTED:
                self.node.receive(message, now)
            return
        if self._reset_timer is not None:
            self._reset_timer.cancel()
            self._reset_timer = None
        self.node.start(now)

    def _send(self, message: HostMessage) -> None:
        self._link.write(encode_frame(message.encode()))

    # after every step

    def _settle(self) -> None:
        """Messages to the radio, events to their takers, the timer to the next deadline."""
        for message in self.node.take_messages():
            self._send(message)
        self._report()
        self._arm()

    def _report(self) -> None:
        for event in self.node.take_events():
            if isinstance(event, DatagramReceived):
                handler = self._handlers.get(event.destination_port)
                if handler is not None:
                    handler(event)
                    continue
            if self.on_event is not None:
                self.on_event(event)

    def _arm(self) -> None:
        """One timer, moved only when the deadline is earlier: one that comes too early arms itself again."""
        when = self.node.next_timer()
        if not self._is_running or when is None or (self._timer is not None and self._timer_at <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._timers.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # A loop may call a hair early; the deadline that was armed is what has come.
        self.node.handle_timer(max(self._timers.time(), self._timer_at))
        self._settle()

    # group keys, at the root

    def rotate_group_key(self, key: LinkKey) -> None:
        """See MeshNode.rotate_group_key."""
        self.node.rotate_group_key(key, self._timers.time())
        self._settle()

    def revoke(self, eui64: bytes) -> None:
        """See MeshNode.revoke."""
        self.node.revoke(eui64, self._timers.time())
        self._settle()

    # the application

    def bind_udp(self, port: int, handler: UdpHandler) -> None:
        """Deliver datagrams to `port` to the handler. Raises LocalProtocolError if the port is taken."""
        self.bind_datagrams(port, lambda event: handler(event.source, event.source_port, event.payload))

    def bind_datagrams(self, port: int, handler: Callable[[DatagramReceived], None]) -> None:
        """As `bind_udp`, for a handler that wants all that is known of a datagram, its age too."""
        if port in self._handlers:
            raise LocalProtocolError(f"UDP port {port} is taken")
        self._handlers[port] = handler
        self.node.listen(port)

    def send_udp(self, source_port: int, destination: bytes, destination_port: int, payload: bytes) -> int:
        """See MeshNode.send_udp. Events, a `Dropped` too, may come before this returns."""
        datagram_id = self.node.send_udp(source_port, destination, destination_port, payload, self._timers.time())
        self._settle()
        return datagram_id

    def send_echo(self, destination: bytes, identifier: int, sequence: int, payload: bytes = b"") -> int:
        """See MeshNode.send_echo."""
        datagram_id = self.node.send_echo(destination, identifier, sequence, payload, self._timers.time())
        self._settle()
        return datagram_id
