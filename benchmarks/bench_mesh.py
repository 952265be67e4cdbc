"""The race: the convergecast load that other simulators were measured on, at 100 to 1,000 nodes.

Times of others for the same work: ns-3 3.37 (C++) 2.2-4.4 s at 100, 11-16 s at 200, 60 s at 400, over 600 s at 1,000;
the 6TiSCH simulator (Python) 174-204 s at 100.
"""

from __future__ import annotations

import time

from benchmarks import Row
from twin.air.convergecast import Convergecast, Load, Outcome
from twin.clock.seeds import Seeds
from twin.clock.virtual import VirtualLoop

SIZES = (100, 200, 400, 1000)


def race(nodes: int, seed: int = 1) -> tuple[Outcome, int, float]:
    """What was done, loop events, and the wall time in seconds, set-up included."""
    started = time.perf_counter()
    loop = VirtualLoop()
    cast = Convergecast(loop, Seeds(seed), Load.race(nodes))
    loop.call_at(cast.load.end_s, loop.stop)
    loop.run_forever()
    loop.close()
    return cast.outcome(), loop.events_run, time.perf_counter() - started


def run() -> list[Row]:
    rows: list[Row] = []
    first_s_per_reception: float | None = None
    for nodes in SIZES:
        outcome, events, wall_s = race(nodes)
        s_per_reception = wall_s / outcome.receptions
        first_s_per_reception = first_s_per_reception or s_per_reception
        work = (
            f"{outcome.datagrams} datagrams, {outcome.delivery_ratio:.4f} delivered, hops {outcome.mean_hops:.3f}, "
            f"at most {outcome.most_hops}; {outcome.data_transmissions} data frames, {outcome.acknowledgements} ACKs"
        )
        rows += [
            Row(f"{nodes} nodes, 600 s", wall_s, "s", work),
            Row(f"{nodes} nodes, receptions", outcome.receptions, "", f"{events} loop events"),
            Row(
                f"{nodes} nodes, growth", s_per_reception / first_s_per_reception, "times", "time a reception over 100"
            ),
        ]
    return rows
