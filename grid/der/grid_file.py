"""Voltage and frequency over time, from a person's CSV file."""

from __future__ import annotations

import bisect
import csv
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from grid.der.inverter import GridPoint
from protocols.errors import BadInputError

_TIME = ("time_s", "t", "time")
_VOLTAGE = ("voltage_pu", "voltage_v", "voltage", "v_pu", "v")
_FREQUENCY = ("frequency_hz", "hz", "frequency", "f")
_PHASE = ("phase_deg",)
_HELP = "the first line names the columns: time_s, voltage_pu or voltage_v, frequency_hz, and phase_deg if you like"


@dataclass(frozen=True, slots=True)
class GridProfile:
    """Points in time; each holds until the next one, or leads to it in a straight line if `linear`."""

    times_s: tuple[float, ...]
    points: tuple[GridPoint, ...]
    linear: bool = False

    def at(self, time_s: float) -> GridPoint:
        """The grid at a time; the first point before it, the last one after it."""
        index = bisect.bisect_right(self.times_s, time_s) - 1
        if index < 0:
            return self.points[0]
        if not self.linear or index + 1 >= len(self.points):
            return self.points[index]
        start, end = self.points[index], self.points[index + 1]
        share = (time_s - self.times_s[index]) / (self.times_s[index + 1] - self.times_s[index])
        return GridPoint(
            start.voltage_pu + share * (end.voltage_pu - start.voltage_pu),
            start.hz + share * (end.hz - start.hz),
            start.phase_deg + share * (end.phase_deg - start.phase_deg),
        )

    @property
    def duration_s(self) -> float:
        return self.times_s[-1]


def read_grid_file(path: Path, nominal_v: float, *, linear: bool = False) -> GridProfile:
    """Read `path`. Raises BadInputError with file and line for what cannot be used.

    A column called `voltage` or `v` is per unit where its largest value is at most 2, and volts otherwise.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"cannot be read: {error}", file=str(path)) from None
    if not rows:
        raise BadInputError(f"is empty; {_HELP}", file=str(path))
    names = [name.strip().lower() for name in rows[0]]
    time, voltage, frequency = (_column(names, wanted, str(path)) for wanted in (_TIME, _VOLTAGE, _FREQUENCY))
    phase = next((names.index(name) for name in _PHASE if name in names), None)
    data = [
        ([_number(row, column, str(path), line) for column in (time, voltage, frequency)], row, line)
        for line, row in enumerate(rows[1:], start=2)
        if any(cell.strip() for cell in row)
    ]
    if not data:
        raise BadInputError("holds no values", file=str(path), line=2)
    in_volts = names[voltage] == "voltage_v" or (
        not names[voltage].endswith("_pu") and max(values[1] for values, _, _ in data) > 2.0
    )
    return GridProfile(
        _rising([(values[0], line) for values, _, line in data], str(path)),
        tuple(
            GridPoint(
                values[1] / nominal_v if in_volts else values[1],
                values[2],
                0.0 if phase is None else _number(row, phase, str(path), line),
            )
            for values, row, line in data
        ),
        linear,
    )


def _column(names: list[str], wanted: tuple[str, ...], file: str) -> int:
    for name in wanted:
        if name in names:
            return names.index(name)
    raise BadInputError(f"has no column {wanted[0]}; {_HELP}", file=file, line=1)


def _number(row: list[str], column: int, file: str, line: int) -> float:
    text = row[column].strip() if column < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        raise BadInputError(f"{text!r} is not a number", file=file, line=line) from None
    if not math.isfinite(value) or value < 0.0:
        raise BadInputError(f"{text} must be a number of 0 or more", file=file, line=line)
    return value


def _rising(times: list[tuple[float, int]], file: str) -> tuple[float, ...]:
    for (before, _), (after, line) in pairwise(times):
        if after <= before:
            raise BadInputError(f"time {after:g} s does not come after {before:g} s", file=file, line=line)
    return tuple(time for time, _ in times)
