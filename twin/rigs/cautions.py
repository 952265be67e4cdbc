"""What a report warns of: facts about the run that are no verdicts, and that a reader should know of."""

from __future__ import annotations

from twin.air.graph import connected_with
from twin.air.propagation import RANGE_LIMIT_M
from twin.rigs.mesh_view import OPERATIONAL
from twin.rigs.rig import DCU_NODE, Rig


def cautions(rig: Rig) -> tuple[str, ...]:
    """Meters that no chain of links could ever bring into the mesh, and nodes above the duty-cycle limit."""
    return (*_unreachable(rig), *_above_the_limit(rig))


def _unreachable(rig: Rig) -> list[str]:
    """Those that had power and never were in the mesh, where the places of all say why."""
    joined = {span.node for span in rig.mesh.spans if span.state == OPERATIONAL}
    tried = {span.node for span in rig.mesh.spans}
    connected = connected_with(DCU_NODE, rig.air.links(), lambda name: True)
    return [
        f"meter {name} never joined: its nearest neighbour is {_nearest_m(rig, name):.0f} m away, and no chain of "
        f"usable links leads to the concentrator (none is longer than {RANGE_LIMIT_M:.0f} m)"
        for name in rig.meters
        if name in tried - joined - connected
    ]


def _nearest_m(rig: Rig, name: str) -> float:
    place = rig.air.radio(name).position
    return min(place.distance_m(radio.position) for other, radio in rig.air.radios.items() if other != name)


def _above_the_limit(rig: Rig) -> list[str]:
    limit = rig.air.settings.duty_cycle_limit
    return [
        f"{node.name} was on the air for {100 * node.worst_hour_duty_cycle:.2f} % of its busiest hour; the limit is "
        f"{100 * (limit or 0.0):g} %"
        for node in rig.air.statistics().nodes
        if node.over_duty_limit
    ]
