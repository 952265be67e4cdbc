"""Bad input for the emulated concentrator: it says so, keeps running, and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dcu_guest import Guest, guest_in
from small_update import small_update

from dcu.config import DcuConfig
from dcu.service import UPDATE_KEY
from images.dcu.build import Image
from twin.errors import RigError
from twin.rigs.brokers import BrokerAccess
from twin.rigs.qemu.dcu import guest_provisioning
from twin.rigs.qemu.machine import Machine, MachineOptions, new_card
from twin.rigs.qemu.snapshot import BOOT_TIMEOUT_S
from twin.rigs.qemu.update import UpdateKey, install

_CONFIG = DcuConfig(dcu_id="IHM4000-0001", eui64=bytes(range(8)), system_title=bytes(8), link_key=bytes(range(16)))
_BROKER = BrokerAccess("127.0.0.1", 9, "IHM4000-0001", "nobody listens")
_KEY = UpdateKey()


def _provision(guest: Guest) -> None:
    told = guest_provisioning(_CONFIG, _BROKER).with_file(UPDATE_KEY, _KEY.public_pem)
    guest.run(guest.machine.maintenance.ask("provision", config=told.config, files=told.files, timeout_s=120.0))


def _restart(guest: Guest) -> None:
    """End the daemon and wait for the next one, as the start-up script brings it back."""
    old = guest.shell("cat /tmp/run/daemon.pid")
    guest.run(guest.machine.maintenance.ask("restart", timeout_s=120.0))
    guest.shell(f"until [ $(cat /tmp/run/daemon.pid) != {old} ]; do usleep 200000; done", timeout_s=BOOT_TIMEOUT_S)
    guest.run(guest.machine.maintenance.wait_until_ready(timeout_s=BOOT_TIMEOUT_S))


def _program(guest: Guest) -> tuple[str, str]:
    status = guest.run(guest.machine.maintenance.ask("status", timeout_s=120.0))
    return status["program"]["slot"], status["program"]["status"]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with guest_in(tmp_path_factory.mktemp("guest")) as made:
        made.from_snapshot()
        _provision(made)
        yield made


@pytest.mark.requirement("HW-5")
def test_broken_update_is_refused_and_the_program_stays(guest: Guest) -> None:
    archive = small_update()
    line = guest.machine.maintenance
    broken = archive[: len(archive) // 3]
    with pytest.raises(RigError, match="cannot be unpacked"):
        guest.run(install(line, broken, _KEY.sign(broken)))
    with pytest.raises(RigError, match="not the maker's"):
        guest.run(install(line, archive, UpdateKey().sign(archive)))
    assert _program(guest) == ("factory", "confirmed")


@pytest.mark.requirement("HW-5")
def test_update_that_does_not_reach_the_head_end_is_rolled_back(guest: Guest) -> None:
    """Nobody listens at the broker's address: three starts on trial, and the program before it is back."""
    archive = small_update()
    assert guest.run(install(guest.machine.maintenance, archive, _KEY.sign(archive))) == "a"
    tries = []
    for _ in range(3):
        _restart(guest)
        tries.append(_program(guest))
    assert tries == [("a", "trial")] * 3
    _restart(guest)
    assert _program(guest) == ("factory", "confirmed")
    assert "back to factory" in guest.machine.console.text
    status = guest.run(guest.machine.maintenance.ask("status", timeout_s=120.0))
    assert status["state"] == "running", "the identity was lost"


@pytest.mark.requirement("HW-5")
def test_archive_that_is_damaged_in_flash_does_not_keep_the_concentrator_from_starting(guest: Guest) -> None:
    archive = small_update()
    slot = guest.run(install(guest.machine.maintenance, archive, _KEY.sign(archive)))
    guest.shell(f"dd if=/dev/urandom of=/opt/program/{slot}/update.tar.gz bs=1k count=4 seek=3 conv=notrunc; sync")
    _restart(guest)
    assert f"the archive in slot {slot} is damaged" in guest.machine.console.text
    assert _program(guest) == ("factory", "confirmed")


def test_corrupted_image_is_an_error_that_names_what_the_guest_said(tmp_path: Path, guest: Guest) -> None:
    guest.cut_power()
    card = tmp_path / "card.img"
    with guest.emulated.image.card.open("rb") as source, card.open("wb") as target:
        target.write(bytes(64 * 2112 * 64))  # the first blocks of the root file system hold zeros
        source.seek(target.tell())
        target.write(source.read())
    image: Image = replace(guest.emulated.image, card=card)
    new_card(image, tmp_path / "card.qcow2")
    machine = Machine(MachineOptions(image, tmp_path / "card.qcow2", tmp_path))
    try:
        guest.run(machine.power_on())
        guest.run(machine.console.wait_for("initramfs: no (?:UBI|root file system); power is cut", timeout_s=400.0))
        with pytest.raises(RigError, match="does not answer"):
            guest.run(machine.maintenance.wait_until_ready(timeout_s=5.0))
    finally:
        guest.run(machine.power_off())


def test_snapshot_that_is_no_snapshot_is_an_error(tmp_path: Path, guest: Guest) -> None:
    guest.cut_power()
    card = tmp_path / "card.qcow2"
    new_card(guest.emulated.image, card)
    machine = Machine(MachineOptions(guest.emulated.image, card, tmp_path))
    with pytest.raises(RigError, match=r"QEMU does not come up: .*[Ss]napshot"):
        guest.run(machine.power_on(snapshot=True))
    guest.run(machine.power_off())
