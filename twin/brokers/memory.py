"""The broker in the memory of a run: real packets over emulated links, on the loop of the run. No sockets."""

from __future__ import annotations

import random
from collections.abc import Mapping

from protocols.errors import LocalProtocolError
from protocols.ports import Timers, Trace
from twin.backhaul.link import Backhaul
from twin.brokers.access import AccessRules
from twin.brokers.broker import Broker, Limits
from twin.brokers.client import ClientOptions, MqttClient
from twin.brokers.routed import RoutedClient
from twin.brokers.transport import Transport, TransportHandler


class MemoryBroker:
    """A broker that clients reach over `Backhaul` links. Verbs: `stop` and `start`, as of the broker's process."""

    def __init__(
        self, timers: Timers, access: AccessRules, *, limits: Limits | None = None, trace: Trace | None = None
    ) -> None:
        self.core = Broker(timers, access, limits=limits, trace=trace)
        self._timers = timers
        self._running = True

    def uplink(self, link: Backhaul, options: ClientOptions, rng: random.Random) -> MqttClient:
        """A client on the near end of `link`; it keeps the contract of `dcu.uplink.Uplink`."""
        return MqttClient(self._timers, link.connector(self.accept), options, rng)

    def routed_uplink(self, links: Mapping[str, Backhaul], options: ClientOptions, rng: random.Random) -> RoutedClient:
        """A client that can take any of the links; it keeps the contract of `dcu.uplink.RoutedUplink`."""
        ways = {name: link.connector(self.accept) for name, link in links.items()}
        return RoutedClient(self._timers, ways, options, rng)

    def accept(self, transport: Transport) -> TransportHandler:
        """A connection arrived; one that comes while the broker is stopped is closed at once."""
        if not self._running:
            transport.close()
            return TransportHandler(received=lambda _: None, lost=lambda _: None)
        connection = self.core.attach(transport)
        return TransportHandler(received=connection.received, lost=connection.lost)

    def stop(self) -> None:
        """The broker goes away, as by a crash: clients are cut off, no will is published, sessions are kept."""
        if not self._running:
            raise LocalProtocolError("the broker is stopped already")
        self._running = False
        self.core.close_all()

    def start(self) -> None:
        """The broker is back, with the sessions that it had."""
        self._running = True
