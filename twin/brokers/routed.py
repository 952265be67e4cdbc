"""An MQTT client that reaches its broker over more than one link, one at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from protocols.errors import LocalProtocolError
from protocols.ports import Timers
from twin.brokers.client import ClientOptions, MqttClient
from twin.brokers.transport import Connector, Transport, TransportHandler


class WaySelector:
    """A connector that opens connections over the selected way."""

    def __init__(self, ways: Mapping[str, Connector]) -> None:
        self._ways = dict(ways)
        self._selected = next(iter(self._ways))

    def select(self, way: str) -> None:
        if way not in self._ways:
            raise LocalProtocolError(f"no way {way!r}; there are {', '.join(self._ways)}")
        self._selected = way

    def open(
        self, handler: TransportHandler, opened: Callable[[Transport], None], failed: Callable[[str], None]
    ) -> Callable[[], None]:
        return self._ways[self._selected].open(handler, opened, failed)


class RoutedClient(MqttClient):
    """`dcu.uplink.RoutedUplink` over connectors."""

    def __init__(
        self, timers: Timers, ways: Mapping[str, Connector], options: ClientOptions, rng: random.Random
    ) -> None:
        self._selector = WaySelector(ways)
        super().__init__(timers, self._selector, options, rng)

    def route(self, way: str) -> None:
        self._selector.select(way)
        self.reconnect("another way is taken")
