"""Watches the sensor's converter: an input at its rail, and one that never moves, say nothing about the current."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

_RAIL_MA = 590.0
_RAIL_SAMPLES = 40
_STUCK_SAMPLES = 4000


class SensorMonitor:
    """Fails a line whose input sits at a rail for 5 ms, repeats one code for 500 ms, or is not a number.

    A live sensor is never still: its own noise moves the last bits.
    """

    def __init__(self, lines: int) -> None:
        self._railed = np.zeros(lines, dtype=np.int64)
        self._still = np.zeros(lines, dtype=np.int64)
        self._last = np.full(lines, np.nan)

    def check(self, block: Samples) -> npt.NDArray[np.bool_]:
        """Which lines have failed by the end of this block (lines x samples)."""
        if block.shape[1] == 0:
            return np.zeros(len(block), dtype=bool)
        railed = np.abs(block) >= _RAIL_MA
        steps = np.diff(np.concatenate((self._last[:, None], block), axis=1), axis=1)
        longest_rail, self._railed = _longest_run(railed, self._railed)
        longest_still, self._still = _longest_run(steps == 0.0, self._still)
        self._last = block[:, -1].copy()
        invalid = ~np.isfinite(block).all(axis=1)
        return np.asarray((longest_rail >= _RAIL_SAMPLES) | (longest_still >= _STUCK_SAMPLES) | invalid)


def _longest_run(
    flags: npt.NDArray[np.bool_], carried: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Longest run of true in each row, the run carried over from before included; and the run at the end."""
    count = flags.shape[1]
    index = np.arange(count)
    last_false = np.maximum.accumulate(np.where(flags, -1, index), axis=1)
    runs = np.where(flags, index - last_false + np.where(last_false < 0, carried[:, None], 0), 0)
    return runs.max(axis=1), runs[:, -1]
