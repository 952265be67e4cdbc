"""The sockets of an air in its own process. Every peer, told by its address, has a radio at a place of the scenario."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

from protocols.errors import RemoteProtocolError
from protocols.rcp.framing import FrameDecoder
from protocols.rcp.messages import Configure, decode_host_message
from twin.air.air import Air
from twin.air.gateway.zep import MAX_PSDU_BYTES, ZepData, ntp_time
from twin.air.gateway.zep_radio import ZepRadio
from twin.air.obstacles import Position
from twin.air.radio import Radio
from twin.clock.seeds import Seeds

_log = logging.getLogger(__name__)

Peer = tuple[str, int]
P = TypeVar("P", bound=asyncio.DatagramProtocol)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node of the scenario stands, and the EUI-64 that the scenario gives it."""

    name: str
    eui64: bytes
    position: Position


class Places:
    """Gives each newcomer the next free place of the scenario; beyond them, a place beside the concentrator."""

    def __init__(self, dcu: Place, meters: tuple[Place, ...]) -> None:
        self.dcu = dcu
        self._by_eui64 = {place.eui64: place for place in (dcu, *meters)}
        self._free: Iterator[Place] = iter(meters)
        self._extra = 0

    def take(self) -> Place:
        place = next(self._free, None)
        if place is not None:
            return place
        self._extra += 1
        eui64 = bytes.fromhex("0249484d80") + self._extra.to_bytes(3, "big")
        return Place(f"X{self._extra}", eui64, self.dcu.position)

    def of(self, eui64: bytes) -> Place | None:
        return self._by_eui64.get(eui64)


class RcpPort(asyncio.DatagramProtocol):
    """RCP over UDP: a datagram carries bytes of the serial line. The MAC of each peer runs here, beside the air.

    A host that configures an EUI-64 of the scenario is moved to that node's place, and one that configures itself as
    the root to the concentrator's. What a datagram holds beyond whole frames waits for the next one.
    """

    def __init__(self, air: Air, places: Places) -> None:
        self._air = air
        self._places = places
        self._transport: asyncio.DatagramTransport | None = None
        self._peers: dict[Peer, tuple[Radio, FrameDecoder]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        radio, decoder = self._peers.get(addr) or self._welcome(addr)
        for frame in decoder.feed(data):
            self._look_at(frame, radio)
        radio.host.write(data)

    def error_received(self, exc: Exception) -> None:
        _log.info("a peer is not there: %s", exc)

    def _welcome(self, peer: Peer) -> tuple[Radio, FrameDecoder]:
        place = self._places.take()
        radio = self._air.add_radio(place.name, place.eui64, place.position)
        radio.host.on_data(self._sender(peer))
        self._peers[peer] = radio, FrameDecoder()
        _log.info("%s:%d is %s", *peer, place.name)
        return self._peers[peer]

    def _sender(self, peer: Peer) -> Callable[[bytes], None]:
        def send(data: bytes) -> None:
            if self._transport is not None:
                self._transport.sendto(data, peer)

        return send

    def _look_at(self, frame: bytes, radio: Radio) -> None:
        """Put the node where its configuration says that it belongs; whatever else it says is its MAC's business."""
        try:
            message = decode_host_message(frame)
        except RemoteProtocolError:
            return
        if not isinstance(message, Configure):
            return
        place = self._places.dcu if message.broadcast_root else self._places.of(message.eui64)
        if place is not None and place.position != radio.position:
            self._air.move(radio.name, place.position)


class ZepPort(asyncio.DatagramProtocol):
    """ZEP v2: a peer is the firmware of a third party on a transceiver of its own."""

    def __init__(
        self, air: Air, places: Places, seeds: Seeds, loop: asyncio.AbstractEventLoop, utc_s: Callable[[], float]
    ) -> None:
        self._air = air
        self._places = places
        self._seeds = seeds
        self._loop = loop
        self._utc_s = utc_s
        self._transport: asyncio.DatagramTransport | None = None
        self._peers: dict[Peer, ZepRadio] = {}
        self._sequence = 0
        self.malformed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        try:
            frame = ZepData.decode(data)
        except RemoteProtocolError as error:
            self.malformed += 1
            _log.info("from %s:%d: %s", *addr, error)
            return
        if len(frame.psdu) > MAX_PSDU_BYTES or frame.channel >= self._air.plan.channel_count:
            self.malformed += 1
            return
        radio = self._peers.get(addr) or self._welcome(addr)
        radio.send(frame.psdu, frame.channel)

    def error_received(self, exc: Exception) -> None:
        _log.info("a peer is not there: %s", exc)

    def _welcome(self, peer: Peer) -> ZepRadio:
        place = self._places.take()
        station = self._air.medium.attach(place.name, place.eui64, place.position)

        def deliver(psdu: bytes, channel: int, lqi: int) -> None:
            self._sequence = self._sequence + 1 & 0xFFFF_FFFF
            stamp = ntp_time(self._utc_s())
            frame = ZepData(psdu, channel, lqi=lqi, ntp_time=stamp, sequence=self._sequence)
            if self._transport is not None:
                self._transport.sendto(frame.encode(), peer)

        radio = ZepRadio(station, self._loop, self._seeds.stream(f"air/zep/{place.name}"), deliver)
        self._peers[peer] = radio
        _log.info("%s:%d is %s", *peer, place.name)
        return radio


async def listen_udp(protocol: P, host: str, port: int) -> tuple[asyncio.DatagramTransport, Peer]:
    """Bind the protocol; port 0 picks a free one. Raises OSError."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, local_addr=(host, port))
    bound: Peer = transport.get_extra_info("sockname")[:2]
    return transport, bound
