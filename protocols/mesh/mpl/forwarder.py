"""An MPL forwarder (RFC 7731): buffers, repeats under trickle, and tells its neighbours what it has.

One domain: realm-local all MPL forwarders, ff03::fc. Other groups travel within it (IPv6 in IPv6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from protocols.errors import RemoteProtocolError
from protocols.mesh.core import NodeCore
from protocols.mesh.icmpv6 import Icmpv6Message, Icmpv6Type
from protocols.mesh.ipv6 import (
    ALL_MPL_FORWARDERS,
    LINK_MPL_FORWARDERS,
    Ipv6Packet,
    is_multicast,
)
from protocols.mesh.ipv6 import Protocol as IpProtocol
from protocols.mesh.mpl.messages import SEQUENCES, MplControl, MplOption, SeedInfo, is_at_least
from protocols.mesh.trickle import Trickle

_SEED_BYTES = 8
_SEEDS_MAX = 64
_LINK_HOP_LIMIT = 255

Send = Callable[[Ipv6Packet], None]
"""A broadcast on the link."""


class Deliver(Protocol):
    """Takes a packet for this node; `age_s` is how long it was on its way, as far as that is known."""

    def __call__(self, packet: Ipv6Packet, age_s: float = 0.0) -> None: ...


@dataclass(slots=True, eq=False)
class Buffered:
    """One message, as it would be sent on. `born_at` is when its seed made it, None if it does not say."""

    packet: Ipv6Packet
    sequence: int
    trickle: Trickle
    ends_at: float
    born_at: float | None
    expirations: int = 0


class Seed:
    """The messages of one seed. Below `min_sequence` everything was here, or will not be waited for."""

    __slots__ = ("ends_at", "messages", "min_sequence")

    def __init__(self, min_sequence: int, ends_at: float) -> None:
        self.min_sequence = min_sequence
        self.ends_at = ends_at
        self.messages: dict[int, Buffered] = {}

    def has(self, sequence: int) -> bool:
        """Whether that message was here."""
        return not is_at_least(sequence, self.min_sequence) or sequence in self.messages

    @property
    def size_bytes(self) -> int:
        """Of what the buffered messages carry."""
        return sum(len(message.packet.payload) for message in self.messages.values())

    def is_largest(self, sequence: int) -> bool:
        return not any(is_at_least(other, sequence) and other != sequence for other in self.messages)

    def drop(self, sequence: int) -> None:
        """Forget a message for good: it and all before it count as heard."""
        for known in [known for known in self.messages if is_at_least(sequence, known)]:
            del self.messages[known]
        if is_at_least(sequence, self.min_sequence):
            self.min_sequence = (sequence + 1) % SEQUENCES


class MplForwarder:
    """Every node is one. `deliver` gets each message once."""

    def __init__(self, core: NodeCore, send: Send, deliver: Deliver) -> None:
        self._core = core
        self._send = send
        self._deliver = deliver
        self._profile = core.profile.mpl
        self._seeds: dict[bytes, Seed] = {}
        self._control = Trickle(self._profile.control, core.rng)
        self._control_expirations = 0
        self._sequence = -1
        # A seed that restarts has forgotten its sequence number: it is another seed to the others.
        identity = core.config.eui64 + core.config.start_count.to_bytes(8, "big")
        self._own_seed = hashlib.sha256(identity).digest()[:_SEED_BYTES]

    # life

    def start(self) -> None:
        """The node is in the mesh: ask what it has missed, by telling what it has. Does nothing if it runs."""
        if not self._control.is_running:
            self._start_control()

    def stop(self) -> None:
        """Leave: messages are forgotten, the own sequence number is not."""
        self._control.stop()
        self._seeds.clear()

    def _start_control(self) -> None:
        self._control_expirations = 0
        self._control.start(self._core.now)

    # sending

    def originate(self, packet: Ipv6Packet) -> None:
        """Disseminate a packet of this node to a group of realm-local scope or wider."""
        source = self._core.address
        if packet.destination != ALL_MPL_FORWARDERS and source is not None:
            packet = Ipv6Packet(source, ALL_MPL_FORWARDERS, IpProtocol.IPV6, packet.encode())
        self._sequence = (self._sequence + 1) % SEQUENCES
        option = MplOption(self._own_seed, self._sequence, is_largest=True, age_ms=0)
        self._core.counters["mpl_originated"] += 1
        self._buffer(self._own_seed, self._sequence, packet.with_extension(option.encode()), 0)

    # receiving

    def receive(self, packet: Ipv6Packet) -> None:
        """A data message from a neighbour. Raises RemoteProtocolError."""
        header = packet.extension(IpProtocol.HOP_BY_HOP)
        option = MplOption.decode(header) if header is not None else None
        if option is None:
            raise RemoteProtocolError("a message to the MPL forwarders without the MPL option", spec="RFC 7731, 9")
        identifier = option.seed or packet.source
        seed = self._seeds.get(identifier)
        if seed is None or not seed.has(option.sequence):
            self._take(packet, identifier, option)
            return
        self._core.counters["mpl_duplicates"] += 1
        known = seed.messages.get(option.sequence)
        if option.is_largest and not seed.is_largest(option.sequence):
            self._start_control()  # the sender lacks what came later
        elif known is not None:
            known.trickle.hear_consistent()

    def _take(self, packet: Ipv6Packet, identifier: bytes, option: MplOption) -> None:
        if identifier not in self._seeds and len(self._seeds) >= _SEEDS_MAX:
            self._core.counters["mpl_seeds_full"] += 1
            return
        self._core.counters["mpl_received"] += 1
        if packet.hop_limit > 1:
            onward = replace(packet, hop_limit=packet.hop_limit - 1)
            self._buffer(identifier, option.sequence, onward, option.age_ms)
        else:
            self._seed(identifier, option.sequence).drop(option.sequence)
        self._deliver(self._inner(packet), (option.age_ms or 0) / 1000)

    @staticmethod
    def _inner(packet: Ipv6Packet) -> Ipv6Packet:
        if packet.protocol != IpProtocol.IPV6:
            return packet
        inner = Ipv6Packet.decode(packet.payload)
        if not is_multicast(inner.destination) or inner.protocol == IpProtocol.IPV6:
            raise RemoteProtocolError("what MPL carries is not for a group")
        return inner

    def _seed(self, identifier: bytes, sequence: int) -> Seed:
        ends_at = self._core.now + self._profile.seed_lifetime_s
        seed = self._seeds.get(identifier)
        if seed is None:
            # What came before may still be on its way here, by other neighbours or to a node that joined late.
            earlier = 0 if identifier == self._own_seed else self._profile.buffered_max
            seed = self._seeds[identifier] = Seed((sequence - earlier) % SEQUENCES, ends_at)
        seed.ends_at = ends_at
        return seed

    def _buffer(self, identifier: bytes, sequence: int, packet: Ipv6Packet, age_ms: int | None) -> None:
        now, profile = self._core.now, self._profile
        seed = self._seed(identifier, sequence)
        born_at = None if age_ms is None else now - age_ms / 1000
        message = Buffered(packet, sequence, Trickle(profile.data, self._core.rng), now + profile.buffer_s, born_at)
        seed.messages[sequence] = message
        message.trickle.start(now)
        while len(seed.messages) > profile.buffered_max or (
            len(seed.messages) > 1 and seed.size_bytes > profile.buffered_bytes_max
        ):
            oldest = next(known for known in seed.messages if all(is_at_least(s, known) for s in seed.messages))
            seed.drop(oldest)
        self._start_control()

    # control

    def receive_control(self, packet: Ipv6Packet, message: Icmpv6Message) -> None:
        """A neighbour tells what it has. Raises RemoteProtocolError."""
        if packet.destination != LINK_MPL_FORWARDERS or packet.hop_limit != _LINK_HOP_LIMIT:
            raise RemoteProtocolError("an MPL control message from beyond the link", spec="RFC 7731, 10.3")
        told = {info.seed: info for info in MplControl.decode(message.body).seeds}
        lacking = self._repeat_what_is_lacking(told)
        missing = any(not self._has_all(info) for info in told.values())
        if lacking or missing:
            self._core.counters["mpl_inconsistent"] += 1
            if self._control.is_running:
                self._control.reset(self._core.now)
            else:
                self._start_control()
        else:
            self._control.hear_consistent()

    def _repeat_what_is_lacking(self, told: dict[bytes, SeedInfo]) -> bool:
        """Send again what the neighbour does not have; whether there was such a message."""
        found = False
        for identifier, seed in self._seeds.items():
            info = told.get(identifier)
            for message in seed.messages.values():
                sequence = message.sequence
                if info is not None and (not is_at_least(sequence, info.min_sequence) or sequence in info.buffered):
                    continue
                found = True
                message.expirations = 0
                if message.trickle.is_running:
                    message.trickle.reset(self._core.now)
                else:
                    message.trickle.start(self._core.now)
        return found

    def _has_all(self, info: SeedInfo) -> bool:
        seed = self._seeds.get(info.seed)
        return not info.buffered if seed is None else all(seed.has(sequence) for sequence in info.buffered)

    def _send_control(self) -> None:
        source = self._core.link_local_address
        seeds = tuple(
            SeedInfo(identifier, seed.min_sequence, frozenset(seed.messages))
            for identifier, seed in self._seeds.items()
        )
        body = MplControl(seeds).encode()
        payload = Icmpv6Message(Icmpv6Type.MPL_CONTROL, 0, body).encode(source, LINK_MPL_FORWARDERS)
        self._core.counters["mpl_control_sent"] += 1
        self._send(Ipv6Packet(source, LINK_MPL_FORWARDERS, IpProtocol.ICMPV6, payload, hop_limit=_LINK_HOP_LIMIT))

    # time

    def next_deadline(self) -> float | None:
        deadline = self._control.deadline
        for seed in self._seeds.values():
            deadline = seed.ends_at if deadline is None else min(deadline, seed.ends_at)
            for message in seed.messages.values():
                due = message.trickle.deadline
                deadline = min(deadline, message.ends_at if due is None else min(due, message.ends_at))
        return deadline

    def handle_timer(self) -> None:
        now, deadline = self._core.now, self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self._control.is_running and self._control.deadline is not None and now >= self._control.deadline:
            self._handle_control(now)
        for identifier, seed in list(self._seeds.items()):
            for message in list(seed.messages.values()):
                self._handle_message(seed, message, now)
            if now >= seed.ends_at:
                del self._seeds[identifier]

    def _handle_control(self, now: float) -> None:
        began_interval = not self._control.is_past_t
        if self._control.handle(now):
            self._send_control()
        if began_interval:
            self._control_expirations += 1
            if self._control_expirations >= self._profile.control_expirations:
                self._control.stop()

    def _handle_message(self, seed: Seed, message: Buffered, now: float) -> None:
        trickle = message.trickle
        if trickle.deadline is not None and now >= trickle.deadline:
            is_transmission_time = not trickle.is_past_t
            if trickle.handle(now):
                self._transmit(seed, message)
            if is_transmission_time:
                message.expirations += 1
                if message.expirations >= self._profile.data_expirations:
                    trickle.stop()
        if now >= message.ends_at:
            seed.drop(message.sequence)

    def _transmit(self, seed: Seed, message: Buffered) -> None:
        header = message.packet.extension(IpProtocol.HOP_BY_HOP)
        option = MplOption.decode(header) if header is not None else None
        if header is None or option is None:
            return
        age_ms = None if message.born_at is None else round((self._core.now - message.born_at) * 1000)
        option = replace(option, is_largest=seed.is_largest(message.sequence), age_ms=age_ms)
        self._core.counters["mpl_sent"] += 1
        self._send(replace(message.packet, extensions=message.packet.replacing(header, option.encode())))
