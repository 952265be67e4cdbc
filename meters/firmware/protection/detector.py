"""Type B residual-current detector: streaming, block-wise, vectorised over channels (meters x lines).

Samples of 8 kHz are judged once a millisecond, by three rules:

- AC and pulsating: RMS over 20 ms behind a low-pass of 300 Hz, which weighs high frequencies as the Type B table
  does, unless it is all in one impulse of 2 ms (surges, switching).
- Smooth DC, alone: 13 means over 1 ms in a row beyond the threshold on one side. No sine of 45 Hz or more can do
  that on a direct current below the threshold, as its longest half is 11.1 ms.
- Smooth DC under anything else: the mean over a cycle, from a fit over 25 ms (`CycleFit`), beyond the threshold for
  10 ms in which the fits hold, so that the transient of an alternating current does not count; where nothing fits,
  for 24 ms. A pulsating current that rests below the threshold between its pulses is not smooth, and is left to the
  first rule. This path sees impulses cut off at 60 mA: whatever lasts beyond that trips by the first rule.

Every tick is screened by sums alone; only what could possibly trip is looked at closely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from meters.firmware.protection.analysis import (
    FIT_SAMPLES,
    CycleFit,
    Flags,
    Samples,
    outside_best_two,
)
from meters.firmware.protection.settings import ProtectionSettings
from protocols.leakage_protection import Cause

SAMPLE_RATE_HZ = 8000
TICK_SAMPLES = 8
FULL_SCALE_MA = 600.0

_CORNER_HZ = 300.0
_AC_SHARE, _DC_SHARE = 0.85, 0.92
_IMPULSE_SHARE = 0.1
_DC_CLIP_MA = 60.0
_REST_SHARE = 0.9
_RMS_TICKS, _RUN_TICKS = 20, 13
_SETTLED_TICKS, _TRUSTED_TICKS, _LONG_TICKS = 10, 8, 24
_PER_TICK = 2
_HISTORY_TICKS = FIT_SAMPLES // _PER_TICK
_CHUNK_SAMPLES = 1 << 17
_PAIRS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Detection:
    """When each channel tripped: `sample` is the number of samples seen until the decision, or -1."""

    sample: npt.NDArray[np.int64]
    cause: npt.NDArray[np.int8]

    @property
    def tripped(self) -> Flags:
        return self.sample >= 0


class TypeBDetector:
    """Detector of `channels` channels. A channel that tripped stays so until `reset`.

    Blocks may be of any length. Thresholds act at 92 % (DC) and 85 % (AC) of the settings, which leaves room for the
    sensor's errors on the one side and for the largest currents that must not trip on the other.
    """

    def __init__(self, channels: int, settings: ProtectionSettings | None = None) -> None:
        if channels < 1:
            raise ValueError(f"a detector needs at least one channel, not {channels}")
        self.channels = channels
        self.settings = settings or ProtectionSettings()
        self._dc_ma = _DC_SHARE * self.settings.dc_threshold_ma
        self._energy = (_AC_SHARE * self.settings.ac_threshold_ma) ** 2 * _RMS_TICKS * TICK_SAMPLES
        self.fit = CycleFit(self.settings.line_hz)
        decay = np.exp(-2.0 * np.pi * _CORNER_HZ / SAMPLE_RATE_HZ)
        self._numerator, self._denominator = np.array([1.0 - decay]), np.array([1.0, -decay])
        self._seen = 0
        self._rest = np.empty((channels, 0))
        self._sample = np.full(channels, -1, dtype=np.int64)
        self._cause = np.zeros(channels, dtype=np.int8)
        self._lowpass = np.zeros((channels, 1))
        self._reduced = np.zeros((channels, _HISTORY_TICKS * _PER_TICK))
        self._energies = np.zeros((channels, _RMS_TICKS))
        self._direct = np.zeros((channels, _LONG_TICKS))
        self._trusted = np.zeros((channels, _SETTLED_TICKS))
        self._line_hz = np.full(channels, self.settings.line_hz)

    @property
    def detection(self) -> Detection:
        return Detection(self._sample.copy(), self._cause.copy())

    @property
    def line_hz(self) -> Samples:
        """Frequency of each channel's residual current when it was last looked at closely, in Hz."""
        return self._line_hz.copy()

    def reset(self, channel: int | None = None) -> None:
        """Forget that a channel (or all) tripped, and what its current was before."""
        which = slice(None) if channel is None else slice(channel, channel + 1)
        self._sample[which], self._cause[which] = -1, Cause.NONE
        for state in (self._lowpass, self._reduced, self._energies, self._direct, self._trusted):
            state[which] = 0.0
        self._rest[which] = 0.0

    def process(self, block: Samples) -> Detection:
        """Take the next samples in mA (channels x any number) and tell what has tripped until now.

        Raises ValueError if the block has another number of channels.
        """
        if block.ndim != 2 or len(block) != self.channels:
            raise ValueError(f"need {self.channels} channels x samples, have an array of shape {block.shape}")
        if self._rest.shape[1]:
            block = np.concatenate((self._rest, block), axis=1)
        whole = block.shape[1] // TICK_SAMPLES * TICK_SAMPLES
        self._rest = block[:, whole:].copy()
        step = max(16, _CHUNK_SAMPLES // (TICK_SAMPLES * self.channels)) * TICK_SAMPLES
        for start in range(0, whole, step):
            self._chunk(block[:, start : min(start + step, whole)])
        return self.detection

    def _chunk(self, block: Samples) -> None:
        """Whole ticks."""
        ticks = block.shape[1] // TICK_SAMPLES
        clipped = np.clip(block, -FULL_SCALE_MA, FULL_SCALE_MA)
        if not np.isfinite(clipped.sum()):
            clipped = self._drop_invalid(clipped)
        quarter = np.full(TICK_SAMPLES // _PER_TICK, _PER_TICK / TICK_SAMPLES)
        reduced = np.clip(clipped, -_DC_CLIP_MA, _DC_CLIP_MA).reshape(self.channels, ticks * _PER_TICK, -1) @ quarter
        low, self._lowpass = lfilter(self._numerator, self._denominator, clipped, axis=1, zi=self._lowpass)
        np.multiply(low, low, out=low)
        energies = low.reshape(self.channels, ticks, TICK_SAMPLES) @ np.ones(TICK_SAMPLES)
        self._judge(
            np.concatenate((self._reduced, reduced), axis=1), np.concatenate((self._energies, energies), axis=1)
        )
        self._seen += block.shape[1]

    def _drop_invalid(self, block: Samples) -> Samples:
        """Trip the channels that hold what is not a number, at the end of its tick, and blank it."""
        invalid = ~np.isfinite(block)
        for channel in np.nonzero(invalid.any(axis=1))[0]:
            tick = int(invalid[channel].argmax()) // TICK_SAMPLES
            self._trip(np.array([channel]), np.array([tick]), Cause.SENSOR)
        return np.where(invalid, 0.0, block)

    def _judge(self, reduced: Samples, energies: Samples) -> None:
        """Apply the three rules to every tick. Both arrays begin with the history that the chunk before left."""
        ticks = energies.shape[1] - _RMS_TICKS
        sums = np.cumsum(reduced, axis=1)[:, _PER_TICK - 1 :: _PER_TICK]
        run_means = (sums[:, -ticks:] - sums[:, -ticks - _RUN_TICKS : -_RUN_TICKS]) / (_RUN_TICKS * _PER_TICK)
        means = np.abs(sums[:, -ticks:] - sums[:, -ticks - _RMS_TICKS : -_RMS_TICKS]) / (_RMS_TICKS * _PER_TICK)
        totals = np.cumsum(energies, axis=1)
        totals = totals[:, _RMS_TICKS:] - totals[:, :-_RMS_TICKS]
        live = (self._sample < 0)[:, None]

        direct = np.zeros((self.channels, ticks))
        # A mean over 20 ms errs by up to 11 % of the peak of an alternating current, 16 % of its RMS value.
        near = means >= self._dc_ma - 0.16 * np.sqrt(np.maximum(totals, 0.0) / (_RMS_TICKS * TICK_SAMPLES))
        trusted = np.zeros_like(direct)
        self._look_closely(near & live, reduced, direct, trusted)
        self._trip_ac((totals >= self._energy) & live, energies)
        self._trip_smooth_run((np.abs(run_means) >= self._dc_ma) & live, reduced)
        self._trip_settled(direct, trusted)
        self._reduced = reduced[:, -_HISTORY_TICKS * _PER_TICK :].copy()
        self._energies = energies[:, -_RMS_TICKS:].copy()

    def _look_closely(self, near: Flags, reduced: Samples, direct: Samples, trusted: Samples) -> None:
        """Fill in the smooth direct current at the ticks that are `near` the threshold; elsewhere it stays 0."""
        channels, ticks = np.nonzero(near)
        windows = np.lib.stride_tricks.sliding_window_view(reduced, FIT_SAMPLES, axis=1)
        for start in range(0, len(channels), _PAIRS_AT_ONCE):
            channel, tick = channels[start : start + _PAIRS_AT_ONCE], ticks[start : start + _PAIRS_AT_ONCE]
            window = windows[channel, (tick + 1) * _PER_TICK]
            found = self.fit.measure(window)
            pulsating = found.pulsates & (found.level_ma * np.sign(found.mean_ma) < _REST_SHARE * self._dc_ma)
            direct[channel, tick] = np.where(pulsating, 0.0, found.mean_ma)
            trusted[channel, tick] = np.where(found.fits, direct[channel, tick], 0.0)
            self._line_hz[channel] = found.line_hz

    def _trip_settled(self, direct: Samples, trusted: Samples) -> None:
        history = np.concatenate((self._direct, direct), axis=1)
        trusted_history = np.concatenate((self._trusted, trusted), axis=1)
        self._direct = history[:, -_LONG_TICKS:].copy()
        self._trusted = trusted_history[:, -_SETTLED_TICKS:].copy()
        rows = np.nonzero((np.abs(direct) >= self._dc_ma).any(axis=1))[0]
        if not len(rows):
            return
        history, trusted_history = history[rows], trusted_history[rows]
        for sign in (1.0, -1.0):
            views = np.lib.stride_tricks.sliding_window_view(sign * history, _LONG_TICKS, axis=1)[:, 1:]
            certain = np.lib.stride_tricks.sliding_window_view(sign * trusted_history, _SETTLED_TICKS, axis=1)[:, 1:]
            # In heavy noise a single fit may take the wrong frequency: one of ten may be out of line.
            lasting = (views[..., -_SETTLED_TICKS:] >= self._dc_ma).sum(axis=2) >= _SETTLED_TICKS - 1
            hit = lasting & ((certain >= self._dc_ma).sum(axis=2) >= _TRUSTED_TICKS)
            hit |= views.min(axis=2) >= self._dc_ma
            self._trip_first(hit, rows, Cause.SMOOTH_DC_UNDER_AC)

    def _trip_smooth_run(self, near: Flags, reduced: Samples) -> None:
        channels, ticks = np.nonzero(near)
        if not len(channels):
            return
        means = reduced.reshape(self.channels, -1, _PER_TICK).mean(axis=2)
        windows = np.lib.stride_tricks.sliding_window_view(means, _RUN_TICKS, axis=1)
        window = windows[channels, ticks + 1 + _HISTORY_TICKS - _RUN_TICKS]
        beyond = (window.min(axis=1) >= self._dc_ma) | (window.max(axis=1) <= -self._dc_ma)
        self._trip(channels[beyond], ticks[beyond], Cause.SMOOTH_DC)

    def _trip_ac(self, over: Flags, energies: Samples) -> None:
        channels, ticks = np.nonzero(over)
        if not len(channels):
            return
        windows = np.lib.stride_tricks.sliding_window_view(energies, _RMS_TICKS, axis=1)
        lasting = outside_best_two(windows[channels, ticks + 1]) >= _IMPULSE_SHARE * self._energy
        channels, ticks = channels[lasting], ticks[lasting]
        self._trip(channels, ticks, Cause.AC)

    def _trip_first(self, hit: Flags, rows: npt.NDArray[np.intp], cause: Cause) -> None:
        which = np.nonzero(hit.any(axis=1))[0]
        self._trip(rows[which], hit[which].argmax(axis=1), cause)

    def _trip(self, channels: npt.NDArray[np.intp], ticks: npt.NDArray[np.intp], cause: Cause) -> None:
        """Note the earliest decision of each channel. Ticks of a channel come in order."""
        channels, first = np.unique(channels, return_index=True)
        samples = self._seen + (ticks[first] + 1) * TICK_SAMPLES
        for channel, sample in zip(channels.tolist(), samples.tolist(), strict=True):
            if self._sample[channel] < 0 or sample < self._sample[channel]:
                self._sample[channel], self._cause[channel] = sample, cause
