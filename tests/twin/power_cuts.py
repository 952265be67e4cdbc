"""Power cuts of the emulated concentrator under load, judged by what the head-end has against what the meters hold.

Three meters with days of rows on their flash; an operator who reads them, by request and by range; local midnight just
gone, so that the daily collection begins while the power is being cut; and updates of the concentrator's program.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Coroutine
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from aged_meters import serve
from dcu_guest import emulated_or_skip
from small_update import small_update

from dcu.config import CollectionPolicy
from protocols.headend.bulk import BundleStatus
from twin.brokers.mosquitto import find_mosquitto
from twin.clock.clocks import ClockKind
from twin.errors import RigError
from twin.rigs.flash_rows import Comparison, compare
from twin.rigs.options import BrokerKind, DcuKind, RunOptions
from twin.rigs.qemu.dcu import QemuDcu
from twin.rigs.sync import SyncRig, open_sync_rig

PATIENCE_S = 600.0
"""For everything that has to happen on a loaded machine."""
RANGE_TIMEOUT_S = 180.0
HISTORY_HOURS = 96.0
MIDNIGHT_IN_S = 75.0
"""The day's collection is due this long after the run's beginning, or up to a minute later."""
_DAY_S = 86_400.0
_NEVER_S = 1e8
_TROUBLE = re.compile(r"UBIFS (?:error|warning).*|ubi\d (?:error|warning).*|corrupted PEBs: [1-9].*")
_SCENARIO = """\
scenario: power-cuts
title: Power cuts of the concentrator under load
about: Three meters with a past, and a concentrator that loses its power again and again.
start: 2026-03-02T16:45:00Z
timers: bench
dcu: {{id: IHM4000-0001, position: [0, 0]}}
capture: false
meters:
  - {{name: A, serial: IHM5000001, position: [150, 0], model: {model}, installed_at_s: {never}}}
  - {{name: B, serial: IHM5000002, position: [-150, 0], model: {model}, installed_at_s: {never}}}
  - {{name: C, serial: IHM5000003, position: [0, 150], model: {model}, installed_at_s: {never}}}
script:
  - {{step: join, title: not played}}
"""


def _files(folder: Path, utc_s: float) -> tuple[Path, float]:
    """The scenario's file, and the midnight (UTC) whose collection becomes due soon: the meters live where it is."""
    due_s = (utc_s + MIDNIGHT_IN_S) // 60 * 60 + 60
    midnight_s = due_s - CollectionPolicy().bundle_after_s
    west_min = int(midnight_s % _DAY_S // 60)
    if west_min > 840:
        west_min -= 1440
    text = resources.files("meters.models").joinpath("ihm5000-1p.yaml").read_text(encoding="utf-8")
    model, count = re.subn(r"(?m)^time_zone_deviation_min: -?\d+", f"time_zone_deviation_min: {west_min}", text)
    assert count == 1
    (folder / "model.yaml").write_text(model, encoding="utf-8")
    scenario = folder / "power-cuts.yaml"
    scenario.write_text(_SCENARIO.format(model=folder / "model.yaml", never=_NEVER_S), encoding="utf-8")
    return scenario, midnight_s


class Operator:
    """Reads every meter, by request and by range, again and again, until `end`."""

    def __init__(self, rig: SyncRig, start_s: float, end_s: float) -> None:
        self._rig = rig.rig
        self._range = (start_s, end_s)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ended = False
        self.statuses: list[str] = []
        self.answered = 0

    def start(self) -> None:
        for serial in [meter.serial for meter in self._rig.meters.values()]:
            for flow in (self._read(serial), self._read_range(serial)):
                task = self._rig.clock.loop.create_task(flow)
                self._tasks.add(task)

    async def end(self) -> None:
        self._is_ended = True
        await asyncio.gather(*self._tasks)

    async def _read(self, serial: str) -> None:
        while not self._is_ended:
            result = await self._rig.hes.read_meter(serial, timeout_s=60.0)
            self.answered += result.is_ok
            await asyncio.sleep(1.0)

    async def _read_range(self, serial: str) -> None:
        while not self._is_ended:
            await asyncio.sleep(1.0)
            result = await self._rig.hes.read_profile(serial, "load", *self._range, timeout_s=RANGE_TIMEOUT_S)
            self.statuses.append(f"{result.status} {result.detail}".strip())


class Cutter:
    """Cuts the power at seeded moments of three kinds of work, and brings the concentrator back."""

    def __init__(self, rig: SyncRig, operator: Operator, rng: random.Random) -> None:
        assert isinstance(rig.rig.dcu, QemuDcu)
        self._rig = rig
        self._dcu = rig.rig.dcu
        self._operator = operator
        self._archive = small_update()
        self._rng = rng

    def _run(self, flow: Coroutine[Any, Any, Any]) -> Any:
        return self._rig.run(flow)

    def under_readings(self) -> None:
        """At a moment while answers come in."""
        before = self._operator.answered + len(self._operator.statuses)
        busy = self._rig.until(
            lambda: self._operator.answered + len(self._operator.statuses) > before, timeout_s=PATIENCE_S
        )
        assert busy, "the operator gets no answers"
        self._rig.wait(self._rng.uniform(0.0, 6.0))
        self._cut()

    def under_collection(self, due_s: float) -> None:
        """At a moment from when the day's collection is due; meters are pulled, then the bundle is sent in parts."""
        self._rig.wait(max(0.0, due_s - time.time()))
        self._rig.wait(self._rng.uniform(0.0, 25.0))
        self._cut()

    def under_update(self) -> None:
        """At a moment between the first piece of an archive and the start of the new program."""

        async def update() -> None:
            await self._dcu.update(self._archive)
            await self._dcu.restart()

        async def until_cut() -> None:
            task = asyncio.ensure_future(update())
            await asyncio.wait([task], timeout=self._rng.uniform(0.0, 12.0))
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and isinstance(task.exception(), RigError):
                assert "not been confirmed" in str(task.exception()), task.exception()

        self._run(until_cut())
        self._cut()

    def whole_update(self) -> str:
        """One more update, undisturbed; gives the state of the program after it has reached the head-end."""
        self._run(self._confirmed())
        slot = self._run(self._dcu.update(self._archive))
        self._run(self._dcu.restart())
        state = self._run(self._confirmed())
        assert state["slot"] == slot
        return str(state["status"])

    async def _confirmed(self) -> dict[str, Any]:
        """Until no update is on trial any more."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status = await self._dcu.status()
                if status["program"]["status"] == "confirmed":
                    program: dict[str, Any] = status["program"]
                    return program
                await asyncio.sleep(1.0)

    def _cut(self) -> None:
        self._dcu.cut_power()
        self._dcu.start()
        self._run(self._dcu.ready())  # boots, whatever was being written
        self.look_at_flash()
        status = self._run(self._dcu.status())
        assert status["state"] == "running", status

    def look_at_flash(self) -> None:
        log = self._run(self._dcu.shell("dmesg", timeout_s=120))
        assert "UBIFS (ubi1:0): UBIFS: mounted UBI device 1" in log
        assert not _TROUBLE.search(log), _TROUBLE.findall(log)
        assert " /opt ubifs rw," in self._run(self._dcu.shell("cat /proc/mounts", timeout_s=120))


def cut_power(folder: Path, count: int, seed: int) -> None:
    """`count` power cuts, in turn under readings, collection and updates; raises AssertionError for what is lost,
    doubled, or does not boot."""
    emulated_or_skip()
    if find_mosquitto() is None:
        pytest.skip("not installed: mosquitto; make system")
    utc_s = time.time()
    scenario, midnight_s = _files(folder, utc_s)
    due_s = midnight_s + CollectionPolicy().bundle_after_s
    options = RunOptions(seed=seed, clock=ClockKind.REAL, broker=BrokerKind.MOSQUITTO, dcu=DcuKind.QEMU)
    with open_sync_rig(str(scenario), folder / "run", options) as rig:
        for meter in rig.rig.meters.values():
            serve(meter, rig.rig.clock.utc_s(), HISTORY_HOURS)
            meter.power_on()
        rig.registered(timeout_s=PATIENCE_S)
        operator = Operator(rig, midnight_s - 40 * 3600.0, midnight_s)
        operator.start()
        cutter = Cutter(rig, operator, random.Random(seed))
        for number in range(count):
            if number % 3 == 0:
                cutter.under_readings()
            elif number % 3 == 1:
                cutter.under_collection(due_s)
            else:
                cutter.under_update()
        rig.run(operator.end())
        _judge(rig, operator, midnight_s)
        assert cutter.whole_update() == "confirmed"


def _judge(rig: SyncRig, operator: Operator, midnight_s: float) -> None:
    store = rig.rig.hes.store.profiles

    def stored() -> bool:
        return any(bundle.status == BundleStatus.STORED for bundle in store.bundles())

    # A meter that is out of reach is waited for 900 s before the bundle is made.
    assert rig.until(stored, timeout_s=3 * PATIENCE_S), "the day's bundle did not reach the head-end"
    assert operator.answered > 0
    assert operator.statuses
    # On a loaded machine a range may take longer than its deadline: then the operator is told so.
    assert {status.split()[0] for status in operator.statuses} <= {"ok", "timeout"}, operator.statuses
    for meter in rig.rig.meters.values():
        found = compare(meter, store, midnight_s)
        assert found.on_flash >= HISTORY_HOURS
        assert found == Comparison(found.on_flash, missing=0, invented=0, doubled=0), (meter.name, found)
    _no_request_is_open_or_answered_twice(rig)
    assert rig.rig.unhandled == []


def _no_request_is_open_or_answered_twice(rig: SyncRig) -> None:
    hes = rig.rig.hes
    assert hes.store.pending_requests() == []
    for request in hes.store.requests(limit=100_000):
        rows = hes.store.readings(request_id=request.request_id)
        assert len({row.obis for row in rows}) == len(rows)
        assert bool(rows) == (request.status == "ok"), (request.status, len(rows))
    registered = [meter.serial for meter in hes.meters()]
    assert sorted(registered) == sorted(meter.serial for meter in rig.rig.meters.values())
