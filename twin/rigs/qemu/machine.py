"""One emulated IHM-4000: QEMU with its flash chip, serial lines and network, and the switches on it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from images.dcu.build import Image
from twin.errors import RigError
from twin.rigs.qemu.board import COMMAND_LINE, last_words, machine_command
from twin.rigs.qemu.lines import Console, MaintenanceLine, SerialSocket
from twin.rigs.qemu.qmp import Qmp

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
_QMP_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 20.0
LINES = ("console", "radio", "maintenance", "gps", "modem")
"""The guest's UARTs, ttymxc0 to ttymxc4."""
SNAPSHOT = "ready"
CONSOLE_LOG = "dcu-console.log"
QEMU_LOG = "dcu-qemu.log"


class Power(enum.Enum):
    OFF = "off"
    ON = "on"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """`card` is the machine's own copy of the flash, a qcow2 file; `logs` the folder of console and emulator logs."""

    image: Image
    card: Path
    logs: Path
    command_line: str = COMMAND_LINE


def new_card(image: Image, card: Path) -> None:
    """A fresh chip as the factory programmed it: a qcow2 file that keeps what changes."""
    _qemu_img("create", "-q", "-f", "qcow2", "-b", str(image.card.absolute()), "-F", "raw", str(card))


def _qemu_img(*arguments: str) -> None:
    from images.dcu.workshop import run

    run("qemu-img", *arguments)


class Machine:
    """A board with a power switch. What is in flash survives everything but `new_card`."""

    def __init__(self, options: MachineOptions) -> None:
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self._sockets: Path | None = None
        self._qmp: Qmp | None = None
        self._lines: dict[str, SerialSocket] = {}
        self._console: Console | None = None
        self._maintenance: MaintenanceLine | None = None
        self._is_paused = False

    @property
    def power(self) -> Power:
        if self._process is None or self._process.returncode is not None:
            return Power.OFF
        return Power.PAUSED if self._is_paused else Power.ON

    @property
    def console(self) -> Console:
        """Raises RigError when the machine was never on."""
        return _there(self._console)

    @property
    def maintenance(self) -> MaintenanceLine:
        return _there(self._maintenance)

    def line(self, name: str) -> SerialSocket:
        """One of LINES."""
        return _there(self._lines.get(name))

    async def power_on(self, *, snapshot: bool = False) -> None:
        """Boot from cold, or go on from the snapshot in the card. Returns when its lines are connected.

        Raises RigError if QEMU is missing or does not come up, and if the machine is on already.
        """
        if self.power is not Power.OFF:
            raise RigError("the machine is on already")
        self._sockets = Path(tempfile.mkdtemp(prefix="twin-dcu-"))  # socket paths have to be short
        with (self._options.logs / QEMU_LOG).open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments(snapshot), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._is_paused = False
        try:
            async with asyncio.timeout(_QMP_TIMEOUT_S):
                self._qmp = await self._connect_qmp()
                self._lines = {name: await SerialSocket.connect(self._sockets / name) for name in LINES}
        except (TimeoutError, OSError, RigError) as error:
            self.cut_power()
            raise RigError(f"QEMU does not come up: {last_words(self._options.logs / QEMU_LOG) or error}") from error
        self._console = Console(self._lines["console"])
        self._maintenance = MaintenanceLine(self._lines["maintenance"])
        await self._qmp.execute("cont")

    def cut_power(self) -> None:
        """The power fails: QEMU is killed at once, and what was not in flash is gone."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
        self._forget_lines()

    async def power_off(self) -> None:
        """Cut the power, and wait until the emulator has ended."""
        self.cut_power()
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _END_TIMEOUT_S)
            self._process = None

    async def pause(self) -> None:
        """Stop the guest's processor and its time."""
        await _there(self._qmp).execute("stop")
        self._is_paused = True

    async def resume(self) -> None:
        await _there(self._qmp).execute("cont")
        self._is_paused = False

    async def reset(self) -> None:
        """Press the reset button: the guest boots from cold, the lines stay."""
        await _there(self._qmp).execute("system_reset")

    async def save_snapshot(self) -> None:
        """Keep the whole state of the machine in its card, in place of an earlier one."""
        await _there(self._qmp).monitor(f"savevm {SNAPSHOT}")

    async def quit(self) -> None:
        """An orderly end of the emulator, with all that it holds written to its files. The guest sees a power cut."""
        with contextlib.suppress(RigError):
            await _there(self._qmp).execute("quit")
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _END_TIMEOUT_S)
            except TimeoutError as error:
                raise RigError("QEMU does not end") from error
            finally:
                await self.power_off()

    # inside

    def _arguments(self, snapshot: bool) -> list[str]:
        options, sockets = self._options, self._sockets
        joined = ["-S", "-rtc", "base=utc,clock=host", "-qmp", f"unix:{sockets}/qmp,server=on,wait=off"]
        for name in LINES:
            log = f",logfile={options.logs / CONSOLE_LOG},logappend=on" if name == "console" else ""
            joined += ["-chardev", f"socket,id={name},path={sockets}/{name},server=on,wait=off{log}"]
            joined += ["-serial", f"chardev:{name}"]
        for name, network in (("cell", "10.0.3"), ("eth", "10.0.2")):
            joined += ["-netdev", f"user,id={name},net={network}.0/24,host={network}.2"]
            joined += ["-net", f"nic,netdev={name}"]
        if snapshot:
            joined += ["-loadvm", SNAPSHOT]
        image = options.image
        return machine_command(image, image.real_time_tree, options.card, options.command_line, *joined)

    async def _connect_qmp(self) -> Qmp:
        assert self._process is not None
        assert self._sockets is not None
        while True:
            if self._process.returncode is not None:
                raise RigError(f"it ended with status {self._process.returncode}")
            try:
                return await Qmp.connect(self._sockets / "qmp")
            except OSError:
                await asyncio.sleep(0.02)

    def _forget_lines(self) -> None:
        for line in self._lines.values():
            line.close()
        self._lines = {}
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None


def _there(part: T | None) -> T:
    if part is None:
        raise RigError("the machine is off")
    return part
