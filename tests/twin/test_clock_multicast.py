"""Time by multicast over the simulated air: one flood sets every clock, and what was heard of it sets none again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from twin.rigs.dcu import RigDcu
from twin.rigs.sync import SyncRig

MakeRig = Callable[..., SyncRig]


def rounds(rig: SyncRig) -> list[dict[str, Any]]:
    return [json.loads(event.details_json) for event in rig.rig.hes.events(kind="clocks-synchronized")]


def synchronize(rig: SyncRig) -> None:
    concentrator = rig.rig.dcu
    assert isinstance(concentrator, RigDcu)
    assert concentrator.daemon is not None
    rig.run(concentrator.daemon.synchronize_clocks())


def offsets_s(rig: SyncRig) -> list[float]:
    return [meter.rtc.offset_s for meter in rig.rig.meters.values()]


@pytest.fixture
def day(twin_rig: MakeRig) -> SyncRig:
    rig = twin_rig("village-day", seed=3)
    rig.registered()
    rig.wait(60.0)
    return rig


@pytest.mark.requirement("UC-VI.2", "OSI-4")
def test_one_multicast_sets_clocks_that_are_minutes_off_and_nobody_is_left_to_unicast(day: SyncRig) -> None:
    for number, meter in enumerate(day.rig.meters.values()):
        meter.rtc.advance((-1) ** number * 200.0 * (number + 1))
    synchronize(day)
    day.wait(5.0)
    assert all(abs(offset_s) < 1.0 for offset_s in offsets_s(day)), offsets_s(day)
    (told,) = rounds(day)
    assert (told["broadcasts"], told["outliers"], told["meters"]) == ("1", "0", "6")


@pytest.mark.requirement("UC-VI.4")
def test_frames_of_a_time_multicast_that_are_played_again_change_nothing(day: SyncRig) -> None:
    """An attacker records all frames of a round, and sends them an hour later beside every meter."""
    synchronize(day)
    frames: list[bytes] = []
    listener = frames.append
    observe = lambda transmission: listener(transmission.psdu)  # noqa: E731
    day.rig.air.medium.on_air.append(observe)
    synchronize(day)
    day.rig.air.medium.on_air.remove(observe)
    assert len(frames) > 20
    day.wait(3600.0)
    before = offsets_s(day)
    steps = [meter.rtc.steps for meter in day.rig.meters.values()]
    for psdu in frames:
        for name in ("A", "C", "E"):
            day.rig.air.inject(psdu, name, 0)
            day.wait(0.1)
    day.wait(120.0)
    assert [meter.rtc.steps for meter in day.rig.meters.values()] == steps
    assert offsets_s(day) == pytest.approx(before, abs=0.05)
    assert day.rig.unhandled == []


@pytest.mark.requirement("UC-VI.2", "NET-4")
def test_a_meter_that_was_deaf_gets_the_time_late_from_its_neighbours_and_is_right(day: SyncRig) -> None:
    """Its radio is off while the flood passes; the message that it gets then says how old it is."""
    synchronize(day)
    deaf = day.rig.meter("C")
    deaf.rtc.advance(500.0)
    count = len(rounds(day))
    day.rig.clock.loop.call_later(0.01, day.rig.air.kill, "C")
    day.rig.clock.loop.call_later(3.0, day.rig.air.revive, "C")
    synchronize(day)
    day.until(lambda: len(rounds(day)) > count, timeout_s=900.0)
    assert abs(deaf.rtc.offset_s) < 1.0
    assert rounds(day)[-1]["outliers"] == "0"
