"""The emulated concentrator: how long until its daemon answers, from cold and from the snapshot. Medians of 3."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import Row
from images.dcu.workshop import BuildError, missing_programs
from twin.rigs.qemu.dcu import Emulated, prepare
from twin.rigs.qemu.machine import Machine, MachineOptions, new_card
from twin.rigs.qemu.snapshot import BOOT_TIMEOUT_S, copy_card

_RUNS = 3


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
    return [
        Row("image and snapshot", prepared_s, "s", "nothing to do if the cache has them"),
        Row("cold boot to daemon ready", statistics.median(cold), "s", _spread(cold)),
        Row("snapshot to daemon ready", statistics.median(warm), "s", _spread(warm)),
    ]


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
