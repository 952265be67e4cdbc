"""Pictures of a concentrator's uplink and clock."""

from __future__ import annotations

import math

from twin.conformance.pictures.shown import Chart, Series, Span, Timeline
from twin.conformance.report import Figure
from twin.rigs.rig import Rig
from twin.rigs.uplink_view import UplinkView

_COLOURS = {
    "up": "#1d7f45",
    "down": "#e9ebee",
    "none": "#c02b2b",
    "satellite": "#7a3ff2",
    "cellular": "#2f7de1",
    "4g": "#1b4f9c",
    "3g": "#2f7de1",
    "2g": "#a9c8ef",
    "SIM 1": "#57606a",
    "SIM 2": "#d98a00",
}
_LEAST_OFFSET_S = 1e-7


def uplink_figures(rig: Rig) -> tuple[Figure, ...]:
    """Those that the scenario's equipment gives reason for."""
    view = rig.uplink_view
    if view is None:
        return ()
    figures: list[Figure] = []
    if view.has_ways:
        figures += [
            Figure(
                "The ways to the head-end",
                "Which link was there (satellite: green; cellular: dark 4G, middle 3G, light 2G), which SIM was used, "
                "and by which way the session was connected (red: by none).",
                "uplink",
                _ways(rig, view),
            ),
            Figure(
                "What waited for the uplink",
                "Messages in the concentrator's outbox and bundles that the head-end had not acknowledged.",
                "uplink-queue",
                _queue(view),
            ),
        ]
    if view.has_clock:
        figures.append(
            Figure(
                "The concentrator's clock",
                "Its true offset as nobody in the system can know it, and how far it believed to be off at most; "
                "logarithmic. The line of the belief rises in holdover.",
                "clock-offset",
                _clock(view),
            )
        )
    return tuple(figures)


def _ways(rig: Rig, view: UplinkView) -> Timeline:
    end_s = rig.clock.now()
    spans = [
        Span(
            span.lane,
            span.start_s,
            end_s if span.end_s is None else span.end_s,
            _COLOURS[span.state],
            note=f"{span.lane}: {span.state} from {span.start_s:.0f} s",
        )
        for span in view.spans
    ]
    return Timeline(spans, end_s, "Ways to the head-end over time")


def _queue(view: UplinkView) -> Chart:
    points = [(sample.at_s / 3600, float(sample.waiting)) for sample in view.samples]
    return Chart((Series("waiting", points, "steps"),), "time, h", "messages and bundles", "Queue of the uplink")


def _clock(view: UplinkView) -> Chart:
    offsets, beliefs = [], []
    for sample in view.samples:
        if sample.offset_s is not None:
            offsets.append((sample.at_s / 3600, math.log10(max(abs(sample.offset_s), _LEAST_OFFSET_S) * 1e3)))
        if sample.uncertainty_s is not None and math.isfinite(sample.uncertainty_s):
            beliefs.append((sample.at_s / 3600, math.log10(max(sample.uncertainty_s, _LEAST_OFFSET_S) * 1e3)))
    return Chart(
        (Series("true offset", offsets), Series("believed at most", beliefs)),
        "time, h",
        "log10 of the offset in ms",
        "Offset of the concentrator's clock",
    )
