"""Pictures of the report as SVG text of our own: no assets, crisp at any size, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 1000.0
_MARGIN = 56.0


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
    """A line between two nodes; `route` marks the way a meter's traffic takes now, `faded` the way it took before."""

    a: str
    b: str
    style: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class MapArea:
    points: tuple[tuple[float, float], ...]
    note: str
    closed: bool = True


_LINK_STYLES = {
    "heard": 'stroke="currentColor" stroke-opacity=".13" stroke-width="1"',
    "route": 'stroke="#2f7de1" stroke-width="3"',
    "former": 'stroke="#c02b2b" stroke-width="2" stroke-dasharray="5 5"',
}
_NODE_FILLS = {"dcu": "#7a3ff2", "meter": "#1d7f45", "dead": "#c02b2b"}


def topology(nodes: Sequence[MapNode], links: Sequence[MapLink], areas: Sequence[MapArea] = ()) -> str:
    """A map to scale of nodes, links and obstacles, with a ruler."""
    xs = [node.x_m for node in nodes] + [x for area in areas for x, _ in area.points]
    ys = [node.y_m for node in nodes] + [y for area in areas for _, y in area.points]
    span_x, span_y = max(max(xs) - min(xs), 1.0), max(max(ys) - min(ys), 1.0)
    scale = min((_WIDTH - 2 * _MARGIN) / span_x, 420 / span_y)
    height = span_y * scale + 2 * _MARGIN + 24

    def place(x_m: float, y_m: float) -> tuple[float, float]:
        return _MARGIN + (x_m - min(xs)) * scale, _MARGIN + (max(ys) - y_m) * scale

    where = {node.name: place(node.x_m, node.y_m) for node in nodes}
    parts = [_open(_WIDTH, height, "Map of the mesh")]
    parts += [_area(area, place) for area in areas]
    for style in ("heard", "former", "route"):
        for link in links:
            if link.style == style:
                (x1, y1), (x2, y2) = where[link.a], where[link.b]
                parts.append(
                    f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {_LINK_STYLES[style]}>'
                    f"<title>{escape(link.note)}</title></line>"
                )
    for node in nodes:
        x, y = where[node.name]
        radius = 13 if node.kind == "dcu" else 10
        label = "DCU" if node.kind == "dcu" else node.name
        parts.append(
            f'<g><title>{escape(node.note)}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" '
            f'fill="{_NODE_FILLS[node.kind]}"/><text x="{x:.1f}" y="{y - radius - 5:.1f}" text-anchor="middle" '
            f'font-weight="600" fill="currentColor">{escape(label)}</text></g>'
        )
    parts.append(_ruler(scale, height))
    parts.append("</svg>")
    return "".join(parts)


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'role="img" font-family="system-ui, DejaVu Sans, sans-serif" font-size="13"><title>{escape(title)}</title>'
    )


def _area(area: MapArea, place: object) -> str:
    assert callable(place)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in area.points))
    title = f"<title>{escape(area.note)}</title>"
    if area.closed:
        return f'<polygon points="{points}" fill="#1d7f45" fill-opacity=".18" stroke="#1d7f45">{title}</polygon>'
    return f'<polyline points="{points}" fill="none" stroke="#8a5a2b" stroke-width="5">{title}</polyline>'


def _ruler(scale: float, height: float) -> str:
    y, length = height - 18, 100 * scale
    return (
        f'<g stroke="currentColor" fill="currentColor"><line x1="{_MARGIN}" y1="{y:.1f}" x2="{_MARGIN + length:.1f}" '
        f'y2="{y:.1f}" stroke-width="2"/><text x="{_MARGIN + length + 8:.1f}" y="{y + 4:.1f}" stroke="none">100 m'
        "</text></g>"
    )


@dataclass(frozen=True, slots=True)
class Span:
    """A bar of a timeline, in seconds; `text` is written in it."""

    lane: str
    start_s: float
    end_s: float
    colour: str
    text: str = ""
    note: str = ""


def timeline(spans: Sequence[Span], end_s: float, title: str) -> str:
    """Bars by lane over time, with a scale in seconds."""
    lanes = list(dict.fromkeys(span.lane for span in spans))
    label_width, row = 60.0, 22.0
    height = row * len(lanes) + 40
    scale = (_WIDTH - label_width - 20) / max(end_s, 1e-9)
    parts = [_open(_WIDTH, height, title)]
    for index, lane in enumerate(lanes):
        parts.append(
            f'<text x="{label_width - 10}" y="{row * index + 16:.1f}" text-anchor="end" fill="currentColor">'
            f"{escape(lane)}</text>"
        )
    for span in spans:
        y = row * lanes.index(span.lane) + 3
        x, width = label_width + span.start_s * scale, max((span.end_s - span.start_s) * scale, 1.5)
        parts.append(
            f'<g><title>{escape(span.note or span.text)}</title><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{row - 5}" rx="2" fill="{span.colour}"/></g>'
        )
    parts.append(_time_scale(end_s, label_width, scale, row * len(lanes) + 8))
    parts.append("</svg>")
    return "".join(parts)


def bars(values: Sequence[tuple[str, float]], unit: str, title: str) -> str:
    """One bar a label, side by side, the tallest as high as the picture; values are 0 or more."""
    height, foot = 200.0, 44.0
    tallest = max((value for _, value in values), default=0.0) or 1.0
    step = (_WIDTH - 2 * _MARGIN) / max(len(values), 1)
    width = min(step * 0.8, 60.0)
    every = max(1, len(values) // 24)
    parts = [_open(_WIDTH, height + foot + 20, title)]
    for index, (label, value) in enumerate(values):
        x, size = _MARGIN + step * (index + 0.5), value / tallest * height
        parts.append(
            f"<g><title>{escape(label)}: {value:.6g} {escape(unit)}</title>"
            f'<rect x="{x - width / 2:.1f}" y="{20 + height - size:.1f}" width="{width:.1f}" height="{size:.1f}" '
            f'fill="#2f7de1"/></g>'
        )
        if index % every == 0:
            parts.append(
                f'<text x="{x:.1f}" y="{height + 38:.1f}" text-anchor="middle" fill="currentColor">'
                f"{escape(label)}</text>"
            )
    parts.append(
        f'<text x="{_MARGIN:.1f}" y="14" fill="currentColor">{escape(title)}; highest bar: {tallest:.6g} '
        f"{escape(unit)}</text></svg>"
    )
    return "".join(parts)


def _time_scale(end_s: float, left: float, scale: float, y: float) -> str:
    step = next(
        step
        for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 86400, 1e9)
        if end_s / step <= 14
    )
    marks, at = [], 0.0
    while at <= end_s:
        x = left + at * scale
        marks.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{y + 5:.1f}" stroke="currentColor"/>'
            f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle" fill="currentColor">{at:g} s</text>'
        )
        at = round(at + step, 6)
    return "".join(marks)
