"""The emulated concentrator: how long until its daemon answers, from cold and from the snapshot, and until a first
reading comes back: over a mesh that is joined already, and with the meter's join. Medians of 3.
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
from twin.rigs.qemu.dcu import Emulated, QemuDcu, prepare
from twin.rigs.qemu.machine import Machine, MachineOptions, new_card
from twin.rigs.qemu.snapshot import BOOT_TIMEOUT_S, copy_card
from twin.rigs.rig import Rig
from twin.rigs.sync import open_sync_rig

_RUNS = 3
_ASK_AGAIN_S = 0.1
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
        joined, fresh = _first_readings_s(Path(folder)) if find_mosquitto() else ([], [])
    rows = [
        Row("image and snapshot", prepared_s, "s", "nothing to do if the cache has them"),
        Row("cold boot to daemon ready", statistics.median(cold), "s", _spread(cold)),
        Row("snapshot to daemon ready", statistics.median(warm), "s", _spread(warm)),
    ]
    if not joined:
        return [*rows, Row("first reading not run", 0.0, "", "missing: mosquitto")]
    return [
        *rows,
        Row(
            "snapshot to first reading, mesh joined",
            statistics.median(joined),
            "s",
            f"{_spread(joined)}; a board without memory takes the concentrator's place: provisioning, TLS, routes, "
            "registration, reading",
        ),
        Row(
            "snapshot to first reading, from nothing",
            statistics.median(fresh),
            "s",
            f"{_spread(fresh)}; the same with the whole rig's start and the meter's join",
        ),
    ]


def _first_readings_s(folder: Path) -> tuple[list[float], list[float]]:
    """Over a mesh that is joined, and from nothing: the meter has power as soon as the first daemon runs."""
    scenario = folder / "one-meter.yaml"
    scenario.write_text(_SCENARIO, encoding="utf-8")
    options = RunOptions(seed=1, clock=ClockKind.REAL, broker=BrokerKind.MOSQUITTO, dcu=DcuKind.QEMU)
    joined, fresh = [], []
    for number in range(_RUNS):
        started = time.perf_counter()
        with open_sync_rig(str(scenario), folder / f"run-{number}", options) as rig:
            rig.registered(timeout_s=BOOT_TIMEOUT_S)
            rig.run(_first_reading(rig.rig))
            fresh.append(time.perf_counter() - started)
            joined.append(rig.run(_replaced_reading_s(rig.rig)))
    return joined, fresh


async def _first_reading(rig: Rig) -> None:
    """As an operator who asks until there is an answer: a concentrator without memory knows no meter at first."""
    async with asyncio.timeout(BOOT_TIMEOUT_S):
        while True:
            result = await rig.hes.read_meter(rig.meter("A").serial, timeout_s=BOOT_TIMEOUT_S)
            if result.is_ok:
                return
            await asyncio.sleep(_ASK_AGAIN_S)


async def _replaced_reading_s(rig: Rig) -> float:
    """From the power switch of another board, whose snapshot knows nothing, to the answer; the meter runs on."""
    if not isinstance(rig.dcu, QemuDcu):
        raise RigError("the concentrator of this rig is not emulated")
    await rig.dcu.replace()
    started = time.perf_counter()
    await _first_reading(rig)
    return time.perf_counter() - started


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
