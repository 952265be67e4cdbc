"""How many days of a metering system pass in a minute: `village-month`, from the radio to the database."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import Row
from twin.rigs.folder import RunFolder
from twin.rigs.options import RunOptions
from twin.rigs.run import run_scenario
from twin.scenarios.loading import load_scenario

METERS = 100
DAYS = 1


def run() -> list[Row]:
    """Simulated days per minute of one core, meters joining and registering included."""
    loaded = load_scenario("village-month", [f"meters={METERS}", f"days={DAYS}"])
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.process_time()
        report = run_scenario(
            loaded, RunOptions(seed=1), RunFolder(Path(folder) / "run"), "bench", lambda title, result: None
        )
        used_s = time.process_time() - began_s
    days = report.simulated_s / 86_400
    return [
        Row(f"simulated days, {METERS} meters", days / used_s * 60, "days/min"),
        Row(f"a day of {METERS} meters", used_s / days, "s"),
    ]
