"""Ties a mesh node to its radio's byte link and to a clock, for meters and the DCU alike. Callbacks only."""

from __future__ import annotations

import random
from collections.abc import Callable

from protocols.mesh.config import MeshConfig
from protocols.mesh.events import MeshEvent
from protocols.mesh.node import MeshNode
from protocols.mesh.timers import TimersProfile
from protocols.ports import ByteLink, Timers, Trace

UdpHandler = Callable[[bytes, int, bytes], None]
"""Called with source address (16 bytes), source port, payload."""


class MeshRunner:
    """One node in operation: frames from and to the radio, timers, UDP ports, events.

    `on_event` gets every event of the node but those datagrams that a handler of `bind_udp` took. The radio is reset
    at the start; when it says `Ready` unasked, it has restarted, and the node configures it and joins again.
    """

    def __init__(
        self,
        config: MeshConfig,
        profile: TimersProfile,
        *,
        timers: Timers,
        link: ByteLink,
        rng: random.Random,
        on_event: Callable[[MeshEvent], None] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.node = MeshNode(config, profile, rng, trace=trace)

    def start(self) -> None:
        """Reset the radio and join."""
        raise NotImplementedError

    def stop(self) -> None:
        """Leave: timers are cancelled, and bytes from the radio are ignored until the next start."""
        raise NotImplementedError

    def bind_udp(self, port: int, handler: UdpHandler) -> None:
        """Deliver datagrams to `port` to the handler. Raises LocalProtocolError if the port is taken."""
        raise NotImplementedError

    def send_udp(self, source_port: int, destination: bytes, destination_port: int, payload: bytes) -> int:
        """See MeshNode.send_udp."""
        raise NotImplementedError
