"""The emulated concentrator: how long until its daemon answers, from cold and from the snapshot, and until a first
reading comes back. Medians of 3.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import Row
from images.dcu.workshop import BuildError, missing_programs
from twin.brokers.mosquitto import find_mosquitto
from twin.clock.clocks import ClockKind
from twin.errors import RigError
from twin.rigs.options import BrokerKind, DcuKind, RunOptions
from twin.rigs.qemu.dcu import Emulated, prepare
from twin.rigs.qemu.machine import Machine, MachineOptions, new_card
from twin.rigs.qemu.snapshot import BOOT_TIMEOUT_S, copy_card
from twin.rigs.sync import open_sync_rig

_RUNS = 3
_SCENARIO = """\
scenario: one-meter
title: One meter beside the concentrator
about: For a benchmark.
start: 2026-03-02T16:45:00Z
timers: bench
dcu: {id: IHM4000-0001, position: [0, 0]}
capture: false
meters:
  - {name: A, serial: IHM5000001, position: [150, 0]}
script:
  - {step: join, title: not played}
"""


def run() -> list[Row]:
    missing = missing_programs()
    if missing:
        return [Row("not run", 0.0, "", f"missing: {', '.join(missing)}")]
    started = time.perf_counter()
    try:
        emulated = prepare(lambda what: None)
    except BuildError as error:
        return [Row("not run", 0.0, "", str(error).splitlines()[0])]
    prepared_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        cold = [asyncio.run(_boot_s(emulated, Path(folder), is_cold=True)) for _ in range(_RUNS)]
        warm = [asyncio.run(_boot_s(emulated, Path(folder), is_cold=False)) for _ in range(_RUNS)]
        readings = [_first_reading_s(Path(folder) / str(number)) for number in range(_RUNS)] if find_mosquitto() else []
    rows = [
        Row("image and snapshot", prepared_s, "s", "nothing to do if the cache has them"),
        Row("cold boot to daemon ready", statistics.median(cold), "s", _spread(cold)),
        Row("snapshot to daemon ready", statistics.median(warm), "s", _spread(warm)),
    ]
    if not readings:
        return [*rows, Row("first reading not run", 0.0, "", "missing: mosquitto")]
    note = f"{_spread(readings)}; with TLS, provisioning, the meter's join and its registration"
    return [*rows, Row("snapshot to first reading", statistics.median(readings), "s", note)]


def _first_reading_s(folder: Path) -> float:
    """From the power switch to the operator's answer. The meter has power as soon as the daemon runs."""
    folder.mkdir()
    scenario = folder / "one-meter.yaml"
    scenario.write_text(_SCENARIO, encoding="utf-8")
    options = RunOptions(seed=1, clock=ClockKind.REAL, broker=BrokerKind.MOSQUITTO, dcu=DcuKind.QEMU)
    started = time.perf_counter()
    with open_sync_rig(str(scenario), folder / "run", options) as rig:
        rig.registered(timeout_s=BOOT_TIMEOUT_S)
        result = rig.read("A", timeout_s=BOOT_TIMEOUT_S)
        elapsed_s = time.perf_counter() - started
    if not result.is_ok:
        raise RigError(f"the reading ended with {result.status}: {result.detail}")
    return elapsed_s


def _spread(seconds: list[float]) -> str:
    return f"median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f} s"


async def _boot_s(emulated: Emulated, folder: Path, *, is_cold: bool) -> float:
    card = folder / "card.qcow2"
    if is_cold:
        new_card(emulated.image, card)
    else:
        copy_card(emulated.ready, card)
    machine = Machine(MachineOptions(emulated.image, card, folder))
    started = time.perf_counter()
    try:
        await machine.power_on(snapshot=not is_cold)
        await machine.maintenance.wait_until_ready(timeout_s=BOOT_TIMEOUT_S)
        return time.perf_counter() - started
    finally:
        await machine.power_off()
