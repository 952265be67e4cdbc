"""How a feeder is wired: a tree of conductors from the transformer's busbar, and a service drop to every meter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grid.feeder.equipment import CONDUCTORS, TRANSFORMERS
from protocols.errors import BadInputError

BUSBAR = "busbar"
"""The low-voltage side of the transformer."""

# Meters behind a piece of the feeder, and what it is made of: stronger towards the transformer.
_CONDUCTOR_FOR_METERS = ((3, "al-35"), (10, "al-50"), (30, "al-95"), (100, "al-150"))
_STRONGEST = "al-240"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the feeder between two poles, or the busbar and a pole. A pole has the name of its meter."""

    start: str
    end: str
    conductor: str
    length_m: float


@dataclass(frozen=True, slots=True)
class Connection:
    """A meter at its pole. `phases` are 0, 1, 2 for L1, L2, L3: one of them, or all three."""

    meter: str
    phases: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """A checked feeder: every pole hangs on the busbar by exactly one way. Raises BadInputError where it does not."""

    transformer: str
    spans: tuple[Span, ...]
    connections: tuple[Connection, ...]
    drop_conductor: str = "al-16"
    drop_m: float = 15.0
    nominal_v: float = 240.0
    """Between phase and neutral; the transformer's secondary without a load."""

    def __post_init__(self) -> None:
        _named(self.transformer, TRANSFORMERS, "transformer")
        _named(self.drop_conductor, CONDUCTORS, "drop_conductor")
        _length(self.drop_m, "drop_m")
        for span in self.spans:
            where = f"span {span.start} to {span.end}"
            _named(span.conductor, CONDUCTORS, where)
            _length(span.length_m, where)
        ends = [span.end for span in self.spans]
        doubles = sorted({end for end in ends if ends.count(end) > 1} | ({BUSBAR} & set(ends)))
        if doubles:
            raise BadInputError("is fed from two sides; a feeder is a tree", key=doubles[0])
        for connection in self.connections:
            self._check_way(connection)

    def _check_way(self, connection: Connection) -> None:
        if connection.phases not in ((0,), (1,), (2,), (0, 1, 2)):
            raise BadInputError(f"phases {connection.phases} cannot be; one phase, or all three", key=connection.meter)
        parents = {span.end: span.start for span in self.spans}
        place, steps = connection.meter, 0
        while place != BUSBAR:
            steps += 1
            if place not in parents or steps > len(parents):
                raise BadInputError(f"has no way to the {BUSBAR}; add the span that ends at {place!r}",
                                    key=connection.meter)  # fmt: skip
            place = parents[place]


def _named(name: str, known: Mapping[str, object], where: str) -> None:
    if name not in known:
        raise BadInputError(f"there is no {name!r}; there are {', '.join(known)}", key=where)


def _length(length_m: float, where: str) -> None:
    if not (math.isfinite(length_m) and 0.0 < length_m <= 5000.0):
        raise BadInputError(f"a length must be above 0 and at most 5000 m, is {length_m}", key=where)


def shortest_tree(
    positions: Mapping[str, tuple[float, float]], transformer_position: tuple[float, float]
) -> tuple[Span, ...]:
    """The spans that join all poles to the transformer with the least conductor (Prim's algorithm).

    `positions` are the poles' in metres. Each piece is as strong as the number of meters behind it asks for.
    """
    names = list(positions)
    distance = [math.dist(positions[name], transformer_position) for name in names]
    parent = [BUSBAR] * len(names)
    waiting = list(range(len(names)))
    order: list[int] = []
    while waiting:
        # The first of several equally near ones: the order of the file decides, not that of a set.
        nearest = min(waiting, key=distance.__getitem__)
        waiting.remove(nearest)
        order.append(nearest)
        here = positions[names[nearest]]
        for other in waiting:
            away_m = math.dist(positions[names[other]], here)
            if away_m < distance[other]:
                distance[other], parent[other] = away_m, names[nearest]
    behind = _meters_behind(names, parent, order)
    return tuple(
        Span(parent[index], names[index], _conductor_for(behind[names[index]]), max(distance[index], 1.0))
        for index in order
    )


def _meters_behind(names: Sequence[str], parent: Sequence[str], order: Sequence[int]) -> dict[str, int]:
    behind = dict.fromkeys((*names, BUSBAR), 0)
    for index in reversed(order):
        behind[names[index]] += 1
        behind[parent[index]] += behind[names[index]]
    return behind


def _conductor_for(meters: int) -> str:
    return next((name for most, name in _CONDUCTOR_FOR_METERS if meters <= most), _STRONGEST)
