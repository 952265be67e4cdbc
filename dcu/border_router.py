"""The root of the mesh: routes to the meters, and a UDP socket for DLMS in each direction."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from dcu.config import DcuConfig
from dcu.counters import FrameCounterReserve
from dcu.group_keys import GroupKeyStore
from dcu.radio import WatchedLink
from dcu.storage import Storage, StorageError
from protocols.mesh.config import LinkKey, MeshConfig, Role
from protocols.mesh.events import (
    AccessRefused,
    Dropped,
    EchoReplyReceived,
    GroupKeysChanged,
    JoinStateChanged,
    MeshEvent,
    NodeLost,
    NodeReachable,
    RouteSuspect,
)
from protocols.mesh.ipv6 import ALL_MPL_FORWARDERS
from protocols.mesh.runner import MeshRunner
from protocols.mesh.timers import profile_named
from protocols.ports import ByteLink, Cancellable, Timers, Trace

_LOG = logging.getLogger(__name__)

DLMS_PORT = 4059
"""The wrapper's UDP port (IEC 62056-4-7)."""
FRAME_COUNTER_BLOCK = 65_536
_ECHO_IDENTIFIER = 0x0A41
_REVOKED = "revoked-devices"
_EUI64_BYTES = 8
_REPLAY_FLOORS = "replay-floors"
_REPLAY_FLOORS_EVERY_S = 300.0
"""How old the stored counters of neighbours may be: so much can be replayed after a power cut."""
_FRAME_COUNTER_MARGIN = 4_096
"""More frames than a radio sends between two of its reports."""


@dataclass(frozen=True, slots=True)
class Reachability:
    """A meter's place in the mesh: IPv6 address (16 bytes), radio hops, since when (s on the loop's clock).

    `is_broken`: a hop does not work, no other way is known, and the mesh looks for one.
    """

    address: bytes
    hops: int
    since_s: float
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class RouterListener:
    """Where the border router reports: a meter is in the mesh (`restarted`: it lost its memory), or is not any more.

    `datagram(address, payload)` is one from a meter's DLMS port.
    """

    reachable: Callable[[bytes, bool], None]
    lost: Callable[[bytes, str], None]
    datagram: Callable[[bytes, bytes], None]
    refused: Callable[[bytes, str, str], None] = lambda _eui64, _reason, _detail: None
    """A device (EUI-64) does not get into the mesh: reason and detail."""


class BorderRouter:
    """Mesh root over one radio. Frame counters go to storage ahead of their use."""

    def __init__(
        self,
        config: DcuConfig,
        listener: RouterListener,
        *,
        timers: Timers,
        radio: ByteLink,
        storage: Storage,
        rng: random.Random,
        trace: Trace,
        start_count: int,
    ) -> None:
        self._timers = timers
        self._storage = storage
        self._floors_timer: Cancellable | None = None
        self._stored_floors = b""
        self._echoes: dict[tuple[bytes, int], asyncio.Future[float]] = {}
        self._echo_sequence = 0
        self._listener = listener
        self._trace = trace
        self._table: dict[bytes, Reachability] = {}
        self._frame_counters = FrameCounterReserve(
            storage,
            "frame",
            block=FRAME_COUNTER_BLOCK,
            margin=_FRAME_COUNTER_MARGIN,
            least=config.predecessor.frame_counter,
        )
        self.counters: Counter[str] = Counter()
        self._link = WatchedLink(radio, self._note_frame_counter)
        self._revoked = _split(storage.read(_REVOKED) or b"")
        self._group_keys = GroupKeyStore(storage, LinkKey(config.key_index, config.link_key))
        keys, active_key_index = self._group_keys.load()
        mesh = MeshConfig(
            eui64=config.eui64,
            network_name=config.network_name,
            keys=keys,
            active_key_index=active_key_index,
            frame_counter=self._frame_counters.first,
            start_count=start_count,
            role=Role.ROOT,
            pan_id=config.pan_id,
            prefix=config.prefix,
            radio=config.radio,
            credentials=config.mesh_credentials,
            revoked=self._revoked,
            replay_floors=storage.read(_REPLAY_FLOORS) or b"",
        )
        self._profile = profile_named(config.timers_profile)
        self._runner = MeshRunner(
            mesh,
            self._profile,
            timers=timers,
            link=self._link,
            rng=rng,
            on_event=self._event,
            trace=trace,
        )
        self._runner.bind_udp(DLMS_PORT, self._datagram)

    def start(self) -> None:
        """Reset the radio and open the mesh."""
        self._runner.start()
        self._store_floors()

    def stop(self) -> None:
        if self._floors_timer is not None:
            self._floors_timer.cancel()
            self._floors_timer = None
        self._runner.stop()
        self._link.close()

    def _store_floors(self) -> None:
        """Keep what was heard, so that the radio refuses it after a restart."""
        floors = self._runner.node.replay_floors
        if floors != self._stored_floors:
            try:
                self._storage.write(_REPLAY_FLOORS, floors)
                self._stored_floors = floors
            except StorageError as error:
                self.counters["storage_errors"] += 1
                _LOG.error("frame counters of neighbours cannot be stored: %s", error)
        self._floors_timer = self._timers.call_at(self._timers.time() + _REPLAY_FLOORS_EVERY_S, self._store_floors)

    def send_to_all(self, payload: bytes) -> None:
        """A datagram to the DLMS port of every meter in the mesh, by multicast. Each gets it once, or not at all."""
        self._runner.send_udp(DLMS_PORT, ALL_MPL_FORWARDERS, DLMS_PORT, payload)

    def flood_s(self) -> float:
        """How long a multicast takes to the farthest meter at present, where no frame of it is lost."""
        hops = max((place.hops for place in self._table.values()), default=1)
        return hops * self._profile.mpl.data.imin_s

    async def ping(self, address: bytes, *, payload: bytes = b"", timeout_s: float = 10.0) -> float | None:
        """ICMPv6 echo to any node, whose IPv6 address this is: the round trip in seconds, None without an answer."""
        loop = asyncio.get_running_loop()
        self._echo_sequence = (self._echo_sequence + 1) & 0xFFFF
        answer: asyncio.Future[float] = loop.create_future()
        key = (address, self._echo_sequence)
        self._echoes[key] = answer
        started_s = self._timers.time()
        self._runner.send_echo(address, _ECHO_IDENTIFIER, self._echo_sequence, payload)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer - started_s
        except TimeoutError:
            return None
        finally:
            self._echoes.pop(key, None)

    def _echoed(self, event: EchoReplyReceived) -> None:
        answer = self._echoes.get((event.source, event.sequence))
        if event.identifier == _ECHO_IDENTIFIER and answer is not None and not answer.done():
            answer.set_result(self._timers.time())

    @property
    def frame_counter_end(self) -> int:
        """The first frame counter that the radio cannot have used: it is not reserved yet."""
        return self._frame_counters.reserved

    def where(self, eui64: bytes) -> Reachability | None:
        """A meter's place in the mesh, None while it has none."""
        return self._table.get(eui64)

    def send(self, address: bytes, payload: bytes) -> None:
        """A datagram to a meter's DLMS port. Whether it arrives shows in the answer."""
        self._runner.send_udp(DLMS_PORT, address, DLMS_PORT, payload)

    def rotate_group_key(self, key: LinkKey) -> None:
        """Bring a new group key, index 1 to 4, into use; the one before it ends. Raises LocalProtocolError."""
        self._runner.rotate_group_key(key)

    def revoke(self, eui64: bytes) -> None:
        """Refuse a device from now on, after a restart too; the next rotation shuts it out. Raises StorageError."""
        self._revoked |= {eui64}
        self._storage.write(_REVOKED, b"".join(sorted(self._revoked)))
        self._runner.revoke(eui64)

    def mesh_counters(self) -> Counter[str]:
        """What the mesh dropped, by reason."""
        return Counter(self._runner.node.counters)

    def _datagram(self, source: bytes, _source_port: int, payload: bytes) -> None:
        self._listener.datagram(source, payload)

    def _note_frame_counter(self) -> None:
        used = self._runner.node.frame_counter
        try:
            self._frame_counters.note(used)
        except StorageError as error:
            self.counters["storage_errors"] += 1
            if self.counters["storage_errors"] == 1:
                _LOG.error("frame counters cannot be stored: %s", error)
                self._trace("dcu-storage-error", record="frame", error=str(error))
            if used >= self._frame_counters.reserved:
                # After a restart these values would be used again under the same key.
                _LOG.critical("the mesh is stopped: no frame counter is left that is stored")
                self._trace("dcu-mesh-stopped", reason="frame counters cannot be stored")
                self.stop()

    def _event(self, event: MeshEvent) -> None:
        if isinstance(event, NodeReachable):
            self._table[event.eui64] = Reachability(event.address, event.hops, self._timers.time())
            self._listener.reachable(event.eui64, event.restarted)
        elif isinstance(event, NodeLost):
            self._table.pop(event.eui64, None)
            self._listener.lost(event.eui64, event.why)
        elif isinstance(event, EchoReplyReceived):
            self._echoed(event)
        elif isinstance(event, AccessRefused):
            self.counters["access_refused"] += 1
            _LOG.warning("device %s may not join: %s", event.eui64.hex(), event.detail or event.reason)
            self._listener.refused(event.eui64, event.reason, event.detail)
        elif isinstance(event, GroupKeysChanged):
            self._group_keys.save(event.keys, event.active_index)
        elif isinstance(event, RouteSuspect):
            self.counters["route_suspect"] += 1
            place = self._table.get(event.eui64)
            if place is not None:
                self._table[event.eui64] = replace(place, is_broken=True)
            _LOG.warning("route to %s is suspect: a hop did not acknowledge", event.eui64.hex())
        elif isinstance(event, Dropped):
            self.counters[f"dropped_{event.reason}"] += 1
        elif isinstance(event, JoinStateChanged):
            _LOG.info("mesh: %s -> %s (%s)", event.previous.name, event.state.name, event.why)


def _split(stored: bytes) -> frozenset[bytes]:
    """The EUI-64s of a record of them."""
    return frozenset(stored[at : at + _EUI64_BYTES] for at in range(0, len(stored), _EUI64_BYTES))
