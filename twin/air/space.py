"""Who is where, and who can hear whom: the links between stations, worked out when they are needed."""

from __future__ import annotations

from twin.air.propagation import Propagation
from twin.air.stations import Link, Station
from twin.air.statistics import LinkStatistics

HOPELESS_MARGIN = 0.05
"""Signal over sensitivity, as a ratio of powers, below which nothing ever arrives."""


class Space:
    """All stations of a medium, in the order of their attachment, and their links."""

    def __init__(self, propagation: Propagation) -> None:
        self._propagation = propagation
        self.stations: list[Station] = []
        self._extra_loss_db: dict[tuple[Station, Station], float] = {}
        self._configured_loss: dict[tuple[Station, Station], float] = {}
        self._retired: dict[tuple[Station, Station], LinkStatistics] = {}

    def attach(self, station: Station) -> None:
        """Add a station; links that are known already get it as a receiver."""
        self.stations.append(station)
        for other in self.stations:
            other.vicinity = None
            if other.links is not None:
                self._append_link(other, station, other.links)

    def vicinity_of(self, station: Station) -> frozenset[Station]:
        """Stations that somebody may hear together with this one; frames of others cannot disturb each other."""
        if station.vicinity is None:
            reach_m = 2.0 * self._propagation.range_m
            station.vicinity = frozenset(
                other for other in self.stations if station.position.distance_m(other.position) <= reach_m
            )
        return station.vicinity

    def links_of(self, sender: Station) -> list[Link]:
        """Who can hear `sender`, in order of attachment."""
        if sender.links is None:
            sender.links = []
            for receiver in self.stations:
                self._append_link(sender, receiver, sender.links)
        return sender.links

    def _append_link(self, sender: Station, receiver: Station, links: list[Link]) -> None:
        if receiver is sender or sender.position.distance_m(receiver.position) > self._propagation.range_m:
            return
        link = Link(
            receiver,
            self.pair_dbm(sender, receiver),
            self._propagation.sensitivity_dbm,
            self._configured_loss.get((sender, receiver), 0.0),
        )
        if link.margin < HOPELESS_MARGIN:
            return
        kept = self._retired.pop((sender, receiver), None)
        if kept is not None:
            link.statistics = kept
        links.append(link)

    def pair_dbm(self, sender: Station, receiver: Station) -> float:
        """Power at the receiver of what the sender sends, whether or not it can be heard."""
        received_dbm = self._propagation.received_dbm(
            sender.tx_power_dbm, sender.position, receiver.position, (sender.identity, receiver.identity)
        )
        return received_dbm - self._extra_loss_db.get((sender, receiver), 0.0)

    def changed(self) -> None:
        """Positions, obstacles or powers changed: links are worked out anew, their counters stay."""
        for sender in self.stations:
            for link in sender.links or ():
                self._retired[sender, link.receiver] = link.statistics
            sender.links = sender.vicinity = None
            sender.heard_mw.clear()

    def set_configured_loss(self, sender: Station, receiver: Station, probability: float) -> None:
        """Lose that share of the frames from `sender` that `receiver` would have got."""
        self._configured_loss[sender, receiver] = probability
        for link in sender.links or ():
            if link.receiver is receiver:
                link.configured_loss = probability

    def set_extra_loss_db(self, sender: Station, receiver: Station, loss_db: float) -> None:
        """Attenuate one direction of one pair, on top of what space does."""
        self._extra_loss_db[sender, receiver] = loss_db
        self.changed()
