"""The MQTT broker of a rig: in memory behind an emulated backhaul, embedded, or a real mosquitto.

To mosquitto everybody speaks TLS 1.3 with a client certificate of the run's own authority, the concentrator in QEMU
too. Its keys are files, as mosquitto wants them, in a folder that goes with the run.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from dcu.config import UplinkPolicy
from dcu.mqtt_uplink import MqttOptions, MqttUplink, TlsOptions, WayAddress
from dcu.station import Ways
from dcu.uplink import Uplink
from dcu.uplink_probe import CLIENT_SUFFIX, UplinkProbe, mqtt_probe
from twin.backhaul.link import Backhaul
from twin.brokers.access import HEADEND, AccessRules, dcu_client, headend_client
from twin.brokers.client import ClientOptions
from twin.brokers.memory import MemoryBroker
from twin.brokers.mosquitto import MosquittoBroker
from twin.brokers.tls import Identity, RunAuthority
from twin.brokers.transport import Connector
from twin.clock.clocks import RunClock
from twin.clock.seeds import Seeds, SystemKeys
from twin.errors import RigError
from twin.rigs.equipment import SATELLITE, Equipment
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.options import BrokerKind
from twin.rigs.provisioning import Provision

BROKER_NAME = "mqtt.openami.test"
"""What the broker's certificate says, wherever its port is seen from."""


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """How one client reaches a broker with sockets: by its certificate where there is one, else by a password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: Identity | None = None

    def options(self) -> MqttOptions:
        """For a client in this process."""
        tls = self.tls
        return MqttOptions(
            self.host,
            self.port,
            client_id=self.user,
            username=self.user if tls is None else None,
            password=self.password if tls is None else None,
            tls=None if tls is None else TlsOptions(tls.ca, tls.certificate, tls.private_key, BROKER_NAME),
        )


class BrokerRig(Protocol):
    """A running broker. Every call for an uplink gives a new client with the same identity."""

    @property
    def backhaul(self) -> Backhaul | None:
        """The emulated link between concentrator and broker; None where the sockets are real."""
        ...

    @property
    def dcu_access(self) -> BrokerAccess | None:
        """For a concentrator that is a process or a machine of its own; None where there are no sockets."""
        ...

    def dcu_uplink(self) -> Uplink: ...

    def dcu_ways(self, equipment: Equipment) -> Ways:
        """An uplink over the links of the equipment, and a probe for the one that is not in use."""
        ...

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
    def dcu_access(self) -> BrokerAccess | None:
        return None

    def dcu_uplink(self) -> Uplink:
        assert self.backhaul is not None
        options = ClientOptions(self._dcu_id, self._dcu_id, self._parts.dcu_password)
        return self._broker.uplink(self.backhaul, options, self._seeds.stream("dcu/uplink"))

    def dcu_ways(self, equipment: Equipment) -> Ways:
        options = ClientOptions(self._dcu_id, self._dcu_id, self._parts.dcu_password)
        probe = replace(options, client_id=self._dcu_id + CLIENT_SUFFIX, clean_session=True)
        return Ways(
            self._broker.routed_uplink(equipment.links, options, self._seeds.stream("dcu/uplink")),
            UplinkProbe(
                lambda way: self._broker.uplink(equipment.links[way], probe, self._seeds.stream("dcu/probe")),
                timeout_s=UplinkPolicy().probe_timeout_s,
            ),
        )

    def dcu_connectors(self, equipment: Equipment) -> dict[str, Connector]:
        """The ways to the broker for a concentrator that speaks MQTT itself."""
        assert self.backhaul is not None
        links = equipment.links or {SATELLITE: self.backhaul}
        return {name: link.connector(self._broker.accept) for name, link in links.items()}

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

    def __init__(
        self,
        broker: _SocketBroker,
        dcu_id: str,
        parts: Provision,
        clock: RunClock,
        seeds: Seeds,
        tls: dict[str, Identity] | None = None,
    ) -> None:
        """`tls` has the clients' certificates by user, where the broker wants them."""
        self.backhaul: Backhaul | None = None
        self._broker = broker
        self._dcu_id = dcu_id
        self._parts = parts
        self._clock = clock
        self._seeds = seeds
        self._tls = tls or {}

    @property
    def dcu_access(self) -> BrokerAccess | None:
        return self._access(self._dcu_id, self._parts.dcu_password)

    def dcu_uplink(self) -> Uplink:
        return self._uplink(self._access(self._dcu_id, self._parts.dcu_password), "dcu/uplink")

    def dcu_ways(self, equipment: Equipment) -> Ways:
        ways = tuple((name, WayAddress(*proxy.address)) for name, proxy in equipment.proxies.items())
        options = replace(self._access(self._dcu_id, self._parts.dcu_password).options(), ways=ways)
        loop, rng = self._clock.loop, self._seeds.stream("dcu/uplink")
        return Ways(MqttUplink(options, loop, rng), mqtt_probe(options, loop, rng, UplinkPolicy().probe_timeout_s))

    def headend_uplink(self) -> Uplink:
        return self._uplink(self._access(HEADEND, self._parts.headend_password), "hes/uplink")

    def _access(self, user: str, password: str) -> BrokerAccess:
        host, port = self._broker.address
        return BrokerAccess(host, port, user, password, self._tls.get(user))

    def _uplink(self, access: BrokerAccess, stream: str) -> Uplink:
        return MqttUplink(access.options(), self._clock.loop, self._seeds.stream(stream))

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
    if kind is BrokerKind.MOSQUITTO:
        with tempfile.TemporaryDirectory(prefix="twin-tls-") as name:
            authority = RunAuthority(Path(name), datetime.fromtimestamp(clock.utc_s(), UTC))
            server = authority.issue_server(BROKER_NAME, BROKER_NAME)
            tls = {user: authority.issue_client(user) for user in (dcu_id, HEADEND)}
            broker = MosquittoBroker(folder.file("mosquitto"), access, SystemKeys(), tls=server)
            async with _running(broker):
                yield SocketBrokerRig(broker, dcu_id, parts, clock, seeds, tls)
        return
    try:
        from twin.brokers.embedded import EmbeddedBroker
    except ModuleNotFoundError as error:
        raise RigError("--broker embedded needs amqtt: pip install 'openami-twin[mqtt]'") from error
    embedded = EmbeddedBroker(access)
    async with _running(embedded):
        yield SocketBrokerRig(embedded, dcu_id, parts, clock, seeds)


@asynccontextmanager
async def _running(broker: _SocketBroker) -> AsyncIterator[None]:
    await broker.start()
    try:
        yield
    finally:
        await broker.stop()
