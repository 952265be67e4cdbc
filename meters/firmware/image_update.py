"""Image transfer: from the first block to a program that runs and has confirmed itself (IEC 62056-6-2, class 18).

The record of the transfer, the blocks and the marks of the blocks are on flash: a power cut costs the block that was
being written, and nothing else.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from meters.firmware.bootloader import Boot, Bootloader
from meters.firmware.event_names import MeterEvent
from meters.firmware.events import EventRecorder
from meters.firmware.image_staging import StagingArea
from meters.firmware.partitions import STAGING, PartitionView
from meters.firmware.slots import InstalledImage
from meters.firmware.storage import RecordStore
from meters.hardware.flash import Flash, FlashError
from meters.models.schema import MeterModel
from protocols.errors import RemoteProtocolError, TwinError
from protocols.firmware.file import FirmwareFile, TrustedKeys, open_firmware
from protocols.ports import Trace

BLOCK_BYTES = 1320
"""One block as a multicast, with all that is around it, fits one datagram of the mesh: each costs it a flood. To a
single meter it goes by block transfer, where the association takes less at a time."""
_TRANSFER, _ENABLED = "image/transfer", "image/enabled"


class TransferStatus(enum.IntEnum):
    """image_transfer_status."""

    NOT_INITIATED = 0
    INITIATED = 1
    VERIFICATION_INITIATED = 2
    VERIFICATION_SUCCESSFUL = 3
    VERIFICATION_FAILED = 4
    ACTIVATION_INITIATED = 5
    ACTIVATION_SUCCESSFUL = 6
    ACTIVATION_FAILED = 7


_GOOD = (
    TransferStatus.VERIFICATION_SUCCESSFUL,
    TransferStatus.ACTIVATION_INITIATED,
    TransferStatus.ACTIVATION_SUCCESSFUL,
)


class Step(enum.Enum):
    INITIATE = enum.auto()
    VERIFY = enum.auto()
    FOUND_GOOD = enum.auto()
    FOUND_BAD = enum.auto()
    ACTIVATE = enum.auto()
    CONFIRMED = enum.auto()
    GIVEN_UP = enum.auto()
    INTERRUPTED = enum.auto()
    """Power failed before the new program was in its slot."""


_T, _S = TransferStatus, Step
TRANSITIONS = {
    **{(status, _S.INITIATE): _T.INITIATED for status in _T},
    (_T.INITIATED, _S.VERIFY): _T.VERIFICATION_INITIATED,
    (_T.VERIFICATION_SUCCESSFUL, _S.VERIFY): _T.VERIFICATION_INITIATED,
    (_T.VERIFICATION_FAILED, _S.VERIFY): _T.VERIFICATION_INITIATED,
    (_T.VERIFICATION_INITIATED, _S.VERIFY): _T.VERIFICATION_INITIATED,
    (_T.ACTIVATION_FAILED, _S.VERIFY): _T.VERIFICATION_INITIATED,
    (_T.VERIFICATION_INITIATED, _S.FOUND_GOOD): _T.VERIFICATION_SUCCESSFUL,
    (_T.VERIFICATION_INITIATED, _S.FOUND_BAD): _T.VERIFICATION_FAILED,
    (_T.VERIFICATION_SUCCESSFUL, _S.ACTIVATE): _T.ACTIVATION_INITIATED,
    (_T.ACTIVATION_INITIATED, _S.CONFIRMED): _T.ACTIVATION_SUCCESSFUL,
    (_T.ACTIVATION_INITIATED, _S.GIVEN_UP): _T.ACTIVATION_FAILED,
    (_T.ACTIVATION_INITIATED, _S.INTERRUPTED): _T.VERIFICATION_SUCCESSFUL,
}


class ImageRefused(TwinError):  # noqa: N818 (it is an answer)
    """A method cannot be done now; the text says why."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The record of a transfer. `report` says what became of it, in words."""

    identifier: bytes = b""
    size_bytes: int = 0
    status: TransferStatus = TransferStatus.NOT_INITIATED
    report: str = ""

    def encode(self) -> bytes:
        return json.dumps([self.identifier.hex(), self.size_bytes, int(self.status), self.report]).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Transfer:
        """None was begun, if `encode` did not make it."""
        try:
            identifier, size_bytes, status, report = json.loads(data)
            return cls(bytes.fromhex(identifier), int(size_bytes), TransferStatus(status), str(report))
        except (ValueError, TypeError):
            return cls()


@dataclass(frozen=True, slots=True)
class ImageParts:
    """What the update works with. `restart` resets the meter shortly after."""

    flash: Flash
    bootloader: Bootloader
    keys: TrustedKeys
    model: MeterModel
    """As the factory made the meter, whatever runs now."""
    check: Callable[[InstalledImage], object]
    """Raises FirmwareError for a program that this meter cannot run."""
    parameters: RecordStore
    events: EventRecorder
    trace: Trace
    restart: Callable[[], None]


class ImageUpdate:
    """The transfer of one image at a time. `boot` is what runs now."""

    def __init__(self, parts: ImageParts, boot: Boot) -> None:
        self._parts = parts
        self._boot = boot
        self._view = PartitionView(parts.flash, STAGING)
        saved = parts.parameters.get(_TRANSFER)
        self._transfer = Transfer() if saved is None else Transfer.decode(saved)
        self._staging: StagingArea | None = None
        if self._transfer.size_bytes:
            self._staging = StagingArea(self._view, size_bytes=self._transfer.size_bytes, block_bytes=BLOCK_BYTES)

    # what is there

    @property
    def status(self) -> TransferStatus:
        return self._transfer.status

    @property
    def report(self) -> str:
        """What became of the last image, in words; empty while nothing has."""
        return self._transfer.report

    @property
    def staging(self) -> StagingArea | None:
        return self._staging

    @property
    def on_trial(self) -> bool:
        return self._boot.on_trial

    @property
    def enabled(self) -> bool:
        return self._parts.parameters.get(_ENABLED) != b"\0"

    def enable(self, enabled: bool) -> None:
        self._parts.parameters.put(_ENABLED, bytes((enabled,)))

    def staged(self) -> FirmwareFile | None:
        """The image that was verified, None unless one was."""
        if self._staging is None or self.status not in _GOOD:
            return None
        try:
            return FirmwareFile.decode(self._staging.image())
        except RemoteProtocolError:
            return None

    # life

    def started(self) -> None:
        """The firmware has started: what has become of an activation?"""
        if self.status is not TransferStatus.ACTIVATION_INITIATED or self._boot.on_trial:
            return
        if self._boot.rolled_back:
            self._change(Step.GIVEN_UP, f"rolled back: {self._boot.rolled_back}")
        elif self._runs_the_staged():
            self._confirmed()
        else:
            self._change(Step.INTERRUPTED, "activation was interrupted by a power failure")

    def confirm(self) -> None:
        """The program on trial has proved itself."""
        self._parts.bootloader.confirm()
        self._boot = replace(self._boot, on_trial=False)
        if self.status is TransferStatus.ACTIVATION_INITIATED:
            self._confirmed()

    def _confirmed(self) -> None:
        version = "" if self._boot.image is None else self._boot.image.version
        self._change(Step.CONFIRMED, f"{version} runs")
        self._parts.events.record(MeterEvent.FIRMWARE_ACTIVATED)

    def _runs_the_staged(self) -> bool:
        file, image = self.staged(), self._boot.image
        return file is not None and image is not None and file.head == image.head

    # methods

    def initiate(self, identifier: bytes, size_bytes: int) -> None:
        """Begin anew, whatever was there. Raises ImageRefused."""
        self._check_enabled()
        if self.on_trial:
            raise ImageRefused("the program that runs has not confirmed itself yet")
        capacity_bytes = StagingArea.capacity_bytes(self._view, BLOCK_BYTES)
        if not 1 <= size_bytes <= capacity_bytes:
            raise ImageRefused(f"an image of {size_bytes} bytes; there is room for {capacity_bytes}")
        self._parts.bootloader.forget_rollback()
        self._parts.parameters.delete(_TRANSFER)
        self._transfer, self._staging = Transfer(), None
        try:
            self._staging = StagingArea.begin(self._view, size_bytes=size_bytes, block_bytes=BLOCK_BYTES)
        except FlashError as error:
            raise ImageRefused(f"the staging partition cannot be erased: {error}") from None
        self._transfer = Transfer(identifier, size_bytes)
        self._change(Step.INITIATE, "")

    def take_block(self, number: int, data: bytes) -> None:
        """Store one block; one that is there already is not written again. Raises ImageRefused."""
        self._check_enabled()
        staging = self._staging
        if staging is None or self.status is not TransferStatus.INITIATED:
            raise ImageRefused("no transfer has been initiated")
        if number >= staging.block_count:
            raise ImageRefused(f"no block {number}, the image has {staging.block_count}")
        if len(data) != staging.length_of(number):
            raise ImageRefused(f"block {number} has {staging.length_of(number)} bytes, not {len(data)}")
        try:
            staging.write(number, data)
        except FlashError as error:
            raise ImageRefused(f"block {number} cannot be stored: {error}") from None

    def verify(self) -> InstalledImage:
        """Check everything: size, hashes, signature, target, and whether the program fits this meter.

        Raises ImageRefused with the reason, which `report` keeps.
        """
        self._check_enabled()
        if (self.status, Step.VERIFY) not in TRANSITIONS or self._staging is None:
            raise ImageRefused("no transfer has been initiated")
        if not self._staging.is_complete:
            raise ImageRefused(f"block {self._staging.first_missing} is missing")
        self._change(Step.VERIFY, "")
        model = self._parts.model
        try:
            file, program = open_firmware(self._staging.image(), self._parts.keys)
            file.manifest.check_target(model.model, model.hardware_revision)
            image = InstalledImage(file.head, program)
            self._parts.check(image)
        except RemoteProtocolError as error:
            self._change(Step.FOUND_BAD, f"refused: {error}")
            self._parts.trace("meter.image_refused", reason=str(error))
            self._parts.events.record(MeterEvent.FIRMWARE_VERIFICATION_FAILED)
            raise ImageRefused(str(error)) from None
        self._change(Step.FOUND_GOOD, f"{file.manifest.identification} is ready")
        self._parts.events.record(MeterEvent.FIRMWARE_READY)
        return image

    def activate(self) -> None:
        """Verify, put the image into the slot that does not run, and restart into it. Raises ImageRefused."""
        if self.status >= TransferStatus.ACTIVATION_INITIATED and self.status is not TransferStatus.ACTIVATION_FAILED:
            raise ImageRefused("the image is being activated, or was")
        image = self.verify()
        self._change(Step.ACTIVATE, "")
        try:
            slot = self._parts.bootloader.install(image)
        except FlashError as error:
            self._change(Step.GIVEN_UP, f"the slot cannot be written: {error}")
            raise ImageRefused(str(error)) from None
        self._parts.trace("meter.image_installed", slot=slot.value, version=image.version)
        self._parts.restart()

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise ImageRefused("image transfer is disabled")

    def _change(self, step: Step, report: str) -> None:
        transfer = replace(self._transfer, status=TRANSITIONS[self.status, step], report=report[:200])
        self._parts.parameters.put(_TRANSFER, transfer.encode())
        self._transfer = transfer
        self._parts.trace("meter.image_status", status=transfer.status.name.lower(), report=transfer.report)
