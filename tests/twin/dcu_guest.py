"""A concentrator in QEMU for the tests: skipped out loud where a program that it needs is missing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from images.dcu.workshop import missing_programs
from twin.rigs.qemu.dcu import Emulated, prepare
from twin.rigs.qemu.machine import Machine, MachineOptions, new_card
from twin.rigs.qemu.snapshot import BOOT_TIMEOUT_S, copy_card

T = TypeVar("T")
_PIECE_CHARACTERS = 760


def emulated_or_skip() -> Emulated:
    """Image and snapshot out of the cache, or built now."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"the emulated concentrator needs {', '.join(missing)}")
    return prepare(print)


class Guest:
    """A machine, and the loop that it lives on."""

    def __init__(self, emulated: Emulated, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.emulated = emulated
        self.card = folder / "card.qcow2"
        self.machine = Machine(MachineOptions(emulated.image, self.card, folder))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def shell(self, command: str, timeout_s: float = 120.0) -> str:
        return self.run(self.machine.console.run(command, timeout_s=timeout_s)).strip()

    def put(self, place: str, content: bytes) -> None:
        """Write a file in the guest, in pieces that its shell's line holds."""
        encoded = base64.b64encode(content).decode("ascii")
        self.shell(f": > {place}.base64")
        for start in range(0, len(encoded), _PIECE_CHARACTERS):
            self.shell(f"echo {encoded[start : start + _PIECE_CHARACTERS]} >> {place}.base64")
        self.shell(f"busybox base64 -d {place}.base64 > {place} && rm {place}.base64")

    def from_snapshot(self) -> None:
        copy_card(self.emulated.ready, self.card)
        self.run(self.machine.power_on(snapshot=True))
        self.run(self.machine.maintenance.wait_until_ready(timeout_s=BOOT_TIMEOUT_S))

    def from_cold(self) -> None:
        """A boot with the flash as it was left, or as the factory programmed it."""
        if not self.card.exists():
            new_card(self.emulated.image, self.card)
        self.run(self.machine.power_on())
        self.run(self.machine.maintenance.wait_until_ready(timeout_s=BOOT_TIMEOUT_S))

    def cut_power(self) -> None:
        self.machine.cut_power()
        self.run(self.machine.power_off())


@contextlib.contextmanager
def guest_in(folder: Path) -> Iterator[Guest]:
    """A guest that is off; whatever happens, its emulator ends."""
    guest = Guest(emulated_or_skip(), folder)
    try:
        yield guest
    finally:
        guest.cut_power()
        guest.run(guest.loop.shutdown_asyncgens())
        guest.loop.close()
