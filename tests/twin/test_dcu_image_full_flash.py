"""A full `/opt` of the emulated concentrator: it says so, keeps running, and loses nothing that it had promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dcu_guest import emulated_or_skip

from dcu.daemon import EVENT_STORAGE_FULL, EVENT_STORAGE_TAKES
from dcu.meter_alarms import EVENT_ALARM
from twin.brokers.mosquitto import find_mosquitto
from twin.clock.clocks import ClockKind
from twin.rigs.options import BrokerKind, DcuKind, RunOptions
from twin.rigs.qemu.dcu import QemuDcu
from twin.rigs.sync import SyncRig, open_sync_rig

PATIENCE_S = 600.0
"""For everything that has to happen on a loaded machine."""
_ROOM_BYTES = 256 * 1024
_SCENARIO = """\
scenario: full-flash
title: A full /opt
about: One meter beside a concentrator whose flash somebody fills.
start: 2026-03-02T16:45:00Z
timers: bench
dcu: {id: IHM4000-0001, position: [0, 0]}
capture: false
meters:
  - {name: A, serial: IHM5000001, position: [150, 0]}
script:
  - {step: join, title: not played}
"""


class Visitor:
    """Somebody at the concentrator's console, whose files take the room of the flash."""

    def __init__(self, rig: SyncRig) -> None:
        assert isinstance(rig.rig.dcu, QemuDcu)
        self._rig = rig
        self._dcu = rig.rig.dcu
        assert self._dcu.opt is not None
        self._opt = self._dcu.opt

    def shell(self, command: str) -> str:
        return self._rig.run(self._dcu.shell(command, timeout_s=PATIENCE_S))

    def fill(self) -> None:
        """Leaves no room; `/opt/room` can make a little again."""
        self.shell(f"dd if=/dev/urandom of=/opt/room bs={_ROOM_BYTES} count=1 2>/dev/null && sync")
        self.take_what_is_left()

    def take_what_is_left(self) -> None:
        self._rig.run(self._opt.fill())

    def make_a_little_room(self) -> None:
        self.shell("rm /opt/room && sync")

    def make_room(self) -> None:
        self.shell("rm -f /opt/room")
        self._rig.run(self._opt.clear())

    def unplug(self) -> None:
        self.shell("ifconfig eth0 down")

    def plug_in(self) -> None:
        self.shell("ifconfig eth0 up && route add default gw 10.0.2.2 metric 1 dev eth0")

    def restart(self) -> None:
        self._rig.run(self._dcu.restart())

    def status(self) -> dict[str, Any]:
        return self._rig.run(self._dcu.status())


@pytest.mark.soak  # filling the chip alone takes minutes: 1 MB a second
@pytest.mark.requirement("UC-IV.2", "HW-2")
def test_a_full_opt_is_told_costs_no_reading_and_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    emulated_or_skip()
    if find_mosquitto() is None:
        pytest.skip("not installed: mosquitto; make system")
    (tmp_path / "full-flash.yaml").write_text(_SCENARIO, encoding="utf-8")
    options = RunOptions(seed=3, clock=ClockKind.REAL, broker=BrokerKind.MOSQUITTO, dcu=DcuKind.QEMU)
    with open_sync_rig(str(tmp_path / "full-flash.yaml"), tmp_path / "run", options) as rig:
        rig.registered(timeout_s=PATIENCE_S)
        visitor = Visitor(rig)
        _promises_survive_the_filling(rig, visitor)
        _says_when_it_takes_again(rig, visitor)
        _starts_again_as_soon_as_there_is_room(rig, visitor)
        assert _alarms(rig) == ["terminal_cover_opened", "magnet_detected", "meter_cover_opened"]
        assert rig.rig.unhandled == []


def _promises_survive_the_filling(rig: SyncRig, visitor: Visitor) -> None:
    """Without an uplink one alarm is on flash; what comes after the filling is in memory, and is sent as well."""
    enclosure = rig.rig.meter("A").enclosure
    visitor.unplug()
    enclosure.open_terminal_cover()
    _wait_for_waiting(rig, visitor, 1)
    visitor.fill()
    enclosure.apply_magnet()
    _wait_for_waiting(rig, visitor, 2)
    assert visitor.status()["state"] == "running"
    assert _alarms(rig) == []
    visitor.plug_in()
    assert rig.until(lambda: len(_alarms(rig)) == 2, timeout_s=PATIENCE_S), "alarms were lost"
    assert rig.read("A", timeout_s=PATIENCE_S).is_ok
    assert len(_events(rig, EVENT_STORAGE_FULL)) == 1
    assert "o space" in str(json.loads(_events(rig, EVENT_STORAGE_FULL)[0].details_json)["reason"])


def _says_when_it_takes_again(rig: SyncRig, visitor: Visitor) -> None:
    visitor.make_a_little_room()
    assert rig.read("A", timeout_s=PATIENCE_S).is_ok
    assert rig.until(lambda: bool(_events(rig, EVENT_STORAGE_TAKES)), timeout_s=PATIENCE_S), "it does not say so"


def _starts_again_as_soon_as_there_is_room(rig: SyncRig, visitor: Visitor) -> None:
    """Without room for its counters it must not start: it would use them twice."""
    visitor.unplug()
    rig.rig.meter("A").enclosure.open_meter_cover()
    _wait_for_waiting(rig, visitor, 1)
    visitor.take_what_is_left()
    visitor.restart()
    refused = visitor.status()
    assert refused["state"] == "failed"
    assert "o space" in refused["failure"]
    visitor.plug_in()
    visitor.make_room()
    _wait_until_running(rig, visitor)
    assert rig.until(lambda: len(_alarms(rig)) == 3, timeout_s=PATIENCE_S), "an alarm on flash was lost"
    assert rig.read("A", timeout_s=PATIENCE_S).is_ok


def _wait_until_running(rig: SyncRig, visitor: Visitor) -> None:
    for _ in range(int(PATIENCE_S)):
        if visitor.status()["state"] == "running":
            return
        rig.wait(1.0)
    raise AssertionError("the concentrator waits for somebody to start it")


def _wait_for_waiting(rig: SyncRig, visitor: Visitor, count: int) -> None:
    """Until so many messages at least wait for the head-end."""
    for _ in range(int(PATIENCE_S)):
        if visitor.status()["counters"]["outbox"]["waiting"] >= count:
            return
        rig.wait(1.0)
    raise AssertionError(f"the concentrator does not hold {count} messages")


def _events(rig: SyncRig, kind: str) -> list[Any]:
    return rig.rig.hes.events(kind=kind)


def _alarms(rig: SyncRig) -> list[str]:
    """What the head-end was told of the meter, oldest first."""
    return [json.loads(event.details_json)["alarms"] for event in _events(rig, EVENT_ALARM)]
