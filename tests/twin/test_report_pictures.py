"""The pictures of a report: one set of facts as SVG, PNG and JSON."""

from __future__ import annotations

import json
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from twin_runs import twin_run

from twin.conformance.pictures.png import to_png
from twin.conformance.pictures.shown import (
    Bars,
    Chart,
    Limit,
    Map,
    MapArea,
    MapLink,
    MapNode,
    Picture,
    Series,
    Span,
    Timeline,
    as_data,
    round_marks,
    time_marks,
)
from twin.conformance.pictures.svg import to_svg

NODES = (MapNode("DCU", 0.0, 0.0, "dcu"), MapNode("A", 300.0, 100.0, "meter"), MapNode("B<", 0.0, 90.0, "dead", "x&y"))
LINKS = (MapLink("A", "DCU", "route", "fine", 1.1, 100), MapLink("B<", "DCU", "heard"), MapLink("B<", "A", "former"))
WOOD = MapArea(((50.0, 50.0), (90.0, 50.0), (70.0, 90.0)), "a wood")
PICTURES: tuple[Picture, ...] = (
    Map(NODES, LINKS, (WOOD,)),
    Map(NODES[:1], ()),
    Timeline((Span("A", 0.0, 5.0, "#123456", "joins"), Span("B", 2.0, 50.0, "#654321")), 50.0, "Joining"),
    Timeline((), 0.0, "Nothing"),
    Bars((("1 hop", 3.0), ("2 hops", 0.0)), "meters", "Hops"),
    Bars((), "s", "Nothing"),
    Chart((Series("a", ((0, 1), (1, 3))), Series("b", ((0, 2),), "dots")), "s", "V", "T", (Limit(2.5, "most"),)),
    Chart((Series("steps", ((0, 1), (5, 0), (9, 1)), "steps"),), "s", "path", "T"),
    Chart((), "s", "V", "Nothing"),
)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: f"{type(picture).__name__}-{picture.title}")
def test_each_picture_is_drawn_both_ways_and_told_as_json(picture: Picture) -> None:
    assert ElementTree.fromstring(to_svg(picture)).tag == "svg"  # noqa: S314 (our own text)
    png = to_png(picture)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">I", png[16:20]) == (1000,)
    assert png == to_png(picture)
    assert json.loads(json.dumps(as_data(picture)))["kind"] == type(picture).__name__.lower()


def test_route_shows_its_quality_and_its_traffic() -> None:
    poor, good = MapLink("A", "B", "route", "", 3.0, 10), MapLink("A", "B", "route", "", 1.0, 10_000)
    assert poor.colour != good.colour != MapLink("A", "B", "route").colour
    assert poor.width < good.width
    assert f'stroke="{good.colour}" stroke-width="{good.width:.1f}"' in to_svg(Map(NODES, (
        MapLink("A", "DCU", "route", "", 1.0, 10_000),)))  # fmt: skip


@pytest.mark.parametrize(("end_s", "last"), [(0.0, "0 s"), (14.0, "14 s"), (86_400.0, "24 h"), (30 * 86_400.0, "28 d")])
def test_times_are_marked_at_round_moments(end_s: float, last: str) -> None:
    marks = time_marks(end_s)
    assert marks[0][0] == 0.0
    assert marks[-1][1] == last
    assert len(marks) <= 15


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 17.0), (228.1, 253.9), (1e-6, 3e-6)])
def test_values_are_marked_at_round_steps_inside_the_range(low: float, high: float) -> None:
    marks = round_marks(low, high)
    assert 3 <= len(marks) <= 10
    assert low - 1e-12 <= marks[0] < marks[-1] <= high + 1e-12


def test_run_leaves_its_pictures_and_their_facts(tmp_path: Path) -> None:
    run = twin_run(tmp_path / "run", "village")
    names = {path.name for path in (run.folder / "pictures").iterdir()}
    assert names == {f"{name}.{kind}" for name in ("mesh", "joining", "hops", "channels") for kind in ("png", "json")}
    facts = json.loads((run.folder / "pictures" / "mesh.json").read_text())
    routes = [link for link in facts["links"] if link["style"] == "route"]
    assert routes
    assert all(link["etx"] >= 1.0 and link["frames"] > 0 for link in routes)
    listed = json.loads((run.folder / "report.json").read_text())["files"]
    assert {f"pictures/{name}" for name in names} <= set(listed)
