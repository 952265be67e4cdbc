"""The guest's hardware profile, measured in the guest: /proc, /sys, df and the kernel's log, not any setting."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twin.errors import RigError

Shell = Callable[[str], Awaitable[str]]
"""Runs a command in the guest and gives what it said; RigError if it fails."""

_COMMANDS = {
    "machine": "uname -m",
    "kernel": "uname -r",
    "model": "cat /proc/device-tree/model; echo",
    "processor": "grep -m1 '^model name' /proc/cpuinfo",
    "memory": "cat /proc/meminfo",
    "clocksource": "cat /sys/devices/system/clocksource/clocksource0/current_clocksource",
    "clock-log": "dmesg | grep -i 'resolution'",
    "nand-log": "dmesg | grep 'nand: '",
    "mtd": "cat /proc/mtd",
    "df": "df -k",
    "mounts": "cat /proc/mounts",
    "interfaces": (
        "for i in eth0 eth1; do [ ! -e /sys/class/net/$i/device ] ||"
        " echo $i $(basename $(readlink /sys/class/net/$i/device/driver))"
        " $(cat /sys/class/net/$i/speed) $(cat /sys/class/net/$i/duplex) $(cat /sys/class/net/$i/operstate); done"
    ),
    "daemon": "ls -l /proc/$(cat /tmp/run/daemon.pid)/cwd",
    "tasks": "ls /proc/$(cat /tmp/run/daemon.pid)/task | wc -l",
    "modules": "cut -d' ' -f1 /proc/modules | sort",
}


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One line of df, with its mount options. Sizes in bytes; `available_bytes` is what programs may use."""

    source: str
    mount_point: str
    kind: str
    is_read_only: bool
    size_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface as sysfs shows it."""

    name: str
    driver: str
    speed_mbps: int
    duplex: str
    state: str


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """What the guest says of itself. `texts` holds every answer as it was."""

    machine: str
    kernel: str
    model: str
    processor: str
    memory_total_bytes: int
    memory_available_bytes: int
    clocksource: str
    clock_resolution_ns: int
    nand_ids: tuple[int, int]
    nand_size_mib: int
    nand_page_bytes: int
    nand_erase_bytes: int
    file_systems: dict[str, FileSystem]
    interfaces: dict[str, Interface]
    daemon_folder: str
    daemon_tasks: int
    modules: tuple[str, ...]
    texts: dict[str, str]


async def read_profile(shell: Shell) -> HardwareProfile:
    """Ask the guest. Raises RigError where an answer is missing or is not understood."""
    texts = {name: (await shell(command)).strip() for name, command in _COMMANDS.items()}
    memory = {name: int(size_kb) * 1024 for name, size_kb in re.findall(r"(\w+):\s+(\d+) kB", texts["memory"])}
    ids = _search(r"Manufacturer ID: 0x(\w+), Chip ID: 0x(\w+)", texts, "nand-log")
    geometry = _search(r"(\d+) MiB, SLC, erase size: (\d+) KiB, page size: (\d+)", texts, "nand-log")
    return HardwareProfile(
        machine=texts["machine"],
        kernel=texts["kernel"],
        model=texts["model"].rstrip("\0"),
        processor=texts["processor"].partition(":")[2].strip(),
        memory_total_bytes=memory["MemTotal"],
        memory_available_bytes=memory["MemAvailable"],
        clocksource=texts["clocksource"],
        clock_resolution_ns=int(_search(r"resolution (\d+)ns", texts, "clock-log")[1]),
        nand_ids=(int(ids[1], 16), int(ids[2], 16)),
        nand_size_mib=int(geometry[1]),
        nand_page_bytes=int(geometry[3]),
        nand_erase_bytes=int(geometry[2]) * 1024,
        file_systems=_file_systems(texts["df"], texts["mounts"]),
        interfaces=_interfaces(texts["interfaces"]),
        daemon_folder=_search(r"-> (\S+)", texts, "daemon")[1],
        daemon_tasks=int(texts["tasks"]),
        modules=tuple(texts["modules"].split()),
        texts=texts,
    )


def _search(pattern: str, texts: dict[str, str], name: str) -> re.Match[str]:
    found = re.search(pattern, texts[name])
    if found is None:
        raise RigError(f"the guest's answer to `{_COMMANDS[name]}` is not understood: {texts[name][-300:]!r}")
    return found


def _file_systems(df: str, mounts: str) -> dict[str, FileSystem]:
    options = {}
    for line in mounts.splitlines():
        _, mount_point, kind, settings, *_ = line.split()
        options[mount_point] = (kind, "ro" in settings.split(","))
    found = {}
    for line in df.splitlines()[1:]:
        source, size_kb, _, available_kb, _, mount_point = line.split()
        kind, is_read_only = options[mount_point]
        found[mount_point] = FileSystem(
            source, mount_point, kind, is_read_only, int(size_kb) * 1024, int(available_kb) * 1024
        )
    return found


def _interfaces(text: str) -> dict[str, Interface]:
    found = {}
    for line in text.splitlines():
        name, driver, speed, duplex, state = line.split()
        found[name] = Interface(name, driver, int(speed), duplex, state)
    return found
