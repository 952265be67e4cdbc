"""The two slots for programs. The factory's own program is in neither: it is always there.

A slot's first erase block holds header, manifest and signature of the file that the program came in; the program itself
follows, unpacked. The first block is written last: without it there is nothing in the slot.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meters.firmware.partitions import SLOT_A, SLOT_B, PartitionView
from meters.hardware.flash import Flash
from protocols.firmware.faults import FirmwareError, FirmwareFault
from protocols.firmware.file import FirmwareHead, TrustedKeys


class Slot(enum.StrEnum):
    FACTORY = "factory"
    A = "a"
    B = "b"


_PARTITIONS = {Slot.A: SLOT_A, Slot.B: SLOT_B}


@dataclass(frozen=True, slots=True)
class InstalledImage:
    """What a slot holds, checked: whole, unchanged, and signed by somebody who is trusted."""

    head: FirmwareHead
    program: bytes

    @property
    def version(self) -> str:
        return self.head.manifest.version


class SlotStore:
    """Reads and writes the slots of one flash."""

    def __init__(self, flash: Flash, keys: TrustedKeys) -> None:
        self._flash = flash
        self._keys = keys

    def read(self, slot: Slot) -> InstalledImage:
        """Raises FirmwareError if there is no program that may run."""
        view = self._view(slot)
        head = FirmwareHead.decode(view.read(0, view.block_bytes))
        head.check_signature(self._keys)
        size = head.manifest.program_size_bytes
        if size > view.size_bytes - view.block_bytes:
            raise FirmwareError(FirmwareFault.SIZE, f"a program of {size} bytes does not fit the slot")
        program = view.read(view.block_bytes, size)
        head.check_program(program)
        return InstalledImage(head, program)

    def write(self, slot: Slot, image: InstalledImage) -> None:
        """Replace what is in the slot. Raises FlashError on a bad block: the slot then holds nothing."""
        view = self._view(slot)
        view.erase(0)
        last = -(-len(image.program) // view.block_bytes)
        for block in range(1, last + 1):
            if not view.is_erased(block):
                view.erase(block)
        view.program(view.block_bytes, image.program)
        view.program(0, image.head.encode())

    def _view(self, slot: Slot) -> PartitionView:
        return PartitionView(self._flash, _PARTITIONS[slot])
