"""One contract for every broker: in memory, our core over TCP, embedded, mosquitto. The tests are the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from twin.backhaul.link import Backhaul
from twin.brokers.access import AccessRules, dcu_client, headend_client
from twin.brokers.broker import Broker
from twin.brokers.memory import MemoryBroker
from twin.brokers.mosquitto import MosquittoBroker, find_mosquitto
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
    Unsuback,
    Unsubscribe,
)
from twin.brokers.tcp import TcpConnector, address_of, serve_broker
from twin.brokers.transport import Connector, Transport, TransportHandler
from twin.clock.clocks import RealClock, VirtualClock
from twin.clock.seeds import SeededKeys

PASSWORDS = {"dcu-1": "one", "dcu-2": "two", "hes": "head"}
RULES = AccessRules((dcu_client("dcu-1", "one"), dcu_client("dcu-2", "two"), headend_client("head")))
REQUEST = "openami/v1/dcu/dcu-1/request"
EVENT = "openami/v1/dcu/dcu-1/event"
STATUS = "openami/v1/dcu/dcu-1/status"
FENCE = "openami/v1/dcu/dcu-1/response"
PATIENCE_S = 10.0

BrokerContext = Callable[[Path], Any]


@asynccontextmanager
async def memory(_folder: Path) -> AsyncIterator[Connector]:
    loop = asyncio.get_running_loop()
    broker = MemoryBroker(loop, RULES)
    yield Backhaul(loop, random.Random(1), "lan").connector(broker.accept)


@asynccontextmanager
async def core_over_tcp(_folder: Path) -> AsyncIterator[Connector]:
    loop = asyncio.get_running_loop()
    broker = Broker(loop, RULES)
    server = await serve_broker(broker)
    try:
        yield TcpConnector(loop, *address_of(server))
    finally:
        server.close()
        broker.close_all()
        await server.wait_closed()


@asynccontextmanager
async def embedded(_folder: Path) -> AsyncIterator[Connector]:
    pytest.importorskip("amqtt", reason="the embedded broker needs amqtt")
    from twin.brokers.embedded import EmbeddedBroker

    broker = EmbeddedBroker(RULES)
    await broker.start()
    try:
        yield TcpConnector(asyncio.get_running_loop(), *broker.address)
    finally:
        await broker.stop()


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[Connector]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: this contract was NOT checked on it")
    broker = MosquittoBroker(folder, RULES, SeededKeys(b"contract"))
    await broker.start()
    try:
        yield TcpConnector(asyncio.get_running_loop(), *broker.address)
    finally:
        await broker.stop()


BROKERS: dict[str, BrokerContext] = {
    "memory": memory,
    "core-over-tcp": core_over_tcp,
    "embedded": embedded,
    "mosquitto": mosquitto,
}


class RawClient:
    """A connection on which the test itself speaks MQTT, packet by packet."""

    def __init__(self) -> None:
        self._stream = PacketStream()
        self._packets: asyncio.Queue[Packet | None] = asyncio.Queue()
        self.transport: Transport | None = None

    async def open(self, connector: Connector) -> None:
        opened: asyncio.Future[Transport] = asyncio.get_running_loop().create_future()
        handler = TransportHandler(self._received, lambda _: self._packets.put_nowait(None))
        connector.open(handler, opened.set_result, lambda reason: opened.set_exception(ConnectionError(reason)))
        self.transport = await opened

    def _received(self, data: bytes) -> None:
        self._stream.feed(data)
        while (packet := self._stream.next_packet()) is not None:
            self._packets.put_nowait(packet)

    def send(self, packet: Packet) -> None:
        assert self.transport is not None
        self.transport.write(packet.encode())

    async def next(self) -> Packet | None:
        """The next packet, or None when the broker has ended the connection."""
        return await asyncio.wait_for(self._packets.get(), PATIENCE_S)

    async def publication(self) -> Publish:
        packet = await self.next()
        assert isinstance(packet, Publish), packet
        return packet

    def drop(self) -> None:
        assert self.transport is not None
        self.transport.abort()

    async def leave(self) -> None:
        self.send(Disconnect())
        assert self.transport is not None
        self.transport.close()
        await asyncio.sleep(0)


class Stage:
    """What one test has: connections to one broker."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._clients: list[RawClient] = []

    async def raw(self) -> RawClient:
        client = RawClient()
        await client.open(self._connector)
        self._clients.append(client)
        return client

    async def join(
        self, name: str, *, clean: bool = True, will: tuple[str, bytes, int, bool] | None = None, keep_alive_s: int = 60
    ) -> tuple[RawClient, bool]:
        """A client that is connected, and whether the broker had its session."""
        client = await self.raw()
        client.send(Connect(name, clean, keep_alive_s, will, name, PASSWORDS[name].encode()))
        packet = await client.next()
        assert isinstance(packet, Connack)
        assert packet.return_code is ConnectReturn.ACCEPTED
        return client, packet.session_present

    async def subscribe(self, client: RawClient, *filters: str, qos: int = 1) -> tuple[int, ...]:
        client.send(Subscribe(7, tuple((text, qos) for text in filters)))
        packet = await client.next()
        assert isinstance(packet, Suback)
        assert packet.packet_id == 7
        return packet.return_codes

    async def publish(
        self, client: RawClient, topic: str, payload: bytes, *, retain: bool = False, number: int = 1
    ) -> None:
        client.send(Publish(topic, payload, 1, retain, packet_id=number))
        assert await client.next() == Puback(number)

    def finish(self) -> None:
        for client in self._clients:
            client.drop()


@pytest.fixture(params=BROKERS)
def play(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]:
    """Runs a scene on one broker: in virtual time where nothing is real."""

    def run(scene: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with BROKERS[request.param](tmp_path) as connector:
                stage = Stage(connector)
                try:
                    await scene(stage)
                finally:
                    stage.finish()

        clock = VirtualClock(datetime(2026, 3, 1, tzinfo=UTC)) if request.param == "memory" else RealClock()
        clock.run(main())

    return run


Play = Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]


def test_qos_1_is_acknowledged_and_delivered(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hes, _ = await stage.join("hes")
        assert await stage.subscribe(hes, "openami/v1/dcu/+/event") == (1,)
        dcu, present = await stage.join("dcu-1")
        assert not present
        await stage.publish(dcu, EVENT, b"one")
        received = await hes.publication()
        assert (received.topic, received.payload, received.qos, received.duplicate) == (EVENT, b"one", 1, False)

    play(scene)


def test_qos_0_is_delivered_without_acknowledgement(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hes, _ = await stage.join("hes")
        assert await stage.subscribe(hes, EVENT, qos=0) == (0,)
        dcu, _ = await stage.join("dcu-1")
        dcu.send(Publish(EVENT, b"one"))
        received = await hes.publication()
        assert (received.payload, received.qos, received.packet_id) == (b"one", 0, None)

    play(scene)


def test_messages_of_one_client_keep_their_order(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hes, _ = await stage.join("hes")
        await stage.subscribe(hes, EVENT)
        dcu, _ = await stage.join("dcu-1")
        for number in range(1, 16):
            dcu.send(Publish(EVENT, b"%d" % number, 1, packet_id=number))
        payloads = []
        while len(payloads) < 15:
            received = await hes.publication()
            assert received.packet_id is not None
            hes.send(Puback(received.packet_id))
            payloads.append(received.payload)
        assert payloads == [b"%d" % number for number in range(1, 16)]

    play(scene)


def test_messages_arrive_while_others_come_and_subscribe(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hes, _ = await stage.join("hes")
        await stage.subscribe(hes, "openami/v1/dcu/+/event")
        dcu, _ = await stage.join("dcu-1")
        other, _ = await stage.join("dcu-2")
        for number in range(1, 41):
            dcu.send(Publish(EVENT, b"%d" % number, 1, packet_id=number))
            other.send(
                Subscribe(number, ((f"openami/v1/dcu/dcu-2/{number}/#", 1), ("openami/v1/dcu/dcu-2/request", 1)))
            )
        payloads = []
        while len(payloads) < 40:
            received = await hes.publication()
            assert received.packet_id is not None
            hes.send(Puback(received.packet_id))
            payloads.append(received.payload)
        assert payloads == [b"%d" % number for number in range(1, 41)]

    play(scene)


def test_lost_puback_means_redelivery_with_dup_in_the_resumed_session(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        dcu, _ = await stage.join("dcu-1", clean=False)
        await stage.subscribe(dcu, REQUEST)
        hes, _ = await stage.join("hes")
        await stage.publish(hes, REQUEST, b"read")
        first = await dcu.publication()
        assert not first.duplicate
        dcu.drop()
        again, present = await stage.join("dcu-1", clean=False)
        assert present
        second = await again.publication()
        assert (second.payload, second.duplicate, second.packet_id) == (b"read", True, first.packet_id)
        assert second.packet_id is not None
        again.send(Puback(second.packet_id))
        again.send(Pingreq())
        assert await again.next() == Pingresp()
        await again.leave()
        last, present = await stage.join("dcu-1", clean=False)
        assert present
        await stage.publish(hes, REQUEST, b"next", number=2)
        assert (await last.publication()).payload == b"next"

    play(scene)


def test_messages_wait_for_a_session_that_is_away(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        dcu, _ = await stage.join("dcu-1", clean=False)
        await stage.subscribe(dcu, REQUEST)
        await dcu.leave()
        hes, _ = await stage.join("hes")
        for number in range(1, 4):
            await stage.publish(hes, REQUEST, b"%d" % number, number=number)
        again, present = await stage.join("dcu-1", clean=False)
        assert present
        assert [(await again.publication()).payload for _ in range(3)] == [b"1", b"2", b"3"]

    play(scene)


def test_repeated_publish_is_acknowledged_again(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        dcu, _ = await stage.join("dcu-1")
        await stage.publish(dcu, EVENT, b"one")
        dcu.send(Publish(EVENT, b"one", 1, duplicate=True, packet_id=1))
        assert await dcu.next() == Puback(1)

    play(scene)


def test_clean_session_forgets(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        dcu, _ = await stage.join("dcu-1", clean=False)
        await stage.subscribe(dcu, REQUEST)
        await dcu.leave()
        fresh, present = await stage.join("dcu-1", clean=True)
        assert not present
        await fresh.leave()
        _, present = await stage.join("dcu-1", clean=False)
        assert not present

    play(scene)


def test_will_is_published_when_a_client_vanishes(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hes, _ = await stage.join("hes")
        await stage.subscribe(hes, "openami/v1/dcu/+/status")
        dcu, _ = await stage.join("dcu-1", will=(STATUS, b"offline", 1, True), keep_alive_s=1)
        dcu.drop()
        received = await hes.publication()
        assert (received.topic, received.payload) == (STATUS, b"offline")

    play(scene)


def test_no_will_after_an_orderly_leave(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hes, _ = await stage.join("hes")
        await stage.subscribe(hes, "openami/v1/dcu/+/status", FENCE)
        dcu, _ = await stage.join("dcu-1", will=(STATUS, b"offline", 1, True))
        await dcu.leave()
        again, _ = await stage.join("dcu-1")
        await stage.publish(again, FENCE, b"fence")
        assert (await hes.publication()).payload == b"fence"

    play(scene)


def test_retained_message_reaches_who_subscribes_later(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        dcu, _ = await stage.join("dcu-1")
        await stage.publish(dcu, STATUS, b"old", retain=True)
        await stage.publish(dcu, STATUS, b"online", retain=True, number=2)
        hes, _ = await stage.join("hes")
        await stage.subscribe(hes, "openami/v1/dcu/+/status")
        received = await hes.publication()
        assert (received.payload, received.retain) == (b"online", True)
        await stage.publish(dcu, STATUS, b"now", retain=True, number=3)
        live = await hes.publication()
        assert (live.payload, live.retain) == (b"now", False)

    play(scene)


def test_empty_retained_message_clears_the_topic(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        dcu, _ = await stage.join("dcu-1")
        await stage.publish(dcu, STATUS, b"online", retain=True)
        await stage.publish(dcu, STATUS, b"", retain=True, number=2)
        hes, _ = await stage.join("hes")
        await stage.subscribe(hes, "openami/v1/dcu/+/status", FENCE)
        await stage.publish(dcu, FENCE, b"fence", number=3)
        assert (await hes.publication()).payload == b"fence"

    play(scene)


def test_unsubscribed_topic_is_silent(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hes, _ = await stage.join("hes")
        await stage.subscribe(hes, EVENT, FENCE)
        hes.send(Unsubscribe(9, (EVENT,)))
        assert await hes.next() == Unsuback(9)
        dcu, _ = await stage.join("dcu-1")
        await stage.publish(dcu, EVENT, b"unheard")
        await stage.publish(dcu, FENCE, b"fence", number=2)
        assert (await hes.publication()).payload == b"fence"

    play(scene)


def test_client_hears_no_topic_that_it_may_not_read(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        spy, _ = await stage.join("dcu-2")
        await stage.subscribe(spy, "openami/v1/dcu/dcu-1/#", "#", "openami/v1/dcu/dcu-2/request")
        hes, _ = await stage.join("hes")
        await stage.publish(hes, REQUEST, b"not for dcu-2")
        await stage.publish(hes, "openami/v1/dcu/dcu-2/request", b"fence", number=2)
        assert (await spy.publication()).payload == b"fence"

    play(scene)


def test_client_reaches_no_topic_that_it_may_not_write(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hes, _ = await stage.join("hes")
        await stage.subscribe(hes, "openami/v1/dcu/+/event")
        forger, _ = await stage.join("dcu-2")
        forger.send(Publish(EVENT, b"forged", 0))
        forger.send(Pingreq())
        await forger.next()
        dcu, _ = await stage.join("dcu-1")
        await stage.publish(dcu, EVENT, b"fence")
        assert (await hes.publication()).payload == b"fence"

    play(scene)


@pytest.mark.parametrize(("name", "password"), [("dcu-1", b"wrong"), ("nobody", b"one"), (None, None)])
def test_strangers_are_refused(play: Play, name: str | None, password: bytes | None) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.raw()
        client.send(Connect("x", True, 60, None, name, password))
        packet = await client.next()
        assert isinstance(packet, Connack)
        assert packet.return_code in (ConnectReturn.NOT_AUTHORIZED, ConnectReturn.BAD_CREDENTIALS)
        assert await client.next() is None

    play(scene)


def test_second_connection_of_a_client_takes_over(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        first, _ = await stage.join("dcu-1", clean=False)
        await stage.subscribe(first, REQUEST)
        second, present = await stage.join("dcu-1", clean=False)
        assert present
        assert await first.next() is None
        hes, _ = await stage.join("hes")
        await stage.publish(hes, REQUEST, b"read")
        assert (await second.publication()).payload == b"read"

    play(scene)


def test_keep_alive_is_answered(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        client, _ = await stage.join("dcu-1")
        client.send(Pingreq())
        assert await client.next() == Pingresp()

    play(scene)


def test_client_that_does_not_begin_with_connect_is_cut_off(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.raw()
        # Long enough for a broker that reads a CONNECT's fields before it looks at the packet's type.
        client.send(Publish(EVENT, bytes(200)))
        assert await client.next() is None

    play(scene)
