"""Trips that the head-end has, as files of a run: COMTRADE for protection engineers' tools, PNG for people."""

from __future__ import annotations

from pathlib import Path

import comtrade
import numpy as np

from twin.hes.trip_tables import TripRow
from twin.hes.trips import samples_ma
from twin.protection.comtrade_export import write_samples
from twin.protection.plots import plot_samples

FOLDER = "trips"


def write_trip(row: TripRow, run_folder: Path) -> tuple[str, str]:
    """Write a trip into the folder `trips` of a run. Returns the names of .cfg and .png, seen from the run folder."""
    folder = run_folder / FOLDER
    folder.mkdir(exist_ok=True)
    stem = f"{row.serial}-{row.number:03d}-line{row.line}-{row.cause}"
    samples, line_hz = samples_ma(row), row.line_mhz / 1000
    config, _ = write_samples(samples, row.rate_hz, row.trip_index, folder, stem, line_hz)
    title = f"{row.serial}, line {row.line}, trip {row.number}: {row.cause}, {row.total_ua / 1000:.1f} mA in all"
    picture = folder / f"{stem}.png"
    picture.write_bytes(plot_samples(samples, row.rate_hz, row.trip_index, title))
    return f"{FOLDER}/{config.name}", f"{FOLDER}/{picture.name}"


def read_back_error_ma(row: TripRow, config: Path) -> float:
    """The largest difference between a trip's samples and what the independent `comtrade` package reads."""
    record = comtrade.load(str(config), str(config.with_suffix(".dat")))
    return float(np.abs(np.array(record.analog[0]) - np.array(samples_ma(row))).max(initial=0.0))
