"""The meter on the mesh: DLMS wrapper datagrams on UDP 4059, and frame counters that survive."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from meters.firmware.storage import RecordStore
from meters.identity import MeterIdentity
from protocols.dlms.wrapper import Wpdu
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.mesh.authentication.trust import MeshCredentials
from protocols.mesh.config import LinkKey, MeshConfig, RadioSettings
from protocols.mesh.events import DatagramReceived, Dropped, MeshEvent
from protocols.mesh.runner import MeshRunner
from protocols.mesh.timers import TimersProfile
from protocols.meter_identity import WRAPPER_PORT
from protocols.ports import ByteLink, Timers, Trace

FRAME_COUNTER_LEAP = 1 << 17
"""Frame counters reserved at a time: more than a radio of 50 kb/s can use between two checkpoints."""

_PUSHED_MAX = 16
"""Pushes that may still be given up; the oldest of more are taken for delivered."""
_FRAME_COUNTER = "mesh.frame_counter"
_REPLAY_FLOORS = "mesh.replay_floors"

Handle = Callable[[int, int, bytes, object, float], bytes | None]
"""Client SAP, server SAP, APDU, channel, seconds on the way: the answer, or None."""
Guard = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """How the meter joins the mesh: network name, link keys or its certificate, timer profile, radio plan."""

    network_name: str
    keys: tuple[LinkKey, ...] = field(repr=False)
    profile: TimersProfile
    active_key_index: int = 1
    radio: RadioSettings = field(default_factory=RadioSettings)
    credentials: MeshCredentials | None = field(default=None, repr=False)
    """With them the meter proves itself and is given the link keys; it needs none in `keys` then."""


class MeshEndpoint:
    """Runs the mesh stack and hands DLMS datagrams to the COSEM server. `guard` runs what may write to flash."""

    def __init__(
        self,
        identity: MeterIdentity,
        settings: MeshSettings,
        counters: RecordStore,
        handle: Handle,
        guard: Guard,
        *,
        timers: Timers,
        link: ByteLink,
        rng: random.Random,
        start_count: int,
        trace: Trace,
    ) -> None:
        self.drops: Counter[str] = Counter()
        self._pushed: dict[int, Callable[[], None]] = {}
        self._given_up: set[int | None] = set()
        self._counters = counters
        self._handle = handle
        self._guard = guard
        first = counters.load(_FRAME_COUNTER) or 0
        self._reserve(first)
        config = MeshConfig(
            eui64=identity.eui64,
            network_name=settings.network_name,
            keys=settings.keys,
            active_key_index=settings.active_key_index,
            frame_counter=first,
            start_count=start_count,
            radio=settings.radio,
            credentials=settings.credentials,
            replay_floors=counters.get(_REPLAY_FLOORS) or b"",
        )
        self.runner = MeshRunner(
            config, settings.profile, timers=timers, link=link, rng=rng, on_event=self._on_event, trace=trace
        )
        self.runner.bind_datagrams(WRAPPER_PORT, self._on_datagram)

    def start(self) -> None:
        self.runner.start()

    def stop(self) -> None:
        self.runner.stop()

    @property
    def is_joined(self) -> bool:
        """There is a way to the root."""
        node = self.runner.node
        return node.address is not None and node.root_address is not None

    def push(self, server_sap: int, client_sap: int, apdu: bytes, on_lost: Callable[[], None]) -> None:
        """Send an APDU to the root unasked. `on_lost` is called if this node has to give it up; what is lost further on
        nobody tells. Raises LocalProtocolError without a way to the root."""
        root = self.runner.node.root_address
        if root is None:
            raise LocalProtocolError("there is no root to push to")
        payload = Wpdu(server_sap, client_sap, apdu).encode()
        # It may be given up before `send_udp` returns: then there is no identifier yet to know it by.
        self._given_up.clear()
        datagram_id = self.runner.send_udp(WRAPPER_PORT, root, WRAPPER_PORT, payload)
        if datagram_id in self._given_up:
            on_lost()
            return
        self._pushed[datagram_id] = on_lost
        if len(self._pushed) > _PUSHED_MAX:
            del self._pushed[next(iter(self._pushed))]

    def checkpoint(self) -> None:
        """Keep the reservation ahead of what the radio has used, and what it has heard for after a power cut."""
        self._counters.put(_REPLAY_FLOORS, self.runner.node.replay_floors)
        used = self.runner.node.frame_counter
        if used + FRAME_COUNTER_LEAP // 2 > self._reserved:
            self._reserve(used)

    def _reserve(self, used: int) -> None:
        self._reserved = used + FRAME_COUNTER_LEAP
        self._counters.save(_FRAME_COUNTER, self._reserved)

    def _on_event(self, event: MeshEvent) -> None:
        """The node traces its own events; the firmware needs to know of pushes that were given up."""
        if isinstance(event, Dropped):
            self._given_up.add(event.datagram_id)
            on_lost = self._pushed.pop(event.datagram_id or 0, None)
            if on_lost is not None:
                on_lost()

    def _on_datagram(self, datagram: DatagramReceived) -> None:
        self._guard(lambda: self._answer(datagram))

    def _answer(self, datagram: DatagramReceived) -> None:
        try:
            wpdu = Wpdu.decode(datagram.payload)
        except RemoteProtocolError:
            self.drops["malformed_wpdu"] += 1
            return
        peer = (datagram.source, datagram.source_port)
        answer = self._handle(wpdu.source_port, wpdu.destination_port, wpdu.apdu, peer, datagram.age_s)
        if answer is not None:
            reply = Wpdu(wpdu.destination_port, wpdu.source_port, answer).encode()
            self.runner.send_udp(WRAPPER_PORT, *peer, reply)
