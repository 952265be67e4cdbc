"""A load to compare simulators on: every node sends a datagram to one sink again and again, over real MACs.

Nodes stand on a grid, lossless within a disc, and forward along a static shortest-hop tree. Hosts are as lean as can
be: they say in RCP messages what their MAC is to send, and forward what it gives them. Everything below is the real
thing: PSDUs of bytes, CSMA-CA, acknowledgements, retries, collisions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from protocols.mesh.mac import Mac, MacParameters
from protocols.mesh.wisun import FrameType, encode_datagram
from protocols.ports import Timers
from protocols.rcp.framing import FrameDecoder, encode_frame
from protocols.rcp.messages import Configure, Ready, Received, Transmit, decode_radio_message
from twin.air.air import Air, AirSettings
from twin.air.obstacles import Position
from twin.air.propagation import UnitDisc
from twin.clock.seeds import Seeds

FSK_MODE_250_KBPS = 250
SHORT_PSDU_BYTES = 127
_OVERHEAD_BYTES = 23
"""What is not payload in the 100 bytes of a datagram: compressed IPv6 and UDP headers and the hop's addresses."""


@dataclass(frozen=True, slots=True)
class Load:
    """The work. Times in seconds, distances in metres; the row-major grid has `columns` columns."""

    nodes: int
    columns: int
    spacing_m: float = 100.0
    range_m: float = 150.0
    period_s: float = 10.0
    first_s: float = 10.0
    last_s: float = 598.0
    end_s: float = 600.0
    datagram_bytes: int = 100
    max_frame_retries: int = 3

    @classmethod
    def race(cls, nodes: int) -> Load:
        """The load that other simulators were measured on."""
        return cls(nodes, 10 if nodes < 400 else 20)

    def place(self, node: int) -> tuple[float, float]:
        return self.spacing_m * (node % self.columns), self.spacing_m * (node // self.columns)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The counts that show which work was done."""

    datagrams: int
    delivered: int
    mean_hops: float
    most_hops: int
    data_transmissions: int
    acknowledgements: int
    receptions: int
    retries: int
    given_up: int

    @property
    def delivery_ratio(self) -> float:
        return self.delivered / self.datagrams if self.datagrams else 0.0


def sink_of(load: Load) -> int:
    """The node nearest the centre of the grid, the lowest id of those."""
    rows = (load.nodes - 1) // load.columns
    centre = load.spacing_m * (load.columns - 1) / 2, load.spacing_m * rows / 2
    return min(range(load.nodes), key=lambda node: (_squared(load.place(node), centre), node))


def _squared(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2


def tree(load: Load) -> list[int | None]:
    """Parent of each node on the shortest-hop tree, the one nearest the sink, then the lowest id; None at the sink."""
    places = [load.place(node) for node in range(load.nodes)]
    sink = sink_of(load)
    reach = [_within_reach(load, places, node) for node in range(load.nodes)]
    parents: list[int | None] = [None] * load.nodes
    seen, frontier = {sink}, [sink]
    while frontier:
        reached = sorted({near for node in frontier for near in reach[node]} - seen)
        ring = set(frontier)
        for node in reached:
            above = [near for near in reach[node] if near in ring]
            parents[node] = min(above, key=lambda near: (_squared(places[near], places[sink]), near))
        seen.update(reached)
        frontier = reached
    return parents


def _within_reach(load: Load, places: list[tuple[float, float]], node: int) -> list[int]:
    """Nodes within the disc, of the rows that can be."""
    rows = int(load.range_m // load.spacing_m)
    first, last = node - (rows + 1) * load.columns, node + (rows + 1) * load.columns
    near = range(max(0, first), min(load.nodes, last + 1))
    limit = load.range_m**2
    return [other for other in near if other != node and _squared(places[other], places[node]) <= limit]


def hop_counts(parents: list[int | None]) -> list[int]:
    """Hops of each node to the sink, which itself has 0."""
    counts = []
    for node in range(len(parents)):
        hops, here = 0, node
        while (above := parents[here]) is not None:
            hops, here = hops + 1, above
        counts.append(hops)
    return counts


class _Host:
    """One node above its MAC."""

    def __init__(self, race: Convergecast, index: int, parent: int | None) -> None:
        self._race = race
        self._parent = None if parent is None else _eui64(parent)
        self._handle = 0
        self._decoder = FrameDecoder()
        position = Position(*race.load.place(index))
        self._link = race.air.add_radio(f"n{index}", _eui64(index), position).host
        self._link.on_data(self._take)
        self._configure = Configure(_eui64(index), 1, max_psdu_bytes=SHORT_PSDU_BYTES, fsk_mode=FSK_MODE_250_KBPS)

    def _take(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            message = decode_radio_message(frame)
            if isinstance(message, Received):
                self._forward(message.payload_ies)
            elif isinstance(message, Ready):
                self._link.write(encode_frame(self._configure.encode()))

    def _forward(self, payload_ies: bytes) -> None:
        if self._parent is None:
            self._race.delivered += 1
            return
        self._handle = self._handle + 1 & 0xFFFF
        request = Transmit(self._handle, FrameType.DATA, self._parent, 0, payload_ies)
        self._link.write(encode_frame(request.encode()))

    def originate(self) -> None:
        race = self._race
        now = race.timers.time()
        if now >= race.started_s + race.load.last_s:
            return
        race.datagrams += 1
        self._forward(race.datagram)
        race.timers.call_at(now + race.load.period_s, self.originate)


class Convergecast:
    """The load on an air of its own. Make it, let `timers` run for `load.end_s`, ask for the `outcome`."""

    def __init__(self, timers: Timers, seeds: Seeds, load: Load) -> None:
        self.timers = timers
        self.load = load
        self.started_s = timers.time()
        parameters = MacParameters(max_frame_retries=load.max_frame_retries)
        self.air = Air(
            timers,
            seeds,
            settings=AirSettings(fsk_mode=FSK_MODE_250_KBPS, max_psdu_bytes=SHORT_PSDU_BYTES),
            propagation=UnitDisc(load.range_m),
            mac_factory=lambda timers, phy, rng, write_host, *, trace: Mac(
                timers, phy, rng, write_host, parameters=parameters, trace=trace
            ),
        )
        self.datagram = encode_datagram(bytes(load.datagram_bytes - _OVERHEAD_BYTES))
        self.datagrams = self.delivered = 0
        self._parents = tree(load)
        hosts = [_Host(self, index, parent) for index, parent in enumerate(self._parents)]
        phase: random.Random = seeds.stream("convergecast/phase")
        for host, parent in zip(hosts, self._parents, strict=True):
            if parent is not None:
                timers.call_at(self.started_s + load.first_s + load.period_s * phase.random(), host.originate)

    def outcome(self) -> Outcome:
        counters = [radio.mac.counters for radio in self.air.radios.values() if isinstance(radio.mac, Mac)]
        hops = [count for count in hop_counts(self._parents) if count]
        return Outcome(
            datagrams=self.datagrams,
            delivered=self.delivered,
            mean_hops=sum(hops) / len(hops) if hops else 0.0,
            most_hops=max(hops, default=0),
            data_transmissions=sum(count["tx_frames"] for count in counters),
            acknowledgements=sum(count["tx_acks"] for count in counters),
            receptions=self.air.medium.receptions,
            retries=sum(count["tx_retries"] for count in counters),
            given_up=sum(count["tx_no_ack"] + count["tx_channel_access_failure"] for count in counters),
        )


def _eui64(index: int) -> bytes:
    return (0x0200_0000_0000_0000 + index + 1).to_bytes(8, "big")
