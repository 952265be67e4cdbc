"""How the whole system grows: `town-day` with 100, 300 and 1,000 meters, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import Row
from twin.rigs.folder import RunFolder
from twin.rigs.options import RunOptions
from twin.rigs.run import run_scenario
from twin.scenarios.loading import load_scenario

SIZES = (100, 300, 1000)
_HOURS_S = 3600.0


@dataclass(frozen=True, slots=True)
class Day:
    """What one run took and did. `meter_hops` is the sum over meters of their hops to the concentrator."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    simulated_s: float
    loop_events: int
    transmissions: int
    meter_hops: int
    verdict: str


def play(nodes: int) -> Day:
    loaded = load_scenario("town-day", [f"nodes={nodes}"])
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        report = run_scenario(
            loaded, RunOptions(seed=1), RunFolder(Path(folder) / "run"), "bench", lambda title, result: None
        )
    counted = report.statistics
    return Day(
        time.perf_counter() - began_s,
        time.process_time() - began_cpu_s,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        report.simulated_s,
        counted["loop_events"],
        counted["transmissions"],
        sum(int(hops) * count for hops, count in counted["meters_by_hops"].items()),
        str(report.verdict),
    )


def run() -> list[Row]:
    rows: list[Row] = []
    first: float | None = None
    for nodes in SIZES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            day = pool.apply(play, (nodes,))
        per_meter_hop_s = day.cpu_s / day.meter_hops
        first = first or per_meter_hop_s
        rows += [
            Row(f"{nodes} meters, a day", day.wall_s, "s", f"{day.simulated_s / _HOURS_S:.1f} h, {day.verdict}"),
            Row(f"{nodes} meters, CPU", day.cpu_s, "s", f"{day.transmissions} frames, {day.meter_hops} meter-hops"),
            Row(f"{nodes} meters, loop events", day.loop_events / day.cpu_s, "1/s", f"{day.loop_events} in all"),
            Row(f"{nodes} meters, memory", day.peak_mib, "MiB", "peak of the process"),
            Row(f"{nodes} meters, growth", per_meter_hop_s / first, "times", "CPU a meter-hop over that at 100"),
        ]
    return rows
