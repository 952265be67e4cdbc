"""Steps of the concentrator's hardware page: what its guest says of itself, against the reference design."""

from __future__ import annotations

import asyncio

from twin.conformance.verdicts import Record, at_least, at_most, equals, within
from twin.rigs.dcu import RigDcu
from twin.rigs.lockstep.dcu import LockstepDcu
from twin.rigs.qemu.dcu import QemuDcu
from twin.rigs.qemu.hardware import HardwareProfile, read_profile
from twin.rigs.rig import Rig
from twin.scenarios.steps import SkipStep, step

_MIB = 1 << 20
_RAM_DISK, _WORK = "/tmp", "/tmp/work"  # noqa: S108 (the guest's)
_ROOT_WRITES = "cat /sys/class/ubi/ubi0/max_ec; grep ' / ' /proc/mounts; ls -l /home/startup /home/update.tar.gz"


def _machine(rig: Rig) -> QemuDcu | LockstepDcu:
    if isinstance(rig.dcu, RigDcu):
        raise SkipStep("this concentrator runs in no machine of its own; --dcu qemu")
    return rig.dcu


async def _profile(rig: Rig) -> HardwareProfile:
    return await read_profile(_machine(rig).shell)


@step("processor, clock and memory are the reference design's", timeout_s=300, requirement="HW-1")
async def hardware_processor(rig: Rig, record: Record) -> None:
    """From the device tree, uname, the kernel's log and /proc/meminfo, while the daemon runs."""
    profile = await _profile(rig)
    record.measure("board", profile.model, limit=equals("INHEMETER IHM-4000 DCU"))
    record.measure("machine", profile.machine, limit=equals("armv7l"))
    record.measure("processor", profile.processor)
    record.measure("kernel", profile.kernel)
    record.measure("clock source", profile.clocksource)
    record.measure("its resolution: 24 MHz", profile.clock_resolution_ns, unit="ns", limit=equals(41))
    total_mib, available_mib = profile.memory_total_bytes / _MIB, profile.memory_available_bytes / _MIB
    record.measure("memory that the kernel has", round(total_mib, 1), unit="MiB", limit=within(210.0, 256.0))
    record.measure("available beside the daemon", round(available_mib, 1), unit="MiB", limit=at_least(166.0))


@step("the flash chip and its file systems are the reference design's", timeout_s=300, requirement="HW-2")
async def hardware_flash(rig: Rig, record: Record) -> None:
    """From the kernel's log, /proc/mounts and df."""
    profile = await _profile(rig)
    manufacturer, chip = profile.nand_ids
    record.measure("identity of the chip", f"{manufacturer:02x} {chip:02x}", limit=equals("01 da"))
    record.measure("size", profile.nand_size_mib, unit="MiB", limit=equals(256))
    record.measure("page", profile.nand_page_bytes, unit="byte", limit=equals(2048))
    record.measure("erase block", profile.nand_erase_bytes, unit="byte", limit=equals(128 * 1024))
    for place, kind, size_mib, free_mib in (("/", "read-only", 58.7, 11.4), ("/opt", "read-write", 134.7, 123.0)):
        system = profile.file_systems[place]
        record.measure(f"{place} is on", f"{system.source}, {system.kind}")
        record.measure(f"{place} is mounted", "read-only" if system.is_read_only else "read-write", limit=equals(kind))
        found_mib, left_mib = system.size_bytes / _MIB, system.available_bytes / _MIB
        near = within(size_mib - 0.1, size_mib + 0.1)
        record.measure(f"size of {place}", round(found_mib, 2), unit="MiB", limit=near)
        # The program in / grows and shrinks; in /opt there is what the run has stored by now.
        record.measure(f"free in {place}", round(left_mib, 2), unit="MiB", limit=within(free_mib - 0.6, free_mib + 0.4))


@step("Ethernet and the cellular interface are there", timeout_s=300, requirement="HW-3")
async def hardware_network(rig: Rig, record: Record) -> None:
    """From sysfs: driver, speed, duplex and state of both."""
    if isinstance(_machine(rig), LockstepDcu):
        raise SkipStep("in lock-step the machine has no Ethernet; --clock real")
    profile = await _profile(rig)
    for name, what in (("eth0", "Ethernet"), ("eth1", "the cellular interface")):
        found = profile.interfaces.get(name)
        said = (
            "not there" if found is None else f"{found.driver}, {found.speed_mbps} Mbps, {found.duplex}, {found.state}"
        )
        record.measure(f"{what}, {name}", said, limit=equals("fec, 100 Mbps, full, up"))


@step("the daemon was started as the reference design says", timeout_s=600, requirement="HW-5")
async def hardware_start_up(rig: Rig, record: Record, watch_s: float = 60.0) -> None:
    """Unpacked into RAM and run from there, with more than one task; the root's flash is left alone meanwhile."""
    profile, shell = await _profile(rig), _machine(rig).shell
    record.measure("the daemon runs from", profile.daemon_folder, limit=equals(_WORK))
    record.measure(f"{_RAM_DISK} is a", profile.file_systems[_RAM_DISK].kind, limit=equals("tmpfs"))
    record.measure("tasks of the daemon", profile.daemon_tasks, limit=at_least(2))
    home = " ".join((await shell("ls /home")).split())
    record.measure("in /home", home, limit=equals("startup update.tar.gz"))
    before = await shell(_ROOT_WRITES)
    await asyncio.sleep(watch_s)
    record.measure("watched for", watch_s, unit="s")
    changed = (await shell(_ROOT_WRITES)) != before
    record.measure("the root's erase counter or files changed meanwhile", changed, limit=equals(False))
    worn = int((await shell("cat /sys/class/ubi/ubi0/max_ec")).strip())
    record.measure("most erasures of a block of the root", worn, limit=at_most(2))
