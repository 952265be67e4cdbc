"""Load current of a line: what the poles of its relay carry besides the fault."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from grid.waveforms import LineFrequency, Samples


@dataclass(frozen=True, slots=True)
class Load:
    """A load of `rms_a` at the line frequency, lagging the voltage by `phase_deg`.

    `harmonics` maps an order (2 or more) to its share of the fundamental, in phase with it at every zero of the
    fundamental. Where `inrush_factor` is above 1, the current begins that many times larger at `inrush_s` and settles
    with `inrush_tau_s`.
    """

    rms_a: float = 10.0
    phase_deg: float = 0.0
    harmonics: dict[int, float] = field(default_factory=dict)
    inrush_factor: float = 1.0
    inrush_s: float = 0.0
    inrush_tau_s: float = 0.1

    def __post_init__(self) -> None:
        if not (np.isfinite(self.rms_a) and self.rms_a >= 0.0):
            raise ValueError(f"a load's current must be 0 A or more, is {self.rms_a}")
        if any(order < 2 for order in self.harmonics):
            raise ValueError("a harmonic's order must be 2 or more")

    def sample(self, time_s: Samples, frequency: LineFrequency, phase_rad: Samples) -> Samples:
        """Current in A: channels x times. `phase_rad` is each channel's line angle at time 0."""
        angle = frequency.angle(time_s)[None, :] + phase_rad[:, None] - np.radians(self.phase_deg)
        current = np.sin(angle)
        for order, share in sorted(self.harmonics.items()):
            current += share * np.sin(order * angle)
        current *= np.sqrt(2.0) * self.rms_a
        if self.inrush_factor != 1.0:
            since_s = np.maximum(time_s - self.inrush_s, 0.0)
            extra = (self.inrush_factor - 1.0) * np.exp(-since_s / self.inrush_tau_s)
            current *= np.where(time_s < self.inrush_s, 0.0, 1.0 + extra)
        return np.asarray(current)


def line_currents_a(load_a: Samples, residual_ma: Samples) -> tuple[Samples, Samples]:
    """Phase and neutral current in A. Their vector sum is the residual current, which returns through earth."""
    return load_a + residual_ma / 1000.0, -load_a


def residual_from_poles_ma(*pole_currents_a: Samples) -> Samples:
    """The sum of all currents through the sensor, in mA: zero unless some of it finds another way back."""
    return np.asarray(sum(pole_currents_a) * 1000.0)
