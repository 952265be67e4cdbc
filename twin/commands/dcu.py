"""`twin dcu`: the concentrator's ARMv7 image. Build it, boot it, look into it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from twin.commands.output import people, write_result

if TYPE_CHECKING:
    from images.dcu.build import Vendor
    from twin.rigs.qemu.dcu import Emulated
    from twin.rigs.qemu.hardware import HardwareProfile
    from twin.rigs.qemu.machine import Machine

dcu = typer.Typer(help="The concentrator's ARMv7 image in QEMU: build, boot, shell.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
_Kernel = Annotated[Path | None, typer.Option(help="A vendor's own zImage.")]
_DeviceTree = Annotated[Path | None, typer.Option("--dtb", help="A vendor's own device tree.")]
_Modules = Annotated[Path | None, typer.Option(help="A vendor's own modules: a folder with lib/modules/VERSION.")]
_Cold = Annotated[bool, typer.Option("--cold", help="Boot from cold instead of going on from the snapshot.")]
_Card = Annotated[Path | None, typer.Option(help="Keep the flash in this file; without it, it is forgotten.")]
_MIB = 1 << 20


def register(app: typer.Typer) -> None:
    app.add_typer(dcu, name="dcu")


@dcu.command()
def build(
    kernel: _Kernel = None,
    dtb: _DeviceTree = None,
    modules: _Modules = None,
    update: Annotated[bool, typer.Option("--update", help="Pin the newest packages that apt offers.")] = False,
    as_json: _Json = False,
) -> None:
    """Build kernel, device tree, initramfs and flash chip from packages, and the snapshot. Kept until an input changes.

    The packages are pinned at the first build; --update pins them anew. OPENAMI_TWIN_CACHE says where images are kept.
    """
    from images.dcu.build import Vendor

    started = time.perf_counter()
    emulated = _prepared(people(), Vendor(kernel, dtb, modules), update)
    image = emulated.image
    result = {
        "folder": str(image.folder),
        "snapshot": str(emulated.ready),
        "kernel_version": image.kernel_version,
        "sha256": image.digests(),
    }
    people().print(f"kernel {image.kernel_version}; {time.perf_counter() - started:.1f} s; {image.folder}")
    if as_json:
        write_result(json.dumps(result, indent=2) + "\n")


@dcu.command()
def boot(
    cold: _Cold = False,
    card: _Card = None,
    kernel: _Kernel = None,
    dtb: _DeviceTree = None,
    modules: _Modules = None,
    as_json: _Json = False,
) -> None:
    """Start the concentrator, wait for its daemon, and show the hardware as the guest sees it."""
    from images.dcu.build import Vendor

    emulated = _prepared(people(), Vendor(kernel, dtb, modules))

    async def main() -> tuple[float, HardwareProfile]:
        from twin.rigs.qemu.hardware import read_profile

        async with _running(emulated, cold=cold, card=card) as (machine, ready_s):
            return ready_s, await read_profile(machine.console.run)

    ready_s, profile = asyncio.run(main())
    _show(people(), profile, ready_s, "cold boot" if cold else "snapshot")
    if as_json:
        write_result(json.dumps({"daemon_ready_s": round(ready_s, 3), "profile": asdict(profile)}, indent=2) + "\n")


@dcu.command()
def shell(
    command: Annotated[str | None, typer.Option("--command", "-c", help="Run this, and end.")] = None,
    cold: _Cold = False,
    card: _Card = None,
    kernel: _Kernel = None,
    dtb: _DeviceTree = None,
    modules: _Modules = None,
) -> None:
    """A shell on the concentrator's console. Ctrl-] ends it, and cuts the power.

    With -c, what the command says goes to stdout, and `twin` ends with 1 if it failed there.
    """
    from images.dcu.build import Vendor

    if command is None and not sys.stdin.isatty():
        raise typer.BadParameter("no terminal here: give a command with -c")
    emulated = _prepared(people(), Vendor(kernel, dtb, modules))
    status = asyncio.run(_shell(emulated, command, cold=cold, card=card))
    if status:
        people().print(f"[red]the command ended with status {status} on the concentrator[/]")
        raise typer.Exit(1)


def _prepared(console: Console, vendor: Vendor | None = None, renew: bool = False) -> Emulated:
    from twin.rigs.qemu.dcu import prepare

    with console.status("looking for the image") as status:

        def progress(what: str) -> None:
            status.update(what)
            if not console.is_terminal:
                console.print(what)

        return prepare(progress, vendor=vendor, renew_packages=renew)


@asynccontextmanager
async def _running(emulated: Emulated, *, cold: bool, card: Path | None) -> AsyncIterator[tuple[Machine, float]]:
    """A machine whose daemon answers, and how long that took in seconds of wall clock."""
    from twin.rigs.qemu.machine import Machine, MachineOptions
    from twin.rigs.qemu.snapshot import BOOT_TIMEOUT_S

    with tempfile.TemporaryDirectory(prefix="twin-dcu-") as name:
        folder = Path(name)
        place = card or folder / "card.qcow2"
        goes_on = _put_in(emulated, place, cold)
        machine = Machine(MachineOptions(emulated.image, place, folder))
        started = time.perf_counter()
        try:
            await machine.power_on(snapshot=goes_on)
            await machine.maintenance.wait_until_ready(timeout_s=BOOT_TIMEOUT_S)
            yield machine, time.perf_counter() - started
        finally:
            await machine.power_off()


def _put_in(emulated: Emulated, card: Path, cold: bool) -> bool:
    """Make a card where there is none; gives whether the machine goes on from the snapshot in it."""
    from twin.rigs.qemu.machine import new_card
    from twin.rigs.qemu.snapshot import copy_card

    if card.exists():
        return False  # a chip that somebody has used starts as it was left
    if cold:
        new_card(emulated.image, card)
    else:
        copy_card(emulated.ready, card)
    return not cold


async def _shell(emulated: Emulated, command: str | None, *, cold: bool, card: Path | None) -> int:
    """Gives the status of `command` in the guest, 0 for a person's session."""
    async with _running(emulated, cold=cold, card=card) as (machine, ready_s):
        if command is not None:
            done = await machine.console.execute(command, timeout_s=600)
            write_result(done.output)
            return done.status
        people().print(f"[dim]ready after {ready_s:.1f} s; Ctrl-] ends[/]")
        await _interact(machine.line("console").write, machine.console.follow)
    return 0


async def _interact(write: Callable[[bytes], None], follow: Callable[[Callable[[bytes], None]], None]) -> None:
    """Join the terminal to the console until Ctrl-] is pressed or the input ends."""
    import os
    import termios
    import tty

    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def typed() -> None:
        data = os.read(terminal, 1024)
        if (not data or b"\x1d" in data) and not ended.done():
            ended.set_result(None)
        elif data:
            write(data)

    def said(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()

    tty.setraw(terminal)
    loop.add_reader(terminal, typed)
    follow(said)
    write(b"\n")
    try:
        await ended
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        people().print()


def _show(console: Console, profile: HardwareProfile, ready_s: float, how: str) -> None:
    table = Table("part", "as the guest sees it", box=None, pad_edge=False)
    table.add_row("board", profile.model)
    table.add_row("processor", f"{profile.machine}, {profile.processor}")
    table.add_row("kernel", f"Linux {profile.kernel}")
    memory = f"{profile.memory_total_bytes / _MIB:.0f} MiB, {profile.memory_available_bytes / _MIB:.0f} MiB available"
    table.add_row("memory", memory)
    table.add_row("clock", f"{profile.clocksource}, {profile.clock_resolution_ns} ns")
    manufacturer, chip = profile.nand_ids
    table.add_row("flash", f"{profile.nand_size_mib} MiB SLC NAND, id {manufacturer:02x} {chip:02x}")
    for system in profile.file_systems.values():
        if system.kind == "ubifs":
            mode = "read-only" if system.is_read_only else "read-write"
            sizes = f"{system.size_bytes / _MIB:.1f} M, {system.available_bytes / _MIB:.1f} M free"
            table.add_row(system.mount_point, f"{system.source}, ubifs, {mode}, {sizes}")
    for interface in profile.interfaces.values():
        speed = f"{interface.driver}, {interface.speed_mbps} Mbps {interface.duplex} duplex, {interface.state}"
        table.add_row(interface.name, speed)
    table.add_row("daemon", f"in {profile.daemon_folder}, {profile.daemon_tasks} tasks")
    table.add_row("ready", f"{ready_s:.1f} s after power on, {how}")
    console.print(table)
