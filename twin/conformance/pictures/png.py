"""Pictures as PNG, by matplotlib: for documents and chats, where SVG is not welcome. The same run, the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from twin.conformance.pictures.shown import (
    BAR,
    FORMER,
    NODE_COLOURS,
    RIDGE,
    SERIES_COLOURS,
    WOOD,
    Bars,
    Chart,
    Map,
    MapLink,
    Picture,
    Timeline,
    time_marks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 100
_HEARD, _LIMIT = "#b8bec7", "#d98a00"
_MOST_NAMES = 60


def can_draw() -> bool:
    """Whether matplotlib is here; it comes with the extra `grid`."""
    return find_spec("matplotlib") is not None


def to_png(picture: Picture) -> bytes:
    """The picture, 1,000 pixels wide. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, _height(picture)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    match picture:
        case Map():
            _map(figure, picture)
        case Timeline():
            _timeline(figure, picture)
        case Bars():
            _bars(figure, picture)
        case Chart():
            _chart(figure, picture)
    buffer = io.BytesIO()
    # No date and no version in the file: the same run gives the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _height(picture: Picture) -> float:
    """In inches."""
    match picture:
        case Map():
            west, east, south, north = picture.bounds_m
            return min(max(9.0 * (north - south) / max(east - west, 1.0), 2.4), 9.0)
        case Timeline():
            return min(max(1.0 + 0.22 * len(picture.lanes), 2.0), 12.0)
        case _:
            return 3.6


def _map(figure: Figure, shown: Map) -> None:
    from matplotlib.collections import LineCollection

    axes = figure.add_subplot()
    for area in shown.areas:
        xs, ys = [x for x, _ in area.points], [y for _, y in area.points]
        if area.closed:
            axes.fill(xs, ys, color=WOOD, alpha=0.18)
        else:
            axes.plot(xs, ys, color=RIDGE, linewidth=4)
    where = {node.name: (node.x_m, node.y_m) for node in shown.nodes}

    def lines(links: Sequence[MapLink], order: int, **style: Any) -> None:
        segments = [(where[link.a], where[link.b]) for link in links]
        axes.add_collection(LineCollection(segments, zorder=order, **style))

    of_style = {style: [link for link in shown.links if link.style == style] for style in ("heard", "former", "route")}
    lines(of_style["heard"], 1, colors=_HEARD, linewidths=0.4)
    lines(of_style["former"], 2, colors=FORMER, linewidths=1.0, linestyles="dashed")
    routes = of_style["route"]
    lines(routes, 3, colors=[link.colour for link in routes], linewidths=[0.7 * link.width for link in routes])
    many = len(shown.nodes) > _MOST_NAMES
    for kind, colour in NODE_COLOURS.items():
        nodes = [node for node in shown.nodes if node.kind == kind]
        size = 120 if kind == "dcu" else 12 if many else 60
        axes.scatter([node.x_m for node in nodes], [node.y_m for node in nodes], s=size, color=colour, zorder=4)
        if many and kind != "dcu":
            continue
        for node in nodes:
            name = "DCU" if kind == "dcu" else node.name
            axes.annotate(name, (node.x_m, node.y_m), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.set_aspect("equal")
    axes.margins(0.06, 0.2)
    axes.set_xlabel("m")
    axes.set_title(f"{shown.title}: routes by ETX (green good, red bad) and frames (thickness)", fontsize=10)


def _timeline(figure: Figure, shown: Timeline) -> None:
    axes, lanes = figure.add_subplot(), shown.lanes
    axes.barh(
        [lanes[span.lane] for span in shown.spans],
        [span.end_s - span.start_s for span in shown.spans],
        left=[span.start_s for span in shown.spans],
        color=[span.colour for span in shown.spans],
        height=0.75,
    )
    axes.set_xlim(0.0, max(shown.end_s, 1e-9))
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    every = max(1, len(lanes) // 50)
    axes.set_yticks(list(lanes.values())[::every], list(lanes)[::every], fontsize=7)
    marks = time_marks(shown.end_s)
    axes.set_xticks([at_s for at_s, _ in marks], [text for _, text in marks], fontsize=8)
    axes.set_title(shown.title, fontsize=10)


def _bars(figure: Figure, shown: Bars) -> None:
    axes = figure.add_subplot()
    axes.bar(range(len(shown.values)), [value for _, value in shown.values], color=BAR, width=0.8)
    every = max(1, len(shown.values) // 24)
    labels = [label for label, _ in shown.values][::every]
    axes.set_xticks(range(0, len(shown.values), every), labels, fontsize=8)
    axes.set_ylabel(shown.unit)
    axes.set_title(shown.title, fontsize=10)


def _chart(figure: Figure, shown: Chart) -> None:
    axes = figure.add_subplot()
    for index, series in enumerate(shown.series):
        xs, ys = [x for x, _ in series.points], [y for _, y in series.points]
        colour = SERIES_COLOURS[index % len(SERIES_COLOURS)]
        if series.style == "dots":
            axes.plot(xs, ys, "o", color=colour, markersize=3.5, label=series.name)
        else:
            axes.plot(
                xs, ys, color=colour, linewidth=1.2, label=series.name,
                drawstyle="steps-post" if series.style == "steps" else "default",
            )  # fmt: skip
    for limit in shown.limits:
        axes.axhline(limit.value, color=_LIMIT, linestyle="--", linewidth=1.2)
        axes.annotate(limit.name, (1.0, limit.value), (-2, 3), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
    axes.set_xlabel(shown.x_label)
    axes.set_ylabel(shown.y_label)
    axes.grid(alpha=0.25)
    if 1 < len(shown.series) <= len(SERIES_COLOURS):
        axes.legend(fontsize=8)
    axes.set_title(shown.title, fontsize=10)
