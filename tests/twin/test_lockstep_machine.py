"""The machine in lock-step: the same daemon as ever, its switches, and an end that nobody asked for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from images.dcu.workshop import file_digest, missing_programs
from twin.clock.clocks import ClockKind
from twin.errors import RigError
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.lockstep.dcu import LockstepDcu, prepare
from twin.rigs.lockstep.node import GuestNode
from twin.rigs.options import DcuKind, RunOptions
from twin.rigs.rig import Rig, open_rig
from twin.rigs.run import make_clock
from twin.scenarios.loading import load_scenario

OPTIONS = RunOptions(seed=3, clock=ClockKind.VIRTUAL, dcu=DcuKind.QEMU)
HANGS_AFTER_S = 2.0
"""Of the host's time, where a guest is made to hang."""


@pytest.fixture(autouse=True)
def _needs_an_emulator() -> None:
    missing = missing_programs()
    if missing:
        pytest.skip(f"the emulated concentrator needs {', '.join(missing)}; make system")


def _run(folder: Path, use: Callable[[Rig, LockstepDcu], Awaitable[None]]) -> list[str]:
    """What nobody caught in a run of the village in which `use` has the machine from the start on."""
    loaded = load_scenario("village-day", None)
    clock, run_folder = make_clock(loaded, OPTIONS), RunFolder(folder)

    async def main() -> list[str]:
        with (folder / "events.jsonl").open("w", encoding="utf-8") as file:
            async with open_rig(loaded, OPTIONS, clock, run_folder, EventTrace(file, clock)) as rig:
                assert isinstance(rig.dcu, LockstepDcu)
                await use(rig, rig.dcu)
                return rig.unhandled

    return clock.run(main())


async def _uptime_s(dcu: LockstepDcu) -> float:
    return float((await dcu.shell("cut -d' ' -f1 /proc/uptime")).strip())


async def _ends(dcu: LockstepDcu, command: str) -> None:
    """The machine does not live through that command, and whoever asked for it is told so."""
    with pytest.raises(RigError, match="on the console"):
        await dcu.shell(command)
    assert not dcu.alive


def test_the_machine_runs_pauses_and_is_missed_when_it_panics(tmp_path: Path) -> None:
    async def use(rig: Rig, dcu: LockstepDcu) -> None:
        assert rig.clock.now() == 0.0
        assert (await dcu.shell("uname -m")).strip() == "armv7l"
        digest = (await dcu.shell("sha256sum /tmp/work/daemon")).split()[0]
        assert digest == file_digest(prepare(print).image.daemon)
        assert (await dcu.status())["state"] == "running"
        before_s, run_s = await _uptime_s(dcu), rig.clock.now()
        await dcu.pause()
        await asyncio.sleep(100.0)
        await dcu.resume()
        passed_s, run_s = await _uptime_s(dcu) - before_s, rig.clock.now() - run_s
        assert run_s - passed_s == pytest.approx(100.0, abs=0.1)
        await _ends(dcu, "echo c > /proc/sysrq-trigger")

    (unhandled,) = _run(tmp_path, use)
    assert "ended by itself" in unhandled
    assert "Kernel panic" in unhandled
    assert "Kernel panic" in (tmp_path / "dcu-console.log").read_text()


@pytest.mark.requirement("VEND-3")
def test_the_reset_button_boots_from_cold_with_the_radio_left_on(tmp_path: Path) -> None:
    async def use(rig: Rig, dcu: LockstepDcu) -> None:
        assert await rig.until(lambda: len(rig.hes.meters()) == len(rig.meters), timeout_s=120.0)
        await dcu.shell("echo kept > /opt/kept; sync; echo lost > /tmp/lost")
        before_s = rig.clock.now()
        await dcu.reset()
        assert await _uptime_s(dcu) < rig.clock.now() - before_s < 60.0
        assert (await dcu.status())["state"] == "running"
        assert (await dcu.shell("cat /opt/kept; ls /tmp/lost 2>/dev/null; true")).split() == ["kept"]
        serial = next(iter(rig.meters.values())).serial
        await asyncio.sleep(60.0)
        assert (await rig.hes.read_meter(serial)).status == "ok"

    assert _run(tmp_path, use) == []
    console = (tmp_path / "dcu-console.log").read_text()
    assert console.count("power on: boots from cold") == 1
    assert console.count("file systems and agent are up") == 1
    events = (tmp_path / "events.jsonl").read_text()
    assert '"air-kill", "node": "DCU"' not in events


def test_a_machine_that_powers_off_is_missed_at_once(tmp_path: Path) -> None:
    async def use(rig: Rig, dcu: LockstepDcu) -> None:
        await _ends(dcu, "poweroff -f")

    (unhandled,) = _run(tmp_path, use)
    assert "ended by itself (status 0)" in unhandled
    assert "the console's end" in unhandled


def _stop_emulator() -> None:
    """Of the processes that this one has started, the emulator gets no time from now on."""
    children = Path("/proc/thread-self/children").read_text(encoding="ascii").split()
    (emulator,) = [pid for pid in children if "qemu" in Path(f"/proc/{pid}/comm").read_text(encoding="ascii")]
    os.kill(int(emulator), signal.SIGSTOP)


@pytest.mark.parametrize("how", ["its agent does nothing", "its emulator does nothing"])
def test_a_machine_that_hangs_is_found_by_the_host_s_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    nodes: list[GuestNode] = []

    def made(*arguments: Any, **settings: Any) -> GuestNode:
        nodes.append(GuestNode(*arguments, **settings))
        return nodes[-1]

    monkeypatch.setattr("twin.rigs.lockstep.dcu.GuestNode", made)

    async def use(rig: Rig, dcu: LockstepDcu) -> None:
        assert (await dcu.shell("echo here")).strip() == "here"
        nodes[0].wall_limit_s = HANGS_AFTER_S
        if how.startswith("its emulator"):
            _stop_emulator()
        await _ends(dcu, "kill -STOP $(pidof lockstep)")

    (unhandled,) = _run(tmp_path, use)
    assert f"did not answer within {HANGS_AFTER_S:g} s of the host's time: it hangs" in unhandled
    assert "the console's end" in unhandled
