"""A concentrator that has booted in lock-step and waits for its identity: made once for each image.

The machine is saved while its agent sleeps, with its pipes closed, until an instant that was agreed: whatever moment of
that sleep the snapshot is taken at, a restored guest goes on from the same instant. One that was missed is noticed,
because the first thing a restored agent says is its time.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from images.dcu.build import Image
from images.dcu.workshop import Progress, Workshop
from twin.errors import RigError
from twin.rigs.lockstep.emulator import MADE_OF, SNAPSHOT, Emulator, EmulatorOptions, check_emulator, check_image
from twin.rigs.lockstep.pipes import TO_GUEST, TO_HOST, GuestGoneError, GuestSilentError
from twin.rigs.lockstep.protocol import (
    ENTROPY_BYTES,
    VERSION,
    Channel,
    Detach,
    Event,
    Grant,
    Hello,
    Record,
    Report,
    Welcome,
)
from twin.rigs.qemu.machine import new_card

CARD = "card.qcow2"
_RESUMES_AT = "resumes-at-ns"
_BOOT_LIMIT_S = 600.0
"""Of the host's time, for a boot and for the daemon's start."""
_BOOT_GUEST_S = 120
_SLEEP_NS = 600_000_000_000
"""How long the guest sleeps while it is saved: an idle machine skips it in about a second of the host's time, in which
it is caught asleep even on a busy host. Skipped at every start."""
_FACTORY_UTC_S = 1_767_225_600.0
_ATTEMPTS = 6
_SHOWN_CHARACTERS = 2000


def ready_card(image: Image, cache: Path, progress: Progress) -> tuple[Path, int]:
    """The card of a booted machine with its snapshot inside, and the guest's time (ns) at which it goes on.

    Booted now if the cache has none for this image. The snapshot holds no identity and no key. Blocks. Raises RigError
    if the image does not boot, or cannot run in lock-step.
    """
    check_emulator()
    check_image(image)
    workshop = Workshop(cache, progress)

    def make(folder: Path) -> None:
        for _ in range(_ATTEMPTS):
            if _boot_and_save(image, folder):
                return
        raise RigError(
            "the concentrator's snapshot for the virtual clock was not caught asleep; is the host overloaded?"
        )

    what = "booting the concentrator from cold in lock-step, once, for its snapshot"
    folder = workshop.step("lockstep", [image.folder.name, *MADE_OF, str(VERSION), str(_SLEEP_NS)], make, what)
    return folder / CARD, int((folder / _RESUMES_AT).read_text(encoding="utf-8"))


def _boot_and_save(image: Image, folder: Path) -> bool:
    card = folder / CARD
    card.unlink(missing_ok=True)
    new_card(image, card)
    options = EmulatorOptions(image, card, folder, _FACTORY_UTC_S, control=True)
    emulator = Emulator(options)
    try:
        with _Control(emulator) as control:
            resumes_at_ns = _boot(emulator) + _SLEEP_NS
            for name in (TO_HOST, TO_GUEST):
                (emulator.folder / name).unlink()
            control.begin("stop")
            emulator.pipes.send(Detach(resumes_at_ns))
            control.finish()
            control.monitor(f"savevm {SNAPSHOT}")
            control.ask("quit")
    except (GuestSilentError, GuestGoneError) as error:
        said = emulator.console_bytes().decode("utf-8", errors="replace")[-_SHOWN_CHARACTERS:]
        raise RigError(f"the concentrator does not boot in lock-step; the console's end:\n{said}") from error
    finally:
        emulator.kill()
    (folder / _RESUMES_AT).write_text(f"{resumes_at_ns}\n", encoding="utf-8")
    return _resumes(replace(options, snapshot=SNAPSHOT, control=False), resumes_at_ns)


def _resumes(options: EmulatorOptions, expected_ns: int) -> bool:
    """Whether a restored guest goes on at the agreed instant: it looks for its host as soon as it wakes."""
    trial = options.card.with_suffix(".trial")
    shutil.copyfile(options.card, trial)
    emulator = Emulator(replace(options, card=trial))
    try:
        said = emulator.pipes.receive(emulator.ended, _BOOT_LIMIT_S)
        return isinstance(said, Hello) and 0 <= said.time_ns - expected_ns < 1_000_000
    except (GuestSilentError, GuestGoneError) as error:
        raise RigError(f"the concentrator's snapshot cannot be restored: {emulator.last_words()}") from error
    finally:
        emulator.kill()
        trial.unlink()


def _boot(emulator: Emulator) -> int:
    """From cold until the daemon answers; gives the guest's time in ns."""
    report = _exchange(emulator, None)
    deadline_ns = report.time_ns + _BOOT_GUEST_S * 1_000_000_000
    asking = Record(Channel.MAINTENANCE, Event.DATA, 0, b'{"id": 1, "command": "status"}\n')
    answer = b""
    while report.time_ns < deadline_ns:
        second_ns = report.time_ns + 1_000_000_000
        report = _exchange(emulator, Grant(report.time_ns, second_ns, (asking,)))
        while True:
            answer += b"".join(record.data for record in report.records if record.channel is Channel.MAINTENANCE)
            if b'"unprovisioned"' in answer and report.quiet_until_ns > report.time_ns:
                return report.time_ns
            if report.time_ns >= second_ns:
                break
            report = _exchange(emulator, Grant(report.time_ns, second_ns))
    raise GuestSilentError


def _exchange(emulator: Emulator, grant: Grant | None) -> Report:
    """The report on a grant; without one, the guest's first, after the greetings."""
    if grant is None:
        emulator.pipes.receive(emulator.ended, _BOOT_LIMIT_S)
    emulator.pipes.send(grant or Welcome(bytes(ENTROPY_BYTES)))
    report = emulator.pipes.receive(emulator.ended, _BOOT_LIMIT_S)
    if not isinstance(report, Report):
        raise RigError(f"the lock-step agent said {type(report).__name__}, not Report")
    return report


class _Control:
    """QEMU's machine protocol, blocking: one command at a time, and one may be begun before it can be answered."""

    def __init__(self, emulator: Emulator) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_BOOT_LIMIT_S)
        for _ in range(1000):
            try:
                self._socket.connect(str(emulator.control_path))
                break
            except OSError:
                if emulator.status() is not None:
                    raise GuestGoneError from None
                time.sleep(0.01)
        else:
            raise RigError("QEMU does not open its control socket")
        self._file = self._socket.makefile("rb")
        self._read()
        self.ask("qmp_capabilities")

    def __enter__(self) -> _Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def begin(self, command: str, **arguments: object) -> None:
        request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def finish(self) -> Any:
        """The answer to the last `begin`. Raises RigError if it is a refusal."""
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RigError(f"QEMU refuses: {answer['error'].get('desc')}")

    def ask(self, command: str, **arguments: object) -> Any:
        self.begin(command, **arguments)
        return self.finish()

    def monitor(self, line: str) -> None:
        said = self.ask("human-monitor-command", **{"command-line": line})
        if said.strip():
            raise RigError(f"QEMU says to {line!r}: {said.strip()}")

    def _read(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise GuestGoneError
        answer: dict[str, Any] = json.loads(line)
        return answer
