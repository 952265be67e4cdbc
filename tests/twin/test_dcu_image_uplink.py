"""The emulated concentrator with its devices: two links, a modem with two SIMs, and a GPS receiver.

In virtual time the ARM daemon plays the steps of `uplink` and `gps-clock`; in real time it does so over Ethernet, the
cellular interface and TLS.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dcu_guest import emulated_or_skip
from twin_runs import Run, twin_run

from images.dcu.workshop import missing_programs
from twin.backhaul.link import Way
from twin.brokers.mosquitto import find_mosquitto
from twin.clock.clocks import ClockKind
from twin.rigs.options import BrokerKind, DcuKind, RunOptions
from twin.rigs.qemu.dcu import QemuDcu
from twin.rigs.sync import SyncRig, open_sync_rig

_DCU = "IHM4000-0001"
_UPLINK = """\
scenario: guest-uplink
title: Satellite and two SIMs, of the emulated concentrator
about: The first evening of the scenario 'uplink', with one meter.
start: 2026-03-02T20:40:00Z
timers: bench
dcu: {id: IHM4000-0001, position: [0, 0], modem: true}
capture: false
meters:
  - {name: A, serial: IHM5000001, position: [150, 0], household: {people: 4}}
script:
  - {step: join, title: the meter joins}
  - {step: register, title: the meter is registered, needs: [the meter joins]}
  - {step: satellite-dies-in-mid-bundle, title: the satellite dies in mid-bundle, needs: [the meter is registered]}
  - {step: technology-drops, title: the technology drops, needs: [the satellite dies in mid-bundle]}
  - {step: sim-dies, title: a SIM's network dies, needs: [the technology drops]}
  - {step: satellite-returns, title: the satellite returns, needs: [a SIM's network dies]}
"""
_CLOCK = """\
scenario: guest-clock
title: The clock of the emulated concentrator, by GPS and PTP
about: A crystal that is off by 18 ppm.
start: 2026-06-30T20:00:00Z
timers: bench
dcu: {id: IHM4000-0001, position: [0, 0], gps: true, ptp: true, oscillator_ppm: 18}
capture: false
meters:
  - {name: A, serial: IHM5000001, position: [150, 0]}
script:
  - {step: join, title: the meter joins}
  - {step: register, title: the meter is registered, needs: [the meter joins]}
  - {step: clock-is-disciplined, title: the clock is disciplined, with: {settle_s: 420}}
  - step: ptp-takes-over
    title: PTP takes over from GPS
    with: {seconds: 60}
    needs: [the clock is disciplined]
"""


# In virtual time.


def _played(folder: Path, name: str, scenario: str) -> Run:
    missing = missing_programs()
    if missing:
        pytest.skip(f"the emulated concentrator needs {', '.join(missing)}; make system")
    file = folder / f"{name}.yaml"
    file.write_text(scenario, encoding="utf-8")
    return twin_run(folder / "run", str(file), "--seed", "5", "--dcu", "qemu", "--clock", "virtual")


@pytest.fixture(scope="module")
def uplink(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _played(tmp_path_factory.mktemp("guest-uplink"), "guest-uplink", _UPLINK)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _played(tmp_path_factory.mktemp("guest-clock"), "guest-clock", _CLOCK)


def _measured(run: Run, step: str, name: str) -> Any:
    case = next(case for case in run.report["cases"] if case["name"] == step)
    assert case["verdict"] == "PASS", case
    return next(m["value"] for m in case["attempts"][-1]["measurements"] if m["name"] == name)


@pytest.mark.requirement("NET-5")
def test_arm_daemon_finishes_over_cellular_the_bundle_that_it_began_over_the_satellite(uplink: Run) -> None:
    assert uplink.status == 0, uplink.stdout + uplink.stderr
    step = "satellite-dies-in-mid-bundle"
    assert _measured(uplink, step, "packets on the link when it was cut") >= 1
    assert _measured(uplink, step, "sessions taken up again") >= 1
    assert _measured(uplink, step, "bundles stored") == 1
    assert _measured(uplink, step, "rows that the database lacks") == 0
    assert _measured(uplink, step, "rows that are there twice") == 0


@pytest.mark.requirement("HW-4")
def test_arm_daemon_drops_to_2g_comes_back_to_4g_and_changes_its_sim(uplink: Run) -> None:
    assert _measured(uplink, "technology-drops", "technologies as the signal fades") == "3g, 2g"
    assert _measured(uplink, "technology-drops", "technology when the signal is back") == "4g"
    assert _measured(uplink, "technology-drops", "a reading over 2g") == "ok"
    assert _measured(uplink, "sim-dies", "SIM in use") == 2


@pytest.mark.requirement("NET-5")
def test_arm_daemon_takes_the_satellite_again_only_when_it_is_steady(uplink: Run) -> None:
    assert _measured(uplink, "satellite-returns", "changes meanwhile") == 0
    assert _measured(uplink, "satellite-returns", "connected by, after its return") == "satellite"


def test_ways_and_queue_of_the_machine_are_in_the_report_s_pictures(uplink: Run) -> None:
    ways = json.loads((uplink.folder / "pictures" / "uplink.json").read_text())
    assert {"satellite", "cellular", "SIM", "session"} <= {span["lane"] for span in ways["spans"]}
    assert (uplink.folder / "pictures" / "uplink-queue.json").exists()


@pytest.mark.requirement("UC-VI.1")
def test_arm_daemon_disciplines_a_crystal_that_is_off(clock: Run) -> None:
    assert clock.status == 0, clock.stdout + clock.stderr
    assert _measured(clock, "clock-is-disciplined", "rate correction") == pytest.approx(-18.0, abs=1.0)
    assert _measured(clock, "clock-is-disciplined", "largest true offset in 5 min") < 1.0
    assert _measured(clock, "clock-is-disciplined", "the head-end is told of the source") == "gps"


@pytest.mark.requirement("UC-VI.1")
def test_arm_daemon_follows_a_grandmaster_over_its_network_while_gps_is_lost(clock: Run) -> None:
    assert clock.status == 0, clock.stdout + clock.stderr
    assert _measured(clock, "ptp-takes-over", "source without GPS") == "ptp"
    assert _measured(clock, "ptp-takes-over", "largest true offset") < 1.0
    assert _measured(clock, "ptp-takes-over", "source when the master runs free") == "holdover"
    assert _measured(clock, "ptp-takes-over", "source when GPS is back") == "gps"


@pytest.mark.soak
@pytest.mark.requirement("UC-VI.1", "UC-VI.3")
def test_arm_daemon_holds_over_is_not_led_astray_and_counts_a_leap_second(tmp_path: Path) -> None:
    run = twin_run(tmp_path, "gps-clock", "--seed", "5", "--dcu", "qemu", "--clock", "virtual", limit_s=3600)
    assert run.status == 0, run.stdout + run.stderr
    assert _measured(run, "holdover", "the truth was within the belief all the time") is True
    assert _measured(run, "leap-second", "true offset in the leap second") < 1.0


# In real time.

_PATIENCE_S = 600.0
_DEVICES = """\
scenario: guest-uplink
title: One meter, a concentrator with all its devices
about: Played by a test.
start: 2026-03-02T16:45:00Z
timers: bench
dcu: {id: IHM4000-0001, position: [0, 0], gps: true, ptp: true, modem: true}
capture: false
meters:
  - {name: A, serial: IHM5000001, position: [150, 0]}
script:
  - {step: join, title: not played}
"""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncRig]:
    emulated_or_skip()
    if find_mosquitto() is None:
        pytest.skip("not installed: mosquitto; make system")
    folder = tmp_path_factory.mktemp("uplink")
    (folder / "guest-uplink.yaml").write_text(_DEVICES, encoding="utf-8")
    options = RunOptions(seed=3, clock=ClockKind.REAL, broker=BrokerKind.MOSQUITTO, dcu=DcuKind.QEMU)
    with open_sync_rig(str(folder / "guest-uplink.yaml"), folder / "run", options) as made:
        made.registered(timeout_s=_PATIENCE_S)
        yield made


def _shell(rig: SyncRig, command: str) -> str:
    dcu = rig.rig.dcu
    assert isinstance(dcu, QemuDcu)
    return str(rig.run(dcu.shell(command, timeout_s=120.0))).strip()


def _read(rig: SyncRig) -> str:
    return rig.read("A", timeout_s=180.0).status


@pytest.mark.requirement("UC-VI.1")
def test_guest_s_clock_follows_its_gps_receiver(rig: SyncRig) -> None:
    hes = rig.rig.hes

    def follows() -> bool:
        row = hes.store.profiles.clock(_DCU)
        return row is not None and row.source == "gps"

    for _ in range(20):
        hes.service.clocks.check(_DCU)
        if rig.until(follows, timeout_s=_PATIENCE_S / 20):
            break
    row = hes.store.profiles.clock(_DCU)
    assert row is not None
    assert row.source == "gps"
    assert abs(row.offset_s) < 1.5
    assert not row.is_flagged


@pytest.mark.requirement("UC-VI.1")
def test_guest_s_clock_follows_the_grandmaster_while_gps_is_lost(rig: SyncRig) -> None:
    receiver = rig.rig.equipment.gps
    assert receiver is not None
    receiver.lose_fix()
    assert _is_followed(rig, "ptp")
    receiver.regain_fix()
    assert _is_followed(rig, "gps")


def _is_followed(rig: SyncRig, source: str) -> bool:
    for _ in range(int(_PATIENCE_S)):
        if rig.run(rig.rig.dcu.read_clock()).source == source:
            return True
        rig.wait(1.0)
    return False


@pytest.mark.requirement("OSI-5", "NET-5", "HW-3")
def test_broker_is_reached_by_tls_over_the_satellite_s_interface(rig: SyncRig) -> None:
    equipment = rig.rig.equipment
    assert equipment.satellite is not None
    before = equipment.satellite.usage[Way.UP].sent_bytes
    assert _read(rig) == "ok"
    assert equipment.satellite.usage[Way.UP].sent_bytes > before
    connections = _shell(rig, "netstat -tn | grep ESTABLISHED")
    assert f"10.0.2.2:{equipment.proxies['satellite'].address[1]}" in connections


@pytest.mark.requirement("NET-5", "HW-4")
def test_cellular_takes_over_when_the_satellite_dies(rig: SyncRig) -> None:
    equipment, hes = rig.rig.equipment, rig.rig.hes
    assert equipment.satellite is not None
    assert equipment.cellular is not None
    before = len(hes.events(kind="uplink-changed"))
    equipment.satellite.cut()
    changed = rig.until(lambda: len(hes.events(kind="uplink-changed")) > before, timeout_s=_PATIENCE_S)
    assert changed, "the concentrator has found no other way"
    assert "cellular" in json.loads(hes.events(kind="uplink-changed")[-1].details_json).values()
    carried = equipment.cellular.usage[Way.UP].sent_bytes
    assert _read(rig) == "ok"
    assert equipment.cellular.usage[Way.UP].sent_bytes > carried
    connections = _shell(rig, "netstat -tn | grep ESTABLISHED")
    assert f"10.0.3.2:{equipment.proxies['cellular'].address[1]}" in connections


@pytest.mark.soak
@pytest.mark.requirement("NET-5", "HW-4")
def test_satellite_is_preferred_again_when_it_is_steady(rig: SyncRig) -> None:
    equipment, hes = rig.rig.equipment, rig.rig.hes
    assert equipment.satellite is not None
    before = len(hes.events(kind="uplink-changed"))
    equipment.satellite.restore()
    assert rig.until(lambda: len(hes.events(kind="uplink-changed")) > before, timeout_s=2 * _PATIENCE_S)
    assert "satellite" in json.loads(hes.events(kind="uplink-changed")[-1].details_json).values()
    assert _read(rig) == "ok"
    assert rig.rig.unhandled == []
