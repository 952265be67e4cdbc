"""Takes a residual current apart into smooth DC, pulsating DC, line-frequency AC and what is faster."""

from __future__ import annotations

import numpy as np

from meters.firmware.protection.analysis import FIT_SAMPLES, REDUCED_RATE_HZ, CycleFit, Samples
from protocols.trip_record import SAMPLE_RATE_HZ, Components

_FACTOR = SAMPLE_RATE_HZ // REDUCED_RATE_HZ
NEEDED_SAMPLES = FIT_SAMPLES * _FACTOR
_SLOW_HARMONICS = 6
"""Up to 300 Hz counts as line-frequency current and its shape."""


def components(samples_ma: Samples, fit: CycleFit) -> Components:
    """Parts of the last 25 ms of `samples_ma` (8 kHz). Raises ValueError if there are fewer.

    The pulsating part is what the mean exceeds the level at which the current rests between its pulses.
    """
    if len(samples_ma) < NEEDED_SAMPLES:
        raise ValueError(f"need {NEEDED_SAMPLES} samples, have {len(samples_ma)}")
    recent = np.nan_to_num(samples_ma[-NEEDED_SAMPLES:])
    reduced = recent.reshape(-1, _FACTOR).mean(axis=1)
    direct = fit.measure(reduced[None])
    mean, line_hz = float(direct.mean_ma[0]), float(direct.line_hz[0])
    smooth = float(direct.level_ma[0]) if direct.pulsates[0] else mean
    cycle = recent[-round(SAMPLE_RATE_HZ / line_hz) :]
    angle = 2.0 * np.pi * line_hz * np.arange(len(recent)) / SAMPLE_RATE_HZ
    columns = [np.ones_like(angle)]
    for harmonic in range(1, _SLOW_HARMONICS + 1):
        columns += [np.cos(harmonic * angle), np.sin(harmonic * angle)]
    design = np.stack(columns, axis=1)
    solution = np.linalg.lstsq(design, recent, rcond=None)[0]
    fast = recent - design @ solution
    return Components(
        smooth_dc_ma=smooth,
        pulsating_dc_ma=mean - smooth,
        ac_ma=float(np.hypot(solution[1], solution[2]) / np.sqrt(2.0)),
        high_frequency_ma=float(np.sqrt(np.mean(fast * fast))),
        total_ma=float(np.sqrt(np.mean(cycle * cycle))),
        line_hz=line_hz,
    )
