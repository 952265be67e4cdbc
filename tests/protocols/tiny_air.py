"""A medium for MAC tests: virtual time, everybody hears everybody, and the test may spoil any frame."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.mesh.mac import ALL_CHANNELS, Mac, MacParameters
from protocols.mesh.phy import CHANNEL_PLANS, FSK_MODES
from protocols.rcp.framing import FrameDecoder, encode_frame
from protocols.rcp.messages import (
    Configure,
    HostMessage,
    RadioMessage,
    Received,
    SetKey,
    TransmitDone,
    decode_radio_message,
)

KEY = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
MODE = FSK_MODES[1]


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Timers on virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Timer, Callable[..., object], tuple[object, ...]]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Timer:
        self._count += 1
        timer = Timer()
        heapq.heappush(self._heap, (when, self._count, timer, callback, args))
        return timer

    def run_until(self, end_s: float) -> None:
        while self._heap and self._heap[0][0] <= end_s:
            when, _, timer, callback, args = heapq.heappop(self._heap)
            if not timer.cancelled:
                self.now = max(self.now, when)
                callback(*args)
        self.now = end_s


class LateClock:
    """The same time for a radio whose callbacks come late, as on a host that is busy."""

    def __init__(self, clock: Clock, latency_s: float) -> None:
        self._clock = clock
        self._latency_s = latency_s

    def time(self) -> float:
        return self._clock.time()

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Timer:
        return self._clock.call_at(when + self._latency_s, callback, *args)


@dataclass
class Sent:
    start_s: float
    sender: str
    channel: int
    psdu: bytes


@dataclass
class Node:
    """One MAC with its host's side. It is the MAC's `Phy`, too."""

    name: str
    eui64: bytes
    air: Air
    mac: Mac = field(init=False)
    messages: list[RadioMessage] = field(default_factory=list)
    sending_until_s: float = -1.0
    reception_until_s: float = -1.0

    def __post_init__(self) -> None:
        self._decoder = FrameDecoder()

    def is_clear(self, channel: int) -> bool:
        now = self.air.clock.now
        return all(
            now >= end_s or (ALL_CHANNELS not in (channel, busy) and busy != channel) for busy, end_s in self.air.busy
        )

    def is_receiving(self) -> bool:
        return self.air.clock.now < self.reception_until_s

    def transmit(self, psdu: bytes, channel: int) -> float:
        return self.air.transmit(self, psdu, channel)

    def from_radio(self, data: bytes) -> None:
        self.messages += [decode_radio_message(frame) for frame in self._decoder.feed(data)]

    def tell(self, message: HostMessage) -> None:
        self.mac.host_data(encode_frame(message.encode()))

    @property
    def received(self) -> list[Received]:
        return [message for message in self.messages if isinstance(message, Received)]

    @property
    def done(self) -> list[TransmitDone]:
        return [message for message in self.messages if isinstance(message, TransmitDone)]


class Air:
    def __init__(self) -> None:
        self.clock = Clock()
        self.nodes: list[Node] = []
        self.busy: list[tuple[int, float]] = []
        self.sent: list[Sent] = []
        self.spoil: Callable[[Sent, Node], bytes | None] = lambda sent, receiver: sent.psdu
        """What a receiver gets of a frame: other bytes, or None for nothing."""

    def add(
        self,
        name: str,
        *,
        key: bytes | None = KEY,
        configure: bool = True,
        parameters: MacParameters | None = None,
        latency_s: float = 0.0,
        **configuration: object,
    ) -> Node:
        eui64 = bytes.fromhex("02000000000000") + bytes((len(self.nodes) + 1,))
        node = Node(name, eui64, self)
        node.mac = Mac(
            LateClock(self.clock, latency_s), node, random.Random(name), node.from_radio, parameters=parameters
        )
        self.nodes.append(node)
        node.mac.power_on()
        if configure:
            node.tell(Configure(eui64, **{"pan_id": 0x1234, "fixed_channel": 5, **configuration}))
        if key is not None:
            node.tell(SetKey(1, key, 100))
        return node

    def transmit(self, sender: Node, psdu: bytes, channel: int) -> float:
        now = self.clock.now
        sent = Sent(now, sender.name, channel, psdu)
        self.sent.append(sent)
        copies = CHANNEL_PLANS[1].channel_count if channel == ALL_CHANNELS else 1
        end_s = now + MODE.airtime_s(len(psdu)) * copies
        self.busy = [entry for entry in self.busy if entry[1] > now]
        self.busy.append((channel, end_s))
        hearers = []
        for node in self.nodes:
            listens = None if node is sender else node.mac.listening_channel(now)
            if listens is not None and channel in (listens, ALL_CHANNELS):
                node.reception_until_s = end_s
                hearers.append((node, listens))
        self.clock.call_at(end_s, self._end, sender, sent, hearers)
        return end_s

    def _end(self, sender: Node, sent: Sent, hearers: list[tuple[Node, int]]) -> None:
        sender.mac.transmit_done()
        for node, channel in hearers:
            psdu = self.spoil(sent, node)
            if psdu is not None:
                node.mac.receive(psdu, -71.4, channel, 200, sent.start_s)

    def run(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)
