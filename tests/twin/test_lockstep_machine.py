"""The machine in lock-step: the same daemon as ever, a switch that stops its time, and an end that nobody asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from images.dcu.workshop import file_digest, missing_programs
from twin.clock.clocks import ClockKind
from twin.errors import RigError
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.lockstep.dcu import LockstepDcu, prepare
from twin.rigs.options import DcuKind, RunOptions
from twin.rigs.rig import open_rig
from twin.rigs.run import make_clock
from twin.scenarios.loading import load_scenario

OPTIONS = RunOptions(seed=3, clock=ClockKind.VIRTUAL, dcu=DcuKind.QEMU)


async def _uptime_s(dcu: LockstepDcu) -> float:
    return float((await dcu.shell("cut -d' ' -f1 /proc/uptime")).strip())


def test_the_machine_runs_pauses_and_is_missed_when_it_panics(tmp_path: Path) -> None:
    missing = missing_programs()
    if missing:
        pytest.skip(f"the emulated concentrator needs {', '.join(missing)}; make system")
    loaded = load_scenario("village-day", None)
    clock, folder = make_clock(loaded, OPTIONS), RunFolder(tmp_path)

    async def main() -> list[str]:
        with (tmp_path / "events.jsonl").open("w", encoding="utf-8") as file:
            async with open_rig(loaded, OPTIONS, clock, folder, EventTrace(file, clock)) as rig:
                dcu = rig.dcu
                assert isinstance(dcu, LockstepDcu)
                assert clock.now() == 0.0
                assert (await dcu.shell("uname -m")).strip() == "armv7l"
                digest = (await dcu.shell("sha256sum /tmp/work/daemon")).split()[0]
                assert digest == file_digest(prepare(print).image.daemon)
                assert (await dcu.status())["state"] == "running"
                before_s, run_s = await _uptime_s(dcu), clock.now()
                await dcu.pause()
                await asyncio.sleep(100.0)
                await dcu.resume()
                passed_s, run_s = await _uptime_s(dcu) - before_s, clock.now() - run_s
                assert run_s - passed_s == pytest.approx(100.0, abs=0.1)
                with pytest.raises(RigError, match="on the console"):
                    await dcu.shell("echo c > /proc/sysrq-trigger")
                assert not dcu.alive
                return rig.unhandled

    unhandled = clock.run(main())
    assert len(unhandled) == 1
    assert "ended by itself" in unhandled[0]
    assert "Kernel panic" in unhandled[0]
    assert "Kernel panic" in (tmp_path / "dcu-console.log").read_text()
