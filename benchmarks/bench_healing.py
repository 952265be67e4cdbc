"""How long a mesh of 100 meters takes to heal: `mesh-healing` over 20 seeds, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from pathlib import Path

from benchmarks import Row
from twin.rigs.folder import RunFolder
from twin.rigs.options import RunOptions
from twin.rigs.run import run_scenario
from twin.scenarios.loading import load_scenario

SEEDS = range(1, 21)
_SETTINGS = ["relays=5", "readings=100"]
_PROCESSES = 2


def heal(seed: int) -> tuple[str, dict[str, float]]:
    """The run's verdict, and all its measurements in seconds by `step: name`."""
    loaded = load_scenario("mesh-healing", _SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        report = run_scenario(
            loaded, RunOptions(seed=seed), RunFolder(Path(folder) / "run"), "bench", lambda title, result: None
        )
    measured = {
        f"{case.title}: {item.name}": float(item.value)
        for case in report.cases
        for item in case.attempts[-1].measurements
        if item.unit == "s" and isinstance(item.value, int | float)
    }
    return str(report.verdict), measured


def run() -> list[Row]:
    with multiprocessing.get_context("spawn").Pool(_PROCESSES, maxtasksperchild=1) as pool:
        runs = pool.map(heal, SEEDS, chunksize=1)
    verdicts = [verdict for verdict, _ in runs]
    rows = [Row("runs that passed", verdicts.count("PASS"), "", f"of {len(runs)} seeds")]
    for name in runs[0][1]:
        values = [measured[name] for _, measured in runs if name in measured]
        spread = f"median of {len(values)} seeds, {min(values):.1f} to {max(values):.1f}"
        rows.append(Row(name, statistics.median(values), "s", spread))
    return rows
