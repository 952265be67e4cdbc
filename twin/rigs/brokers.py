"""The MQTT broker of a rig: in memory behind an emulated backhaul, embedded, or a real mosquitto."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from dcu.uplink import Uplink
from twin.backhaul.link import Backhaul
from twin.brokers.access import HEADEND, AccessRules, dcu_client, headend_client
from twin.brokers.client import ClientOptions
from twin.brokers.memory import MemoryBroker
from twin.clock.clocks import RunClock
from twin.clock.seeds import Seeds
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.options import BrokerKind
from twin.rigs.provisioning import Provision


class BrokerRig(Protocol):
    """A running broker. Every call for an uplink gives a new client with the same identity."""

    @property
    def backhaul(self) -> Backhaul | None:
        """The emulated link between concentrator and broker; None where the sockets are real."""
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
    """Start the broker of that kind with the run's clients, and stop it at the end."""
    access = AccessRules((dcu_client(dcu_id, parts.dcu_password), headend_client(parts.headend_password)))
    if kind is BrokerKind.MEMORY:
        yield MemoryBrokerRig(dcu_id, parts, access, clock, seeds, trace)
        return
    raise NotImplementedError
