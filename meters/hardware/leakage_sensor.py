"""The residual-current sensor and its converter, with what is wrong with them. Vectorised over channels."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d
from scipy.signal import lfilter

Samples = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 8000
_TRANSFORMER_CORNER_HZ = 5.0
_SWING_SAMPLES = 180


class SensorKind(enum.StrEnum):
    """What a sensor can see at all."""

    TYPE_B = "type-b"
    """Fluxgate: from smooth direct current to kilohertz."""
    TYPE_A = "type-a"
    """Current transformer: no smooth direct current."""
    TYPE_AC = "type-ac"
    """Current transformer whose core saturates with current of one direction: sinusoidal current only."""


@dataclass(frozen=True, slots=True)
class SensorModel:
    """`gain_error` is relative. `noise_ma` is RMS over the whole band. `load_error_ma_per_a` is how much of the load
    current appears as residual current, as the conductors are not centred. Beyond `full_scale_ma` the output stays
    at its rail; one code of the converter is `code_ma`."""

    name: str
    kind: SensorKind
    gain_error: float = 0.002
    offset_ma: float = 0.05
    noise_ma: float = 0.05
    load_error_ma_per_a: float = 0.01
    full_scale_ma: float = 600.0
    code_ma: float = 0.02


SENSOR_MODELS = {kind.value: SensorModel(kind.value, kind) for kind in SensorKind}


class LeakageSensor:
    """Sensors of `channels` lines. What the firmware sees is what `measure` returns.

    `unplug`, `plug`, `stick` and `let_go` are the bench's. An unplugged input floats to its negative rail; a stuck
    converter repeats its last code. `test_ma` drives the test winding: the firmware's own, for its self-test.
    """

    def __init__(self, model: SensorModel, channels: int, rng: np.random.Generator) -> None:
        self.model = model
        self.channels = channels
        self.test_ma = np.zeros(channels)
        self._rng = rng
        self._unplugged = np.zeros(channels, dtype=bool)
        self._stuck = np.zeros(channels, dtype=bool)
        self._last = np.zeros(channels)
        decay = np.exp(-2.0 * np.pi * _TRANSFORMER_CORNER_HZ / SAMPLE_RATE_HZ)
        self._numerator, self._denominator = np.array([1.0 - decay]), np.array([1.0, -decay])
        self._flux = np.zeros((channels, 1))
        self._swing = np.zeros((channels, _SWING_SAMPLES))

    def unplug(self, channel: int) -> None:
        self._unplugged[channel] = True

    def plug(self, channel: int) -> None:
        self._unplugged[channel] = False

    def stick(self, channel: int) -> None:
        self._stuck[channel] = True

    def let_go(self, channel: int) -> None:
        self._stuck[channel] = False

    def measure(self, residual_ma: Samples, load_a: Samples | None = None) -> Samples:
        """Converter output in mA for residual current in mA, both channels x samples. Keeps state between blocks."""
        model = self.model
        current = residual_ma + self.test_ma[:, None]
        if model.kind is not SensorKind.TYPE_B:
            current = self._transform(current)
        current = current * (1.0 + model.gain_error) + model.offset_ma
        if load_a is not None:
            current += model.load_error_ma_per_a * load_a
        if model.noise_ma:
            current += model.noise_ma * self._rng.standard_normal(current.shape)
        codes = np.rint(np.clip(current, -model.full_scale_ma, model.full_scale_ma) / model.code_ma)
        out: Samples = codes * model.code_ma
        out[self._unplugged] = -model.full_scale_ma
        out[self._stuck] = self._last[self._stuck, None]
        if out.shape[1]:
            self._last = out[:, -1].copy()
        return out

    def _transform(self, current: Samples) -> Samples:
        """A transformer passes what changes. The core of a Type AC also needs it to change direction."""
        mean, self._flux = lfilter(self._numerator, self._denominator, current, axis=1, zi=self._flux)
        passed: Samples = current - mean
        return passed * self._symmetry(current) if self.model.kind is SensorKind.TYPE_AC else passed

    def _symmetry(self, current: Samples) -> Samples:
        """Gain of a core of high remanence, 0 to 1: pulses of one direction find it magnetised already.

        The ratio of the smaller to the larger of the two directions' peaks over the last 22.5 ms. Our own
        parametrisation of a behaviour that the standards only describe.
        """
        history = np.concatenate((self._swing, current), axis=1)
        self._swing = history[:, -_SWING_SAMPLES:].copy()
        # An origin of half the size makes the filter look back only.
        peaks = [
            maximum_filter1d(side, _SWING_SAMPLES, axis=1, origin=(_SWING_SAMPLES - 1) // 2)[:, _SWING_SAMPLES:]
            for side in (np.maximum(history, 0.0), np.maximum(-history, 0.0))
        ]
        larger = np.maximum(peaks[0], peaks[1])
        return np.asarray(np.minimum(peaks[0], peaks[1]) / np.maximum(larger, 1e-9))
