"""Transceivers, the links between them and the frames that they put on the air: the state of the medium."""

from __future__ import annotations

import math
from typing import Protocol

from protocols.mesh.mac import ALL_CHANNELS
from protocols.ports import Timers
from twin.air.obstacles import Position
from twin.air.propagation import delivery_probability, milliwatts
from twin.air.statistics import LinkStatistics, NodeStatistics

WEAKEST_DBM = -128
"""The least signal strength that is reported."""
_LQI_FULL_MARGIN_DB = 40.0


class RadioUser(Protocol):
    """The MAC as the medium sees it."""

    def listening_channel(self, now: float) -> int | None:
        """The channel that the receiver is tuned to at `now`, which may lie up to one frame back; None if off."""
        ...

    def receive(self, psdu: bytes, rss_dbm: int, channel: int, lqi: int, start_s: float) -> None: ...

    def transmit_done(self) -> None: ...


class Link:
    """One direction between two stations: what arrives, and what became of it."""

    __slots__ = (
        "_delivery",
        "configured_loss",
        "lqi",
        "margin",
        "power_dbm",
        "power_mw",
        "receiver",
        "rss_dbm",
        "statistics",
    )

    def __init__(self, receiver: Station, power_dbm: float, sensitivity_dbm: float, configured_loss: float) -> None:
        self.receiver = receiver
        self.power_dbm = power_dbm
        self.power_mw = milliwatts(power_dbm)
        self.margin = milliwatts(power_dbm - sensitivity_dbm)
        self.rss_dbm = max(WEAKEST_DBM, round(power_dbm))
        self.lqi = max(0, min(255, round(255.0 * (power_dbm - sensitivity_dbm) / _LQI_FULL_MARGIN_DB)))
        self.configured_loss = configured_loss
        self.statistics = LinkStatistics()
        self._delivery: dict[int, float] = {}

    def delivery(self, size_bytes: int) -> float:
        """Probability that a PSDU of that size arrives on a quiet channel."""
        probability = self._delivery.get(size_bytes)
        if probability is None:
            probability = self._delivery[size_bytes] = delivery_probability(self.margin, 8.0 * size_bytes)
        return probability


class Transmission:
    """A frame on the air. `sender` is None for one that a test injected at a place."""

    __slots__ = (
        "aborted",
        "airtime_s",
        "channel",
        "end_s",
        "links",
        "origin",
        "overlaps",
        "power_dbm",
        "psdu",
        "sender",
        "start_s",
    )

    def __init__(
        self,
        sender: Station | None,
        origin: Position,
        power_dbm: float,
        psdu: bytes,
        channel: int,
        start_s: float,
        airtime_s: float,
        end_s: float,
        links: list[Link],
    ) -> None:
        self.sender = sender
        self.origin = origin
        self.power_dbm = power_dbm
        self.psdu = psdu
        self.channel = channel
        self.start_s = start_s
        self.airtime_s = airtime_s
        self.end_s = end_s
        self.links = links
        self.overlaps: list[Transmission] = []
        self.aborted = False

    def span_on(self, channel: int) -> tuple[float, float]:
        """From when to when it is on that channel, in seconds."""
        if self.channel != ALL_CHANNELS:
            return self.start_s, self.end_s
        start_s = self.start_s + channel * self.airtime_s
        return start_s, start_s + self.airtime_s


class Surroundings(Protocol):
    """The medium as its stations see it."""

    timers: Timers
    sensitivity_mw: float

    def energy_mw(self, station: Station, channel: int) -> float:
        """Power of everything on the channel now, as the station receives it."""
        ...

    def is_receiving(self, station: Station) -> bool:
        """See `Station.is_receiving`."""
        ...

    def transmit(self, station: Station, psdu: bytes, channel: int) -> float:
        """See `Station.transmit`."""
        ...

    def power_off(self, station: Station) -> None: ...

    def power_on(self, station: Station) -> None: ...


class Station:
    """A transceiver at a place: the `Phy` of one MAC."""

    def __init__(
        self, medium: Surroundings, index: int, name: str, identity: bytes, position: Position, tx_power_dbm: float
    ) -> None:
        self.medium = medium
        self.index = index
        self.name = name
        self.identity = identity
        self.position = position
        self.tx_power_dbm = tx_power_dbm
        self.user: RadioUser | None = None
        self.alive_since_s: float | None = medium.timers.time()
        self.sending: Transmission | None = None
        self.sent_from_s = -math.inf
        self.sent_until_s = -math.inf
        self.sent_before_until_s = -math.inf
        self.statistics = NodeStatistics()
        self.links: list[Link] | None = None
        """Who can hear this station, in order of attachment; None until it is needed."""
        self.vicinity: frozenset[Station] | None = None
        """Stations within twice the range; None until it is needed."""
        self.heard_mw: dict[Station, float] = {}
        """Power at this station of what others send, as far as it has been asked for."""

    @property
    def alive(self) -> bool:
        return self.alive_since_s is not None

    def is_clear(self, channel: int) -> bool:
        """Whether the energy on the channel is below the receiver's sensitivity.

        `ALL_CHANNELS`: whether a burst can begin, which is when the radio is not in the middle of a frame.
        """
        if channel == ALL_CHANNELS:
            return not self.is_receiving()
        return self.medium.energy_mw(self, channel) < self.medium.sensitivity_mw

    def is_receiving(self) -> bool:
        """Whether a frame is on the air now that this station listened for from its beginning and can hear."""
        return self.medium.is_receiving(self)

    def sent_during(self, start_s: float, end_s: float) -> bool:
        """Whether the station's last two frames, which is as far as one frame looks back, fall into that time."""
        if self.sent_until_s <= start_s:
            return False
        return self.sent_from_s < end_s or self.sent_before_until_s > start_s

    def transmit(self, psdu: bytes, channel: int) -> float:
        """Put a frame on the air now. Returns when it ends; `transmit_done` is called then.

        Raises LocalProtocolError if the station has no power or still sends.
        """
        return self.medium.transmit(self, psdu, channel)
