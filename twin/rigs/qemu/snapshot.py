"""A concentrator that has booted and waits for its identity: made once for each image, and copied for each run."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from images.dcu.build import Image
from images.dcu.workshop import Progress, Workshop
from twin.errors import RigError
from twin.rigs.qemu.board import BOARD, COMMAND_LINE
from twin.rigs.qemu.machine import Machine, MachineOptions, new_card

BOOT_TIMEOUT_S = 400.0
_CARD = "card.qcow2"
_STATE_UNPROVISIONED = "unprovisioned"


def ready_card(image: Image, cache: Path, progress: Progress) -> Path:
    """The card of a booted machine, with its snapshot inside; booted now if the cache has none for this image.

    The snapshot holds no identity and no key: it is saved before any provisioning. Blocks until it is there.
    Raises RigError if the image does not boot.
    """
    workshop = Workshop(cache, progress)

    def make(folder: Path) -> None:
        asyncio.run(_boot_and_save(image, folder))

    what = "booting the concentrator from cold, once, for its snapshot"
    return workshop.step("snapshot", [image.folder.name, *BOARD, COMMAND_LINE], make, what) / _CARD


def copy_card(ready: Path, target: Path) -> None:
    """A run's own copy of the card with its snapshot."""
    shutil.copyfile(ready, target)


async def _boot_and_save(image: Image, folder: Path) -> None:
    card = folder / _CARD
    new_card(image, card)
    machine = Machine(MachineOptions(image, card, folder))
    await machine.power_on()
    try:
        status = await _first_status(machine)
        if status["state"] != _STATE_UNPROVISIONED:
            raise RigError(f"a fresh concentrator is {status['state']}, not {_STATE_UNPROVISIONED}")
        await machine.save_snapshot()
        await machine.quit()
    finally:
        await machine.power_off()


async def _first_status(machine: Machine) -> dict[str, Any]:
    try:
        return await machine.maintenance.wait_until_ready(timeout_s=BOOT_TIMEOUT_S)
    except RigError as error:
        raise RigError(f"{error}; the console's end:\n{machine.console.tail()}") from None
