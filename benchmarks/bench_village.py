"""The village as a whole command: wall time, and simulated seconds per second."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import Row

_RUNS = (("the script", ()), ("with --set hours=24", ("--set", "hours=24")), ("with --air scapy", ("--air", "scapy")))


def run() -> list[Row]:
    rows = []
    for name, arguments in _RUNS:
        wall_s, simulated_s, verdict = _village(*arguments)
        rows.append(Row(f"village, {name}: wall time", wall_s, "s", f"{verdict}; start of Python included"))
        rows.append(Row(f"village, {name}: simulated over wall time", simulated_s / wall_s, "times"))
    return rows


def _village(*arguments: str) -> tuple[float, float, str]:
    """Wall time of the whole command, simulated time, verdict."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "twin", "run", "village", "--seed", "7", "--out", folder, *arguments],
            check=False,
            capture_output=True,
            timeout=600,
        )
        wall_s = time.perf_counter() - started
        report = json.loads((Path(folder) / "report.json").read_text())
    return wall_s, float(report["simulated_s"]), str(report["verdict"])
