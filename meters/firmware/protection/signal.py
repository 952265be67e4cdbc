"""The sampled side of the protection: detector, sensor monitor, and the last second of every line's current."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meters.firmware.protection.components import NEEDED_SAMPLES, components
from meters.firmware.protection.detector import TypeBDetector
from meters.firmware.protection.monitor import SensorMonitor
from meters.firmware.protection.settings import ProtectionSettings
from protocols.leakage_protection import Cause
from protocols.trip_record import SAMPLE_RATE_HZ, Components

Samples = npt.NDArray[np.float64]

BEFORE_SAMPLES, AFTER_SAMPLES = 480, 320
"""What is kept of a trip: 60 ms before the decision, 40 ms after it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line (from 0) whose current tripped the detector: at which sample since the start, and why."""

    line: int
    sample: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Waveform:
    """What is kept of a trip, with the parts of the current before it."""

    line: int
    cause: Cause
    components: Components
    samples_ma: tuple[float, ...]


class SignalPath:
    """Takes blocks of samples of all lines (lines x samples, mA)."""

    def __init__(self, lines: int, settings: ProtectionSettings) -> None:
        self._detector = TypeBDetector(lines, settings)
        self._monitor = SensorMonitor(lines)
        self._history = np.zeros((lines, BEFORE_SAMPLES + AFTER_SAMPLES + SAMPLE_RATE_HZ))
        self._pending: dict[int, Finding] = {}
        self.failed = np.zeros(lines, dtype=bool)
        """Lines whose sensor says nothing about the current."""
        self.seen = 0
        """Samples since the start."""

    def take(self, block: Samples) -> list[Finding]:
        """Judge the next samples, at most a second of them. Raises ValueError for a longer block."""
        count = block.shape[1]
        if count > SAMPLE_RATE_HZ:
            raise ValueError(f"a block holds at most a second ({SAMPLE_RATE_HZ} samples), not {count}")
        self._history = np.concatenate((self._history[:, count:], block), axis=1)
        self.seen += count
        detection = self._detector.process(block)
        self.failed = self._monitor.check(block)
        return [
            Finding(line, int(detection.sample[line]), Cause(int(detection.cause[line])))
            for line in np.nonzero(detection.tripped)[0].tolist()
        ]

    def reset(self, line: int) -> None:
        """Forget that a line tripped, and what its current was before."""
        self._detector.reset(line)

    def keep(self, finding: Finding) -> None:
        """Keep the waveform around this trip: `finished` has it when the samples behind it have come."""
        self._pending[finding.line] = finding

    def finished(self, on_waveform: Callable[[Waveform], None]) -> None:
        """Hand out the waveforms that are complete."""
        for finding in [found for found in self._pending.values() if self.seen - found.sample >= AFTER_SAMPLES]:
            del self._pending[finding.line]
            end = self._history.shape[1] - (self.seen - finding.sample) + AFTER_SAMPLES
            samples = self._history[finding.line, end - AFTER_SAMPLES - BEFORE_SAMPLES : end]
            parts = components(samples[:BEFORE_SAMPLES], self._detector.fit)
            kept = tuple(np.nan_to_num(samples).tolist())
            on_waveform(Waveform(finding.line, finding.cause, parts, kept))

    def direct_ma(self, line: int) -> float:
        """Mean current of the last 25 ms."""
        parts = components(self._history[line, -NEEDED_SAMPLES:], self._detector.fit)
        return parts.smooth_dc_ma + parts.pulsating_dc_ma
