"""Pictures of the bench: trip time against current with the limits, and the waveform of a trip."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from grid.faults import fault_row
from twin.protection.shots import Capture, ShotResult

_PASS, _FAIL, _LIMIT, _QUIET = "#1a7f37", "#cf222e", "#9a6700", "#8c959f"


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # No date and no version in the file: the same run gives the same bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def plot_trip_times(results: list[ShotResult]) -> bytes:
    """PNG of isolation times against current, a panel a waveform, with the limits of time and current."""
    waveforms = list(dict.fromkeys(result.shot.waveform for result in results))
    columns = min(3, len(waveforms))
    rows = -(-len(waveforms) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * rows), layout="constrained")
    for index, waveform in enumerate(waveforms):
        axes = figure.add_subplot(rows, columns, index + 1)
        _panel(axes, waveform, [result for result in results if result.shot.waveform == waveform])
    return _png(figure)


def _panel(axes: object, waveform: str, results: list[ShotResult]) -> None:
    ax: object = axes
    limit_ms = max(result.shot.limit_ms for result in results)
    times = [result.isolate_ms for result in results if result.isolate_ms is not None]
    top_ms = max([limit_ms * 1.25, *(time * 1.1 for time in times)])
    for result in results:
        current = abs(result.shot.ma if result.level_ma is None else result.level_ma)
        colour = _PASS if result.verdict.value == "PASS" else _FAIL
        if result.isolate_ms is not None:
            ax.plot(current, result.isolate_ms, "o", color=colour, markersize=3.5)  # type: ignore[attr-defined]
        else:
            marker = "x" if result.tripped else "v"
            ax.plot(current, top_ms * 0.98, marker, color=colour, markersize=5)  # type: ignore[attr-defined]
    row = fault_row(waveform)
    ax.axhline(limit_ms, color=_LIMIT, linewidth=1.2)  # type: ignore[attr-defined]
    for current_ma, style in ((row.hold_ma, ":"), (row.trip_ma, "--")):
        if current_ma is not None:
            ax.axvline(current_ma, color=_QUIET, linestyle=style, linewidth=1)  # type: ignore[attr-defined]
    ax.set_ylim(min([0.0, *times]), top_ms)  # type: ignore[attr-defined]
    ax.set_title(waveform, fontsize=10)  # type: ignore[attr-defined]
    ax.set_xlabel("current, mA")  # type: ignore[attr-defined]
    ax.set_ylabel("isolated after, ms")  # type: ignore[attr-defined]


def plot_table(results: list[ShotResult], title: str) -> bytes:
    """PNG of isolation times by fault, a panel a relay, every shot a dot, with the limit of time."""
    relays = list(dict.fromkeys(result.shot.relay.name for result in results))
    faults = list(dict.fromkeys((result.shot.waveform, abs(result.shot.ma)) for result in results))
    times = [result.isolate_ms for result in results if result.isolate_ms is not None]
    limit_ms = max(result.shot.limit_ms for result in results)
    right_ms = max([limit_ms * 1.25, *(time * 1.08 for time in times)])
    figure = Figure(figsize=(3.0 + 4.0 * len(relays), 1.5 + 0.3 * len(faults)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for index, relay in enumerate(relays):
        axes = figure.add_subplot(1, len(relays), index + 1)
        for result in (item for item in results if item.shot.relay.name == relay):
            row = faults.index((result.shot.waveform, abs(result.shot.ma)))
            colour = _PASS if result.verdict.value == "PASS" else _FAIL
            at_ms = right_ms * 0.98 if result.isolate_ms is None else result.isolate_ms
            axes.plot(at_ms, row, "o" if result.isolate_ms is not None else "x", color=colour, markersize=3.5)
        axes.axvline(limit_ms, color=_LIMIT, linewidth=1.2)
        axes.set_xlim(0.0, right_ms)
        axes.set_ylim(len(faults) - 0.5, -0.5)
        axes.set_yticks(range(len(faults)))
        axes.set_yticklabels([f"{ma:g} mA {name}" for name, ma in faults] if index == 0 else [], fontsize=8)
        axes.grid(axis="y", color="#eaeef2", linewidth=0.8)
        axes.set_title(relay, fontsize=10)
        axes.set_xlabel("isolated after, ms")
    return _png(figure)


def plot_samples(samples_ma: tuple[float, ...], rate_hz: float, trip_index: int, title: str) -> bytes:
    """PNG of a trip as a meter has kept it: the residual current around its decision."""
    figure = Figure(figsize=(8.5, 3.2), layout="constrained")
    axes = figure.add_subplot(1, 1, 1)
    time_ms = [(index - trip_index) / rate_hz * 1000.0 for index in range(len(samples_ma))]
    axes.plot(time_ms, samples_ma, color=_FAIL, linewidth=1.1)
    axes.axvline(0.0, color=_LIMIT, linewidth=1.0)
    axes.set_ylabel("residual, mA")
    axes.set_xlabel("from the meter's decision to trip, ms")
    axes.set_title(title, fontsize=10)
    axes.margins(x=0)
    return _png(figure)


def plot_capture(capture: Capture, title: str) -> bytes:
    """PNG of one trip: residual current as it was and as measured, the poles' currents, the relay."""
    figure = Figure(figsize=(8.5, 5.0), layout="constrained")
    time_ms = [(capture.first_s + index / capture.rate_hz) * 1000.0 for index in range(len(capture.closed))]
    above = figure.add_subplot(2, 1, 1)
    above.plot(time_ms, capture.measured_ma, color=_QUIET, linewidth=0.8, label="measured")
    above.plot(time_ms, capture.residual_ma, color=_FAIL, linewidth=1.1, label="residual")
    above.set_ylabel("residual, mA")
    above.set_title(title, fontsize=10)
    below = figure.add_subplot(2, 1, 2, sharex=above)
    below.plot(time_ms, capture.phase_a, color="#0969da", linewidth=1.0, label="L")
    below.plot(time_ms, capture.neutral_a, color=_QUIET, linewidth=1.0, label="N")
    below.set_ylabel("pole, A")
    below.set_xlabel("from the fault's onset, ms")
    for axes in (above, below):
        axes.axvline(0.0, color=_LIMIT, linewidth=1.0)
        axes.legend(loc="upper right", fontsize=8)
    return _png(figure)
