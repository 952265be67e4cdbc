"""Where things stand, and what stands between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Position:
    """A point in metres: x east, y north, z up."""

    x_m: float
    y_m: float
    z_m: float = 0.0

    def distance_m(self, other: Position) -> float:
        return math.hypot(self.x_m - other.x_m, self.y_m - other.y_m, self.z_m - other.z_m)


class Obstacle(Protocol):
    def loss_between_db(self, first: Position, second: Position) -> float:
        """Decibels that a path between the two loses here; 0 where it passes by."""
        ...


def _crossing(first: Position, second: Position, a: Position, b: Position) -> float | None:
    """Where the path first → second crosses the segment a → b seen from above: 0 to 1 along the path, or None."""
    dx, dy = second.x_m - first.x_m, second.y_m - first.y_m
    ex, ey = b.x_m - a.x_m, b.y_m - a.y_m
    denominator = dx * ey - dy * ex
    if denominator == 0.0:
        return None
    ax, ay = a.x_m - first.x_m, a.y_m - first.y_m
    along_path = (ax * ey - ay * ex) / denominator
    along_edge = (ax * dy - ay * dx) / denominator
    return along_path if 0.0 <= along_path <= 1.0 and 0.0 <= along_edge <= 1.0 else None


@dataclass(frozen=True, slots=True)
class Vegetation:
    """A wood: an area that attenuates what passes through it.

    `loss_db` is what a path through it loses. With `loss_db_per_m` the loss grows with the way inside the wood and
    `loss_db` is its upper end. `outline` has at least three corners and may be concave.
    """

    outline: tuple[Position, ...]
    loss_db: float
    loss_db_per_m: float | None = None

    def __post_init__(self) -> None:
        if len(self.outline) < 3:
            raise ValueError("vegetation needs an outline of at least three corners")
        if self.loss_db < 0.0 or (self.loss_db_per_m is not None and self.loss_db_per_m < 0.0):
            raise ValueError("vegetation cannot amplify: its loss must be 0 dB or more")

    def contains(self, point: Position) -> bool:
        """Whether the point is inside, seen from above (even-odd rule)."""
        inside = False
        previous = self.outline[-1]
        for corner in self.outline:
            if (corner.y_m > point.y_m) != (previous.y_m > point.y_m):
                slope = (previous.x_m - corner.x_m) / (previous.y_m - corner.y_m)
                if point.x_m < corner.x_m + slope * (point.y_m - corner.y_m):
                    inside = not inside
            previous = corner
        return inside

    def depth_m(self, first: Position, second: Position) -> float:
        """Metres of the path that run inside the wood."""
        cuts = [0.0, 1.0]
        previous = self.outline[-1]
        for corner in self.outline:
            cut = _crossing(first, second, previous, corner)
            if cut is not None:
                cuts.append(cut)
            previous = corner
        cuts.sort()
        share = 0.0
        for start, end in pairwise(cuts):
            middle = (start + end) / 2.0
            point = Position(
                first.x_m + middle * (second.x_m - first.x_m), first.y_m + middle * (second.y_m - first.y_m)
            )
            if end > start and self.contains(point):
                share += end - start
        return share * first.distance_m(second)

    def loss_between_db(self, first: Position, second: Position) -> float:
        depth_m = self.depth_m(first, second)
        if depth_m == 0.0:
            return 0.0
        return self.loss_db if self.loss_db_per_m is None else min(self.loss_db, depth_m * self.loss_db_per_m)


@dataclass(frozen=True, slots=True)
class Terrain:
    """A ridge: a line on the map that a path loses `loss_db` over, once, wherever it crosses it.

    `top_m` is the height of its crest: a path that passes above it loses nothing. Without it, it is never cleared.
    """

    ridge: tuple[Position, ...]
    loss_db: float
    top_m: float = math.inf

    def __post_init__(self) -> None:
        if len(self.ridge) < 2:
            raise ValueError("terrain needs a line of at least two points")
        if self.loss_db < 0.0:
            raise ValueError("terrain cannot amplify: its loss must be 0 dB or more")

    def loss_between_db(self, first: Position, second: Position) -> float:
        for a, b in pairwise(self.ridge):
            cut = _crossing(first, second, a, b)
            if cut is not None and first.z_m + cut * (second.z_m - first.z_m) <= self.top_m:
                return self.loss_db
        return 0.0


def outline_of(points: Sequence[Position | tuple[float, float]]) -> tuple[Position, ...]:
    """Corners given as positions or as (x, y) in metres."""
    return tuple(
        point if isinstance(point, Position) else Position(float(point[0]), float(point[1])) for point in points
    )
