"""What disturbs a frame: jammers, and the arithmetic of a channel whose interference changes within the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from twin.air.obstacles import Position
from twin.air.propagation import Propagation, delivery_probability, milliwatts


@dataclass(frozen=True, slots=True)
class Span:
    """Interference of constant power at one receiver, from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    power_mw: float


@dataclass(slots=True)
class Interferer:
    """A source of noise at a place, on one channel or on all of them (None), while it lasts.

    It is an interferer and no peer: the range limit of links does not bound it.
    """

    position: Position
    power_dbm: float
    channel: int | None
    start_s: float
    end_s: float = math.inf

    def stop(self, now: float) -> None:
        """End it early."""
        self.end_s = min(self.end_s, now)

    def is_on(self, channel: int, now: float) -> bool:
        return self.start_s <= now < self.end_s and self.channel in (None, channel)

    def overlaps(self, channel: int, start_s: float, end_s: float) -> bool:
        return self.start_s < end_s and self.end_s > start_s and self.channel in (None, channel)

    def power_mw_at(self, position: Position, propagation: Propagation) -> float:
        return milliwatts(propagation.received_dbm(self.power_dbm, self.position, position, None))


def survival_probability(
    signal_mw: float,
    sensitivity_mw: float,
    capture_ratio: float,
    bits: float,
    start_s: float,
    end_s: float,
    spans: Sequence[Span],
) -> float:
    """Probability that a frame survives interference that comes and goes while it is on the air.

    The frame is cut where the interference changes; in each piece the error rate is that of
    `propagation.bit_error_rate` at x = S / (sensitivity + c I), and all pieces must survive.
    """
    cuts = {start_s, end_s}
    for span in spans:
        cuts.update(edge for edge in (span.start_s, span.end_s) if start_s < edge < end_s)
    edges = sorted(cuts)
    probability = 1.0
    for left, right in pairwise(edges):
        interference_mw = sum(span.power_mw for span in spans if span.start_s <= left and span.end_s >= right)
        margin = signal_mw / (sensitivity_mw + capture_ratio * interference_mw)
        probability *= delivery_probability(margin, bits * (right - left) / (end_s - start_s))
    return probability
