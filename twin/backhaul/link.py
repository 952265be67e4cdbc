"""The link between a concentrator and the head-end: delay, jitter, rate, loss and outages, charged by the byte.

What travels is a TCP connection seen from outside: segments, each with 40 bytes of IPv4 and TCP headers, are
serialized at the rate of their direction, delivered in order, and sent again when lost, after a time-out that doubles
(RFC 6298), until the sender gives up after `MAX_ATTEMPTS`. A connection has at most `WINDOW_SEGMENTS` on the link, and
the rest waits at its sender; acknowledgements cost nothing, and the window does not adapt.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from protocols.ports import Cancellable, Timers, Trace
from twin.backhaul.profiles import BackhaulProfile, profile_named
from twin.brokers.transport import Transport, TransportHandler

SEGMENT_BYTES = 1360
HEADER_BYTES = 40
RTO_MIN_S = 1.0
RTO_MAX_S = 60.0
MAX_ATTEMPTS = 15
WINDOW_SEGMENTS = 32


class Way(StrEnum):
    UP = "up"
    DOWN = "down"


class Signal(Enum):
    """What a segment does besides carrying bytes."""

    OPEN = auto()
    ACCEPT = auto()
    DATA = auto()
    CLOSE = auto()


@dataclass(slots=True)
class Usage:
    """What the link has carried in one direction, headers and repetitions included."""

    sent_bytes: int = 0
    packets: int = 0
    lost_packets: int = 0


class Backhaul:
    """One link with its verbs. Everything random comes from `rng`."""

    def __init__(
        self,
        timers: Timers,
        rng: random.Random,
        profile: str | BackhaulProfile = "4g",
        *,
        name: str = "backhaul",
        trace: Trace | None = None,
    ) -> None:
        self.timers = timers
        self.name = name
        self.usage = {Way.UP: Usage(), Way.DOWN: Usage()}
        self._rng = rng
        self._profile = profile_named(profile) if isinstance(profile, str) else profile
        self._trace = trace
        self._is_up = True
        self._outages = 0
        self._free_at = {Way.UP: 0.0, Way.DOWN: 0.0}
        self.pending_packets = 0
        """Packets that are on the way now, lost ones included until they should have arrived."""

    @property
    def profile(self) -> BackhaulProfile:
        return self._profile

    @property
    def is_up(self) -> bool:
        return self._is_up

    def set_profile(self, profile: str | BackhaulProfile) -> None:
        """Change the bearer under running connections. Raises BadInputError for a name that there is not."""
        self._profile = profile_named(profile) if isinstance(profile, str) else profile
        self._note("backhaul.profile", profile=self._profile.name)

    def cut(self) -> None:
        """Nothing gets through any more, what is on the way included. Connections do not notice by themselves."""
        if self._is_up:
            self._is_up = False
            self._outages += 1
            self._note("backhaul.cut")

    def restore(self) -> None:
        if not self._is_up:
            self._is_up = True
            self._note("backhaul.restored")

    def connector(self, accept: Callable[[Transport], TransportHandler]) -> BackhaulConnector:
        """Opens connections over this link to a listener at its far end."""
        return BackhaulConnector(self, accept)

    def send_packet(self, way: Way, size_bytes: int, arrived: Callable[[bool], None]) -> None:
        """Send one IP packet; `arrived(True)` at the far end's time, or `arrived(False)` then if it was lost."""
        profile, usage = self._profile, self.usage[way]
        rate_bps = profile.up_bps if way is Way.UP else profile.down_bps
        start = max(self.timers.time(), self._free_at[way])
        delay_s = profile.round_trip_s / 2 + self._rng.random() * profile.jitter_s
        lost = self._rng.random() < profile.loss or not self._is_up
        if self._is_up:
            self._free_at[way] = start = start + size_bytes * 8 / rate_bps
            usage.sent_bytes += size_bytes
            usage.packets += 1
        self.pending_packets += 1
        self.timers.call_at(start + delay_s, self._landed, way, arrived, lost, self._outages)

    def _landed(self, way: Way, arrived: Callable[[bool], None], lost: bool, outages: int) -> None:
        self.pending_packets -= 1
        lost = lost or outages != self._outages
        if lost:
            self.usage[way].lost_packets += 1
        arrived(not lost)

    def rto_s(self, attempt: int) -> float:
        """How long a sender waits before it repeats a segment for the `attempt`-th time, from 0."""
        first_s = max(RTO_MIN_S, 2 * self._profile.round_trip_s)
        return min(first_s * float(2 ** min(attempt, 10)), RTO_MAX_S)

    def _note(self, kind: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace(kind, link=self.name, **fields)


@dataclass(slots=True)
class _Segment:
    number: int
    signal: Signal
    data: bytes
    attempt: int = 0


class _Pipe:
    """One direction of one connection: in order, without loss for as long as both ends live."""

    def __init__(
        self, link: Backhaul, way: Way, deliver: Callable[[Signal, bytes], None], gave_up: Callable[[], None]
    ) -> None:
        self._link = link
        self._way = way
        self._deliver = deliver
        self._gave_up = gave_up
        self._next_number = 0
        self._expected = 0
        self._early: dict[int, _Segment] = {}
        self._waiting: deque[_Segment] = deque()
        self._flying = 0
        self._timers: dict[int, Cancellable] = {}
        self._ended = False
        self.pending_bytes = 0
        """What was sent and has not been delivered."""
        self.on_delivered: Callable[[], None] = lambda: None

    def send(self, signal: Signal, data: bytes = b"") -> None:
        for start in range(0, max(len(data), 1), SEGMENT_BYTES):
            segment = _Segment(self._next_number, signal, data[start : start + SEGMENT_BYTES])
            self._next_number += 1
            self.pending_bytes += len(segment.data)
            self._waiting.append(segment)
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting and self._flying < WINDOW_SEGMENTS and not self._ended:
            self._flying += 1
            self._transmit(self._waiting.popleft())

    def end(self) -> None:
        """The sender is gone: nothing is repeated any more."""
        self._ended = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _transmit(self, segment: _Segment) -> None:
        self._timers.pop(segment.number, None)
        size_bytes = HEADER_BYTES + len(segment.data)
        self._link.send_packet(self._way, size_bytes, lambda arrived: self._outcome(segment, arrived))

    def _outcome(self, segment: _Segment, arrived: bool) -> None:
        if not arrived:
            if not self._ended and segment.attempt >= MAX_ATTEMPTS:
                self.end()
                self._gave_up()
            elif not self._ended:
                when = self._link.timers.time() + self._link.rto_s(segment.attempt)
                segment.attempt += 1
                self._timers[segment.number] = self._link.timers.call_at(when, self._transmit, segment)
            return
        self._flying -= 1
        self._early[segment.number] = segment
        while self._expected in self._early:
            ready = self._early.pop(self._expected)
            self._expected += 1
            self.pending_bytes -= len(ready.data)
            self._deliver(ready.signal, ready.data)
        self.on_delivered()
        self._send_waiting()


class LinkEnd:
    """One end of a connection, as `Transport`."""

    def __init__(self) -> None:
        self.handler: TransportHandler | None = None
        self.failed: Callable[[str], None] | None = None
        self.outgoing: _Pipe | None = None
        self.is_open = True

    def write(self, data: bytes) -> None:
        if self.is_open and self.outgoing is not None and data:
            self.outgoing.send(Signal.DATA, data)

    def close(self) -> None:
        if self.is_open and self.outgoing is not None:
            self.is_open = False
            self.outgoing.send(Signal.CLOSE)

    def abort(self) -> None:
        self.is_open = False
        if self.outgoing is not None:
            self.outgoing.end()

    @property
    def pending_bytes(self) -> int:
        """What was written here and has not arrived at the other end."""
        return 0 if self.outgoing is None else self.outgoing.pending_bytes

    def when_drained(self, limit_bytes: int, callback: Callable[[], None]) -> None:
        """Call back once, as soon as no more than `limit_bytes` are pending."""
        pipe = self.outgoing

        def look() -> None:
            if pipe is not None and pipe.pending_bytes <= limit_bytes:
                pipe.on_delivered = lambda: None
                callback()

        if pipe is not None:
            pipe.on_delivered = look

    def arrive(self, signal: Signal, data: bytes) -> None:
        if signal is Signal.CLOSE:
            self.fail("closed by the peer")
        elif signal is Signal.DATA and self.is_open and self.handler is not None:
            self.handler.received(data)

    def fail(self, reason: str) -> None:
        """The connection ended without this end's doing."""
        if not self.is_open:
            return
        self.abort()
        if self.handler is not None:
            self.handler.lost(reason)
        elif self.failed is not None:
            self.failed(reason)


class BackhaulConnector:
    """`twin.brokers.transport.Connector` over a link."""

    def __init__(self, link: Backhaul, accept: Callable[[Transport], TransportHandler]) -> None:
        self._link = link
        self._accept = accept

    def open(
        self, handler: TransportHandler, opened: Callable[[Transport], None], failed: Callable[[str], None]
    ) -> Callable[[], None]:
        near, far = LinkEnd(), LinkEnd()

        def at_far(signal: Signal, data: bytes) -> None:
            if signal is Signal.OPEN:
                far.handler = self._accept(far)
                if far.is_open:
                    down.send(Signal.ACCEPT)
            else:
                far.arrive(signal, data)

        def at_near(signal: Signal, data: bytes) -> None:
            if signal is Signal.ACCEPT:
                if near.is_open:
                    near.handler = handler
                    opened(near)
            else:
                near.arrive(signal, data)

        up = _Pipe(self._link, Way.UP, at_far, lambda: near.fail("the peer does not answer"))
        down = _Pipe(self._link, Way.DOWN, at_near, lambda: far.fail("the peer does not answer"))
        near.failed = failed
        near.outgoing, far.outgoing = up, down
        up.send(Signal.OPEN)
        return near.abort
