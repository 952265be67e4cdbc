"""What a feeder did, piece by piece, for those who ask later: meters integrate when somebody reads them."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np

from grid.feeder.power_flow import Flow, Values
from protocols.errors import LocalProtocolError
from protocols.loads import LoadSegment, PhaseLoad

KEPT_S = 36 * 3600.0
"""Longer than any capture period: by then every meter that runs has counted what is forgotten."""
_SWEEP_AT = 512


@dataclass(frozen=True, slots=True)
class Piece:
    """A time in which nothing changes on the feeder. Arrays are meters x 3 phases, rounded as meters are given them.

    Powers are those of homes and plants with all their lines closed; `share` (meters) says how much of them flows
    through the meter. `unmetered_w` is what is taken beside the meters.
    """

    start_s: float
    end_s: float
    hz: float
    source_pu: float
    voltage_v: Values
    active_w: Values
    reactive_var: Values
    share: Values
    unmetered_w: float
    flow: Flow

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def metered_w(self) -> float:
        return float(np.sum(self.active_w * self.share[:, None]))

    def segment(self, meter: int, phases: tuple[int, ...]) -> LoadSegment:
        """What one meter is offered: how much of it flows is the meter's own switch's affair."""
        loads = tuple(
            PhaseLoad(
                float(self.active_w[meter, phase]),
                float(self.reactive_var[meter, phase]),
                float(self.voltage_v[meter, phase]),
            )
            for phase in phases
        )
        return LoadSegment(self.end_s, loads, self.hz)


class History:
    """Closed pieces in their order, without gaps, as far back as KEPT_S."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._pieces: list[Piece] = []

    def add(self, piece: Piece) -> None:
        self._starts.append(piece.start_s)
        self._pieces.append(piece)
        if len(self._pieces) % _SWEEP_AT == 0:
            old = bisect.bisect_left(self._starts, piece.end_s - KEPT_S)
            del self._starts[:old], self._pieces[:old]

    def at(self, utc_s: float) -> Piece:
        """Raises LocalProtocolError for a time that is forgotten, or was never there."""
        index = bisect.bisect_right(self._starts, utc_s) - 1
        if index < 0:
            raise LocalProtocolError(f"the feeder has forgotten {utc_s:.1f}; it keeps {KEPT_S / 3600:g} hours")
        return self._pieces[index]


@dataclass(slots=True)
class Energies:
    """Energy since the feeder began, in Wh; `busbar_wh` is the feeder meter's, import less export."""

    busbar_wh: float = 0.0
    metered_wh: float = 0.0
    unmetered_wh: float = 0.0
    conductor_loss_wh: float = 0.0
    transformer_loss_wh: float = 0.0

    def add(self, piece: Piece) -> None:
        hours = piece.duration_s / 3600.0
        self.busbar_wh += piece.flow.busbar_w * hours
        self.metered_wh += piece.metered_w * hours
        self.unmetered_wh += piece.unmetered_w * hours
        self.conductor_loss_wh += piece.flow.conductor_loss_w * hours
        self.transformer_loss_wh += piece.flow.transformer_loss_w * hours
