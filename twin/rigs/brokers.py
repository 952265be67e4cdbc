"""The MQTT broker of a rig: in memory behind an emulated backhaul, embedded, or a real mosquitto."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from dcu.mqtt_uplink import MqttOptions, MqttUplink
from dcu.uplink import Uplink
from twin.backhaul.link import Backhaul
from twin.brokers.access import HEADEND, AccessRules, dcu_client, headend_client
from twin.brokers.client import ClientOptions
from twin.brokers.memory import MemoryBroker
from twin.brokers.mosquitto import MosquittoBroker
from twin.clock.clocks import RunClock
from twin.clock.seeds import Seeds, SystemKeys
from twin.errors import RigError
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.options import BrokerKind
from twin.rigs.provisioning import Provision


class BrokerRig(Protocol):
    """A running broker. Every call for an uplink gives a new client with the same identity."""

    @property
    def backhaul(self) -> Backhaul | None:
        """The emulated link between concentrator and broker; None where the sockets are real."""
        ...

    @property
    def dcu_address(self) -> tuple[str, int] | None:
        """Host and port for a concentrator that is a process of its own; None where there are no sockets."""
        ...

    def dcu_uplink(self) -> Uplink: ...

    def headend_uplink(self) -> Uplink: ...

    async def stop(self) -> None:
        """The broker goes away."""
        ...

    async def start(self) -> None:
        """The broker comes back."""
        ...


class MemoryBrokerRig:
    """Real MQTT packets in memory: the concentrator over a backhaul link, the head-end beside the broker."""

    def __init__(
        self, dcu_id: str, parts: Provision, access: AccessRules, clock: RunClock, seeds: Seeds, trace: EventTrace
    ) -> None:
        self._parts = parts
        self._dcu_id = dcu_id
        self._seeds = seeds
        self._broker = MemoryBroker(clock.loop, access, trace=trace)
        self.backhaul: Backhaul | None = Backhaul(clock.loop, seeds.stream("backhaul"), "satellite", trace=trace)
        self._lan = Backhaul(clock.loop, seeds.stream("lan"), "lan", name="lan")

    @property
    def dcu_address(self) -> tuple[str, int] | None:
        return None

    def dcu_uplink(self) -> Uplink:
        assert self.backhaul is not None
        options = ClientOptions(self._dcu_id, self._dcu_id, self._parts.dcu_password)
        return self._broker.uplink(self.backhaul, options, self._seeds.stream("dcu/uplink"))

    def headend_uplink(self) -> Uplink:
        options = ClientOptions(HEADEND, HEADEND, self._parts.headend_password)
        return self._broker.uplink(self._lan, options, self._seeds.stream("hes/uplink"))

    async def stop(self) -> None:
        self._broker.stop()

    async def start(self) -> None:
        self._broker.start()


class _SocketBroker(Protocol):
    """A broker that listens on the loopback interface."""

    @property
    def address(self) -> tuple[str, int]: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class SocketBrokerRig:
    """A broker behind real sockets: both ends are paho clients, in real time."""

    def __init__(self, broker: _SocketBroker, dcu_id: str, parts: Provision, clock: RunClock, seeds: Seeds) -> None:
        self.backhaul: Backhaul | None = None
        self._broker = broker
        self._dcu_id = dcu_id
        self._parts = parts
        self._clock = clock
        self._seeds = seeds

    @property
    def dcu_address(self) -> tuple[str, int] | None:
        return self._broker.address

    def dcu_uplink(self) -> Uplink:
        return self._uplink(self._dcu_id, self._parts.dcu_password, "dcu/uplink")

    def headend_uplink(self) -> Uplink:
        return self._uplink(HEADEND, self._parts.headend_password, "hes/uplink")

    def _uplink(self, user: str, password: str, stream: str) -> Uplink:
        host, port = self._broker.address
        options = MqttOptions(host, port, client_id=user, username=user, password=password)
        return MqttUplink(options, self._clock.loop, self._seeds.stream(stream))

    async def stop(self) -> None:
        await self._broker.stop()

    async def start(self) -> None:
        await self._broker.start()


@asynccontextmanager
async def open_broker(
    kind: BrokerKind,
    dcu_id: str,
    parts: Provision,
    clock: RunClock,
    seeds: Seeds,
    folder: RunFolder,
    trace: EventTrace,
) -> AsyncIterator[BrokerRig]:
    """Start the broker of that kind with the run's clients, and stop it at the end.

    Raises RigError where a program or package that it needs is missing.
    """
    access = AccessRules((dcu_client(dcu_id, parts.dcu_password), headend_client(parts.headend_password)))
    if kind is BrokerKind.MEMORY:
        yield MemoryBrokerRig(dcu_id, parts, access, clock, seeds, trace)
        return
    broker = _socket_broker(kind, access, folder)
    await broker.start()
    try:
        yield SocketBrokerRig(broker, dcu_id, parts, clock, seeds)
    finally:
        await broker.stop()


def _socket_broker(kind: BrokerKind, access: AccessRules, folder: RunFolder) -> _SocketBroker:
    if kind is BrokerKind.MOSQUITTO:
        return MosquittoBroker(folder.file("mosquitto"), access, SystemKeys())
    try:
        from twin.brokers.embedded import EmbeddedBroker
    except ModuleNotFoundError as error:
        raise RigError("--broker embedded needs amqtt: pip install 'openami-twin[mqtt]'") from error
    return EmbeddedBroker(access)
