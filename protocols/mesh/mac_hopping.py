"""Frequency hopping of Wi-SUN FAN under DH1CF: unicast schedules of all neighbours, and the PAN's broadcast slots.

Everybody listens on his own unicast sequence, except in the broadcast dwell at the start of each broadcast interval,
when all listen on the broadcast channel. A sender goes to where the receiver listens.
"""

from __future__ import annotations

import random
from collections import OrderedDict

from protocols.errors import RemoteProtocolError
from protocols.mesh.channel_function import broadcast_channel, unicast_channel
from protocols.mesh.mac_schedule import ALL_CHANNELS, Kind, Opportunity, Timing
from protocols.mesh.mac_track import SLOTS, Track
from protocols.mesh.schedules import FIXED_CHANNEL, BroadcastSchedule, UnicastSchedule
from protocols.mesh.wisun import HeaderElements, PayloadElements
from protocols.rcp.messages import NO_PAN, Configure

_NEIGHBOUR_CAPACITY = 1024
_UFSI_PER_SLOT = 256
_GOSSIP_GAIN = 0.5
"""Share of a broadcast timing taken when nobody is named as the time source: neighbours settle in the middle."""
_TRUST_S = 30.0
"""For so long the timing in an authentic frame is not overruled by one that anybody could have sent."""
_SLACK_S = 1e-6
_CHANNELS_KEPT = 8
_UNICAST_FIELDS = ("eui64", "plan", "unicast_dwell_ms")
_BROADCAST_FIELDS = ("broadcast_interval_ms", "broadcast_dwell_ms", "broadcast_schedule_id", "broadcast_root")


class _Neighbour:
    """What one neighbour said of its schedule."""

    __slots__ = ("authentic_s", "fixed_channel", "track")

    def __init__(self, track: Track) -> None:
        self.track = track
        self.fixed_channel: int | None = None
        self.authentic_s = float("-inf")


class Hopping:
    """`mac_schedule.Schedule` under DH1CF. Phases are random, as every node starts at another moment."""

    def __init__(
        self, configure: Configure, channel_count: int, rng: random.Random, drift_ppm: float, now: float
    ) -> None:
        self._channel_count = channel_count
        self._speed = 1.0 + drift_ppm * 1e-6
        self._configure = configure
        self._own = Track(configure.unicast_dwell_ms / 1000, self._local(now), rng.random() * SLOTS)
        self._broadcast_phase = rng.random() * SLOTS
        self._broadcast: Track | None = None
        self._time_source: bytes | None = None
        self._neighbours: OrderedDict[bytes, _Neighbour] = OrderedDict()
        self._channels: dict[tuple[bool, int], int] = {}
        self._start_broadcast(now)

    def reconfigure(self, configure: Configure, now: float) -> bool:
        """Take a new configuration without losing the phases; False if it changes how this node hops."""
        old, self._configure = self._configure, configure
        if any(getattr(old, name) != getattr(configure, name) for name in _UNICAST_FIELDS):
            return False
        if any(getattr(old, name) != getattr(configure, name) for name in _BROADCAST_FIELDS):
            self._start_broadcast(now)
        elif configure.pan_id != old.pan_id and old.pan_id != NO_PAN and not configure.broadcast_root:
            self._broadcast = None
        return True

    def _start_broadcast(self, now: float) -> None:
        """The root's schedule begins with its configuration, the others' when they hear of it."""
        configure = self._configure
        self._broadcast_interval_s = configure.broadcast_interval_ms / 1000
        self._broadcast_dwell_s = configure.broadcast_dwell_ms / 1000
        self._schedule_id = configure.broadcast_schedule_id
        self._channels.clear()
        if configure.broadcast_root:
            self._broadcast = Track(self._broadcast_interval_s, self._local(now), self._broadcast_phase)
        elif self._broadcast is not None and self._broadcast.period_s != self._broadcast_interval_s:
            self._broadcast = None

    def set_time_source(self, source: bytes | None) -> None:
        """Whose broadcast timing to follow from now on; None: everybody's, a little."""
        self._time_source = source

    def _local(self, now: float) -> float:
        """The time that this node's crystal shows."""
        return now * self._speed

    # where this node listens, and what it says of that

    def listening_channel(self, now: float) -> int:
        local_s = self._local(now)
        broadcast = self._broadcast
        if broadcast is not None:
            position = broadcast.position_at(local_s)
            if position % 1.0 * broadcast.period_s < self._broadcast_dwell_s:
                return self._channel(True, int(position))
        return self._channel(False, int(self._own.position_at(local_s)))

    def _channel(self, is_broadcast: bool, slot: int) -> int:
        """Where this node listens. Kept, because it is asked for again and again within a slot."""
        channel = self._channels.get((is_broadcast, slot))
        if channel is None:
            if len(self._channels) >= _CHANNELS_KEPT:
                self._channels.clear()
            if is_broadcast:
                channel = broadcast_channel(slot % SLOTS, self._schedule_id, self._channel_count)
            else:
                channel = unicast_channel(slot % SLOTS, self._configure.eui64, self._channel_count)
            self._channels[is_broadcast, slot] = channel
        return channel

    @property
    def has_broadcast_timing(self) -> bool:
        return True

    def timing(self, start_s: float) -> Timing:
        local_s = self._local(start_s)
        ufsi = int(self._own.position_at(local_s) * _UFSI_PER_SLOT) & 0xFF_FFFF
        if self._broadcast is None:
            return Timing(ufsi)
        position = self._broadcast.position_at(local_s)
        return Timing(ufsi, int(position) % SLOTS, int(position % 1.0 * self._broadcast.period_s * 1000))

    # when and where to send

    def opportunity(self, kind: Kind, destination: bytes | None, now: float) -> Opportunity | None:
        if kind is Kind.DISCOVERY:
            return Opportunity(ALL_CHANNELS, now)
        if kind is Kind.BROADCAST:
            return self._broadcast_opportunity(now)
        neighbour = None if destination is None else self._neighbours.get(destination)
        if destination is None or neighbour is None:
            return None
        return self._unicast_opportunity(destination, neighbour, now)

    def _broadcast_opportunity(self, now: float) -> Opportunity | None:
        broadcast = self._broadcast
        if broadcast is None:
            return None
        local_s = self._local(now)
        guard_s = min(broadcast.guard_s(local_s), self._broadcast_dwell_s / 4)
        position = broadcast.position_at(local_s)
        into_s = position % 1.0 * broadcast.period_s
        wait_s = 0.0
        if into_s < guard_s - _SLACK_S:
            wait_s = guard_s - into_s
        elif into_s > self._broadcast_dwell_s - guard_s:
            wait_s, position = broadcast.period_s - into_s + guard_s, position + 1
        return Opportunity(self._channel(True, int(position)), now + wait_s)

    def _unicast_opportunity(self, destination: bytes, neighbour: _Neighbour, now: float) -> Opportunity:
        """The receiver's slot, outside of the broadcast dwell and away from the slot's edges."""
        track = neighbour.track
        start_s = now
        for _ in range(4):
            local_s = self._local(start_s)
            wait_s = self._wait_for_unicast_s(local_s)
            guard_s = track.guard_s(local_s)
            into_s = track.position_at(local_s) % 1.0 * track.period_s
            if not wait_s:
                if into_s < guard_s - _SLACK_S:
                    wait_s = guard_s - into_s
                elif track.period_s - into_s < guard_s - _SLACK_S:
                    wait_s = track.period_s - into_s + guard_s
            if not wait_s:
                break
            start_s += wait_s
        if neighbour.fixed_channel is not None:
            channel = neighbour.fixed_channel
        else:
            slot = int(track.position_at(self._local(start_s)))
            channel = unicast_channel(slot % SLOTS, destination, self._channel_count)
        return Opportunity(channel, start_s)

    def _wait_for_unicast_s(self, local_s: float) -> float:
        """Seconds until nobody listens on the broadcast channel."""
        broadcast = self._broadcast
        if broadcast is None:
            return 0.0
        guard_s = min(broadcast.guard_s(local_s), self._broadcast_dwell_s / 4)
        into_s = broadcast.position_at(local_s) % 1.0 * broadcast.period_s
        end_s = self._broadcast_dwell_s + guard_s
        if into_s < end_s - _SLACK_S:
            return end_s - into_s
        if broadcast.period_s - into_s < guard_s - _SLACK_S:
            return broadcast.period_s - into_s + end_s
        return 0.0

    # learning

    def heard(
        self, source: bytes, elements: HeaderElements, payload_ies: bytes, start_s: float, *, authentic: bool
    ) -> None:
        local_s = self._local(start_s)
        neighbour = self._neighbours.get(source)
        if neighbour is None:
            neighbour = self._neighbours[source] = _Neighbour(
                Track(self._own.period_s, local_s, _position_of(elements.ufsi))
            )
            if len(self._neighbours) > _NEIGHBOUR_CAPACITY:
                self._neighbours.popitem(last=False)
        elif authentic or local_s - neighbour.authentic_s > _TRUST_S:
            neighbour.track.sample(local_s, _position_of(elements.ufsi))
        else:
            return
        self._neighbours.move_to_end(source)
        if authentic:
            neighbour.authentic_s = local_s
        if payload_ies:
            self._learn_schedules(source, neighbour, elements, payload_ies, local_s, authentic)
        if authentic and elements.broadcast_slot is not None:
            self._follow(source, elements, local_s)

    def _learn_schedules(
        self,
        source: bytes,
        neighbour: _Neighbour,
        elements: HeaderElements,
        payload_ies: bytes,
        local_s: float,
        authentic: bool,
    ) -> None:
        try:
            told = PayloadElements.decode(payload_ies)
        except RemoteProtocolError:
            return  # the host is given the same bytes, and counts them
        if told.unicast_schedule is not None:
            _apply(neighbour, told.unicast_schedule, local_s, elements.ufsi)
        follows = self._time_source in (None, source) and not self._configure.broadcast_root
        if told.broadcast_schedule is not None and authentic and follows:
            self._adopt(told.broadcast_schedule)

    def _adopt(self, schedule: BroadcastSchedule) -> None:
        """The PAN's broadcast schedule, as the root made it."""
        interval_s, dwell_s = schedule.broadcast_interval_ms / 1000, schedule.dwell_interval_ms / 1000
        if not 0 < dwell_s < interval_s:
            return
        if schedule.schedule_id != self._schedule_id:
            self._schedule_id = schedule.schedule_id
            self._channels.clear()
        self._broadcast_dwell_s = dwell_s
        if interval_s != self._broadcast_interval_s:
            self._broadcast_interval_s, self._broadcast = interval_s, None

    def _follow(self, source: bytes, elements: HeaderElements, local_s: float) -> None:
        """The PAN's broadcast clock as the sender has it, to the millisecond."""
        if self._configure.broadcast_root or elements.broadcast_slot is None:
            return
        if self._time_source not in (None, source):
            return
        interval_s = self._broadcast_interval_s
        position = elements.broadcast_slot + (elements.broadcast_offset_ms + 0.5) / 1000 / interval_s
        if self._broadcast is None:
            self._broadcast = Track(interval_s, local_s, position % SLOTS)
        else:
            self._broadcast.sample(local_s, position % SLOTS, gain=1.0 if self._time_source else _GOSSIP_GAIN)


def _position_of(ufsi: int) -> float:
    return (ufsi + 0.5) / _UFSI_PER_SLOT


def _apply(neighbour: _Neighbour, schedule: UnicastSchedule, local_s: float, ufsi: int) -> None:
    neighbour.fixed_channel = schedule.fixed_channel if schedule.channel_function == FIXED_CHANNEL else None
    dwell_s = schedule.dwell_interval_ms / 1000
    if dwell_s > 0 and dwell_s != neighbour.track.period_s:
        neighbour.track = Track(dwell_s, local_s, _position_of(ufsi))
