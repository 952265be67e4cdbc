"""Alarms of meters through every layer: bench verb, firmware, push, mesh, concentrator, MQTT, head-end database."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from twin.rigs.sync import SyncRig

MakeRig = Callable[..., SyncRig]
RELAYED, RELAY, OTHER_RELAY, NEAR = "A", "B", "D", "C"


@pytest.fixture
def day(twin_rig: MakeRig) -> SyncRig:
    """Six meters; A is 560 m away and relayed."""
    rig = twin_rig("village-day", seed=3)
    rig.registered()
    rig.wait(60.0)
    assert rig.rig.mesh.hops(RELAYED) == 2
    return rig


def alarms(rig: SyncRig, meter: str) -> list[str]:
    """What the head-end was told of a meter, oldest first."""
    serial = rig.rig.meter(meter).serial
    found = [event for event in rig.rig.hes.events(kind="meter-alarm") if event.serial == serial]
    return [json.loads(event.details_json)["alarms"] for event in found]


@pytest.mark.requirement("HW-6")
@pytest.mark.parametrize("brown_out_v", [0.0, 40.0])
def test_the_last_gasp_reaches_the_head_end_exactly_once(day: SyncRig, brown_out_v: float) -> None:
    """From a meter behind a relay, whose capacitor lasts for half a second."""
    day.rig.meter(RELAYED).power.set_mains(brown_out_v)
    day.wait(2.0)
    assert not day.rig.meter(RELAYED).meter.running
    day.wait(120.0)
    assert alarms(day, RELAYED) == ["power_failed"]
    day.rig.meter(RELAYED).power_on()
    day.wait(300.0)
    assert alarms(day, RELAYED) == ["power_failed"]


@pytest.mark.requirement("HW-6")
def test_without_its_capacitor_a_meter_says_nothing(day: SyncRig) -> None:
    day.rig.meter(RELAYED).die()
    day.wait(300.0)
    assert alarms(day, RELAYED) == []


@pytest.mark.requirement("UC-IV.3")
def test_tampering_is_known_at_the_head_end_within_seconds(day: SyncRig) -> None:
    target = day.rig.meter(NEAR)
    target.enclosure.open_terminal_cover()
    day.wait(10.0)
    assert alarms(day, NEAR) == ["terminal_cover_opened"]
    target.enclosure.apply_magnet()
    target.metrology.lose_neutral()
    day.wait(30.0)
    assert alarms(day, NEAR) == ["terminal_cover_opened", "magnet_detected", "neutral_lost"]
    assert alarms(day, RELAY) == []


def test_an_alarm_without_a_way_waits_until_there_is_one(day: SyncRig) -> None:
    """Both who could relay are dead: what happens meanwhile is told when one of them is back."""
    day.rig.meter(RELAY).die()
    day.rig.meter(OTHER_RELAY).die()
    day.wait(900.0)
    day.rig.meter(RELAYED).enclosure.open_meter_cover()
    day.rig.meter(RELAYED).enclosure.apply_magnet()
    day.wait(100.0)
    told = alarms(day, RELAYED)
    day.rig.meter(RELAY).power_on()
    day.wait(1800.0)
    assert told == []
    assert alarms(day, RELAYED) == ["meter_cover_opened magnet_detected"]
