"""The emulator of a lock-step run: QEMU with counted instructions, started and killed without the run's loop."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from images.dcu.build import Image
from images.dcu.workshop import find_program
from twin.errors import RigError
from twin.rigs.lockstep.pipes import Pipes
from twin.rigs.lockstep.protocol import VERSION
from twin.rigs.qemu.board import BOARD, last_words, machine_command
from twin.rigs.qemu.board import COMMAND_LINE as BOARD_COMMAND_LINE
from twin.rigs.qemu.machine import QEMU_LOG

SNAPSHOT = "lockstep"
SEMIHOSTING = "enable=on,target=native,userspace=on"
# One instruction is 2 ns: about the reference's processor. Idle time is skipped, and nothing looks at the host's clock.
_COUNTING = "shift=1,sleep=off"
_COMMAND_LINE = f"{BOARD_COMMAND_LINE} panic=-1 lockstep"
MADE_OF = (*BOARD, _COMMAND_LINE, _COUNTING, SEMIHOSTING)
"""What a snapshot of the machine depends on beside its image."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_END_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """`card` is the machine's own copy of the flash (qcow2); `logs` the folder for QEMU's words.

    `utc_s` is what its real-time clock shows when it is switched on; `seed` QEMU's own.
    """

    image: Image
    card: Path
    logs: Path
    utc_s: float
    seed: int = 0
    snapshot: str | None = None
    control: bool = False
    """Whether it waits for a machine-protocol client at `control_path` before it starts."""


def check_emulator() -> None:
    """Raises RigError where the QEMU at hand cannot run in lock-step, BuildError where there is none; with advice."""
    program = find_program("qemu-system-arm")
    asked = subprocess.run(
        [program, "-semihosting-config", SEMIHOSTING, "-version"],
        capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if asked.returncode:
        said = (asked.stderr.strip().splitlines() or ["it does not say why"])[0]
        raise RigError(
            f"this QEMU has no semihosting for programs, which the virtual clock needs ({said}); "
            "install QEMU 7.2 or newer, or use --clock real"
        )


def check_image(image: Image) -> None:
    """Raises RigError where the image cannot run in lock-step; says what to do."""
    if image.agent_version is None:
        raise RigError(
            f"the concentrator's image in {image.folder} has no lock-step agent, which the virtual clock needs; "
            "build it with `twin dcu build`, or use --clock real"
        )
    if image.agent_version != VERSION:
        raise RigError(
            f"the concentrator's image in {image.folder} has a lock-step agent of version {image.agent_version}, not "
            f"{VERSION}; build it again with `twin dcu build`, or use --clock real"
        )


class Emulator:
    """One run of QEMU, from power on to power off. The guest meets the simulator over `pipes`."""

    def __init__(self, options: EmulatorOptions) -> None:
        """Starts it. Raises BuildError if QEMU is missing."""
        self._options = options
        self.folder = Path(tempfile.mkdtemp(prefix="twin-lockstep-"))
        self.pipes = Pipes(self.folder)
        self._console = self.folder / "console"
        self._console_read = 0
        self.cpu_s = 0.0
        """Processor time that QEMU took, once it has ended."""
        with (options.logs / QEMU_LOG).open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.ended = os.pidfd_open(self._process.pid)
        """Becomes readable when QEMU has ended."""

    @property
    def control_path(self) -> Path:
        return self.folder / "qmp"

    def console_bytes(self) -> bytes:
        """What the console said since the last call."""
        try:
            with self._console.open("rb") as file:
                file.seek(self._console_read)
                said = file.read()
        except FileNotFoundError:
            return b""
        self._console_read += len(said)
        return said

    def status(self) -> int | None:
        """QEMU's exit status; None while it runs."""
        return self._process.poll()

    def processor_s(self) -> float:
        """Processor time that QEMU has taken so far."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return self.cpu_s
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def queued_s(self) -> float:
        """Time for which QEMU could have run and the host had no processor for it; zero where the host does not say."""
        queued_ns = 0
        for thread in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                queued_ns += int(thread.read_text(encoding="ascii").split()[1])
        return queued_ns / 1e9

    def kill(self) -> None:
        """The power fails. Returns when QEMU has ended and its files are closed."""
        if self._process.poll() is None:
            self.cpu_s = self.processor_s()
            self._process.kill()
            self._process.wait(_END_TIMEOUT_S)
        if self.folder.exists():
            os.close(self.ended)
            self.pipes.close()
            shutil.rmtree(self.folder)

    def last_words(self) -> str:
        """The end of QEMU's own log."""
        return last_words(self._options.logs / QEMU_LOG)

    def _arguments(self) -> list[str]:
        options, image = self._options, self._options.image
        base = datetime.fromtimestamp(int(options.utc_s), UTC).strftime("%Y-%m-%dT%H:%M:%S")
        joined = [
            "-icount", _COUNTING, "-semihosting-config", SEMIHOSTING, "-rtc", f"base={base},clock=vm",
            "-seed", str(options.seed), "-nic", "none", "-serial", f"file:{self._console}",
        ]  # fmt: skip
        if options.snapshot is not None:
            joined += ["-loadvm", options.snapshot]
        if options.control:
            joined += ["-qmp", f"unix:{self.control_path},server=on,wait=off"]
        return machine_command(image, image.device_tree, options.card, _COMMAND_LINE, *joined)
