"""The concentrator's hardware and start-up, measured in the guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dcu_guest import Guest, guest_in

from images.dcu.layout import NAND_ID
from twin.errors import RigError
from twin.rigs.qemu.hardware import HardwareProfile, read_profile
from twin.rigs.qemu.snapshot import BOOT_TIMEOUT_S

MIB = 1 << 20


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with guest_in(tmp_path_factory.mktemp("guest")) as made:
        made.from_snapshot()
        yield made


@pytest.fixture(scope="module")
def profile(guest: Guest) -> HardwareProfile:
    return guest.run(read_profile(guest.machine.console.run))


@pytest.mark.requirement("HW-1")
def test_processor_clock_and_memory_are_the_reference_design_s(profile: HardwareProfile) -> None:
    assert profile.model == "INHEMETER IHM-4000 DCU"
    assert profile.machine == "armv7l"
    assert profile.clock_resolution_ns == 41  # 24 MHz
    assert profile.clocksource == "mxc_timer1"
    assert 215 * 1000 <= profile.memory_total_bytes / 1024 <= 256 * 1024
    # The daemon runs already; before it started, the kernel had about 215,000 kB to give.
    assert profile.memory_available_bytes > 170_000 * 1024


@pytest.mark.requirement("HW-2")
def test_flash_chip_is_the_reference_design_s(profile: HardwareProfile) -> None:
    assert profile.nand_ids == NAND_ID[:2]
    assert profile.nand_size_mib == 256
    assert profile.nand_page_bytes == 2048
    assert profile.nand_erase_bytes == 128 * 1024
    assert "AMD/Spansion NAND 256MiB" in profile.texts["nand-log"]


@pytest.mark.requirement("HW-2")
def test_file_systems_have_the_reference_design_s_sizes(profile: HardwareProfile) -> None:
    root, opt = profile.file_systems["/"], profile.file_systems["/opt"]
    assert (root.source, root.kind, root.is_read_only) == ("ubi0:rootfs", "ubifs", True)
    assert (opt.source, opt.kind, opt.is_read_only) == ("ubi1:opt", "ubifs", False)
    assert root.size_bytes / MIB == pytest.approx(58.7, abs=0.1)
    assert root.available_bytes / MIB == pytest.approx(11.4, abs=0.4)  # the program in it grows and shrinks
    assert opt.size_bytes / MIB == pytest.approx(134.7, abs=0.1)
    assert opt.available_bytes / MIB == pytest.approx(123.0, abs=0.2)


@pytest.mark.requirement("HW-2")
def test_kernel_finds_no_fault_in_the_chip_that_the_host_programmed(guest: Guest) -> None:
    guest.shell("dd if=/dev/mtd0ro of=/dev/null bs=128k count=80", timeout_s=120)
    counters = guest.shell("cat /sys/class/mtd/mtd[01]/ecc_failures /sys/class/mtd/mtd[01]/corrected_bits")
    assert counters.split() == ["0"] * 4
    assert "UBI error" not in guest.shell("dmesg")
    assert "Bad block table found" in guest.shell("dmesg")


@pytest.mark.requirement("HW-3", "OSI-2")
def test_ethernet_is_fec_at_100_mbps_and_a_cellular_interface_is_there(guest: Guest, profile: HardwareProfile) -> None:
    for name in ("eth0", "eth1"):
        interface = profile.interfaces[name]
        assert (interface.driver, interface.speed_mbps, interface.duplex, interface.state) == ("fec", 100, "full", "up")
    guest.shell("ping -c 1 -W 5 10.0.2.2")
    guest.shell("ping -c 1 -W 5 10.0.3.2")


@pytest.mark.requirement("HW-5")
def test_daemon_runs_from_ram_with_more_than_one_task(guest: Guest, profile: HardwareProfile) -> None:
    assert profile.daemon_folder == "/tmp/work"
    assert profile.daemon_tasks > 1
    assert profile.file_systems["/tmp"].kind == "tmpfs"
    assert guest.shell("ls /tmp/work").split() == ["alive", "daemon"]
    assert guest.shell("ls /home").split() == ["startup", "update.tar.gz"]


@pytest.mark.requirement("HW-5")
def test_guest_runs_the_same_file_as_the_native_daemon(guest: Guest) -> None:
    import hashlib

    digest = hashlib.sha256(guest.emulated.image.daemon.read_bytes()).hexdigest()
    assert guest.shell("sha256sum /tmp/work/daemon").split()[0] == digest


@pytest.mark.requirement("HW-5")
def test_root_is_read_only_and_idle_running_erases_nothing(guest: Guest) -> None:
    with pytest.raises(RigError, match="Read-only"):
        guest.shell("touch /home/x 2>&1")
    before = guest.shell("cat /sys/class/ubi/ubi[01]/max_ec; awk '$3 == \"mmcblk0\" {print $8, $10}' /proc/diskstats")
    guest.shell("sleep 12")
    assert (
        guest.shell("cat /sys/class/ubi/ubi[01]/max_ec; awk '$3 == \"mmcblk0\" {print $8, $10}' /proc/diskstats")
        == before
    )


@pytest.mark.requirement("HW-5")
def test_daemon_that_dies_is_started_again(guest: Guest) -> None:
    old = guest.shell("cat /tmp/run/daemon.pid")
    guest.shell(f"kill -9 {old}")
    status = guest.run(guest.machine.maintenance.wait_until_ready(timeout_s=BOOT_TIMEOUT_S))
    assert status["state"] == "unprovisioned"
    assert guest.shell("cat /tmp/run/daemon.pid") != old


def test_machine_pauses_and_goes_on(guest: Guest) -> None:
    before = float(guest.shell("cut -d' ' -f1 /proc/uptime"))
    guest.run(guest.machine.pause())
    guest.run(guest.machine.resume())
    assert float(guest.shell("cut -d' ' -f1 /proc/uptime")) >= before


def test_snapshot_holds_no_provisioning(guest: Guest) -> None:
    assert guest.shell("ls /opt/dcu /tmp/run/dcu 2>/dev/null | grep -c provisioning || true") == "0"
