"""The radio medium: who hears which frame.

One event ends a transmission and settles all its receivers, so the work grows with receptions and not with timers.
A receiver gets a frame if it had power, listened on the channel when the frame began, did not send meanwhile, and if
a draw at the frame's signal over noise and interference says so. Because a receiver needs more signal than
interference, of frames that overlap at most one survives, and the stronger does so even if it came second: capture.
Nodes are gone through in the order in which they were attached, and all draws come from one seeded stream.

A discovery burst is the same frame on every channel of the plan, one after the other. A receiver gets the one on the
channel that it listened on when the burst began; the burst disturbs each channel only while it is there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

from protocols.errors import LocalProtocolError
from protocols.mesh.mac import ALL_CHANNELS
from protocols.ports import Timers
from twin.air.interference import Interferer, Span, survival_probability
from twin.air.obstacles import Position
from twin.air.propagation import CAPTURE_RATIO_DB, DEFAULT_TX_POWER_DBM, Propagation, milliwatts
from twin.air.space import HOPELESS_MARGIN, Space
from twin.air.stations import WEAKEST_DBM, Link, RadioUser, Station, Transmission
from twin.air.statistics import Loss

_CERTAIN = 1.0 - 1e-12
_LONGEST_PSDU_BYTES = 2047


class Medium:
    """All stations of one run and what is on the air between them. Times are those of `timers`, in seconds."""

    def __init__(
        self,
        timers: Timers,
        rng: random.Random,
        propagation: Propagation,
        airtime_s: Callable[[int], float],
        *,
        channel_count: int = 1,
        capture_ratio_db: float = CAPTURE_RATIO_DB,
    ) -> None:
        self.timers = timers
        self.propagation = propagation
        self.airtime_s = airtime_s
        """Seconds that a PSDU of so many bytes, FCS included, is on the air."""
        self.channel_count = channel_count
        self.sensitivity_mw = milliwatts(propagation.sensitivity_dbm)
        self._space = Space(propagation)
        self.stations = self._space.stations
        self.on_air: list[Callable[[Transmission], None]] = []
        """Called with each transmission when it begins."""
        self.before_air: Callable[[Station, bytes, int], list[tuple[bytes, float]]] | None = None
        """Called with (station, psdu, channel) of every frame: gives the (psdu, delay in s) that go on the air."""
        self.transmissions = 0
        self.receptions = 0
        self._rng = rng
        self._capture_ratio = milliwatts(capture_ratio_db)
        self._active: dict[int, list[Transmission]] = {}
        self._interferers: list[Interferer] = []

    # stations and links

    def attach(
        self, name: str, identity: bytes, position: Position, tx_power_dbm: float = DEFAULT_TX_POWER_DBM
    ) -> Station:
        """Add a transceiver. Set its `user` before anything is sent."""
        station = Station(self, len(self.stations), name, identity, position, tx_power_dbm)
        self._space.attach(station)
        return station

    def links_of(self, sender: Station) -> list[Link]:
        """Who can hear `sender`, in order of attachment."""
        return self._space.links_of(sender)

    def changed(self) -> None:
        """Positions, obstacles or powers changed: links are worked out anew, their counters stay."""
        self._space.changed()

    def set_configured_loss(self, sender: Station, receiver: Station, probability: float) -> None:
        """Lose that share of the frames from `sender` that `receiver` would have got."""
        self._space.set_configured_loss(sender, receiver, probability)

    def set_extra_loss_db(self, sender: Station, receiver: Station, loss_db: float) -> None:
        """Attenuate one direction of one pair, on top of what space does."""
        self._space.set_extra_loss_db(sender, receiver, loss_db)

    # power

    def power_off(self, station: Station) -> None:
        """What the station was sending breaks off; it hears nothing until `power_on`."""
        station.alive_since_s = None
        if station.sending is not None:
            station.sending.aborted = True
            station.sending = None

    def power_on(self, station: Station) -> None:
        if station.alive_since_s is None:
            station.alive_since_s = self.timers.time()

    # energy

    def add_interferer(self, interferer: Interferer) -> None:
        """Noise at a place, from now on counted against every frame and every clear-channel assessment."""
        self._interferers.append(interferer)

    def energy_mw(self, station: Station, channel: int) -> float:
        """Power of everything on the channel now, as the station receives it."""
        now = self.timers.time()
        energy = 0.0
        for transmission in self._active.get(channel, ()):
            if transmission.end_s > now and not transmission.aborted and transmission.sender is not station:
                energy += self._power_mw(transmission, station)
        for burst in self._active.get(ALL_CHANNELS, ()):
            start_s, end_s = burst.span_on(channel)
            if start_s <= now < end_s and not burst.aborted and burst.sender is not station:
                energy += self._power_mw(burst, station)
        for interferer in self._interferers:
            if interferer.is_on(channel, now):
                energy += interferer.power_mw_at(station.position, self.propagation)
        return energy

    def is_receiving(self, station: Station) -> bool:
        """See `Station.is_receiving`."""
        now = self.timers.time()
        user = station.user
        if station.alive_since_s is None or user is None or station.sending is not None:
            return False
        if user.listening_channel(now) is None:
            return False
        free_since_s = max(station.sent_until_s, station.alive_since_s)
        for channel, transmissions in self._active.items():
            for transmission in transmissions:
                if (
                    free_since_s <= transmission.start_s < now < transmission.end_s
                    and channel != ALL_CHANNELS
                    and not transmission.aborted
                    and transmission.sender is not station
                    and self._power_mw(transmission, station) >= self.sensitivity_mw
                    and user.listening_channel(transmission.start_s) == channel
                ):
                    return True
        return False

    def rss_dbm(self, transmission: Transmission, station: Station) -> int:
        """Signal strength of a transmission at a station, at least -128; that is also where it cannot be heard."""
        power_mw = self._power_mw(transmission, station)
        return max(WEAKEST_DBM, round(10.0 * math.log10(power_mw))) if power_mw > 0.0 else WEAKEST_DBM

    def _power_mw(self, transmission: Transmission, receiver: Station) -> float:
        """Power of a transmission at a station, hearing limit applied."""
        sender = transmission.sender
        if sender is None:
            if transmission.origin.distance_m(receiver.position) > self.propagation.range_m:
                return 0.0
            return milliwatts(
                self.propagation.received_dbm(transmission.power_dbm, transmission.origin, receiver.position, None)
            )
        power = receiver.heard_mw.get(sender)
        if power is None:
            near = sender.position.distance_m(receiver.position) <= self.propagation.range_m
            power = milliwatts(self._space.pair_dbm(sender, receiver)) if near else 0.0
            receiver.heard_mw[sender] = power
        return power

    # sending

    def transmit(self, station: Station, psdu: bytes, channel: int) -> float:
        """See `Station.transmit`."""
        if station.alive_since_s is None:
            raise LocalProtocolError(f"radio {station.name} was asked to send without power")
        now = self.timers.time()
        if station.sent_until_s > now:
            raise LocalProtocolError(f"radio {station.name} was asked to send while it sends")
        if self.before_air is None:
            return self._begin(station, psdu, channel, now, occupies=True)
        end_s: float | None = None
        for emitted, delay_s in self.before_air(station, psdu, channel):
            if delay_s > 0.0:
                self.timers.call_at(now + delay_s, self.emit_from, station, emitted, channel)
            elif end_s is None:
                end_s = self._begin(station, emitted, channel, now, occupies=True)
            else:
                self.timers.call_at(end_s, self.emit_from, station, emitted, channel)
        if end_s is None:
            end_s = now + self._on_air_s(len(psdu), channel)
            self._occupy(station, now, end_s)
            self.timers.call_at(end_s, self._done_without_air, station, station.alive_since_s)
        return end_s

    def emit_from(self, station: Station, psdu: bytes, channel: int) -> float:
        """Put a frame on the air as if from the station's aerial, without its MAC knowing. Returns when it ends."""
        return self._begin(station, psdu, channel, self.timers.time(), occupies=False)

    def emit_at(self, origin: Position, psdu: bytes, channel: int, power_dbm: float = DEFAULT_TX_POWER_DBM) -> float:
        """Put a frame on the air from a place where no station is. Returns when it ends."""
        links: list[Link] = []
        for receiver in self.stations:
            if origin.distance_m(receiver.position) > self.propagation.range_m:
                continue
            received_dbm = self.propagation.received_dbm(power_dbm, origin, receiver.position, None)
            link = Link(receiver, received_dbm, self.propagation.sensitivity_dbm, 0.0)
            if link.margin >= HOPELESS_MARGIN:
                links.append(link)
        now = self.timers.time()
        airtime_s = self.airtime_s(len(psdu))
        end_s = now + self._on_air_s(len(psdu), channel)
        self._launch(Transmission(None, origin, power_dbm, psdu, channel, now, airtime_s, end_s, links), None)
        return end_s

    def _on_air_s(self, size_bytes: int, channel: int) -> float:
        airtime_s = self.airtime_s(size_bytes)
        return airtime_s * self.channel_count if channel == ALL_CHANNELS else airtime_s

    @staticmethod
    def _occupy(station: Station, start_s: float, end_s: float) -> None:
        station.sent_before_until_s = station.sent_until_s
        station.sent_from_s = start_s
        station.sent_until_s = end_s

    def _begin(self, station: Station, psdu: bytes, channel: int, now: float, *, occupies: bool) -> float:
        airtime_s = self.airtime_s(len(psdu))
        end_s = now + (airtime_s * self.channel_count if channel == ALL_CHANNELS else airtime_s)
        links = station.links
        if links is None:
            links = self._space.links_of(station)
        transmission = Transmission(
            station, station.position, station.tx_power_dbm, psdu, channel, now, airtime_s, end_s, links
        )
        if occupies:
            self._occupy(station, now, end_s)
            station.sending = transmission
            station.statistics.count_sent(len(psdu), now, end_s - now)
        self._launch(transmission, station if occupies else None)
        return end_s

    def _launch(self, transmission: Transmission, owner: Station | None) -> None:
        channel = transmission.channel
        self._note_overlaps(transmission, self._active.get(channel, ()))
        if channel == ALL_CHANNELS:
            for other_channel, others in self._active.items():
                if other_channel != ALL_CHANNELS:
                    self._note_overlaps(transmission, others)
        else:
            self._note_overlaps(transmission, self._active.get(ALL_CHANNELS, ()))
        self._active.setdefault(channel, []).append(transmission)
        self.transmissions += 1
        for observer in self.on_air:
            observer(transmission)
        self.timers.call_at(transmission.end_s, self._settle, transmission, owner)

    def _note_overlaps(self, transmission: Transmission, others: Iterable[Transmission]) -> None:
        sender = transmission.sender
        vicinity = None if sender is None else self._space.vicinity_of(sender)
        for other in others:
            if vicinity is not None and other.sender is not None and other.sender not in vicinity:
                continue
            if other.end_s > transmission.start_s and not other.aborted:
                other.overlaps.append(transmission)
                transmission.overlaps.append(other)

    def _done_without_air(self, station: Station, alive_since_s: float) -> None:
        if station.alive_since_s == alive_since_s and station.user is not None:
            station.user.transmit_done()

    # receiving

    def _settle(self, transmission: Transmission, owner: Station | None) -> None:
        """A transmission ends: tell its sender, then every receiver that got it."""
        self._active[transmission.channel].remove(transmission)
        if owner is not None and owner.sending is transmission:
            owner.sending = None
            if owner.user is not None:
                owner.user.transmit_done()
        if transmission.channel == ALL_CHANNELS:
            self._settle_burst(transmission)
            return
        start_s, end_s, channel = transmission.start_s, transmission.end_s, transmission.channel
        psdu = transmission.psdu
        size_bytes = len(psdu)
        quiet = not transmission.overlaps and not self._interferers_now(start_s)
        received = 0
        for link in transmission.links:
            receiver = link.receiver
            alive_since_s, user = receiver.alive_since_s, receiver.user
            if alive_since_s is None or alive_since_s > start_s or user is None or transmission.aborted:
                receiver.statistics.count_lost(Loss.OFF)
            elif receiver.sent_until_s > start_s and receiver.sent_during(start_s, end_s):
                self._lose(link, Loss.HALF_DUPLEX)
            elif user.listening_channel(start_s) != channel:
                receiver.statistics.count_lost(Loss.NOT_LISTENING)
            elif quiet and link.configured_loss == 0.0 and link.delivery(size_bytes) >= _CERTAIN:
                # Most receptions by far, so the counting is done here and not in `_deliver`.
                link.statistics.received += 1
                receiver.statistics.received += 1
                received += 1
                user.receive(psdu, link.rss_dbm, channel, link.lqi, start_s)
            else:
                self._deliver(transmission, link, user, channel, start_s, end_s)
        self.receptions += received

    def _interferers_now(self, since_s: float) -> bool:
        """Whether there is an interferer since `since_s`; those that ended are forgotten."""
        if self._interferers:
            longest_s = self.airtime_s(_LONGEST_PSDU_BYTES) * self.channel_count
            self._interferers = [kept for kept in self._interferers if kept.end_s > since_s - longest_s]
        return bool(self._interferers)

    def _settle_burst(self, burst: Transmission) -> None:
        """Each receiver is settled on the channel that it listened on when the burst began."""
        for link in burst.links:
            receiver = link.receiver
            alive_since_s, user = receiver.alive_since_s, receiver.user
            if alive_since_s is None or alive_since_s > burst.start_s or user is None or burst.aborted:
                receiver.statistics.count_lost(Loss.OFF)
                continue
            channel = user.listening_channel(burst.start_s)
            if channel is None:
                receiver.statistics.count_lost(Loss.NOT_LISTENING)
                continue
            start_s, end_s = burst.span_on(channel)
            if receiver.sent_during(start_s, end_s):
                self._lose(link, Loss.HALF_DUPLEX)
            else:
                self._deliver(burst, link, user, channel, start_s, end_s)

    def _deliver(
        self, transmission: Transmission, link: Link, user: RadioUser, channel: int, start_s: float, end_s: float
    ) -> None:
        """Draw whether the frame, on that channel in that time, survives; hand it over if it does."""
        psdu = transmission.psdu
        probability, reason = link.delivery(len(psdu)), Loss.NOISE
        if transmission.overlaps or self._interferers:
            probability, reason = self._disturbed_delivery(transmission, link, channel, start_s, end_s)
        if probability < _CERTAIN and self._rng.random() >= probability:
            self._lose(link, reason)
            return
        if link.configured_loss > 0.0 and self._rng.random() < link.configured_loss:
            self._lose(link, Loss.CONFIGURED)
            return
        link.statistics.received += 1
        link.receiver.statistics.received += 1
        self.receptions += 1
        user.receive(psdu, link.rss_dbm, channel, link.lqi, transmission.start_s)

    def _lose(self, link: Link, reason: Loss) -> None:
        link.statistics.count_lost(reason)
        link.receiver.statistics.count_lost(reason)

    def _disturbed_delivery(
        self, transmission: Transmission, link: Link, channel: int, start_s: float, end_s: float
    ) -> tuple[float, Loss]:
        """Delivery probability with everything that was on the channel meanwhile, and what to blame for a loss."""
        receiver, size_bytes = link.receiver, len(transmission.psdu)
        spans: list[Span] = []
        for other in transmission.overlaps:
            other_start_s, other_end_s = other.span_on(channel)
            if other_start_s < end_s and other_end_s > start_s and other.sender is not receiver:
                power_mw = self._power_mw(other, receiver)
                if power_mw > 0.0:
                    spans.append(Span(other_start_s, other_end_s, power_mw))
        reason = Loss.COLLISION if spans else Loss.JAMMED
        for interferer in self._interferers:
            if interferer.overlaps(channel, start_s, end_s):
                power_mw = interferer.power_mw_at(receiver.position, self.propagation)
                spans.append(Span(interferer.start_s, interferer.end_s, power_mw))
        quiet = link.delivery(size_bytes)
        if not spans:
            return quiet, Loss.NOISE
        probability = survival_probability(
            link.power_mw, self.sensitivity_mw, self._capture_ratio, 8.0 * size_bytes, start_s, end_s, spans
        )
        return probability, Loss.NOISE if probability >= 0.999 * quiet else reason
