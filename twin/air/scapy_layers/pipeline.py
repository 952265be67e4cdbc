# SPDX-License-Identifier: GPL-2.0-only
"""`--air scapy`: every frame becomes Scapy layers, is offered to filters and edits, and goes on as bytes again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from scapy.packet import Packet

from protocols.mesh.checksum import FCS32_BYTES, append_fcs
from twin.air.pipeline import Emission
from twin.air.scapy_layers.dot15d4 import Dot15d4, Dot15d4Clear
from twin.air.scapy_layers.security import LinkKeys, open_frame, seal_frame

Match = Callable[[Packet], Any] | type[Packet]
"""What a filter looks for: a predicate over the frame's layers, or a layer that the frame must have."""


class Action(Protocol):
    """What is done to a matching frame: emissions in, emissions out."""

    def apply(self, emission: Emission, keys: LinkKeys) -> Sequence[Emission]: ...


@dataclass(frozen=True, slots=True)
class Drop:
    """The frame does not go out."""

    def apply(self, emission: Emission, keys: LinkKeys) -> Sequence[Emission]:
        return ()


@dataclass(frozen=True, slots=True)
class Delay:
    """The frame goes out `delay_s` later, past its sender's MAC."""

    delay_s: float

    def apply(self, emission: Emission, keys: LinkKeys) -> Sequence[Emission]:
        return (replace(emission, delay_s=emission.delay_s + self.delay_s),)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The frame goes out, and `copies` more follow, `spacing_s` apart (0: right behind it)."""

    copies: int = 1
    spacing_s: float = 0.0

    def apply(self, emission: Emission, keys: LinkKeys) -> Sequence[Emission]:
        return tuple(
            replace(emission, delay_s=emission.delay_s + copy * self.spacing_s) for copy in range(self.copies + 1)
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """The frame goes out, and once more, bit by bit the same, `after_s` later."""

    after_s: float

    def apply(self, emission: Emission, keys: LinkKeys) -> Sequence[Emission]:
        return emission, replace(emission, delay_s=emission.delay_s + self.after_s)


@dataclass(frozen=True, slots=True)
class Corrupt:
    """`bits` of the frame, drawn from `rng`, are flipped. With `fix_fcs` the FCS is made to fit afterwards, so that
    only the integrity code can notice."""

    rng: random.Random
    bits: int = 1
    fix_fcs: bool = False

    def apply(self, emission: Emission, keys: LinkKeys) -> Sequence[Emission]:
        psdu = bytearray(emission.psdu)
        fcs_bytes = _fcs_bytes(emission.psdu) if self.fix_fcs else 0
        for place in self.rng.sample(range(8 * (len(psdu) - fcs_bytes)), self.bits):
            psdu[place // 8] ^= 1 << place % 8
        if not self.fix_fcs:
            return (replace(emission, psdu=bytes(psdu)),)
        return (replace(emission, psdu=append_fcs(bytes(psdu[:-fcs_bytes]), fcs_bytes)),)


@dataclass(frozen=True, slots=True)
class Edit:
    """`change` alters the frame's layers in place, or returns another packet; integrity code and FCS are made anew.

    Lengths and checksums inside are not: delete or set them if the change needs it.
    """

    change: Callable[[Packet], Packet | None]

    def apply(self, emission: Emission, keys: LinkKeys) -> Sequence[Emission]:
        packet = open_frame(emission.psdu, keys)
        cipher = keys.cipher_of(packet) if isinstance(packet, Dot15d4Clear) else None
        changed = self.change(packet)
        result = packet if changed is None else changed
        result.clear_cache()
        return (replace(emission, psdu=seal_frame(result, keys, cipher)),)


def _fcs_bytes(psdu: bytes) -> int:
    return Dot15d4(psdu).fcs_bytes if len(psdu) > FCS32_BYTES else 0


@dataclass(slots=True)
class Filter:
    """One rule of a pipeline, with what it did so far. `limit` frames at most are touched, the first that match."""

    match: Match
    action: Action
    sender: str | None = None
    channel: int | None = None
    limit: int | None = None
    hits: int = 0
    log: list[tuple[float, str]] = field(default_factory=list)

    def wants(self, packet: Packet, sender: str, channel: int) -> bool:
        """Whether the frame is for this rule."""
        if self.limit is not None and self.hits >= self.limit:
            return False
        if self.sender not in (None, sender) or self.channel not in (None, channel):
            return False
        if isinstance(self.match, type):
            return bool(packet.haslayer(self.match))
        return bool(self.match(packet))


class ScapyPipeline:
    """Takes every frame apart and puts it together again: decrypt, dissect, filter, edit, rebuild, encrypt.

    A frame that no rule touches comes out as the same bytes. Should the layers not be able to say a frame exactly
    (junk that a test injected), its own bytes go on, and `rebuild_differences` counts it.
    """

    def __init__(self, keys: bytes | dict[int, bytes] | LinkKeys | None = None) -> None:
        self.keys = keys if isinstance(keys, LinkKeys) else LinkKeys(keys)
        self.filters: list[Filter] = []
        self.observers: list[Callable[[Packet, str, float], object]] = []
        """Called with (packet in clear, sender, time in s) for every frame, before the filters."""
        self.frames = 0
        self.rebuild_differences = 0

    def add_filter(
        self,
        match: Match,
        action: Action,
        *,
        sender: str | None = None,
        channel: int | None = None,
        limit: int | None = None,
    ) -> Filter:
        """Do `action` to frames that match. Rules are gone through in the order in which they were added; each sees
        what the ones before it left of the frame."""
        rule = Filter(match, action, sender, channel, limit)
        self.filters.append(rule)
        return rule

    def remove_filter(self, rule: Filter) -> None:
        """Take a rule out."""
        self.filters.remove(rule)

    def process(self, psdu: bytes, *, channel: int, sender: str, now: float) -> Sequence[Emission]:
        """See `twin.air.pipeline.FramePipeline`."""
        self.frames += 1
        packet = open_frame(psdu, self.keys)
        for observer in self.observers:
            observer(packet, sender, now)
        packet.clear_cache()
        rebuilt = seal_frame(packet, self.keys)
        if rebuilt != psdu:
            self.rebuild_differences += 1
            rebuilt = psdu
        emissions: list[Emission] = [Emission(rebuilt)]
        for rule in self.filters:
            emissions = self._apply(rule, emissions, sender, channel, now)
        return emissions

    def _apply(self, rule: Filter, emissions: list[Emission], sender: str, channel: int, now: float) -> list[Emission]:
        results: list[Emission] = []
        for emission in emissions:
            packet = open_frame(emission.psdu, self.keys)
            if rule.wants(packet, sender, channel):
                rule.hits += 1
                rule.log.append((now, packet.summary()))
                results.extend(rule.action.apply(emission, self.keys))
            else:
                results.append(emission)
        return results
