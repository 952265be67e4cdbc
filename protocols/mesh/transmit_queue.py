"""What waits for the radio. Bounded, few frames at a time, and no answer of the radio is waited for without end."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.mesh.core import NodeCore
from protocols.mesh.icmpv6 import Icmpv6Type
from protocols.mesh.ipv6 import Ipv6Packet, Protocol
from protocols.mesh.rpl.messages import RplCode
from protocols.mesh.timers import earliest
from protocols.mesh.wisun import FrameType
from protocols.rcp.codes import Status
from protocols.rcp.messages import Transmit, TransmitDone

IN_FLIGHT_MAX = 2
ANSWER_TIMEOUT_S = 30.0
QUEUE_LENGTH = 64
_RETRY_AFTER_S = 0.1
"""How long a full radio is left alone."""
_DAO = bytes((Icmpv6Type.RPL_CONTROL, RplCode.DAO))
_BACKOFF_S = 0.1
_BACKOFF_DOUBLINGS_MAX = 4


@dataclass(slots=True, eq=False)
class Outgoing:
    """A datagram, or a discovery frame, on its way to the radio.

    `upward` means that the next hop is whoever is the preferred parent when its turn comes; else it is `next_hop`,
    None for a broadcast. `frames` are the payload elements of its frames, made when the turn comes.
    """

    packet: Ipv6Packet | None
    next_hop: bytes | None = None
    upward: bool = False
    datagram_id: int | None = None
    frame_type: FrameType = FrameType.DATA
    key_index: int = 0
    tries: int = 0
    frames: list[bytes] = field(default_factory=list)
    position: int = 0
    started_at: float = 0.0
    """When the first of its frames was given to the radio."""

    @property
    def is_urgent(self) -> bool:
        """ICMPv6 mends routes: it does not wait behind the datagrams that wait for the route."""
        return self.packet is not None and self.packet.protocol == Protocol.ICMPV6

    @property
    def advertised_by(self) -> bytes | None:
        """The node whose DAO this is, None for anything else."""
        packet = self.packet
        if packet is None or packet.protocol != Protocol.ICMPV6 or packet.payload[:2] != _DAO:
            return None
        return packet.source


class TransmitQueue:
    """Gives frames to the radio one after the other.

    `prepare` sets the next hop and the frames of an entry whose turn has come; False: it was dropped or put aside.
    `finished` gets every entry back with the status of its last frame and the attempts that this took.
    """

    def __init__(
        self,
        core: NodeCore,
        prepare: Callable[[Outgoing], bool],
        finished: Callable[[Outgoing, Status, int], None],
        next_hop: Callable[[Outgoing], bytes | None],
    ) -> None:
        self._core = core
        self._prepare = prepare
        self._finished = finished
        self._next_hop = next_hop
        self._waiting: deque[Outgoing] = deque()
        self._urgent: deque[Outgoing] = deque()
        self._delayed: list[tuple[float, int, Outgoing]] = []
        self._delayed_count = 0
        self._in_flight: dict[int, tuple[Outgoing, float]] = {}
        self._handle = 0
        self._paused_until: float | None = None
        self.frame_counter = core.config.frame_counter
        """The next one to use, as far as the radio has told."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._urgent) + len(self._delayed) + len(self._in_flight)

    def push(self, outgoing: Outgoing, *, first: bool = False) -> bool:
        """Queue an entry, at the front if it has been there already; False if there is no room."""
        queue = self._urgent if outgoing.is_urgent else self._waiting
        if first:
            queue.appendleft(outgoing)
        elif self._supersedes(outgoing):
            return True
        elif len(queue) + len(self._delayed) >= QUEUE_LENGTH:
            return False
        else:
            queue.append(outgoing)
        return True

    def _supersedes(self, outgoing: Outgoing) -> bool:
        """Whether it is a DAO that took the place of an earlier one of its node that still waits: the last counts."""
        node = outgoing.advertised_by
        if node is None:
            return False
        for index, waiting in enumerate(self._urgent):
            if waiting.advertised_by == node:
                self._urgent[index] = outgoing
                self._core.counters["dao_superseded"] += 1
                return True
        return False

    def push_later(self, outgoing: Outgoing) -> None:
        """Queue an entry again whose next hop did not acknowledge: it may be sending itself, so let it."""
        longest_s = _BACKOFF_S * (1 << min(outgoing.tries, _BACKOFF_DOUBLINGS_MAX))
        when = self._core.now + self._core.rng.uniform(longest_s / 2, longest_s)
        self._delayed_count += 1
        heapq.heappush(self._delayed, (when, self._delayed_count, outgoing))

    def pump(self) -> None:
        """Give the radio what it may have."""
        while (self._urgent or self._waiting) and len(self._in_flight) < IN_FLIGHT_MAX and self._paused_until is None:
            outgoing = self._take(self._urgent) or self._take(self._waiting)
            if outgoing is None:
                return
            if self._prepare(outgoing):
                self._transmit(outgoing)

    def _take(self, queue: deque[Outgoing]) -> Outgoing | None:
        """The first entry whose next hop is not busy with another of ours: fragments would meet at its radio."""
        if not self._in_flight:
            return queue.popleft() if queue else None
        busy = [outgoing.next_hop for outgoing, _ in self._in_flight.values()]
        for index, outgoing in enumerate(queue):
            if self._next_hop(outgoing) not in busy:
                del queue[index]
                return outgoing
        return None

    def _transmit(self, outgoing: Outgoing) -> None:
        self._handle = (self._handle + 1) & 0xFFFF
        self._in_flight[self._handle] = (outgoing, self._core.now + ANSWER_TIMEOUT_S)
        self._core.messages.append(
            Transmit(
                handle=self._handle,
                frame_type=outgoing.frame_type,
                destination=outgoing.next_hop,
                key_index=outgoing.key_index,
                payload_ies=outgoing.frames[outgoing.position],
            )
        )

    def done(self, message: TransmitDone) -> None:
        """The radio's answer. One for a frame that is not waited for is counted and ignored."""
        entry = self._in_flight.pop(message.handle, None)
        if message.frame_counter >= self.frame_counter:
            self.frame_counter = message.frame_counter + 1
        if entry is None:
            self._core.counters["transmit_done_unexpected"] += 1
            return
        outgoing = entry[0]
        if message.status is Status.QUEUE_FULL:
            self._paused_until = self._core.now + _RETRY_AFTER_S
            self.push(outgoing, first=True)
        elif message.status is Status.OK and outgoing.position + 1 < len(outgoing.frames):
            outgoing.position += 1
            self._core.counters["fragments_sent"] += 1
            self._transmit(outgoing)
        else:
            self._finished(outgoing, message.status, message.attempts)
        self.pump()

    def next_deadline(self) -> float | None:
        oldest = next(iter(self._in_flight.values()))[1] if self._in_flight else None
        delayed = self._delayed[0][0] if self._delayed else None
        return earliest(oldest, self._paused_until, delayed)

    def handle_timer(self) -> None:
        now = self._core.now
        if self._paused_until is not None and now >= self._paused_until:
            self._paused_until = None
        while self._delayed and self._delayed[0][0] <= now:
            self.push(heapq.heappop(self._delayed)[2], first=True)
        for handle in [handle for handle, (_, deadline) in self._in_flight.items() if deadline <= now]:
            outgoing, _ = self._in_flight.pop(handle)
            self._core.counters["transmit_done_missing"] += 1
            self._finished(outgoing, Status.CHANNEL_ACCESS_FAILURE, 0)
        self.pump()

    def clear(self) -> list[Outgoing]:
        """Forget everything, and say what was forgotten."""
        lost = [outgoing for outgoing, _ in self._in_flight.values()]
        lost += [*self._urgent, *self._waiting, *(outgoing for _, _, outgoing in sorted(self._delayed))]
        self._delayed.clear()
        self._urgent.clear()
        self._in_flight.clear()
        self._waiting.clear()
        self._paused_until = None
        return lost
