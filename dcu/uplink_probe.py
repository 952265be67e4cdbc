"""Does a way carry? Asked by an MQTT session of its own: only the broker at its far end can answer that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from dcu.mqtt_uplink import MqttOptions, MqttUplink
from dcu.uplink import Uplink, UplinkListener

CLIENT_SUFFIX = "-probe"
"""What is put behind the concentrator's client identifier, so that its session stays where it is."""


class UplinkProbe:
    """`make(way)` gives a fresh uplink over that way, with the concentrator's credentials and a clean session."""

    def __init__(self, make: Callable[[str], Uplink], *, timeout_s: float) -> None:
        self._make = make
        self._timeout_s = timeout_s

    async def __call__(self, way: str) -> bool:
        """Whether the broker accepted a session within the time-out."""
        accepted = asyncio.get_running_loop().create_future()

        def connected(session_present: bool) -> None:
            if not accepted.done():
                accepted.set_result(True)

        uplink = self._make(way)
        uplink.start(UplinkListener(connected, lambda _: None, lambda _topic, _payload: None, lambda _: None))
        try:
            async with asyncio.timeout(self._timeout_s):
                await accepted
        except TimeoutError:
            uplink.abort()
            return False
        except asyncio.CancelledError:
            uplink.abort()
            raise
        uplink.stop()
        return True


def mqtt_probe(
    options: MqttOptions, loop: asyncio.AbstractEventLoop, rng: random.Random, timeout_s: float
) -> UplinkProbe:
    """A probe over the ways of a real uplink."""
    ways = dict(options.ways)

    def make(way: str) -> Uplink:
        client_id = options.client_id + CLIENT_SUFFIX
        return MqttUplink(
            replace(options, ways=((way, ways[way]),), client_id=client_id, clean_session=True), loop, rng
        )

    return UplinkProbe(make, timeout_s=timeout_s)
