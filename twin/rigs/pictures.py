"""What a run looked like: the rig's facts, as pictures of the report."""

from __future__ import annotations

from collections import Counter

from protocols.mesh.mac import ALL_CHANNELS
from twin.air.statistics import LinkReport
from twin.conformance.pictures.shown import Bars, Map, MapArea, MapLink, MapNode, Span, Timeline
from twin.rigs.rig import DCU_NODE, Rig

_STATE_COLOURS = {
    "off": "#c9ced6",
    "select_pan": "#cfe0f7",
    "authenticate": "#a9c8ef",
    "configure": "#7fb0e8",
    "route": "#f0b04f",
    "operational": "#1d7f45",
}


def mesh_map(rig: Rig) -> Map:
    """Nodes, links that carried frames, routes now and before, obstacles."""
    dcu_x, dcu_y = rig.scenario.dcu.position
    nodes = [MapNode(DCU_NODE, dcu_x, dcu_y, "dcu", f"DCU {rig.scenario.dcu.id}")]
    for meter in rig.meters.values():
        x_m, y_m = meter.settings.position
        kind = "meter" if meter.alive else "dead"
        state = rig.mesh.state(meter.name) if meter.alive else "without power"
        nodes.append(MapNode(meter.name, x_m, y_m, kind, f"{meter.name}, {meter.serial}: {state}"))
    scenario = rig.scenario
    areas = [MapArea(tuple(wood.polygon), f"wood, {wood.loss_db:g} dB") for wood in scenario.vegetation]
    areas += [MapArea(tuple(ridge.line), f"terrain, {ridge.loss_db:g} dB", closed=False) for ridge in scenario.terrain]
    return Map(nodes, _links(rig), areas)


def _links(rig: Rig) -> list[MapLink]:
    carried = {(link.sender, link.receiver): link for link in rig.air.links() if link.received}
    links = [
        MapLink(
            link.sender,
            link.receiver,
            "heard",
            f"{link.sender} to {link.receiver}: {link.distance_m:.0f} m, {link.rss_dbm:.0f} dBm, "
            f"{link.received} frames received",
            frames=link.received,
        )
        for link in carried.values()
    ]
    for name in rig.meters:
        parent = rig.mesh.parent(name)
        links += [
            MapLink(name, former, "former", f"{name} was relayed by {former}")
            for former in dict.fromkeys(rig.mesh.former_parents.get(name, ()))
            if former != parent
        ]
        if parent is not None:
            links.append(_route(rig, name, parent, carried))
    return links


def _route(rig: Rig, name: str, parent: str, carried: dict[tuple[str, str], LinkReport]) -> MapLink:
    """Frames are those of both directions."""
    both = (carried.get((name, parent)), carried.get((parent, name)))
    frames = sum(link.received for link in both if link is not None)
    etx = rig.meters[name].link_etx(rig.air.radio(parent).eui64)
    told = "unknown" if etx is None else f"{etx:.2f}"
    return MapLink(name, parent, "route", f"{name} sends through {parent}: ETX {told}, {frames} frames", etx, frames)


def join_timeline(rig: Rig) -> Timeline:
    """Join states over the run, a lane a node."""
    end_s = rig.clock.now()
    spans = [
        Span(
            span.node,
            span.start_s,
            end_s if span.end_s is None else span.end_s,
            _STATE_COLOURS[span.state],
            note=f"{span.node}: {span.state} from {span.start_s:.2f} s",
        )
        for span in rig.mesh.spans
        if span.node in rig.meters
    ]
    return Timeline(spans, end_s, "Join states over time")


def hop_counts(rig: Rig) -> dict[int, int]:
    """How many meters are how many hops away from the concentrator; 0 for those without a way."""
    counts = Counter(rig.mesh.hops(name) or 0 for name in rig.meters)
    return {hops: counts[hops] for hops in range(max(counts, default=0) + 1)}


def hop_histogram(rig: Rig) -> Bars:
    values = [(f"{hops} hops" if hops else "no way", float(count)) for hops, count in hop_counts(rig).items()]
    return Bars(values, "meters", "Meters by hops to the concentrator")


def channel_occupancy(rig: Rig) -> dict[int, float]:
    """Seconds that each channel of the plan was in use, discovery bursts included; those never used are left out."""
    bursts_s = rig.mesh.channel_airtime_s.get(ALL_CHANNELS, 0.0)
    used = {channel: seconds for channel, seconds in rig.mesh.channel_airtime_s.items() if channel != ALL_CHANNELS}
    channels = range(rig.air.plan.channel_count) if bursts_s else sorted(used)
    return {channel: round(used.get(channel, 0.0) + bursts_s, 6) for channel in channels}


def channel_picture(rig: Rig) -> Bars:
    values = [(str(channel), seconds) for channel, seconds in channel_occupancy(rig).items()]
    return Bars(values, "s", "Time on the air by channel")
