"""Why a firmware file is refused: one name for each check, the same at the head-end, the concentrator and the meter."""

from __future__ import annotations

from enum import StrEnum

from protocols.errors import RemoteProtocolError

SPEC = "docs/firmware-format.md"


class FirmwareFault(StrEnum):
    """What is wrong with a file, in the order in which it is looked for."""

    MAGIC = "magic"
    """It is no firmware file at all."""
    FORMAT = "format"
    """A version of the format that is not known."""
    SIZE = "size"
    """Shorter or longer than it declares, or beyond what a meter can hold."""
    MANIFEST = "manifest"
    HASH = "hash"
    """The payload or the program is not the one whose SHA-256 the manifest names."""
    CHECKSUM = "checksum"
    """The payload's MD5 is not the manifest's."""
    SIGNATURE = "signature"
    """No key that is trusted has signed this manifest."""
    PROGRAM = "program"
    """It is genuine, but what it holds cannot run."""
    MODEL = "model"
    """For another meter model."""
    HARDWARE = "hardware"
    """For other hardware revisions of the model."""


class FirmwareError(RemoteProtocolError):
    """A firmware file that must not be used. `fault` says which check it failed, the text what was found."""

    def __init__(self, fault: FirmwareFault, message: str, *, offset: int | None = None) -> None:
        super().__init__(f"{fault}: {message}", offset=offset, spec=SPEC)
        self.fault = fault
