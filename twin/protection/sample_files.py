"""Residual current from a person's file: CSV (one value in mA a line) or COMTRADE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grid.waveforms import SAMPLE_RATE_HZ
from meters.datafile import read_text
from protocols.errors import BadInputError

Samples = npt.NDArray[np.float64]

_TO_MA = {"ma": 1.0, "a": 1e3, "ka": 1e6, "ua": 1e-3, "µa": 1e-3}
_SHORTEST_S = 0.02
_RATE_HELP = f"the detector samples at {SAMPLE_RATE_HZ} Hz; resample the file to it"


@dataclass(frozen=True, slots=True)
class Recording:
    """Residual current in mA at 8 kHz. `trigger_s` is where a COMTRADE file puts its trigger."""

    name: str
    residual_ma: Samples
    trigger_s: float | None = None


def read_recording(path: Path, rate_hz: float, channel: str | None = None) -> Recording:
    """Read a CSV file, or COMTRADE by its suffix. Raises BadInputError: what, where, what to do."""
    if path.suffix.lower() in {".cfg", ".cff", ".dat"}:
        return read_comtrade(path, channel)
    return read_csv(path, rate_hz)


def read_csv(path: Path, rate_hz: float) -> Recording:
    """One residual current in mA a line. Empty lines at the end, and a first line of words, are skipped."""
    if rate_hz != SAMPLE_RATE_HZ:
        raise BadInputError(f"a rate of {rate_hz:g} Hz cannot be used: {_RATE_HELP}", file=str(path), key="--rate")
    lines = read_text(path).rstrip().splitlines()
    values = []
    for number, line in enumerate(lines, start=1):
        text = line.strip().rstrip(",;")
        if number == 1 and _is_heading(text):
            continue
        values.append(_value(text, str(path), number))
    return _checked(str(path), np.array(values))


def _is_heading(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return any(letter.isalpha() for letter in text) and "," not in text
    return False


def _value(text: str, file: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        shown = text if len(text) <= 40 else text[:40] + "…"
        message = f"{shown!r} is not a number; one residual current in mA a line is needed"
        raise BadInputError(message, file=file, line=line) from None
    if not math.isfinite(value):
        raise BadInputError(f"{text!r} is not a current; remove or repair this sample", file=file, line=line)
    return value


def read_comtrade(path: Path, channel: str | None = None) -> Recording:
    """An analogue channel of a COMTRADE record (IEEE C37.111): the one named, or the only one, or the first in mA."""
    import comtrade

    if path.suffix.lower() == ".dat":
        path = path.with_suffix(".cfg")
    if not path.is_file():
        raise BadInputError("no such file", file=str(path))
    record = comtrade.Comtrade(ignore_warnings=True)
    try:
        record.load(str(path))
    except Exception as error:  # the reader raises whatever its parsing trips over
        raise BadInputError(f"cannot be read as COMTRADE: {error}", file=str(path)) from error
    index = _channel_index(record, str(path), channel)
    details = record.cfg.analog_channels[index]
    factor = _TO_MA.get(details.uu.strip().lower())
    if factor is None:
        raise BadInputError(f"unit {details.uu!r} of channel {details.name!r} is not a current", file=str(path))
    rates = [rate for rate, _ in record.cfg.sample_rates]
    if any(rate != SAMPLE_RATE_HZ for rate in rates) or not rates:
        shown = ", ".join(f"{rate:g} Hz" for rate in rates) or "none"
        raise BadInputError(f"a rate of {shown} cannot be used: {_RATE_HELP}", file=str(path), line=_rate_line(record))
    values = np.asarray(record.analog[index], dtype=np.float64) * factor
    return _checked(str(path), values, record.trigger_time)


def _rate_line(record: object) -> int:
    config = record.cfg  # type: ignore[attr-defined]
    return int(2 + config.analog_count + config.status_count + 3)


def _channel_index(record: object, file: str, channel: str | None) -> int:
    names = [name.strip() for name in record.analog_channel_ids]  # type: ignore[attr-defined]
    if not names:
        raise BadInputError("holds no analogue channel", file=file)
    if channel is not None:
        if channel not in names:
            raise BadInputError(f"no channel {channel!r}; it has {', '.join(names)}", file=file, key="--channel")
        return names.index(channel)
    units = [details.uu.strip().lower() for details in record.cfg.analog_channels]  # type: ignore[attr-defined]
    return units.index("ma") if "ma" in units else 0


def _checked(file: str, values: Samples, trigger_s: float | None = None) -> Recording:
    invalid = np.nonzero(~np.isfinite(values))[0]
    if len(invalid):
        raise BadInputError(f"sample {invalid[0] + 1} is not a current; remove or repair it", file=file)
    if len(values) < _SHORTEST_S * SAMPLE_RATE_HZ:
        need = round(_SHORTEST_S * SAMPLE_RATE_HZ)
        raise BadInputError(f"holds {len(values)} samples; at least {need} (20 ms) are needed", file=file)
    return Recording(file, values, trigger_s)
