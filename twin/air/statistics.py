"""What the medium counts: per node, and per directed link."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

HOUR_S = 3600.0


class Loss(enum.StrEnum):
    """Why a frame that was on the air did not reach a node in range."""

    OFF = "off"
    """The receiver, or the sender in the middle of its frame, had no power."""
    NOT_LISTENING = "not_listening"
    """The receiver listened on another channel, or not at all."""
    HALF_DUPLEX = "half_duplex"
    """The receiver was sending itself."""
    NOISE = "noise"
    """Too weak for this many bits."""
    COLLISION = "collision"
    """Another frame was on the channel."""
    JAMMED = "jammed"
    """An interferer was on the channel."""
    CONFIGURED = "configured"
    """The loss that a test set on this link."""


@dataclass(slots=True)
class NodeStatistics:
    """Counters of one node. Airtime is in seconds, what it sent itself."""

    sent: int = 0
    sent_bytes: int = 0
    airtime_s: float = 0.0
    received: int = 0
    lost: dict[Loss, int] = field(default_factory=dict)
    worst_hour_airtime_s: float = 0.0
    _hour: int = -1
    _hour_airtime_s: float = 0.0

    def count_sent(self, size_bytes: int, start_s: float, airtime_s: float) -> None:
        self.sent += 1
        self.sent_bytes += size_bytes
        self.airtime_s += airtime_s
        hour = int(start_s // HOUR_S)
        if hour != self._hour:
            self._hour, self._hour_airtime_s = hour, 0.0
        self._hour_airtime_s += airtime_s
        if self._hour_airtime_s > self.worst_hour_airtime_s:
            self.worst_hour_airtime_s = self._hour_airtime_s

    def count_lost(self, reason: Loss) -> None:
        self.lost[reason] = self.lost.get(reason, 0) + 1

    def duty_cycle(self, elapsed_s: float) -> float:
        """Share of the time spent sending."""
        return self.airtime_s / elapsed_s if elapsed_s > 0.0 else 0.0

    @property
    def worst_hour_duty_cycle(self) -> float:
        """Share of the busiest clock hour spent sending, which is how regulators count."""
        return self.worst_hour_airtime_s / HOUR_S


@dataclass(slots=True)
class LinkStatistics:
    """Counters of one direction of a link: frames that the receiver was listening for."""

    received: int = 0
    lost: dict[Loss, int] = field(default_factory=dict)

    def count_lost(self, reason: Loss) -> None:
        self.lost[reason] = self.lost.get(reason, 0) + 1

    @property
    def offered(self) -> int:
        return self.received + sum(self.lost.values())

    @property
    def delivery_ratio(self) -> float | None:
        """Share that arrived; None if nothing was sent."""
        offered = self.offered
        return self.received / offered if offered else None


@dataclass(frozen=True, slots=True)
class LinkReport:
    """One direction of a link as topology pictures need it."""

    sender: str
    receiver: str
    distance_m: float
    rss_dbm: float
    expected_delivery: float
    """Of a 127-byte frame on a quiet channel, with the loss that a test set; 0 to 1."""
    received: int
    lost: dict[str, int]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node's counters, and its share of the air."""

    name: str
    alive: bool
    sent: int
    sent_bytes: int
    received: int
    lost: dict[str, int]
    airtime_s: float
    duty_cycle: float
    worst_hour_duty_cycle: float
    over_duty_limit: bool
    """Whether the busiest hour was above the region's duty-cycle limit, where it has one."""


@dataclass(frozen=True, slots=True)
class AirReport:
    """All that the air counted, in the order in which the nodes were made."""

    elapsed_s: float
    transmissions: int
    receptions: int
    nodes: tuple[NodeReport, ...]
    links: tuple[LinkReport, ...]
