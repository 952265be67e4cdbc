"""Trip waveforms as COMTRADE records (IEEE C37.111-1999, ASCII): what protection engineers' tools open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twin.protection.shots import Capture

_FULL_SCALE = 32767
_DATE = "01/01/2000"
"""A shot has no date of its own: it runs in simulated time."""


@dataclass(frozen=True, slots=True)
class _Channel:
    name: str
    phase: str
    unit: str
    values: npt.NDArray[np.float64]

    @property
    def factor(self) -> float:
        """The value of one count, so that the largest sample fills the range."""
        peak = float(np.abs(self.values).max(initial=0.0))
        return float(f"{peak / _FULL_SCALE:.9E}") if peak > 0.0 else 1.0


def write_comtrade(capture: Capture, folder: Path, stem: str, line_hz: float) -> tuple[Path, Path]:
    """Write `stem.cfg` and `stem.dat` into `folder`; returns both paths. The trigger is the fault's onset."""
    channels = (
        _Channel("residual", "", "mA", capture.residual_ma),
        _Channel("measured", "", "mA", capture.measured_ma),
        _Channel("phase", "L", "A", capture.phase_a),
        _Channel("neutral", "N", "A", capture.neutral_a),
    )
    return _write(folder, stem, channels, ("relay closed", capture.closed), capture.rate_hz, -capture.first_s, line_hz)


def write_samples(
    samples_ma: tuple[float, ...], rate_hz: float, trip_index: int, folder: Path, stem: str, line_hz: float
) -> tuple[Path, Path]:
    """Write a residual current as a meter has kept it; the trigger is the sample at which it decided, and the relay's
    channel what it was told."""
    channels = (_Channel("measured", "", "mA", np.array(samples_ma)),)
    told = np.arange(len(samples_ma)) < trip_index
    return _write(folder, stem, channels, ("relay closed", told), rate_hz, trip_index / rate_hz, line_hz)


def _write(
    folder: Path,
    stem: str,
    channels: tuple[_Channel, ...],
    digital: tuple[str, npt.NDArray[np.bool_]],
    rate_hz: float,
    trigger_s: float,
    line_hz: float,
) -> tuple[Path, Path]:
    name, states = digital
    config, data = folder / f"{stem}.cfg", folder / f"{stem}.dat"
    lines = [f"openami-twin,{stem},1999", f"{len(channels) + 1},{len(channels)}A,1D"]
    for number, channel in enumerate(channels, start=1):
        scale = f"{channel.factor:.9E},0,0,-{_FULL_SCALE},{_FULL_SCALE},1,1,P"
        lines.append(f"{number},{channel.name},{channel.phase},line,{channel.unit},{scale}")
    lines += [f"1,{name},,line,1", f"{line_hz:g}", "1", f"{rate_hz:g},{len(states)}"]
    trigger_us = max(0, round(trigger_s * 1e6))
    lines += [f"{_DATE},00:00:00.000000", f"{_DATE},00:00:{trigger_us // 10**6:02d}.{trigger_us % 10**6:06d}"]
    config.write_text("\r\n".join([*lines, "ASCII", "1"]) + "\r\n", encoding="ascii")
    counts = [np.rint(channel.values / channel.factor).astype(int) for channel in channels]
    rows = []
    for index in range(len(states)):
        microseconds = round(index / rate_hz * 1e6)
        values = ",".join(str(column[index]) for column in counts)
        rows.append(f"{index + 1},{microseconds},{values},{int(states[index])}")
    data.write_text("\r\n".join(rows) + "\r\n", encoding="ascii")
    return config, data
