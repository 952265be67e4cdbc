"""A medium without radio effects for tests of the node stack: perfect links given by a graph, RCP messages by hand."""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from protocols.mesh.config import LinkKey, MeshConfig, RadioSettings, Role
from protocols.mesh.events import MeshEvent
from protocols.mesh.ipv6 import Ipv6Packet
from protocols.mesh.join import JoinState
from protocols.mesh.node import MeshNode
from protocols.mesh.sixlowpan.adapter import LowpanAdapter
from protocols.mesh.timers import BENCH, TimersProfile
from protocols.mesh.wisun import FrameType, encode_datagram
from protocols.rcp.codes import Status
from protocols.rcp.messages import Configure, HostMessage, Received, Reset, SetKey, Transmit, TransmitDone

GROUP_KEY = bytes(range(16))
PREFIX = bytes.fromhex("fd00000000000001")
AIRTIME_S = 0.02
ATTEMPTS_MAX = 4


def eui(number: int) -> bytes:
    return bytes.fromhex("0212740001000000")[:6] + number.to_bytes(2, "big")


class Radio:
    """Answers one node's RCP messages, as the co-processor does, over the bench's graph."""

    def __init__(self, bench: Bench, number: int) -> None:
        self.bench = bench
        self.number = number
        self.is_on = True
        self.pan_id = 0xFFFF
        self.keys: dict[int, bytes] = {}
        self.frame_counter = 0
        self.free_at = 0.0

    def take(self, message: HostMessage) -> None:
        if isinstance(message, Configure):
            self.pan_id = message.pan_id
        elif isinstance(message, SetKey):
            self.keys[message.index] = message.key
            self.frame_counter = max(self.frame_counter, message.frame_counter)
        elif isinstance(message, Reset):
            self.keys.clear()
        elif isinstance(message, Transmit):
            start = max(self.bench.now, self.free_at)
            self.free_at = start + AIRTIME_S
            self.bench.at(self.free_at, self.transmit, message)

    def transmit(self, message: Transmit) -> None:
        if not self.is_on:
            return
        bench = self.bench
        self.frame_counter += 1
        secured = message.key_index != 0
        frame = Received(
            frame_type=message.frame_type,
            source=eui(self.number),
            destination=message.destination,
            pan_id=self.pan_id,
            key_index=message.key_index,
            frame_counter=self.frame_counter if secured else 0,
            rss_dbm=bench.rss_dbm,
            lqi=255,
            channel=0,
            timestamp_us=round(bench.now * 1e6),
            payload_ies=message.payload_ies,
            payload=message.payload,
        )
        bench.frames.append((bench.now, self.number, frame))
        if message.destination is not None:
            self.unicast(message, frame)
            return
        for number in sorted(bench.links[self.number]):
            radio = bench.radios.get(number)
            if radio is not None and self.reaches(radio, message.key_index):
                bench.at(bench.now, bench.deliver, number, frame)
        self.finish(message, Status.OK, 1)

    def reaches(self, radio: Radio, key_index: int) -> bool:
        same_key = not key_index or radio.keys.get(key_index) == self.keys.get(key_index)
        return radio.is_on and same_key and not self.bench.loses()

    def unicast(self, message: Transmit, frame: Received) -> None:
        """Up to four attempts; a frame whose acknowledgement is lost arrives once all the same."""
        bench = self.bench
        target = next((r for n, r in bench.radios.items() if eui(n) == message.destination), None)
        arrived = False
        for attempt in range(1, ATTEMPTS_MAX + 1):
            if target is None or target.number not in bench.links[self.number]:
                continue
            if not self.reaches(target, message.key_index):
                continue
            if not arrived:
                arrived = True
                bench.at(bench.now + (attempt - 1) * AIRTIME_S, bench.deliver, target.number, frame)
            if not bench.loses():
                self.finish(message, Status.OK, attempt)
                return
        self.finish(message, Status.NO_ACK, ATTEMPTS_MAX)

    def finish(self, message: Transmit, status: Status, attempts: int) -> None:
        at = self.bench.now + (attempts - 1) * AIRTIME_S
        self.free_at = max(self.free_at, at)
        counter = self.frame_counter if message.key_index else 0
        self.bench.at(at, self.bench.answer, self.number, TransmitDone(message.handle, status, attempts, counter))


class Bench:
    """Nodes and their links. Number 0 is the root."""

    def __init__(
        self,
        edges: Iterable[tuple[int, int]],
        *,
        seed: int = 1,
        profile: TimersProfile = BENCH,
        max_psdu_bytes: int = 2047,
        loss: float = 0.0,
    ) -> None:
        self.now = 0.0
        self.rss_dbm = -60
        self.profile = profile
        self.loss = loss
        self.seed = seed
        self.max_psdu_bytes = max_psdu_bytes
        self.rng = random.Random(f"{seed}/medium")
        self.links: dict[int, set[int]] = defaultdict(set)
        self.nodes: dict[int, MeshNode] = {}
        self.radios: dict[int, Radio] = {}
        self.events: dict[int, list[tuple[float, MeshEvent]]] = defaultdict(list)
        self.frames: list[tuple[float, int, Received]] = []
        self.on_event: Callable[[int, MeshEvent], None] = lambda _number, _event: None
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0
        self._starts: dict[int, int] = defaultdict(int)
        self._armed: dict[int, float] = {}
        for a, b in edges:
            self.link(a, b)

    # the graph

    def link(self, a: int, b: int) -> None:
        self.links[a].add(b)
        self.links[b].add(a)

    def unlink(self, a: int, b: int) -> None:
        self.links[a].discard(b)
        self.links[b].discard(a)

    def loses(self) -> bool:
        return self.loss > 0 and self.rng.random() < self.loss

    # nodes

    def config(self, number: int) -> MeshConfig:
        is_root = number == 0
        return MeshConfig(
            eui64=eui(number),
            network_name="bench",
            keys=(LinkKey(1, GROUP_KEY),),
            frame_counter=self._starts[number] * 100_000,
            start_count=self._starts[number],
            role=Role.ROOT if is_root else Role.ROUTER,
            pan_id=0x1234 if is_root else None,
            prefix=PREFIX if is_root else None,
            radio=RadioSettings(max_psdu_bytes=self.max_psdu_bytes),
        )

    def power_on(self, number: int, config: MeshConfig | None = None, **changes: object) -> MeshNode:
        config = replace(config or self.config(number), **changes)
        self._starts[number] += 1
        rng = random.Random(f"{self.seed}/{number}/{self._starts[number]}")
        node = MeshNode(config, self.profile, rng)
        node.listen(4059)
        self.nodes[number] = node
        self.radios[number] = Radio(self, number)
        self._armed.pop(number, None)
        node.start(self.now)
        self.settle(number)
        return node

    def power_on_all(self) -> None:
        for number in sorted(self.links):
            self.power_on(number)

    def power_off(self, number: int) -> None:
        self.radios[number].is_on = False
        del self.radios[number]
        del self.nodes[number]

    def address(self, number: int) -> bytes:
        return PREFIX + bytes((eui(number)[0] ^ 2,)) + eui(number)[1:]

    @staticmethod
    def lowpan(eui64: bytes, prefix: bytes) -> LowpanAdapter:
        """An adaptation layer for packets by hand."""
        made = LowpanAdapter(eui64, random.Random(1), Counter(), capacity_bytes=1900, reassembly_timeout_s=10.0)
        made.set_prefix(prefix)
        return made

    def inject(self, number: int, packet: Ipv6Packet, link_source: bytes) -> None:
        """A frame of somebody who has the group key, with this packet, to a node."""
        (payload,) = self.lowpan(link_source, PREFIX).to_frames(packet, eui(number))
        frame = Received(
            FrameType.DATA, link_source, eui(number), self.radios[number].pan_id, 1, 2**31, self.rss_dbm, 255, 0,
            round(self.now * 1e6), encode_datagram(payload),
        )  # fmt: skip
        self.deliver(number, frame)

    def send(self, source: int, destination: int | bytes, payload: bytes, port: int = 4059) -> int:
        address = destination if isinstance(destination, bytes) else self.address(destination)
        datagram_id = self.nodes[source].send_udp(4059, address, port, payload, self.now)
        self.settle(source)
        return datagram_id

    # events

    def of(self, number: int, kind: type, since: float = 0.0) -> list:
        return [event for at, event in self.events[number] if isinstance(event, kind) and at >= since]

    def frames_of(self, frame_type: FrameType, since: float = 0.0) -> list[Received]:
        return [frame for at, _, frame in self.frames if frame.frame_type is frame_type and at >= since]

    def joined(self) -> bool:
        return all(node.state is JoinState.OPERATIONAL for node in self.nodes.values())

    # time

    def at(self, when: float, callback: Callable[..., None], *args: object) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (when, self._sequence, callback, args))

    def deliver(self, number: int, frame: Received) -> None:
        if number in self.nodes:
            self.nodes[number].receive(frame, self.now)
            self.settle(number)

    def answer(self, number: int, message: TransmitDone) -> None:
        if number in self.nodes:
            self.nodes[number].receive(message, self.now)
            self.settle(number)

    def settle(self, number: int) -> None:
        node, radio = self.nodes[number], self.radios[number]
        for message in node.take_messages():
            radio.take(message)
        for event in node.take_events():
            self.events[number].append((self.now, event))
            self.on_event(number, event)
        when = node.next_timer()
        if when is not None and when < self._armed.get(number, float("inf")):
            self._armed[number] = when
            self.at(when, self._timer, number, node, when)

    def _timer(self, number: int, node: MeshNode, when: float) -> None:
        if self.nodes.get(number) is not node:
            return
        if self._armed.get(number) == when:
            del self._armed[number]
        node.handle_timer(self.now)
        self.settle(number)

    def run_until(self, condition: Callable[[], bool], within_s: float) -> float:
        """Run until the condition holds; returns the seconds that it took. Fails the test if it takes longer."""
        start = self.now
        while not condition():
            assert self._queue, "nothing will happen any more"
            assert self._queue[0][0] - start <= within_s, f"not within {within_s} s"
            self._step()
        return self.now - start

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self._step()
        self.now = end

    def _step(self) -> None:
        self.now, _, callback, args = heapq.heappop(self._queue)
        callback(*args)
