"""Power cuts at chosen instants of the guest's own time: each of them can be had again, with the same outcome."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from pathlib import Path

import pytest

from images.dcu.workshop import missing_programs
from twin.clock.clocks import ClockKind
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.lockstep.dcu import LockstepDcu
from twin.rigs.options import DcuKind, RunOptions
from twin.rigs.rig import Rig, open_rig
from twin.rigs.run import make_clock
from twin.scenarios.loading import load_scenario

SCENARIO = "village-day"
"""Its six meters join and register in the first quarter of a minute: the concentrator writes its storage all along."""
FIRST_S, LAST_S = 2.0, 14.0
OPTIONS = RunOptions(seed=7, clock=ClockKind.VIRTUAL, dcu=DcuKind.QEMU)


def _run_with_cut(folder: Path, cut_at_s: float, *, boots: bool) -> dict[str, object]:
    """Cut the power at that instant of the run; what the flash chip holds then, and, if it `boots`, what follows."""
    loaded = load_scenario(SCENARIO, None)
    clock, run_folder = make_clock(loaded, OPTIONS), RunFolder(folder)
    with (folder / "events.jsonl").open("w", encoding="utf-8") as file:
        trace = EventTrace(file, clock)

        async def main() -> dict[str, object]:
            async with open_rig(loaded, OPTIONS, clock, run_folder, trace) as rig:
                await asyncio.sleep(cut_at_s - clock.loop.time())
                rig.dcu.cut_power()
                assert isinstance(rig.dcu, LockstepDcu)
                outcome: dict[str, object] = {"flash": hashlib.sha256(rig.dcu.card.read_bytes()).hexdigest()}
                if boots:
                    outcome |= await _after_boot(rig, rig.dcu)
                return outcome

        outcome = clock.run(main())
    return outcome | {"events": hashlib.sha256((folder / "events.jsonl").read_bytes()).hexdigest()}


async def _after_boot(rig: Rig, dcu: LockstepDcu) -> dict[str, object]:
    """Power comes back ten seconds later: everybody registers, once, and is read."""
    await asyncio.sleep(10.0)
    dcu.start()
    await dcu.ready()
    ready_s = rig.clock.now()
    log = await dcu.shell("dmesg; cat /proc/mounts", timeout_s=120.0)
    serials = [meter.serial for meter in rig.meters.values()]

    def registered() -> int:
        return sum(row.state == "registered" for row in rig.hes.meters())

    await rig.until(lambda: registered() == len(serials), timeout_s=600.0)
    readings = [await rig.hes.read_meter(serial) for serial in serials]
    return {
        "ready_s": ready_s,
        "registered": registered(),
        "rows": len(rig.hes.meters()),
        "readings": [reading.status for reading in readings],
        "flash errors": [line for line in log.splitlines() if "UBIFS error" in line or "UBI error" in line],
        "opt": next(line for line in log.splitlines() if " /opt " in line),
        "ended_s": rig.clock.now(),
    }


def _check(outcome: dict[str, object]) -> None:
    assert outcome["registered"] == outcome["rows"] == 6
    assert outcome["readings"] == ["ok"] * 6
    assert outcome["flash errors"] == []
    assert " ubifs rw" in str(outcome["opt"])


@pytest.fixture(autouse=True)
def _needs_an_emulator() -> None:
    missing = missing_programs()
    if missing:
        pytest.skip(f"the emulated concentrator needs {', '.join(missing)}; make system")


@pytest.mark.requirement("UC-IV.2", "VEND-3")
def test_two_power_cuts_can_be_had_again(tmp_path: Path) -> None:
    first = _run_with_cut(tmp_path / "first", 6.25, boots=True)
    _check(first)
    console = (tmp_path / "first" / "dcu-console.log").read_text().splitlines()
    boots = next(number for number, line in enumerate(console) if "boots from cold" in line)
    assert float(console[boots][1:15]) == pytest.approx(16.25)
    assert any("file systems and agent are up" in line for line in console[boots:])
    assert _run_with_cut(tmp_path / "first-again", 6.25, boots=False)["flash"] == first["flash"]
    second = _run_with_cut(tmp_path / "second", 9.5, boots=False)
    assert second == _run_with_cut(tmp_path / "again", 9.5, boots=False)
    assert second["flash"] != first["flash"]


@pytest.mark.soak
@pytest.mark.requirement("UC-IV.2", "VEND-3")
def test_twenty_power_cuts_can_be_had_again(tmp_path: Path) -> None:
    rng = random.Random(20)
    outcomes = []
    for number in range(20):
        cut_at_s = round(rng.uniform(FIRST_S, LAST_S), 6)
        outcome = _run_with_cut(tmp_path / f"cut-{number}", cut_at_s, boots=True)
        _check(outcome)
        assert outcome == _run_with_cut(tmp_path / f"again-{number}", cut_at_s, boots=True), cut_at_s
        outcomes.append(json.dumps(outcome, sort_keys=True))
    assert len(set(outcomes)) == len(outcomes), "cuts at different instants have different outcomes"
