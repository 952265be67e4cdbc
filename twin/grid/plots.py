"""Plots of a grid run: voltages in their band, what the plants give, the frequency."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from grid.der.procedures import Trace
from grid.monitor import Monitor

_LINE, _BAD, _LIMIT, _QUIET, _OTHER = "#0969da", "#cf222e", "#9a6700", "#8c959f", "#1a7f37"


def png(figure: Figure) -> bytes:
    """The figure as PNG; no date and no version in the file: the same run gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def plot_grid(monitor: Monitor, meters: Sequence[str], start_s: float, local_offset_s: int = 0) -> bytes:
    """Voltage of every meter with the code's band, the plants' power, and the frequency, over local time.

    Meters that were flagged, and the one with the widest swing, are drawn by name.
    """
    series, code = monitor.series, monitor.code
    hours = (np.array(series.start_s) - start_s) / 3600.0 + ((start_s + local_offset_s) % 86_400) / 3600.0
    voltages = np.array(series.voltage_pu)
    has_plants = any(value != 0.0 for value in series.plant_w)
    figure = Figure(figsize=(10.0, 8.2), layout="constrained")
    above = figure.add_subplot(3, 1, 1)
    _voltages(above, monitor, meters, hours, voltages)
    _powers(figure.add_subplot(3, 1, 2, sharex=above), monitor, hours, with_plants=has_plants)
    frequency = figure.add_subplot(3, 1, 3, sharex=above)
    frequency.step(hours, series.hz, where="post", color=_LINE, linewidth=1.2)
    _limits(frequency, code.low_hz, code.high_hz)
    frequency.set_ylabel("frequency, Hz")
    frequency.set_xlabel("local time, h")
    return png(figure)


def _voltages(axes: Any, monitor: Monitor, meters: Sequence[str], hours: Any, voltages: Any) -> None:
    alive = np.where(voltages > 0.0, voltages, np.nan)
    named = monitor.flagged_meters()[:4] or [meters[int(np.nanargmax(np.nanmax(alive, axis=0)))]]
    for index, meter in enumerate(meters):
        shown = meter in named
        axes.step(
            hours, alive[:, index], where="post", linewidth=1.4 if shown else 0.7,
            color=(_BAD if meter in monitor.flagged_meters() else _LINE) if shown else _QUIET,
            alpha=1.0 if shown else 0.6, label=meter if shown else None, zorder=3 if shown else 2,
        )  # fmt: skip
    _limits(axes, monitor.code.low_pu, monitor.code.high_pu)
    axes.set_ylabel("voltage, pu")
    axes.set_title(f"voltage at the meters, and the band of the code '{monitor.code.name}'", fontsize=10)
    axes.legend(loc="lower left", fontsize=8)


def _powers(axes: Any, monitor: Monitor, hours: Any, *, with_plants: bool) -> None:
    series = monitor.series
    if with_plants:
        axes.step(
            hours, np.array(series.plant_w) / 1000.0, where="post", color=_OTHER, linewidth=1.3, label="plants, kW"
        )
        axes.step(
            hours, np.array(series.plant_var) / 1000.0, where="post", color=_LINE, linewidth=1.1, label="plants, kvar"
        )
    axes.step(hours, np.array(series.busbar_w) / 1000.0, where="post", color=_QUIET, linewidth=1.0, label="feeder, kW")
    axes.axhline(0.0, color=_QUIET, linewidth=0.6)
    axes.set_ylabel("power, kW and kvar")
    axes.legend(loc="upper left", fontsize=8, ncols=3)


def _limits(axes: Any, *limits: float) -> None:
    for limit in limits:
        axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=1.0)


def plot_procedure(trace: Trace, title: str) -> bytes:
    """One test of an inverter: what the bench applied above, what the inverter gave below, its states shaded."""
    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    above = figure.add_subplot(2, 1, 1)
    above.plot(trace.time_s, trace.voltage_pu, color=_LINE, linewidth=1.2, label="voltage, pu")
    above.set_ylabel("voltage, pu")
    above.set_title(title, fontsize=10)
    other = above.twinx()
    other.plot(trace.time_s, trace.hz, color=_QUIET, linewidth=1.0, label="frequency, Hz")
    other.set_ylabel("frequency, Hz")
    lowest_hz, highest_hz = min(trace.hz), max(trace.hz)
    other.set_ylim(lowest_hz - 0.5, highest_hz + 0.5)
    below = figure.add_subplot(2, 1, 2, sharex=above)
    below.plot(trace.time_s, trace.active_pct, color=_OTHER, linewidth=1.3, label="active power, %")
    below.plot(trace.time_s, trace.reactive_pct, color=_LIMIT, linewidth=1.1, label="reactive power, %")
    off = [not connected for connected in trace.connected]
    below.fill_between(trace.time_s, -100.0, 110.0, where=off, color=_BAD, alpha=0.12, label="out of service")
    below.set_ylim(-60.0 if min(trace.reactive_pct) < 0.0 else -5.0, 110.0)
    below.set_ylabel("% of rating")
    below.set_xlabel("time, s")
    below.legend(loc="center right", fontsize=8)
    return png(figure)
