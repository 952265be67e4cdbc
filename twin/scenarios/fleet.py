"""Meters that a scenario asks for by number instead of one by one: a grid around the concentrator, seeded jitter."""

from __future__ import annotations

import math
import random
from typing import Any

from protocols.errors import BadInputError
from twin.scenarios.schema import Fleet, Scenario

_SERIAL_BASE = 6_000_000


def fleet_rows(fleet: Fleet, count: int, dcu: tuple[float, float]) -> list[dict[str, Any]]:
    """The rows of `count` meters, as the file would have them: M0001, M0002, ... from west to east, south to north.

    The places depend on the fleet's settings only, not on the run's seed: another seed draws other faults in the same
    town. Raises BadInputError for a count below 1.
    """
    if count < 1:
        raise BadInputError(f"must be 1 or more, not {count}", key=f"--set {fleet.count}")
    draw = random.Random(fleet.layout_seed)
    columns = fleet.columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    west_m, south_m = dcu[0] - fleet.spacing_m * (columns - 1) / 2, dcu[1] - fleet.spacing_m * (rows - 1) / 2
    made: list[dict[str, Any]] = []
    for index in range(count):
        east_m = west_m + fleet.spacing_m * (index % columns) + draw.uniform(-fleet.jitter_m, fleet.jitter_m)
        north_m = south_m + fleet.spacing_m * (index // columns) + draw.uniform(-fleet.jitter_m, fleet.jitter_m)
        made.append({
            "name": f"M{index + 1:04d}",
            "serial": f"IHM{_SERIAL_BASE + index + 1}",
            "model": fleet.model,
            "position": (round(east_m, 1), round(north_m, 1)),
            "installed_at_s": round(draw.uniform(0.0, fleet.installed_every_s * count), 3),
        })  # fmt: skip
    return made


def with_fleet(scenario: Scenario, values: dict[str, float | int | str | bool]) -> Scenario:
    """The scenario with the meters of its fleet behind those that it names. The same one if it has no fleet."""
    fleet = scenario.fleet
    if fleet is None:
        return scenario
    rows = fleet_rows(fleet, int(values[fleet.count]), scenario.dcu.position)
    meters = [meter.model_dump() for meter in scenario.meters] + rows
    return Scenario.model_validate({**scenario.model_dump(by_alias=True), "meters": meters})
