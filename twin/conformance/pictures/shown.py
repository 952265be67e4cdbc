"""What a picture shows, as data: the same facts are drawn as SVG and PNG, and written as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class MapNode:
    """A node on the map; `kind` is "dcu", "meter" or "dead". Position in metres, `note` is shown on hovering."""

    name: str
    x_m: float
    y_m: float
    kind: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class MapLink:
    """A line between two nodes: `heard` carried frames, `route` is a meter's way now, `former` was its way before.

    A route is drawn in the colour of its ETX (None: unknown), and the thicker the more frames it carried.
    """

    a: str
    b: str
    style: str
    note: str = ""
    etx: float | None = None
    frames: int = 0

    @property
    def width(self) -> float:
        """Of the line of a route, in pixels: one more for ten times the frames."""
        return 1.5 + math.log10(1 + self.frames)

    @property
    def colour(self) -> str:
        """Of the line of a route."""
        if self.etx is None:
            return ETX_UNKNOWN
        return next(colour for most, colour in ETX_COLOURS if self.etx <= most)


ETX_COLOURS = ((1.25, "#1d7f45"), (2.0, "#d98a00"), (math.inf, "#c02b2b"))
"""Up to which ETX a route has which colour."""
ETX_UNKNOWN = "#2f7de1"
NODE_COLOURS = {"dcu": "#7a3ff2", "meter": "#1d7f45", "dead": "#c02b2b"}
WOOD, RIDGE, FORMER, BAR = "#1d7f45", "#8a5a2b", "#c02b2b", "#2f7de1"
SERIES_COLOURS = ("#2f7de1", "#c02b2b", "#1d7f45", "#d98a00", "#7a3ff2", "#57606a")


@dataclass(frozen=True, slots=True)
class MapArea:
    """A wood (closed) or a ridge; points in metres."""

    points: tuple[tuple[float, float], ...]
    note: str
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Map:
    """Nodes, links and obstacles, to scale."""

    nodes: Sequence[MapNode]
    links: Sequence[MapLink]
    areas: Sequence[MapArea] = ()
    title: str = "Map of the mesh"

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """West, east, south, north."""
        xs = [node.x_m for node in self.nodes] + [x for area in self.areas for x, _ in area.points]
        ys = [node.y_m for node in self.nodes] + [y for area in self.areas for _, y in area.points]
        return min(xs), max(xs), min(ys), max(ys)


@dataclass(frozen=True, slots=True)
class Span:
    """A bar of a timeline, in seconds; `note` is shown on hovering."""

    lane: str
    start_s: float
    end_s: float
    colour: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Bars by lane over the time of the run."""

    spans: Sequence[Span]
    end_s: float
    title: str

    @property
    def lanes(self) -> dict[str, int]:
        """Number of each lane, in order of appearance."""
        return {lane: index for index, lane in enumerate(dict.fromkeys(span.lane for span in self.spans))}


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar a label, side by side; values are 0 or more."""

    values: Sequence[tuple[str, float]]
    unit: str
    title: str


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart, or its points alone; `steps` holds each value until the next."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "line"
    """"line", "steps" or "dots"."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A level that values are to stay below or above."""

    value: float
    name: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Values over time or over another value; axes carry their units."""

    series: Sequence[Series]
    x_label: str
    y_label: str
    title: str
    limits: Sequence[Limit] = ()

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least and greatest x, least and greatest y; never of no size."""
        xs = [x for series in self.series for x, _ in series.points] or [0.0]
        ys = [y for series in self.series for _, y in series.points] + [limit.value for limit in self.limits] or [0.0]
        left, right, low, high = min(xs), max(xs), min(ys), max(ys)
        return left, right if right > left else left + 1.0, low, high if high > low else low + 1.0


Picture: TypeAlias = Map | Timeline | Bars | Chart


def as_data(picture: Picture) -> dict[str, Any]:
    """The facts of a picture, for JSON."""
    return {"kind": type(picture).__name__.lower(), **asdict(picture)}


_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400, 604800)


def time_marks(end_s: float) -> list[tuple[float, str]]:
    """At most fifteen round times from 0 to `end_s`, with what is written at them."""
    known = [step for step in _STEPS_S if end_s / step <= 14]
    step_s = known[0] if known else 10.0 ** math.ceil(math.log10(end_s / 14))
    return [(index * step_s, _time_text(index * step_s, step_s)) for index in range(int(end_s / step_s) + 1)]


def _time_text(at_s: float, step_s: float) -> str:
    if step_s >= 86400:
        return f"{at_s / 86400:g} d"
    if step_s >= 1800:
        return f"{at_s / 3600:g} h"
    return f"{round(at_s, 6):g} s"


def round_marks(low: float, high: float, most: int = 8) -> list[float]:
    """Round values between `low` and `high`, at most about `most` of them."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]
