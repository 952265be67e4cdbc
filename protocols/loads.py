"""What crosses between the grid and a meter: powers and voltages that stay the same for a while."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PhaseLoad:
    """One phase's load: active and reactive power (positive is taken from the grid, and inductive), and voltage."""

    p_w: float
    q_var: float
    u_v: float


@dataclass(frozen=True, slots=True)
class LoadSegment:
    """A load that stays the same until `until_s` (UTC of the simulated world; infinity: for good)."""

    until_s: float
    phases: tuple[PhaseLoad, ...]
    frequency_hz: float = 50.0


class LoadSource(Protocol):
    """Where the load comes from: a household, a feeder, a test bench. Constant in pieces, known in advance."""

    def segment_at(self, utc_s: float) -> LoadSegment:
        """The load at this moment; `until_s` of the answer is later than `utc_s`."""
        ...


@dataclass(frozen=True, slots=True)
class ConstantLoad:
    """A load that never changes."""

    phases: tuple[PhaseLoad, ...]
    frequency_hz: float = 50.0

    def segment_at(self, utc_s: float) -> LoadSegment:
        return LoadSegment(math.inf, self.phases, self.frequency_hz)
