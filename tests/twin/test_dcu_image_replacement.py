"""Another board takes the emulated concentrator's place, and whole updates come over the network."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from dcu_guest import emulated_or_skip

from twin.brokers.mosquitto import find_mosquitto
from twin.clock.clocks import ClockKind
from twin.errors import RigError
from twin.rigs.options import BrokerKind, DcuKind, RunOptions
from twin.rigs.qemu.dcu import QemuDcu
from twin.rigs.sync import SyncRig, open_sync_rig

PATIENCE_S = 600.0
"""For everything that has to happen on a loaded machine."""
_SCENARIO = """\
scenario: replacement
title: Another board
about: One meter beside a concentrator that is replaced.
start: 2026-03-02T16:45:00Z
timers: bench
dcu: {id: IHM4000-0001, position: [0, 0]}
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
    folder = tmp_path_factory.mktemp("replacement")
    (folder / "replacement.yaml").write_text(_SCENARIO, encoding="utf-8")
    options = RunOptions(seed=3, clock=ClockKind.REAL, broker=BrokerKind.MOSQUITTO, dcu=DcuKind.QEMU)
    with open_sync_rig(str(folder / "replacement.yaml"), folder / "run", options) as opened:
        opened.registered(timeout_s=PATIENCE_S)
        yield opened


def _dcu(rig: SyncRig) -> QemuDcu:
    assert isinstance(rig.rig.dcu, QemuDcu)
    return rig.rig.dcu


def _is_read(rig: SyncRig) -> bool:
    """Whether an operator gets an answer who asks again as long as the concentrator knows no meter."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        if rig.read("A", timeout_s=PATIENCE_S).is_ok:
            return True
    return False


@pytest.mark.requirement("HW-5")
def test_a_whole_update_comes_over_the_network(rig: SyncRig) -> None:
    """The factory's own archive, 1.5 MB: on trial at once, not after minutes on the serial line."""
    archive = emulated_or_skip().image.update.read_bytes()
    assert len(archive) > 1_000_000
    dcu = _dcu(rig)
    with pytest.raises(RigError, match="not the maker's"):
        rig.run(dcu.update(archive, signature=b"somebody else's"))
    assert rig.run(dcu.update(archive)) == "a"
    assert int(rig.run(dcu.shell("stat -c %s /opt/program/a/update.tar.gz"))) == len(archive)


@pytest.mark.requirement("UC-I.4", "UC-II.1")
def test_another_board_takes_the_place_of_the_concentrator_in_a_mesh_that_is_joined(rig: SyncRig) -> None:
    dcu = _dcu(rig)
    used = rig.run(dcu.status())["used"]
    joins = rig.rig.mesh.hops("A")
    rig.run(dcu.replace())
    assert _is_read(rig), "the meter takes nothing from the board that came in its concentrator's place"
    status = rig.run(dcu.status())
    assert status["program"] == {"slot": "factory", "status": "confirmed"}, "this is the old board"
    assert status["used"]["starts"] == used["starts"] + 1
    assert status["used"]["frame_counter"] > used["frame_counter"]
    assert [meter.serial for meter in rig.rig.hes.meters()] == ["IHM5000001"]
    assert rig.rig.mesh.hops("A") == joins == 1
    assert rig.rig.unhandled == []
