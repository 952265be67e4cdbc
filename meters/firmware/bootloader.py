"""The bootloader: which program starts, trials of a new one, and the way back.

Its state is one record: a power cut leaves the old one or the new one. A program on trial that has not confirmed itself
after `MAX_TRIES` starts, or whose slot is damaged, is given up for the one before it; the factory's program is the last
resort, and always there.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meters.firmware.partitions import BOOTLOADER, PartitionView
from meters.firmware.slots import InstalledImage, Slot, SlotStore
from meters.firmware.storage import RecordStore
from meters.hardware.flash import Flash
from protocols.firmware.faults import FirmwareError
from protocols.firmware.file import TrustedKeys
from protocols.ports import Trace

MAX_TRIES = 3
_STATE, _ROLLED_BACK = "state", "rolled_back"


class BootStatus(enum.StrEnum):
    CONFIRMED = "confirmed"
    TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class BootState:
    """`tries` counts the starts of a trial; `fallback` is what ran before it."""

    slot: Slot = Slot.FACTORY
    status: BootStatus = BootStatus.CONFIRMED
    tries: int = 0
    fallback: Slot = Slot.FACTORY

    def encode(self) -> bytes:
        return f"{self.slot} {self.status} {self.tries} {self.fallback}".encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> BootState:
        """The factory's state for what `encode` did not make: the meter must start."""
        try:
            slot, status, tries, fallback = data.decode("ascii").split()
            return cls(Slot(slot), BootStatus(status), int(tries), Slot(fallback))
        except ValueError:
            return cls()


@dataclass(frozen=True, slots=True)
class Boot:
    """What has started. `image` is None for the factory's program; `rolled_back` says which version was given up
    since the last installation, and why, or is empty."""

    slot: Slot
    on_trial: bool
    image: InstalledImage | None
    rolled_back: str = ""


class Bootloader:
    """Made anew at every start. Raises StorageError if its partition is worn out, PowerLostError as the flash does."""

    def __init__(self, flash: Flash, keys: TrustedKeys, trace: Trace) -> None:
        self._records = RecordStore(PartitionView(flash, BOOTLOADER))
        self._slots = SlotStore(flash, keys)
        self._trace = trace

    @property
    def state(self) -> BootState:
        saved = self._records.get(_STATE)
        return BootState() if saved is None else BootState.decode(saved)

    def boot(self) -> Boot:
        """Choose a program, and count the start if it is on trial."""
        state = self.state
        if state.status is BootStatus.TRIAL:
            if state.tries >= MAX_TRIES:
                state = self._give_up(state, f"not confirmed in {MAX_TRIES} starts")
            else:
                state = BootState(state.slot, state.status, state.tries + 1, state.fallback)
                self._keep(state)
        image: InstalledImage | None = None
        while state.slot is not Slot.FACTORY and image is None:
            try:
                image = self._slots.read(state.slot)
            except FirmwareError as error:
                state = self._give_up(state, f"slot {state.slot} is damaged: {error}")
        rolled_back = (self._records.get(_ROLLED_BACK) or b"").decode("ascii", "replace")
        version = "factory" if image is None else image.version
        self._trace("meter.boot", slot=state.slot.value, version=version, status=state.status.value, tries=state.tries)
        return Boot(state.slot, state.status is BootStatus.TRIAL, image, rolled_back)

    def install(self, image: InstalledImage) -> Slot:
        """Write `image` into the slot that does not run, and put it on trial for the next start.

        Raises FlashError if the slot cannot hold it: what runs stays.
        """
        state = self.state
        running = state.fallback if state.status is BootStatus.TRIAL else state.slot
        slot = Slot.B if running is Slot.A else Slot.A
        self._slots.write(slot, image)
        self._records.put_many({_STATE: BootState(slot, BootStatus.TRIAL, 0, running).encode(), _ROLLED_BACK: None})
        return slot

    def confirm(self) -> None:
        """The program that runs has proved itself."""
        state = self.state
        if state.status is BootStatus.TRIAL:
            self._keep(BootState(state.slot, BootStatus.CONFIRMED, 0, state.fallback))
            self._trace("meter.image_confirmed", slot=state.slot.value)

    def forget_rollback(self) -> None:
        self._records.delete(_ROLLED_BACK)

    def _give_up(self, state: BootState, why: str) -> BootState:
        back = BootState(state.fallback, BootStatus.CONFIRMED, 0, Slot.FACTORY)
        self._records.put_many({_STATE: back.encode(), _ROLLED_BACK: why.encode("ascii", "replace")[:200]})
        self._trace("meter.image_rolled_back", slot=state.slot.value, to=back.slot.value, reason=why)
        return back

    def _keep(self, state: BootState) -> None:
        self._records.put(_STATE, state.encode())
