"""The mesh stack of one node, from the radio's messages up to UDP. Sans-I/O: messages and `now` in, messages out."""

from __future__ import annotations

import random
from collections import Counter

from protocols.mesh.config import MeshConfig
from protocols.mesh.events import MeshEvent
from protocols.mesh.join import JoinState
from protocols.mesh.timers import TimersProfile
from protocols.ports import Trace
from protocols.rcp.messages import RcpMessage


class MeshNode:
    """A Wi-SUN-like FAN node: joins a PAN, keeps a route, forwards, sends and receives UDP over IPv6.

    Times are seconds on the caller's monotonic clock. After every call, take `take_messages()` to the radio, look at
    `take_events()`, and call `handle_timer` when `next_timer()` has come. What a peer sends wrong is counted in
    `counters` and dropped; nothing it sends raises.
    """

    def __init__(
        self, config: MeshConfig, timers_profile: TimersProfile, rng: random.Random, *, trace: Trace | None = None
    ) -> None:
        self.config = config
        self.counters: Counter[str] = Counter()

    @property
    def state(self) -> JoinState:
        raise NotImplementedError

    @property
    def address(self) -> bytes | None:
        """The node's global IPv6 address, None while it has none."""
        raise NotImplementedError

    @property
    def link_local_address(self) -> bytes:
        raise NotImplementedError

    @property
    def root_address(self) -> bytes | None:
        """The DODAG root's address (DODAGID), None before a DIO told it. Where a meter sends its pushes."""
        raise NotImplementedError

    @property
    def parent(self) -> bytes | None:
        """EUI-64 of the preferred parent."""
        raise NotImplementedError

    @property
    def frame_counter(self) -> int:
        """Highest outgoing frame counter that the radio has reported: what the host stores, with a leap."""
        raise NotImplementedError

    def start(self, now: float) -> None:
        """Configure the radio and begin to join. Also after the radio's `Ready`, which calls for a new start."""
        raise NotImplementedError

    def stop(self, now: float) -> None:
        """Forget everything but the configuration."""
        raise NotImplementedError

    def receive(self, message: RcpMessage, now: float) -> None:
        """A message from the radio."""
        raise NotImplementedError

    def next_timer(self) -> float | None:
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        raise NotImplementedError

    def listen(self, port: int) -> None:
        """Accept UDP datagrams to this port; others are answered by ICMPv6 port unreachable."""
        raise NotImplementedError

    def send_udp(self, source_port: int, destination: bytes, destination_port: int, payload: bytes, now: float) -> int:
        """Send a datagram; returns the identifier that a later `Dropped` names.

        Raises LocalProtocolError for a port, address or payload size that UDP does not allow.
        """
        raise NotImplementedError

    def send_echo(self, destination: bytes, identifier: int, sequence: int, payload: bytes, now: float) -> int:
        """Send an ICMPv6 echo request; the answer comes as EchoReplyReceived."""
        raise NotImplementedError

    def hops_to(self, eui64: bytes) -> int | None:
        """Root only: radio hops of the present route to a node, None without one."""
        raise NotImplementedError

    def take_messages(self) -> list[RcpMessage]:
        raise NotImplementedError

    def take_events(self) -> list[MeshEvent]:
        raise NotImplementedError
