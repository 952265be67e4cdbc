"""Pictures of the meters' clocks before and after a round of time synchronization."""

from __future__ import annotations

from collections.abc import Sequence

from twin.conformance.pictures.shown import Bars
from twin.conformance.report import Figure

_EDGES_S = (0.1, 0.5, 1.0, 2.0, 5.0, 30.0, 300.0)


def offset_bars(offsets_s: Sequence[float], title: str) -> Bars:
    """How many clocks are how far off, whatever the direction."""
    labels = [f"to {edge_s:g} s" for edge_s in _EDGES_S] + [f"beyond {_EDGES_S[-1]:g} s"]
    counts = dict.fromkeys(labels, 0)
    for offset_s in offsets_s:
        place = sum(abs(offset_s) > edge_s for edge_s in _EDGES_S)
        counts[labels[place]] += 1
    return Bars([(label, float(count)) for label, count in counts.items()], "meters", title)


def clock_figures(before_s: Sequence[float], after_s: Sequence[float]) -> tuple[Figure, Figure]:
    """Two distributions on the same scale; 2 s is what a clock may be off."""
    about = "True offsets of all real-time clocks, as the bench sees them: {}. A clock may be off by 2 s."
    return (
        Figure(
            "Clocks before the synchronization",
            about.format("before the round"),
            "clocks-before",
            offset_bars(before_s, "Clocks by offset, before the round"),
        ),
        Figure(
            "Clocks after the synchronization",
            about.format("after the round"),
            "clocks-after",
            offset_bars(after_s, "Clocks by offset, after the round"),
        ),
    )
