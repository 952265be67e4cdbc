"""A low-voltage feeder of 1,000 meters: one power flow, a minute of homes, a minute at noon with 300 solar plants."""

from __future__ import annotations

import math
import random
import time
from datetime import UTC, datetime

import numpy as np

from benchmarks import Row
from grid.der.categories import Category
from grid.der.inverter import Inverter
from grid.der.settings import PROFILES, Rating
from grid.feeder.feeder import Feeder, PvPlant
from grid.feeder.power_flow import PowerFlow
from grid.feeder.supply import Supply
from grid.feeder.topology import Connection, Topology, shortest_tree
from grid.household import Household
from grid.pv import PvArray, Site, Sky

METERS, PLANTS = 1000, 300
FLOWS, MINUTES, NOON_MINUTES = 50, 60, 10
EVENING_S = datetime(2026, 3, 2, 16, tzinfo=UTC).timestamp()
NOON_S = datetime(2026, 3, 2, 9, 30, tzinfo=UTC).timestamp()


def _topology() -> Topology:
    """A town on a grid of 18 m, the transformer in its middle."""
    side = math.ceil(math.sqrt(METERS))
    places = {f"M{index}": (18.0 * (index % side), 18.0 * (index // side)) for index in range(METERS)}
    middle = 9.0 * side
    connections = tuple(Connection(name, (index % 3,)) for index, name in enumerate(places))
    return Topology("1000kva", shortest_tree(places, (middle, middle)), connections, nominal_v=230.0)


def _feeder(topology: Topology, start_s: float, *, plants: bool) -> Feeder:
    names = [connection.meter for connection in topology.connections]
    homes = {name: Household(random.Random(name), local_offset_s=10_800, daily_kwh=2.0) for name in names}
    made = [
        PvPlant(name, PvArray(1000.0), Inverter(PROFILES["kenya"], Category.III, Rating(1000.0, 1000.0, 440.0, 230.0)))
        # Every tenth, and the two behind it: over all three phases.
        for name in (name for index, name in enumerate(names) if index % 10 < 10 * PLANTS // METERS)
    ]
    feeder = Feeder(
        topology, homes, Supply(start_s, 1.02), start_s,
        plants=made if plants else (), sky=Sky(random.Random(1), Site(), 0.3) if plants else None,
    )  # fmt: skip
    for name in names:
        feeder.connect(name, 1.0, start_s)
    return feeder


def _live(feeder: Feeder, start_s: float, warm_up_min: int, minutes: int) -> float:
    """Wall-clock milliseconds for a simulated minute."""
    feeder.advance(start_s + 60.0 * warm_up_min)
    began = time.perf_counter()
    feeder.advance(start_s + 60.0 * (warm_up_min + minutes))
    return (time.perf_counter() - began) / minutes * 1e3


def run() -> list[Row]:
    began = time.perf_counter()
    topology = _topology()
    flow = PowerFlow(topology)
    built_ms = (time.perf_counter() - began) * 1e3
    active_w = np.zeros((METERS, 3))
    active_w[np.arange(METERS), np.arange(METERS) % 3] = 150.0
    flow.solve(active_w, active_w * 0.2)
    began = time.perf_counter()
    for step in range(FLOWS):
        flow.solve(active_w * (1.0 + 0.001 * step), active_w * 0.2)
    solved_ms = (time.perf_counter() - began) / FLOWS * 1e3
    note = f"{METERS:,} meters, {2 * METERS + 2:,} nodes, each phase for itself"
    return [
        Row("topology and model", built_ms, "ms", "shortest tree over positions, once"),
        Row("power flow", solved_ms, "ms", note),
        Row("a minute of homes", _live(_feeder(topology, EVENING_S, plants=False), EVENING_S, 1, MINUTES), "ms",
            "evening peak: demand, power flow, history"),
        Row("a minute at noon", _live(_feeder(topology, NOON_S, plants=True), NOON_S, 12, NOON_MINUTES), "ms",
            f"{PLANTS} plants, clouds; inverters stepped until they rest"),
    ]  # fmt: skip
