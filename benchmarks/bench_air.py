"""The air with real MACs under a convergecast load, for a minute: rates of events, transmissions, receptions."""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks import Row
from twin.air.convergecast import Convergecast, Load
from twin.clock.seeds import Seeds
from twin.clock.virtual import VirtualLoop

LOAD = replace(Load.race(100), last_s=58.0, end_s=60.0)


def run() -> list[Row]:
    loop = VirtualLoop()
    cast = Convergecast(loop, Seeds(1), LOAD)
    loop.call_at(LOAD.end_s, loop.stop)
    started = time.perf_counter()
    loop.run_forever()
    wall_s = time.perf_counter() - started
    loop.close()
    done = cast.outcome()
    transmissions = done.data_transmissions + done.acknowledgements
    return [
        Row("simulated over wall time", LOAD.end_s / wall_s, "times", f"{LOAD.nodes} nodes, {LOAD.end_s:.0f} s"),
        Row("loop events", loop.events_run / wall_s, "1/s"),
        Row("transmissions", transmissions / wall_s, "1/s", f"{transmissions} in all, with ACKs"),
        Row("receptions", done.receptions / wall_s, "1/s", f"{done.receptions} in all"),
        Row("datagrams delivered", 100.0 * done.delivery_ratio, "%", f"{done.datagrams} offered"),
    ]
