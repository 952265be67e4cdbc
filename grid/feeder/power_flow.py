"""Voltages and losses of a feeder from what its meters take. The only module that imports power-grid-model.

The phases are solved each for itself (asymmetric power flow). A conductor's zero-sequence impedance is its own plus
three times the neutral's, so that the model's phase voltages are those between phase and neutral at the meter, with
the neutral's drop in them. Loads take constant power.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grid.feeder.equipment import CONDUCTORS, TRANSFORMERS
from grid.feeder.topology import BUSBAR, Topology
from protocols.errors import TwinError

Values = npt.NDArray[np.float64]

_CLOCK_DYN11 = 11
_SHORT_CIRCUIT_VA = 100e6
_TOLERANCE = 1e-8


class FeederError(TwinError):
    """The feeder cannot carry what is asked of it: no voltages solve the equations."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A solved feeder. Arrays are meters x 3 phases, in the order of the topology's connections."""

    voltage_v: Values
    """Between phase and neutral, at each meter; on the phases that it does not use, too."""
    busbar_w: float
    """What leaves the transformer's low-voltage side: the feeder meter's power. Negative: into the grid above."""
    busbar_var: float
    conductor_loss_w: float
    transformer_loss_w: float
    transformer_loading: float
    """Share of the rated apparent power."""


class PowerFlow:
    """Solves one topology again and again. Raises TwinError by name if power-grid-model is missing."""

    def __init__(self, topology: Topology) -> None:
        try:
            import power_grid_model
            import power_grid_model.errors
        except ModuleNotFoundError as error:
            raise TwinError("a feeder needs power-grid-model: pip install 'openami-twin[grid]'") from error
        self._library: Any = power_grid_model
        self.topology = topology
        self.meters = tuple(connection.meter for connection in topology.connections)
        places = [BUSBAR, *(span.end for span in topology.spans)]
        self._place = {name: index + 1 for index, name in enumerate(places)}
        self._first_meter = len(places) + 1
        self._loads = self._make("input", "asym_load", len(self.meters))
        self._source_id = 0
        self._model = power_grid_model.PowerGridModel(self._input(), system_frequency=50.0)

    def solve(self, active_w: Values, reactive_var: Values, source_pu: float = 1.0) -> Flow:
        """The feeder with these loads (meters x 3; negative: fed in). `source_pu` is the voltage above the transformer.

        Raises FeederError where nothing solves it: the load is beyond what the feeder can carry.
        """
        loads = self._make("update", "asym_load", len(self.meters))
        loads["id"] = self._loads["id"]
        loads["p_specified"], loads["q_specified"] = active_w, reactive_var
        source = self._make("update", "source", 1)
        source["id"], source["u_ref"] = self._source_id, source_pu
        self._model.update(update_data={"asym_load": loads, "source": source})
        try:
            out = self._model.calculate_power_flow(symmetric=False, error_tolerance=_TOLERANCE)
        except self._library.errors.PowerGridError as error:
            total_w = float(np.sum(active_w))
            raise FeederError(
                f"the feeder cannot carry {total_w / 1000:.1f} kW at {source_pu:.3f} pu: voltage collapse"
            ) from error
        trafo, line = out["transformer"], out["line"]
        return Flow(
            voltage_v=np.array(out["node"]["u"][self._first_meter :]),
            busbar_w=-float(trafo["p_to"].sum()),
            busbar_var=-float(trafo["q_to"].sum()),
            conductor_loss_w=float((line["p_from"] + line["p_to"]).sum()),
            transformer_loss_w=float((trafo["p_from"] + trafo["p_to"]).sum()),
            transformer_loading=float(trafo["loading"][0]),
        )

    def _make(self, dataset: str, component: str, count: int) -> Any:
        return self._library.initialize_array(dataset, component, count)

    def _input(self) -> dict[str, Any]:
        """Nodes: 0 above the transformer, then the busbar and the poles, then the meters."""
        topology, count = self.topology, len(self.meters)
        nodes = self._make("input", "node", self._first_meter + count)
        nodes["id"] = np.arange(len(nodes))
        line_v = topology.nominal_v * np.sqrt(3.0)
        nodes["u_rated"] = line_v
        nodes["u_rated"][0] = TRANSFORMERS[topology.transformer].primary_v
        lines = self._lines(len(nodes))
        next_id = len(nodes) + len(lines)
        transformer = self._transformer(next_id, line_v)
        source = self._make("input", "source", 1)
        self._source_id = next_id + 1
        source["id"], source["node"], source["status"], source["u_ref"] = self._source_id, 0, 1, 1.0
        source["sk"] = _SHORT_CIRCUIT_VA
        loads = self._loads
        loads["id"] = next_id + 2 + np.arange(count)
        loads["node"] = self._first_meter + np.arange(count)
        loads["status"], loads["type"] = 1, self._library.LoadGenType.const_power
        loads["p_specified"] = loads["q_specified"] = 0.0
        return {"node": nodes, "line": lines, "transformer": transformer, "source": source, "asym_load": loads}

    def _lines(self, first_id: int) -> Any:
        topology = self.topology
        drops = [
            (self._place[connection.meter], self._first_meter + index, topology.drop_conductor, topology.drop_m)
            for index, connection in enumerate(topology.connections)
        ]
        spans = [
            (self._place[span.start], self._place[span.end], span.conductor, span.length_m) for span in topology.spans
        ]
        rows = spans + drops
        lines = self._make("input", "line", len(rows))
        lines["id"] = first_id + np.arange(len(rows))
        lines["from_node"] = [row[0] for row in rows]
        lines["to_node"] = [row[1] for row in rows]
        lines["from_status"] = lines["to_status"] = 1
        kilometres = np.array([row[3] for row in rows]) / 1000.0
        lines["r1"] = np.array([CONDUCTORS[row[2]].resistance_ohm_per_km for row in rows]) * kilometres
        lines["x1"] = np.array([CONDUCTORS[row[2]].reactance_ohm_per_km for row in rows]) * kilometres
        lines["r0"], lines["x0"] = 4.0 * lines["r1"], 4.0 * lines["x1"]
        lines["c1"] = lines["c0"] = lines["tan1"] = lines["tan0"] = 0.0
        lines["i_n"] = [CONDUCTORS[row[2]].rated_a for row in rows]
        return lines

    def _transformer(self, number: int, secondary_v: float) -> Any:
        kind, winding = TRANSFORMERS[self.topology.transformer], self._library.WindingType
        made = self._make("input", "transformer", 1)
        made["id"], made["from_node"], made["to_node"] = number, 0, 1
        made["from_status"] = made["to_status"] = 1
        made["u1"], made["u2"], made["sn"] = kind.primary_v, secondary_v, kind.rated_va
        made["uk"], made["pk"] = kind.impedance_pu, kind.load_loss_w
        made["i0"], made["p0"] = max(0.01, kind.no_load_loss_w / kind.rated_va), kind.no_load_loss_w
        made["winding_from"], made["winding_to"], made["clock"] = winding.delta, winding.wye_n, _CLOCK_DYN11
        made["tap_side"] = made["tap_pos"] = made["tap_min"] = made["tap_max"] = made["tap_nom"] = 0
        made["tap_size"] = 0.0
        return made
