"""From a scenario's `grid` to a feeder with homes and plants on it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from grid.der.categories import VOLTAGE_RANGES, Category, TripPoint
from grid.der.inverter import Inverter
from grid.der.settings import PROFILES, Rating
from grid.feeder.feeder import Feeder, PvPlant
from grid.feeder.supply import Supply
from grid.feeder.topology import Connection, Span, Topology, shortest_tree
from grid.pv import PvArray, Site, Sky
from protocols.errors import BadInputError
from protocols.loads import LoadSource
from twin.clock.seeds import Seeds
from twin.scenarios.grid_schema import GridSettings, PvSettings
from twin.scenarios.schema import Scenario

_VAR_SHARE = 0.44
"""Reactive capability of category B, as a share of the apparent power."""


def build_feeder(
    scenario: Scenario, homes: Mapping[str, LoadSource], phase_counts: Mapping[str, int], seeds: Seeds, start_s: float
) -> Feeder:
    """The feeder of a scenario that has a grid. `homes` and `phase_counts` are by meter.

    Raises BadInputError, with the key in the scenario, where the file does not make a feeder.
    """
    settings = scenario.grid
    if settings is None:
        raise BadInputError("the scenario has no feeder; add it", key="grid")
    for name in (*settings.phases, *(plant.meter for plant in settings.pv)):
        if name not in homes:
            raise BadInputError(f"the scenario has no meter {name!r}", key="grid")
    doubles = [plant.meter for plant in settings.pv]
    if len(set(doubles)) != len(doubles):
        raise BadInputError("one plant a meter", key="grid.pv")
    positions = {meter.name: meter.position for meter in scenario.meters}
    place = settings.transformer_position or scenario.dcu.position
    spans = tuple(Span(item.start, item.end, item.conductor, item.length_m) for item in settings.spans)
    topology = Topology(
        settings.transformer,
        spans or shortest_tree(positions, place),
        _connections(settings, phase_counts),
        drop_m=settings.drop_m,
        nominal_v=settings.nominal_v,
    )
    hz = PROFILES[settings.code].nominal_hz
    return Feeder(
        topology,
        homes,
        Supply(start_s, settings.source_pu, hz),
        start_s,
        plants=[_plant(settings, item) for item in settings.pv],
        sky=_sky(settings, seeds.stream("sky")) if settings.pv else None,
    )


def _connections(settings: GridSettings, phase_counts: Mapping[str, int]) -> tuple[Connection, ...]:
    """Single-phase meters that the file does not put on a phase take L1, L2, L3 in turn."""
    made, turn = [], 0
    for name, count in phase_counts.items():
        if count == 3:
            made.append(Connection(name, (0, 1, 2)))
            continue
        chosen = settings.phases.get(name)
        made.append(Connection(name, (turn % 3 if chosen is None else chosen - 1,)))
        turn += chosen is None
    return tuple(made)


def _sky(settings: GridSettings, rng: random.Random) -> Sky:
    sky = settings.sky
    return Sky(rng, Site(sky.latitude_deg, sky.longitude_deg), sky.cloudiness)


def _plant(settings: GridSettings, item: PvSettings) -> PvPlant:
    rating_va = item.rating_va or item.peak_w
    rating = Rating(rating_va, rating_va, _VAR_SHARE * rating_va, settings.nominal_v)
    inverter = Inverter(PROFILES[item.profile or settings.code], Category(item.category), rating)
    defaults = inverter.settings
    voltage = defaults.voltage
    if item.over_voltage_trip_pu is not None:
        longest_s = VOLTAGE_RANGES[defaults.category][1].longest_s
        voltage = replace(voltage, ov1=TripPoint(item.over_voltage_trip_pu, longest_s))
    inverter.apply(
        replace(
            defaults,
            voltage=voltage,
            volt_var=replace(defaults.volt_var, enabled=item.volt_var),
            volt_watt=replace(defaults.volt_watt, enabled=item.volt_watt),
            droop=replace(defaults.droop, enabled=item.droop),
        )
    )
    return PvPlant(item.meter, PvArray(item.peak_w), inverter)
