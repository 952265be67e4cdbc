"""The device tree of the evaluation board, made that of the concentrator."""

from __future__ import annotations

import shutil
from pathlib import Path

from images.dcu.workshop import run

MODEL = "INHEMETER IHM-4000 DCU"
RTC_ADDRESS = 0x68
"""Of the DS1338 on the first I2C bus: a clock with a battery, without which every power cut would end in 1970."""
_BUS = "/soc/bus@2100000"
_FEC1 = f"{_BUS}/ethernet@2188000"
_EMPTY_SLOT = f"{_BUS}/mmc@2194000"
_UARTS = ("21ec000", "21f0000", "21f4000")
_RTC = f"{_BUS}/i2c@21a0000/rtc@68"


def write_device_tree(target: Path, original: Path) -> None:
    """Name the board, switch on UARTs 3 to 5, add the real-time clock, and give the cellular interface a fixed link.

    The emulated board's first Ethernet cannot reach its PHY over the second one's bus, so it is told its speed.
    """
    shutil.copyfile(original, target)
    run("fdtput", "-t", "s", target, "/", "model", MODEL)
    run("fdtput", "-d", target, _FEC1, "phy-handle")
    run("fdtput", "-c", target, f"{_FEC1}/fixed-link")
    run("fdtput", "-t", "u", target, f"{_FEC1}/fixed-link", "speed", "100")
    run("fdtput", target, f"{_FEC1}/fixed-link", "full-duplex")
    # The evaluation board's second card slot has no switch: the kernel would look into it once a second, for ever.
    run("fdtput", "-t", "s", target, _EMPTY_SLOT, "status", "disabled")
    for address in _UARTS:
        run("fdtput", "-t", "s", target, f"{_BUS}/serial@{address}", "status", "okay")
    run("fdtput", "-c", target, _RTC)
    run("fdtput", "-t", "s", target, _RTC, "compatible", "dallas,ds1338")
    run("fdtput", "-t", "u", target, _RTC, "reg", str(RTC_ADDRESS))


def write_real_time_tree(target: Path, tree: Path) -> None:
    """The same with the processor's own timer, for interrupts in real time.

    Each reload of the emulated i.MX timer loses the time for which the host made the guest wait. In lock-step the host
    makes nobody wait.
    """
    shutil.copyfile(tree, target)
    run("fdtput", "-t", "s", target, "/timer", "status", "okay")
