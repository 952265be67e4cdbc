"""A concentrator whose `/opt` is full over a midnight: the day's bundle waits for room, and lacks nothing."""

from __future__ import annotations

from pathlib import Path

from dcu.config import CollectionPolicy
from twin.rigs.options import RunOptions
from twin.rigs.sync import SyncRig, open_sync_rig
from twin.scenarios.day_steps import compare_all, midnight_after, stored_bundles

_HOUR_S = 3600.0
_TOO_LATE_S = 3.0
"""Before patience with the meter ends: less than its next try to register is away."""
_SCENARIO = """\
scenario: full-opt
title: A full /opt over a midnight
about: A meter beside a concentrator whose flash somebody fills.
start: 2026-03-02T17:00:00Z
timers: bench
dcu: {id: IHM4000-0001, position: [0, 0]}
capture: false
meters:
  - {name: A, serial: IHM5000001, position: [150, 0]}
script:
  - {step: join, title: not played}
"""


def _wait_until(rig: SyncRig, utc_s: float) -> None:
    rig.wait(utc_s - rig.rig.clock.utc_s())


def _collections(rig: SyncRig) -> list[dict[str, object]]:
    """Those that are over, as they end."""
    ended: list[dict[str, object]] = []

    def take(kind: str, fields: dict[str, object]) -> None:
        if kind == "dcu-collection" and fields["state"] == "done":
            ended.append(fields)

    rig.rig.trace.listeners.append(take)
    return ended


def test_a_meter_that_could_not_register_without_room_is_in_the_bundle_of_the_day(tmp_path: Path) -> None:
    """Room comes back too late for the collection under way: it is repeated, not made into a bundle."""
    (tmp_path / "full-opt.yaml").write_text(_SCENARIO, encoding="utf-8")
    policy = CollectionPolicy()
    with open_sync_rig(str(tmp_path / "full-opt.yaml"), tmp_path / "run", RunOptions(seed=3)) as rig:
        collections = _collections(rig)
        rig.registered()
        opt, meter = rig.rig.dcu.opt, rig.rig.meter("A")
        assert opt is not None
        midnight_s = midnight_after(rig.rig, rig.rig.clock.utc_s() + _HOUR_S)
        _wait_until(rig, midnight_s - 2 * _HOUR_S)
        rig.run(opt.fill())
        meter.power_off()
        rig.wait(60.0)
        meter.power_on()
        _wait_until(rig, midnight_s + policy.bundle_after_s + policy.patience_s - _TOO_LATE_S)
        rig.run(opt.clear())
        assert rig.until(lambda: bool(stored_bundles(rig.rig)), timeout_s=2 * _HOUR_S), "no bundle came"
        assert [item["troubled"] for item in collections] == [1, 0], "room came back in time: this shows nothing"
        totals = compare_all(rig.rig, midnight_s)
        assert totals.on_flash > 0
        assert (totals.missing, totals.invented, totals.doubled) == (0, 0, 0)
        assert "dcu-task-failed" not in rig.rig.trace.counts
