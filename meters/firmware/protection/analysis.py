"""What a stretch of residual current is made of. Stateless; every function takes windows x samples.

Windows are of band-limited current at 2 kHz (means over four samples of 8 kHz).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

REDUCED_RATE_HZ = 2000
FIT_SAMPLES = 50
"""25 ms: a whole cycle at 45 Hz and a little more, so that a fit tells the frequency from the shape."""
IDLE_SAMPLES = 14
"""7 ms: the idle half of a half-wave at 52 Hz (9.6 ms), less the filter's settling and an error in the frequency."""

_HARMONICS = (1, 2, 3, 4, 5)
_BANDS = {50.0: (44.5, 52.5), 60.0: (56.5, 62.5)}
_STEP_HZ = 0.5
_IDLE_TO_SPAN = 0.08
_SECOND_TO_PULSES = 0.5
_MISFIT_MA = 0.3
_MISFIT_TO_NOISE = 1.5


@dataclass(frozen=True, slots=True)
class Direct:
    """Direct part of each window: its mean over a cycle, the line frequency, whether the fit holds, and the level at
    which the current rests between pulses, if it pulsates at all."""

    mean_ma: Samples
    line_hz: Samples
    fits: Flags
    level_ma: Samples
    pulsates: Flags


class CycleFit:
    """Direct current under an alternating one of unknown frequency.

    A mean over a window that is not a whole cycle shows direct current that is not there: 2.3 mA for 15 mA at 45 Hz
    seen through 20 ms. So a constant and five harmonics are fitted by least squares at every frequency that the
    line can have, and the frequency with the smallest remainder tells. That measures the frequency from the residual
    current itself, and needs no voltage, which a lost neutral would take away.
    """

    def __init__(self, line_hz: float) -> None:
        nominal = min(_BANDS, key=lambda hz: abs(hz - line_hz))
        low, high = _BANDS[nominal]
        self.frequencies_hz = np.arange(low, high + _STEP_HZ / 2, _STEP_HZ)
        time_s = (np.arange(FIT_SAMPLES) - (FIT_SAMPLES - 1) / 2) / REDUCED_RATE_HZ
        projections, constants = [], []
        for hz in self.frequencies_hz:
            columns = [np.ones_like(time_s)]
            for harmonic in _HARMONICS:
                angle = 2.0 * np.pi * hz * harmonic * time_s
                columns += [np.cos(angle), np.sin(angle)]
            design = np.stack(columns, axis=1)
            projections.append(np.linalg.qr(design)[0])
            constants.append(np.linalg.pinv(design)[0])
        self._width = 1 + 2 * len(_HARMONICS)
        self._projections = np.concatenate(projections, axis=1)
        self._constants = np.stack(constants, axis=1)
        self._cycles = np.stack([_last_cycle(hz) for hz in self.frequencies_hz])

    def measure(self, windows: Samples) -> Direct:
        """Take windows x FIT_SAMPLES apart."""
        parts = windows @ self._projections
        explained = (parts * parts).reshape(len(windows), -1, self._width).sum(axis=2)
        best = explained.argmax(axis=1)
        rows = np.arange(len(windows))
        direct = (windows @ self._constants)[rows, best]
        remainder = np.maximum((windows * windows).sum(axis=1) - explained[rows, best], 0.0)
        fits = np.sqrt(remainder / FIT_SAMPLES) <= _MISFIT_MA + _MISFIT_TO_NOISE * _noise(windows)
        level, idles = _baseline(windows[rows[:, None], self._cycles[best]])
        second = (parts.reshape(len(windows), -1, self._width)[rows, best, 3:5] ** 2).sum(axis=1)
        second = np.sqrt(second * (2.0 / FIT_SAMPLES))
        # Of a half-wave's mean, its second harmonic is two thirds; of a narrower pulse's, more.
        pulsating = np.abs(direct) - np.maximum(level * np.sign(direct), 0.0)
        pulses = idles & (pulsating > 0.0) & (second >= _SECOND_TO_PULSES * pulsating)
        return Direct(direct, self.frequencies_hz[best], fits, level, pulses)


def _noise(windows: Samples) -> Samples:
    """Standard deviation of what changes from sample to sample. By the median, so that a step does not count."""
    bends = np.abs(windows[:, 2:] - 2.0 * windows[:, 1:-1] + windows[:, :-2])
    return np.asarray(np.median(bends, axis=1) / (0.6745 * np.sqrt(6.0)))


def _last_cycle(hz: float) -> npt.NDArray[np.intp]:
    """Indices into a window of its last cycle, going round once more by 7 ms; all of one length."""
    cycle = round(REDUCED_RATE_HZ / hz)
    longest = round(REDUCED_RATE_HZ / min(low for low, _ in _BANDS.values())) + IDLE_SAMPLES - 1
    return FIT_SAMPLES - cycle + np.arange(longest) % cycle


def _baseline(cycles: Samples) -> tuple[Samples, Flags]:
    """Level in mA of the quietest 7 ms of each row, and whether the current idles there.

    A pulsating current rests between its pulses: its flattest 7 ms are flat indeed. Those of a sine have a standard
    deviation of 7 % of its whole swing, whatever direct current is added, so the two cannot be mistaken for one
    another however large or small either part is.
    """
    sums = np.cumsum(cycles, axis=1)
    squares = np.cumsum(cycles * cycles, axis=1)
    total = sums[:, IDLE_SAMPLES - 1 :].copy()
    total[:, 1:] -= sums[:, :-IDLE_SAMPLES]
    square = squares[:, IDLE_SAMPLES - 1 :].copy()
    square[:, 1:] -= squares[:, :-IDLE_SAMPLES]
    means = total / IDLE_SAMPLES
    variances = np.maximum(square / IDLE_SAMPLES - means * means, 0.0)
    quietest = variances.argmin(axis=1)
    rows = np.arange(len(cycles))
    span = cycles.max(axis=1) - cycles.min(axis=1)
    idles = np.sqrt(variances[rows, quietest]) < _IDLE_TO_SPAN * span
    return means[rows, quietest], idles


def outside_best_two(energies: Samples) -> Samples:
    """Energy of each window (windows x ticks of 1 ms) without its strongest 2 ms: of an impulse, little is left."""
    strongest: Samples = (energies[:, :-1] + energies[:, 1:]).max(axis=1)
    return np.asarray(energies.sum(axis=1) - strongest)
