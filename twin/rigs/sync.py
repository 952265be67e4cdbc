"""The rig for code that is not async: tests, notebooks, a prompt."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from twin.hes.hes import ReadResult
from twin.rigs.folder import EventTrace, RunFolder
from twin.rigs.options import RunOptions
from twin.rigs.rig import Rig, open_rig
from twin.rigs.run import make_clock
from twin.scenarios.loading import load_scenario

T = TypeVar("T")


class SyncRig:
    """A rig whose waiting verbs are plain calls. `rig` is the rig itself, for everything that does not wait.

    Simulated time passes only inside `run` and the verbs that use it.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._loop = rig.clock.loop

    def run(self, flow: Coroutine[Any, Any, T]) -> T:
        """Let time pass until the coroutine has ended, and give its result."""
        return self._loop.run_until_complete(flow)

    def until(self, condition: Callable[[], bool], *, timeout_s: float) -> bool:
        """Let time pass until the condition holds, at most `timeout_s`; whether it holds."""
        return self.run(self.rig.until(condition, timeout_s=timeout_s))

    def wait(self, duration_s: float) -> None:
        """Let `duration_s` of the run's time pass."""
        self.until(lambda: False, timeout_s=duration_s)

    def registered(self, *, timeout_s: float = 120.0) -> None:
        """Let time pass until every meter whose keys the head-end holds is registered. Raises RigError."""
        parts = ((meter.serial, meter.provision) for meter in self.rig.meters.values())
        known = [serial for serial, provision in parts if provision.headend_keys == provision.keys]
        self.run(self.rig.hes.wait_registered(known, timeout_s=timeout_s))

    def read(self, meter: str, *, timeout_s: float = 60.0) -> ReadResult:
        """An operator's on-demand reading of the meter of that name (use case II)."""
        return self.run(self.rig.hes.read_meter(self.rig.meter(meter).serial, timeout_s=timeout_s))


@contextmanager
def open_sync_rig(
    scenario: str, folder: Path, options: RunOptions | None = None, overrides: list[str] | None = None
) -> Iterator[SyncRig]:
    """Build the rig of a scenario (a name or a file), start it, and stop it at the end. Its script is not played.

    `folder` gets air.pcap, events.jsonl and the database, as from `twin run`.
    """
    chosen = options if options is not None else RunOptions()
    loaded = load_scenario(scenario, overrides)
    run_folder = RunFolder(folder)
    clock = make_clock(loaded, chosen)
    try:
        with run_folder.file("events.jsonl").open("w", encoding="utf-8") as file:
            opened = open_rig(loaded, chosen, clock, run_folder, EventTrace(file, clock))
            rig = clock.loop.run_until_complete(opened.__aenter__())
            try:
                yield SyncRig(rig)
            finally:
                clock.loop.run_until_complete(opened.__aexit__(None, None, None))
    finally:
        clock.loop.close()
