"""Residual-current waveforms, sampled at 8 kHz and vectorised over channels (meters, lines, onset phases).

A waveform is a shape of the line's phase angle and of time, scaled so that 1.0 is its rated value: the mean for
smooth direct current, the peak for impulses, the RMS value for everything else. Negative currents turn it over.
The table of currents at which a Type B device must and must not trip stands in `grid.faults`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 8000

Samples = npt.NDArray[np.float64]
Shape = Callable[[Samples, Samples], Samples]
"""(line angle in rad, seconds since onset), both of one shape -> dimensionless samples of that shape."""


class Rating(enum.StrEnum):
    """What the figure in mA means."""

    RMS = "RMS"
    MEAN = "mean"
    PEAK = "peak"


@dataclass(frozen=True, slots=True)
class Waveform:
    name: str
    title: str
    rating: Rating
    shape: Shape


def _sine(angle: Samples, _time_s: Samples) -> Samples:
    return np.asarray(np.sqrt(2.0) * np.sin(angle))


def _smooth(angle: Samples, _time_s: Samples) -> Samples:
    return np.ones_like(angle)


def _fixed_frequency(hz: float) -> Shape:
    """A sine of its own frequency; its phase at the onset is that of the line."""

    def shape(angle: Samples, time_s: Samples) -> Samples:
        return np.asarray(np.sqrt(2.0) * np.sin(angle[..., :1] + 2.0 * np.pi * hz * time_s))

    return shape


def _half_wave(delay_deg: float) -> Shape:
    """A sine's positive half, cut on at `delay_deg`, of RMS 1."""
    delay = np.radians(delay_deg)
    mean_square = ((np.pi - delay) / 2.0 + np.sin(2.0 * delay) / 4.0) / (2.0 * np.pi)
    peak = 1.0 / np.sqrt(mean_square)

    def shape(angle: Samples, _time_s: Samples) -> Samples:
        within = np.mod(angle, 2.0 * np.pi)
        conducts = (within >= delay) & (within < np.pi)
        return np.where(conducts, peak * np.sin(within), 0.0)

    return shape


def half_wave_mean(delay_deg: float) -> float:
    """Mean of a half-wave of RMS 1: 0.637 at 0 degrees, 0.450 at 90, 0.310 at 135."""
    delay = np.radians(delay_deg)
    mean_square = ((np.pi - delay) / 2.0 + np.sin(2.0 * delay) / 4.0) / (2.0 * np.pi)
    return float((1.0 + np.cos(delay)) / (2.0 * np.pi) / np.sqrt(mean_square))


def _rectified(pulses: int) -> Shape:
    """Output of a rectifier of 2, 3 or 6 pulses a cycle, of RMS 1."""
    steps = np.arange(pulses) * (2.0 * np.pi / pulses)
    fine = np.linspace(-np.pi / pulses, np.pi / pulses, 20001)
    scale = 1.0 / np.sqrt(np.trapezoid(np.cos(fine) ** 2, fine) / (2.0 * np.pi / pulses))

    def shape(angle: Samples, _time_s: Samples) -> Samples:
        # The valve that conducts is the one whose voltage is nearest to its peak.
        away = np.min(np.abs(np.mod(angle[..., None] - steps - np.pi / 2 + np.pi, 2 * np.pi) - np.pi), axis=-1)
        return np.asarray(scale * np.cos(away))

    return shape


_COMPOSITE = {10.0: 0.035, 0.0: 0.138, 1000.0: 0.138}
"""RMS shares of the parts at the start of the Type F composite test (0 stands for the line frequency)."""


def _composite(angle: Samples, time_s: Samples) -> Samples:
    total = np.sqrt(sum(share**2 for share in _COMPOSITE.values()))
    out = np.zeros_like(angle)
    for hz, share in _COMPOSITE.items():
        part = angle if hz == 0.0 else angle[..., :1] + 2.0 * np.pi * hz * time_s
        out += np.sqrt(2.0) * share / total * np.sin(part)
    return np.asarray(out)


def _direct_plus_alternating(angle: Samples, _time_s: Samples) -> Samples:
    """Direct current of 1 with a sine of RMS 10/6 on it: 6 mA and 10 mA at a rating of 6."""
    return np.asarray(1.0 + np.sqrt(2.0) * (10.0 / 6.0) * np.sin(angle))


def _impulse(duration_s: float) -> Shape:
    """Shorter than a sample: the one sample in which it falls holds its peak, as a peak-holding front end would."""

    def shape(_angle: Samples, time_s: Samples) -> Samples:
        inside = (time_s >= 0.0) & (time_s < max(duration_s, 1.0 / SAMPLE_RATE_HZ))
        return inside.astype(np.float64)

    return shape


def _ring(angle: Samples, time_s: Samples) -> Samples:
    """0.5 us / 100 kHz ring wave, each half-wave 60 % of the one before: over within two samples."""
    envelope = 0.6 ** (2.0 * 100e3 * np.maximum(time_s, 0.0))
    return np.where(time_s >= 0.0, envelope * np.sign(np.cos(angle[..., :1])), 0.0)


def _switch_on(angle: Samples, time_s: Samples) -> Samples:
    """Charging of suppression capacitors when a line is energised: 1.5 kHz, decaying with 0.3 ms."""
    sign = np.where(np.sin(angle[..., :1]) < 0.0, -1.0, 1.0)
    return np.asarray(sign * np.exp(-np.maximum(time_s, 0.0) / 0.3e-3) * np.cos(2.0 * np.pi * 1500.0 * time_s))


def _burst(duration_s: float) -> Shape:
    def shape(angle: Samples, time_s: Samples) -> Samples:
        return np.where(time_s < duration_s, np.sqrt(2.0) * np.sin(angle), 0.0)

    return shape


def _with_direct(base: Shape, share: float) -> Shape:
    """`base` of RMS 1 with smooth direct current of `share` on it, of the same sign."""

    def shape(angle: Samples, time_s: Samples) -> Samples:
        return base(angle, time_s) + share

    return shape


_ALL = (
    Waveform("ac", "sinusoidal, line frequency", Rating.RMS, _sine),
    Waveform("dc", "smooth direct current", Rating.MEAN, _smooth),
    Waveform("half-wave-0", "half-wave, delay angle 0°", Rating.RMS, _half_wave(0.0)),
    Waveform("half-wave-90", "half-wave, delay angle 90°", Rating.RMS, _half_wave(90.0)),
    Waveform("half-wave-135", "half-wave, delay angle 135°", Rating.RMS, _half_wave(135.0)),
    *(
        Waveform(
            f"half-wave-{delay}-plus-dc",
            f"half-wave, delay angle {delay}°, with smooth DC of 12/42 of its RMS",
            Rating.RMS,
            _with_direct(_half_wave(float(delay)), 12.0 / 42.0),
        )
        for delay in (0, 90, 135)
    ),
    Waveform("dc-plus-ac", "smooth DC with a line-frequency sine of 10/6 of it (6 mA DC + 10 mA AC)", Rating.MEAN,
             _direct_plus_alternating),
    Waveform("two-pulse", "rectified, two pulses a cycle", Rating.RMS, _rectified(2)),
    Waveform("three-pulse", "rectified, three pulses a cycle", Rating.RMS, _rectified(3)),
    Waveform("six-pulse", "rectified, six pulses a cycle", Rating.RMS, _rectified(6)),
    Waveform("ac-150", "sinusoidal, 150 Hz", Rating.RMS, _fixed_frequency(150.0)),
    Waveform("ac-400", "sinusoidal, 400 Hz", Rating.RMS, _fixed_frequency(400.0)),
    Waveform("ac-1000", "sinusoidal, 1 kHz", Rating.RMS, _fixed_frequency(1000.0)),
    Waveform("composite", "10 Hz + line frequency + 1 kHz", Rating.RMS, _composite),
    Waveform("surge", "8/20 µs surge", Rating.PEAK, _impulse(20e-6)),
    Waveform("ring-wave", "0.5 µs / 100 kHz ring wave", Rating.PEAK, _ring),
    Waveform("switch-on", "switch-on of suppression capacitors, decaying 1.5 kHz", Rating.PEAK, _switch_on),
    Waveform("inrush", "line-frequency burst of 10 ms", Rating.RMS, _burst(10e-3)),
)  # fmt: skip

WAVEFORMS: dict[str, Waveform] = {waveform.name: waveform for waveform in _ALL}


@dataclass(frozen=True, slots=True)
class LineFrequency:
    """Frequency of the grid over time: `hz` at the onset, moving by `drift_hz_per_s`, held between the bounds."""

    hz: float = 50.0
    drift_hz_per_s: float = 0.0
    low_hz: float = 45.0
    high_hz: float = 52.0

    def angle(self, time_s: Samples) -> Samples:
        """Line angle in rad since the onset (time 0), the exact integral of the frequency."""
        if self.drift_hz_per_s == 0.0:
            return 2.0 * np.pi * self.hz * time_s
        bound = self.high_hz if self.drift_hz_per_s > 0.0 else self.low_hz
        until_s = (bound - self.hz) / self.drift_hz_per_s
        moving = np.minimum(time_s, until_s)
        cycles = self.hz * moving + 0.5 * self.drift_hz_per_s * moving**2 + bound * (time_s - moving)
        return 2.0 * np.pi * cycles


@dataclass(frozen=True, slots=True)
class ResidualBatch:
    """One fault waveform on many channels that differ in onset phase and current.

    `phase_rad` and `ma` are arrays of one length, a value a channel. Before the onset (time 0) and after it flow
    `standing_ac_ma` (RMS, line frequency) and `standing_dc_ma`; from the onset on the fault, and `fault_dc_ma` of
    smooth direct current with it. With `ramp_ma_per_s` the fault grows from zero at that rate until it reaches `ma`.
    The fault ends `duration_s` after its onset.
    """

    waveform: Waveform
    phase_rad: Samples
    ma: Samples
    frequency: LineFrequency = LineFrequency()
    fault_dc_ma: float = 0.0
    standing_ac_ma: float = 0.0
    standing_dc_ma: float = 0.0
    ramp_ma_per_s: float | None = None
    duration_s: float = float("inf")

    def sample(self, time_s: Samples) -> Samples:
        """Residual current in mA at these times (seconds from the onset): channels x times."""
        angle = self.phase_rad[:, None] + self.frequency.angle(time_s)[None, :]
        out = np.full(angle.shape, float(self.standing_dc_ma))
        if self.standing_ac_ma:
            out += self.standing_ac_ma * np.sqrt(2.0) * np.sin(angle)
        # A sample's time carries rounding of a few ulp: half a microsecond is far below the sampling interval.
        on = (time_s >= -5e-7) & (time_s < self.duration_s - 5e-7)
        if on.any():
            since_s = np.broadcast_to(np.maximum(time_s[on], 0.0), (len(self.ma), int(on.sum())))
            # Shapes of a frequency of their own start from the phase at the onset, not from this block's first angle.
            shaped = self._shape(angle[:, on], since_s)
            out[:, on] += shaped + self.fault_dc_ma
        return out

    def _shape(self, angle: Samples, since_s: Samples) -> Samples:
        first = self.phase_rad[:, None]
        padded = np.concatenate((first, angle), axis=1)
        times = np.concatenate((np.zeros_like(first), since_s), axis=1)
        unit = self.waveform.shape(padded, times)[:, 1:]
        if self.ramp_ma_per_s is None:
            return unit * self.ma[:, None]
        size = np.minimum(self.ramp_ma_per_s * since_s, np.abs(self.ma)[:, None])
        return unit * np.sign(self.ma)[:, None] * size
