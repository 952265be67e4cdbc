"""Pictures as SVG text of our own: no assets, crisp at any size, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from twin.conformance.pictures.shown import (
    BAR,
    ETX_COLOURS,
    FORMER,
    NODE_COLOURS,
    RIDGE,
    SERIES_COLOURS,
    WOOD,
    Bars,
    Chart,
    Map,
    MapArea,
    MapLink,
    Picture,
    Series,
    Timeline,
    round_marks,
    time_marks,
)

_WIDTH = 1000.0
_MARGIN = 56.0
_LINK_STYLES = {
    "heard": 'stroke="currentColor" stroke-opacity=".13" stroke-width="1"',
    "former": f'stroke="{FORMER}" stroke-width="2" stroke-dasharray="5 5"',
}
_Place = Callable[[float, float], tuple[float, float]]


def to_svg(picture: Picture) -> str:
    """A whole `<svg>` element."""
    match picture:
        case Map():
            return _map(picture)
        case Timeline():
            return _timeline(picture)
        case Bars():
            return _bars(picture)
        case Chart():
            return _chart(picture)


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'role="img" font-family="system-ui, DejaVu Sans, sans-serif" font-size="13"><title>{escape(title)}</title>'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor"{extra}>{escape(text)}</text>'


def _map(shown: Map) -> str:
    west, east, south, north = shown.bounds_m
    span_x, span_y = max(east - west, 1.0), max(north - south, 1.0)
    scale = min((_WIDTH - 2 * _MARGIN) / span_x, 420 / span_y)
    height = span_y * scale + 2 * _MARGIN + 24

    def place(x_m: float, y_m: float) -> tuple[float, float]:
        return _MARGIN + (x_m - west) * scale, _MARGIN + (north - y_m) * scale

    where = {node.name: place(node.x_m, node.y_m) for node in shown.nodes}
    parts = [_open(_WIDTH, height, shown.title)]
    parts += [_area(area, place) for area in shown.areas]
    for style in ("heard", "former", "route"):
        parts += [_link(link, where) for link in shown.links if link.style == style]
    small = len(shown.nodes) > 60
    for node in shown.nodes:
        x, y = where[node.name]
        radius = 13 if node.kind == "dcu" else 4 if small else 10
        label = "DCU" if node.kind == "dcu" else "" if small else node.name
        parts.append(
            f'<g><title>{escape(node.note)}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" '
            f'fill="{NODE_COLOURS[node.kind]}"/>{_text(x, y - radius - 5, label, extra=_BOLD)}</g>'
        )
    parts += [_ruler(scale, height), _legend(height), "</svg>"]
    return "".join(parts)


_BOLD = ' font-weight="600"'


def _link(link: MapLink, where: dict[str, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = where[link.a], where[link.b]
    stroke = _LINK_STYLES.get(link.style) or f'stroke="{link.colour}" stroke-width="{link.width:.1f}"'
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {stroke}>'
        f"<title>{escape(link.note)}</title></line>"
    )


def _area(area: MapArea, place: _Place) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in area.points))
    title = f"<title>{escape(area.note)}</title>"
    if area.closed:
        return f'<polygon points="{points}" fill="{WOOD}" fill-opacity=".18" stroke="{WOOD}">{title}</polygon>'
    return f'<polyline points="{points}" fill="none" stroke="{RIDGE}" stroke-width="5">{title}</polyline>'


def _ruler(scale: float, height: float) -> str:
    y, length = height - 18, 100 * scale
    return (
        f'<g stroke="currentColor"><line x1="{_MARGIN}" y1="{y:.1f}" x2="{_MARGIN + length:.1f}" y2="{y:.1f}" '
        f'stroke-width="2"/></g>{_text(_MARGIN + length + 8, y + 4, "100 m", "start")}'
    )


def _legend(height: float) -> str:
    """The colours of routes by ETX, at the right."""
    parts, x, y = [], _WIDTH - 360.0, height - 18
    texts = [f"ETX to {ETX_COLOURS[0][0]:g}", f"to {ETX_COLOURS[1][0]:g}", "above"]
    for (_, colour), text in zip(ETX_COLOURS, texts, strict=True):
        parts.append(f'<line x1="{x:.0f}" y1="{y:.1f}" x2="{x + 24:.0f}" y2="{y:.1f}" stroke="{colour}" ')
        parts.append(f'stroke-width="3"/>{_text(x + 30, y + 4, text, "start")}')
        x += 130.0
    return "".join(parts)


def _timeline(shown: Timeline) -> str:
    lanes, label_width, row = shown.lanes, 60.0, 22.0 if len(shown.lanes) <= 60 else 4.0
    height = row * len(lanes) + 40
    scale = (_WIDTH - label_width - 20) / max(shown.end_s, 1e-9)
    parts = [_open(_WIDTH, height, shown.title)]
    every = max(1, round(22.0 / row))
    for lane, index in lanes.items():
        if index % every == 0:
            parts.append(_text(label_width - 10, row * index + 16, lane, "end"))
    for span in shown.spans:
        x, width = label_width + span.start_s * scale, max((span.end_s - span.start_s) * scale, 1.5)
        gap = 5.0 if row > 10 else 1.0
        parts.append(
            f'<g><title>{escape(span.note)}</title><rect x="{x:.1f}" y="{row * lanes[span.lane] + 3:.1f}" '
            f'width="{width:.1f}" height="{row - gap:g}" rx="{min(2.0, (row - gap) / 2):g}" fill="{span.colour}"/></g>'
        )
    y = row * len(lanes) + 8
    for at_s, text in time_marks(shown.end_s):
        x = label_width + at_s * scale
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{y + 5:.1f}" stroke="currentColor"/>')
        parts.append(_text(x, y + 20, text))
    parts.append("</svg>")
    return "".join(parts)


def _bars(shown: Bars) -> str:
    height, foot = 200.0, 44.0
    tallest = max((value for _, value in shown.values), default=0.0) or 1.0
    step = (_WIDTH - 2 * _MARGIN) / max(len(shown.values), 1)
    width = min(step * 0.8, 60.0)
    every = max(1, len(shown.values) // 24)
    parts = [_open(_WIDTH, height + foot + 20, shown.title)]
    for index, (label, value) in enumerate(shown.values):
        x, size = _MARGIN + step * (index + 0.5), value / tallest * height
        parts.append(
            f"<g><title>{escape(label)}: {value:.6g} {escape(shown.unit)}</title>"
            f'<rect x="{x - width / 2:.1f}" y="{20 + height - size:.1f}" width="{width:.1f}" height="{size:.1f}" '
            f'fill="{BAR}"/></g>'
        )
        if index % every == 0:
            parts.append(_text(x, height + 38, label))
    parts.append(_text(_MARGIN, 14, f"{shown.title}; highest bar: {tallest:.6g} {shown.unit}", "start"))
    parts.append("</svg>")
    return "".join(parts)


def _chart(shown: Chart) -> str:
    left, right, low, high = shown.bounds
    pad = 0.05 * (high - low)
    low, high = low - pad, high + pad
    height, top = 300.0, 30.0
    scale_x, scale_y = (_WIDTH - 2 * _MARGIN - 20) / (right - left), height / (high - low)

    def place(x: float, y: float) -> tuple[float, float]:
        return _MARGIN + 20 + (x - left) * scale_x, top + (high - y) * scale_y

    parts = [_open(_WIDTH, top + height + 50, shown.title), _text(4, 16, shown.y_label, "start")]
    x0, bottom = place(left, low)
    for value in round_marks(low, high):
        _, y = place(left, value)
        parts.append(f'<line x1="{x0:.1f}" y1="{y:.1f}" x2="{_WIDTH - _MARGIN:.1f}" y2="{y:.1f}" {_GRID}/>')
        parts.append(_text(x0 - 8, y + 4, f"{value:g}", "end"))
    for value in round_marks(left, right, 12):
        x, _ = place(value, low)
        parts.append(f'<line x1="{x:.1f}" y1="{bottom:.1f}" x2="{x:.1f}" y2="{bottom + 5:.1f}" stroke="currentColor"/>')
        parts.append(_text(x, bottom + 20, f"{value:g}"))
    parts.append(_text(_WIDTH / 2, bottom + 40, shown.x_label))
    for limit in shown.limits:
        _, y = place(left, limit.value)
        parts.append(f'<line x1="{x0:.1f}" y1="{y:.1f}" x2="{_WIDTH - _MARGIN:.1f}" y2="{y:.1f}" {_LIMIT}/>')
        parts.append(_text(_WIDTH - _MARGIN, y - 5, limit.name, "end"))
    name_x = _MARGIN + 160.0
    for index, series in enumerate(shown.series):
        colour = SERIES_COLOURS[index % len(SERIES_COLOURS)]
        parts.append(_series(series, colour, place))
        if len(shown.series) <= len(SERIES_COLOURS):
            parts.append(f'<rect x="{name_x:.1f}" y="8" width="14" height="6" fill="{colour}"/>')
            parts.append(_text(name_x + 20, 16, series.name, "start"))
            name_x += 40.0 + 7.5 * len(series.name)
    parts.append("</svg>")
    return "".join(parts)


_GRID = 'stroke="currentColor" stroke-opacity=".15"'
_LIMIT = 'stroke="#d98a00" stroke-width="1.5" stroke-dasharray="6 4"'


def _series(series: Series, colour: str, place: _Place) -> str:
    title = f"<title>{escape(series.name)}</title>"
    placed = [place(x, y) for x, y in series.points]
    if series.style == "dots":
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed)
        return f'<g fill="{colour}">{title}{dots}</g>'
    if series.style == "steps":
        placed = [point for before, (x, y) in zip([*placed[:1], *placed], placed, strict=False)
                  for point in ((x, before[1]), (x, y))]  # fmt: skip
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6">{title}</polyline>'
