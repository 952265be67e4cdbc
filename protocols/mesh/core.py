"""What the layers of one mesh node share: identity, clock, randomness, counters, and what goes out."""

from __future__ import annotations

import random
from collections import Counter

from protocols.mesh.config import MeshConfig
from protocols.mesh.events import Dropped, DropReason, MeshEvent
from protocols.mesh.ipv6 import interface_identifier, link_local
from protocols.mesh.timers import TimersProfile
from protocols.ports import Trace
from protocols.rcp.messages import HostMessage


class NodeCore:
    """Shared by the layers of one `MeshNode`, which sets `now` whenever it is called."""

    def __init__(self, config: MeshConfig, profile: TimersProfile, rng: random.Random, trace: Trace | None) -> None:
        self.config = config
        self.profile = profile
        self.rng = rng
        self._trace = trace
        self.now = 0.0
        self.counters: Counter[str] = Counter()
        self.events: list[MeshEvent] = []
        self.messages: list[HostMessage] = []
        self.link_local_address = link_local(config.eui64)
        self.address: bytes | None = None
        self.pan_id: int | None = None
        self._interface_identifier = interface_identifier(config.eui64)

    def set_prefix(self, prefix: bytes) -> bytes:
        """Make the global address under this 8-byte prefix."""
        self.address = prefix + self._interface_identifier
        return self.address

    def is_mine(self, address: bytes) -> bool:
        return address in (self.address, self.link_local_address)

    def trace(self, kind: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace(kind, node=self.config.eui64.hex(), **fields)

    def drop(self, reason: DropReason, datagram_id: int | None = None) -> None:
        """Count what is given up; an event tells the application of its own datagrams and of what was forwarded."""
        self.counters[reason] += 1
        self.events.append(Dropped(reason, datagram_id))
        self.trace("mesh.dropped", reason=reason.value, datagram=datagram_id)
