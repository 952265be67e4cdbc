"""The mesh as the bench sees it: from what the nodes trace, and from what goes over the air."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from protocols.errors import RemoteProtocolError
from protocols.mesh.ieee802154 import layout_of
from twin.air.stations import Transmission
from twin.rigs.folder import EventTrace

OPERATIONAL = "operational"
OFF = "off"
_MOST_HOPS = 64
_FRAME_CONTROL_BYTES = 2


@dataclass(frozen=True, slots=True)
class StateSpan:
    """A stretch of time, in seconds of the run, that a node spent in one join state."""

    node: str
    state: str
    start_s: float
    end_s: float | None


class MeshView:
    """Join states, parents and traffic of all nodes, by the scenario's names. `root` is the concentrator's name."""

    def __init__(self, names: dict[bytes, str], root: str, trace: EventTrace) -> None:
        self._names = names
        self._root = root
        self._states: dict[str, str] = {}
        self._parents: dict[str, str | None] = {}
        self._unicasts: Counter[tuple[bytes, bytes]] = Counter()
        """Frames by destination and source, as they stand on the air."""
        self._child_and_parent: set[tuple[str | None, str]] = set()
        """Every pair that there has been."""
        self.spans: list[StateSpan] = []
        self.channel_airtime_s: defaultdict[int, float] = defaultdict(float)
        """Seconds on the air by channel; what `ALL_CHANNELS` has, each channel has on top."""
        self._last_span: dict[str, int] = {}
        self.operational_count = 0
        """Nodes that are in the mesh now, the concentrator among them."""
        self.former_parents: dict[str, list[str]] = {}
        trace.listeners.append(self._event)

    def observe(self, transmission: Transmission) -> None:
        """Called for every frame that goes on the air. Most of it is not looked at: it is called often."""
        psdu = transmission.psdu
        self.channel_airtime_s[transmission.channel] += transmission.airtime_s
        if len(psdu) < _FRAME_CONTROL_BYTES:
            return
        try:
            layout = layout_of(psdu[0] | psdu[1] << 8)
        except RemoteProtocolError:
            return
        if layout.destination_at >= 0 and layout.source_at >= 0:
            destination = psdu[layout.destination_at : layout.destination_end]
            self._unicasts[destination, psdu[layout.source_at : layout.addresses_end]] += 1

    def operational(self, name: str) -> bool:
        return self._states.get(name) == OPERATIONAL

    def state(self, name: str) -> str:
        return self._states.get(name, OFF)

    def parent(self, name: str) -> str | None:
        return self._parents.get(name)

    def hops(self, name: str) -> int | None:
        """Hops along the preferred parents up to the concentrator; None where the chain does not get there."""
        hops, here = 0, name
        while here != self._root:
            above = self._parents.get(here)
            hops += 1
            if above is None or hops > _MOST_HOPS:
                return None
            here = above
        return hops

    def frames_down_to(self, name: str) -> int:
        """Unicast frames sent so far to this node by those above it: whoever never had it as parent.

        A child's frames to it are the child's own way up, and say nothing of what anybody wants from the node.
        """
        return sum(
            count
            for (destination, source), count in self._unicasts.items()
            if self._names.get(destination[::-1]) == name
            and (self._names.get(source[::-1]), name) not in self._child_and_parent
        )

    def _event(self, kind: str, fields: dict[str, object]) -> None:
        node, at = fields.get("node"), fields["t"]
        if not isinstance(node, str) or not isinstance(at, float):
            return
        if kind == "mesh.join":
            self._enter(node, str(fields["state"]).lower(), at)
        elif kind == "mesh.parent":
            self._change_parent(node, fields["parent"])

    def _enter(self, node: str, state: str, now_s: float) -> None:
        last = self._last_span.get(node)
        if last is not None:
            open_span = self.spans[last]
            self.spans[last] = StateSpan(node, open_span.state, open_span.start_s, now_s)
        self.operational_count += (state == OPERATIONAL) - (self._states.get(node) == OPERATIONAL)
        self._states[node] = state
        self._last_span[node] = len(self.spans)
        self.spans.append(StateSpan(node, state, now_s, None))
        if state == OFF:
            self._parents.pop(node, None)

    def _change_parent(self, node: str, parent: object) -> None:
        before = self._parents.get(node)
        if before is not None:
            self.former_parents.setdefault(node, []).append(before)
        now = self._names.get(bytes.fromhex(parent)) if isinstance(parent, str) else None
        self._parents[node] = now
        if now is not None:
            self._child_and_parent.add((node, now))
