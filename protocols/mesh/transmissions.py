"""Between IPv6 and the radio: next hops, fragments, retries, and what a missing acknowledgement means."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from protocols.errors import LocalProtocolError
from protocols.mesh.core import NodeCore
from protocols.mesh.events import DropReason
from protocols.mesh.ipv6 import Protocol
from protocols.mesh.key_ring import KeyRing
from protocols.mesh.neighbours import NeighbourTable
from protocols.mesh.routing import Routing
from protocols.mesh.sixlowpan.adapter import LowpanAdapter
from protocols.mesh.transmit_queue import Outgoing, TransmitQueue
from protocols.mesh.wisun import encode_datagram
from protocols.rcp.codes import Status
from protocols.rcp.messages import TransmitDone

if TYPE_CHECKING:
    from protocols.mesh.forwarding import Forwarder

_UPWARD_TRIES_MAX = 8
_DAO_TRIES_MAX = 4
"""Who sent it sends it again: enough that it may fail with a parent and still go to the next."""
_HOP_TRIES_MAX = 3
_BUSY_HOP_TRIES_MAX = 5
_BUSY_TRIES_MAX = 6
_HELD_MAX = 16

_REFUSED = (Status.FRAME_TOO_LONG, Status.NO_KEY, Status.NOT_CONFIGURED, Status.INVALID)


class Transmissions:
    """Queue of one node, with its datagrams' fate: requeued to another parent, sent another way, or dropped aloud."""

    def __init__(
        self, core: NodeCore, keys: KeyRing, routing: Routing, neighbours: NeighbourTable, adapter: LowpanAdapter
    ) -> None:
        self._core = core
        self._keys = keys
        self._routing = routing
        self._neighbours = neighbours
        self._adapter = adapter
        self.forwarder: Forwarder
        self._queue = TransmitQueue(core, self._prepare, self._finished, self._next_hop)
        self._held: deque[tuple[float, Outgoing]] = deque()

    @property
    def frame_counter(self) -> int:
        return self._queue.frame_counter

    def leap(self, counters: int) -> None:
        """Skip frame counters that the radio may have used without telling."""
        self._queue.frame_counter += counters

    # in

    def submit(self, outgoing: Outgoing) -> None:
        """Queue an entry, or drop it if there is no room. `pump` sends."""
        if not self._queue.push(outgoing):
            self._core.drop(DropReason.QUEUE_FULL, outgoing.datagram_id)

    def pump(self) -> None:
        self._queue.pump()

    def done(self, message: TransmitDone) -> None:
        self._queue.done(message)

    def clear(self) -> None:
        """The node stops: everything that waits is lost."""
        for outgoing in self._queue.clear() + [outgoing for _, outgoing in self._held]:
            if outgoing.packet is not None:
                self._core.drop(DropReason.RADIO_RESET, outgoing.datagram_id)
        self._held.clear()

    def next_deadline(self) -> float | None:
        held = self._held[0][0] if self._held else None
        queue = self._queue.next_deadline()
        if held is None or queue is None:
            return queue if held is None else held
        return min(held, queue)

    def handle_timer(self) -> None:
        while self._held and self._held[0][0] <= self._core.now:
            _, outgoing = self._held.popleft()
            self._core.drop(DropReason.NO_ROUTE, outgoing.datagram_id)
        self._queue.handle_timer()

    # preparing

    def _next_hop(self, outgoing: Outgoing) -> bytes | None:
        return self._routing.parent if outgoing.upward else outgoing.next_hop

    def _prepare(self, outgoing: Outgoing) -> bool:
        packet, previous_hop = outgoing.packet, outgoing.next_hop
        if packet is None:
            return True
        outgoing.next_hop = self._next_hop(outgoing)
        if outgoing.upward and outgoing.next_hop is None:
            self._hold(outgoing)
            return False
        if not outgoing.upward and self._is_gone(outgoing.next_hop):
            self._give_up_hop(outgoing)
            return False
        now = self._core.now
        is_fresh = now - outgoing.started_at < self._core.profile.reassembly_timeout_s / 2
        if outgoing.frames and outgoing.next_hop == previous_hop and is_fresh:
            # Fragments that were acknowledged wait at the same neighbour: go on where it stopped.
            return True
        outgoing.position, outgoing.started_at = 0, now
        outgoing.key_index = self._keys.active_index
        try:
            frames = self._adapter.to_frames(packet, outgoing.next_hop)
        except LocalProtocolError:
            self._core.drop(DropReason.TOO_BIG, outgoing.datagram_id)
            return False
        outgoing.frames = [encode_datagram(frame) for frame in frames]
        return True

    def _is_gone(self, next_hop: bytes | None) -> bool:
        neighbour = None if next_hop is None else self._neighbours.get(next_hop)
        return neighbour is not None and neighbour.is_gone(self._core.now)

    def _hold(self, outgoing: Outgoing) -> None:
        """Keep a datagram until there is a parent again."""
        if len(self._held) >= _HELD_MAX:
            self._core.drop(DropReason.NO_ROUTE, outgoing.datagram_id)
            return
        self._held.append((self._core.now + self._core.profile.hold_s, outgoing))

    def parent_changed(self, parent: bytes | None) -> None:
        """What waited for a parent goes on its way."""
        if parent is None:
            return
        while self._held:
            _, outgoing = self._held.pop()
            self._queue.push(outgoing, first=True)

    # finishing

    def _finished(self, outgoing: Outgoing, status: Status, attempts: int) -> None:
        if outgoing.next_hop is not None:
            self._learn(outgoing.next_hop, status, attempts)
        if status is Status.OK:
            return
        outgoing.tries += 1
        if outgoing.packet is None:
            self._core.counters["discovery_not_sent"] += 1
        elif status in _REFUSED:
            self._core.drop(DropReason.RADIO_REFUSED, outgoing.datagram_id)
        elif status is Status.CHANNEL_ACCESS_FAILURE:
            self._retry(outgoing, _BUSY_TRIES_MAX, DropReason.CHANNEL_BUSY)
        elif outgoing.upward:
            is_repeated = outgoing.advertised_by is not None
            self._retry(outgoing, _DAO_TRIES_MAX if is_repeated else _UPWARD_TRIES_MAX, DropReason.NO_ACK)
        elif outgoing.tries < self._hop_tries_max(outgoing.next_hop):
            self._queue.push_later(outgoing)
        else:
            self._give_up_hop(outgoing)

    def _learn(self, next_hop: bytes, status: Status, attempts: int) -> None:
        neighbour = self._neighbours.get(next_hop)
        if neighbour is None or status not in (Status.OK, Status.NO_ACK, Status.NO_SCHEDULE):
            return
        acknowledged = status is Status.OK
        changed = neighbour.record_transmission(attempts, acknowledged, self._core.now, self._core.profile)
        if neighbour.has_failed:
            self._core.counters["link_failures"] += 1
            neighbour.block(self._core.now, self._core.profile.dis_interval_max_s)
            self._routing.link_failed(next_hop)
        elif changed:
            self._routing.link_changed(next_hop)

    def _hop_tries_max(self, next_hop: bytes | None) -> int:
        neighbour = None if next_hop is None else self._neighbours.get(next_hop)
        return _BUSY_HOP_TRIES_MAX if neighbour is not None and neighbour.is_alive else _HOP_TRIES_MAX

    def _retry(self, outgoing: Outgoing, tries_max: int, reason: DropReason) -> None:
        if outgoing.tries < tries_max:
            self._core.counters["requeued"] += 1
            self._queue.push_later(outgoing)
        else:
            self._core.drop(reason, outgoing.datagram_id)

    def _give_up_hop(self, outgoing: Outgoing) -> None:
        """A hop that is not to the parent does not acknowledge: the root looks for another way, others tell it."""
        packet, next_hop = outgoing.packet, outgoing.next_hop
        if packet is None or next_hop is None:
            return
        if self._routing.is_root:
            self._routing.hop_failed(self._core.config.eui64, next_hop)
            if self.forwarder.reroute(outgoing):
                return
        elif packet.extension(Protocol.ROUTING) is not None:
            self.forwarder.hop_failed(packet)
        self._core.drop(DropReason.NO_ACK, outgoing.datagram_id)
