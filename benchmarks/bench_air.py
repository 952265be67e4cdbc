"""The air with real MACs: a convergecast load on a grid, as the mesh facts describe the race, for a shorter time.

100 nodes, 10 columns, 100 m apart, lossless within 150 m; every node sends 100 bytes to the sink every 10 s along a
static shortest-hop tree, over 250 kb/s with CSMA-CA, acknowledgements and retries, security off. Hosts forward in RCP
messages: nothing is short-cut but the layers above the MAC.
"""

from __future__ import annotations

import random
import time

from benchmarks import Row
from protocols.mesh.wisun import FrameType, encode_datagram
from protocols.rcp.framing import FrameDecoder, encode_frame
from protocols.rcp.messages import Configure, Ready, Received, Transmit, decode_radio_message
from twin.air.air import Air, AirSettings
from twin.air.obstacles import Position
from twin.air.propagation import UnitDisc
from twin.clock.seeds import Seeds
from twin.clock.virtual import VirtualLoop

NODES, COLUMNS, SPACING_M, RANGE_M = 100, 10, 100.0, 150.0
PERIOD_S, START_S = 10.0, 10.0
PAYLOAD_BYTES = 100
MODE_250_KBPS = 250
SHORT_PSDU_BYTES = 127


class Host:
    """One node above its MAC: makes datagrams, forwards them to its parent."""

    def __init__(self, race: Race, index: int, parent: int | None) -> None:
        self.race = race
        self.parent = None if parent is None else _eui64(parent)
        self._handle = 0
        self._decoder = FrameDecoder()
        position = Position(SPACING_M * (index % COLUMNS), SPACING_M * (index // COLUMNS))
        self._link = race.air.add_radio(f"n{index}", _eui64(index), position).host
        self._link.on_data(self._take)
        self._configure = Configure(_eui64(index), 1, max_psdu_bytes=SHORT_PSDU_BYTES, fsk_mode=MODE_250_KBPS)

    def _take(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            message = decode_radio_message(frame)
            if isinstance(message, Received):
                self.forward(message.payload_ies)
            elif isinstance(message, Ready):
                self._link.write(encode_frame(self._configure.encode()))

    def forward(self, payload_ies: bytes) -> None:
        if self.parent is None:
            self.race.delivered += 1
            return
        self._handle = self._handle + 1 & 0xFFFF
        request = Transmit(self._handle, FrameType.DATA, self.parent, 0, payload_ies)
        self._link.write(encode_frame(request.encode()))

    def originate(self, end_s: float) -> None:
        now = self.race.loop.time()
        if now >= end_s:
            return
        self.race.offered += 1
        self.forward(DATAGRAM)
        self.race.loop.call_at(now + PERIOD_S, self.originate, end_s)


class Race:
    """One run of the load."""

    def __init__(self, seed: int, nodes: int = NODES, duration_s: float = 60.0) -> None:
        self.loop = VirtualLoop()
        settings = AirSettings(fsk_mode=MODE_250_KBPS, max_psdu_bytes=SHORT_PSDU_BYTES)
        self.air = Air(self.loop, Seeds(seed), settings=settings, propagation=UnitDisc(RANGE_M))
        self.offered = self.delivered = 0
        self.duration_s = duration_s
        parents = tree(nodes)
        self.hosts = [Host(self, index, parents[index]) for index in range(nodes)]
        rng = random.Random(seed)
        for host in self.hosts:
            if host.parent is not None:
                self.loop.call_at(START_S + PERIOD_S * rng.random(), host.originate, duration_s - 2.0)

    def run(self) -> float:
        """Wall time in seconds."""
        started = time.perf_counter()
        self.loop.call_at(self.duration_s, self.loop.stop)
        self.loop.run_forever()
        return time.perf_counter() - started


def _eui64(index: int) -> bytes:
    return (0x0200_0000_0000_0000 + index + 1).to_bytes(8, "big")


def tree(nodes: int) -> list[int | None]:
    """Parents on the shortest-hop tree: nearest the sink first, then lowest id."""
    places = [(SPACING_M * (n % COLUMNS), SPACING_M * (n // COLUMNS)) for n in range(nodes)]
    centre = SPACING_M * (COLUMNS - 1) / 2, SPACING_M * ((nodes - 1) // COLUMNS) / 2

    def apart(a: tuple[float, float], b: tuple[float, float]) -> float:
        return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2

    sink = min(range(nodes), key=lambda n: (apart(places[n], centre), n))
    depth = {sink: 0}
    frontier = [sink]
    parents: list[int | None] = [None] * nodes
    while frontier:
        reached = [
            n
            for n in range(nodes)
            if n not in depth and any(apart(places[n], places[m]) <= RANGE_M**2 for m in frontier)
        ]
        for n in reached:
            near = [m for m in frontier if apart(places[n], places[m]) <= RANGE_M**2]
            parents[n] = min(near, key=lambda m: (apart(places[m], places[sink]), m))
        depth.update(dict.fromkeys(reached, depth[frontier[0]] + 1))
        frontier = reached
    return parents


DATAGRAM = encode_datagram(bytes(PAYLOAD_BYTES - 23))


def run() -> list[Row]:
    race = Race(seed=1)
    wall_s = race.run()
    report = race.air.statistics()
    return [
        Row("simulated over wall time", race.duration_s / wall_s, "times", f"{NODES} nodes, {race.duration_s:.0f} s"),
        Row("loop events", race.loop.events_run / wall_s, "1/s"),
        Row("transmissions", report.transmissions / wall_s, "1/s", f"{report.transmissions} in all, with ACKs"),
        Row("receptions", report.receptions / wall_s, "1/s", f"{report.receptions} in all"),
        Row("datagrams delivered", 100.0 * race.delivered / race.offered, "%", f"{race.offered} offered"),
    ]
