"""The emulated board: what every machine is made of and started with, in real time and in lock-step."""

from __future__ import annotations

import shutil
from pathlib import Path

from images.dcu.board import RTC_ADDRESS
from images.dcu.build import Image
from images.dcu.workshop import find_program

_MEMORY_MB = 256
_CLOCK_SOURCE = "mxc_timer1"
"""The i.MX general purpose timer, 24 MHz. It counts freely. In real time interrupts come from the processor's own
timer, because each reload of the emulated one loses the time for which the host made the guest wait."""
_SYSTEM_COUNTER_HZ = 24_390_243
"""Of the processor's timer: the emulator counts its period in whole nanoseconds, here 41."""
BOARD = (
    "-M", "mcimx6ul-evk", "-m", str(_MEMORY_MB), "-global", f"cortex-a7-arm-cpu.cntfrq={_SYSTEM_COUNTER_HZ}",
    "-device", f"ds1338,bus=i2c-bus.0,address={RTC_ADDRESS:#x}",
)  # fmt: skip
"""What the machine is made of. A snapshot goes on only in a machine that is made of the same."""
COMMAND_LINE = f"console=ttymxc0,115200 quiet clocksource={_CLOCK_SOURCE}"
"""Of the kernel."""


def machine_command(image: Image, device_tree: Path, card: Path, command_line: str, *more: str) -> list[str]:
    """The command that runs the board with an image and a flash card (qcow2); `more` is what is joined to it.

    The emulator does not outlive the process that starts it, where the host can see to that. Raises BuildError if it is
    missing.
    """
    arguments = [
        find_program("qemu-system-arm"), *BOARD, "-kernel", str(image.kernel.absolute()),
        "-dtb", str(device_tree.absolute()), "-initrd", str(image.initramfs.absolute()), "-append", command_line,
        "-display", "none", "-no-reboot", "-monitor", "none",
        # The guest's writes reach the host's file at once, also in qcow2's own tables: QEMU may be killed.
        "-drive", f"file={card.absolute()},format=qcow2,if=sd,index=0,cache.writeback=off,cache.no-flush=on",
        *more,
    ]  # fmt: skip
    guard = shutil.which("setpriv")
    return [guard, "--pdeathsig", "KILL", *arguments] if guard else arguments


def last_words(log: Path) -> str:
    """The end of what the emulator itself said; nothing where it never ran."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "; ".join(text.strip().splitlines()[-3:])
