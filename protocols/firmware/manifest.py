"""The manifest: for which meters a firmware is, which version, and the sizes and digests of what it brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.firmware.faults import FirmwareError, FirmwareFault
from protocols.headend.json_text import decode_json, encode_json
from protocols.headend.shapes import Hex, Integer, ListOf, Optional, Text, decode_object, encode_object

MAX_FILE_BYTES = 384 * 1024 - 4096
"""What a meter's staging partition takes: 384 KiB less the erase block that counts the blocks."""
MAX_PROGRAM_BYTES = 448 * 1024 - 4096
"""What a meter's slot takes, less the erase block with manifest and signature."""
MAX_MANIFEST_BYTES = 2048
MODEL = Text(32, "[a-z][a-z0-9-]*", 1)
VERSION = Text(24, "[0-9A-Za-z][0-9A-Za-z.+-]*", 1)
HARDWARE_REVISION = Text(32, "[ -~]+", 1)
DIGEST = Hex(32, 32)


@dataclass(frozen=True, slots=True)
class Manifest:
    """`payload` is the program as it travels, compressed (RFC 1950); `program` is what it unpacks to.

    The digests are SHA-256. `payload_md5` is a checksum for tools that know nothing better; it proves nothing.
    """

    model: Annotated[str, MODEL]
    hardware_revisions: Annotated[tuple[str, ...], ListOf(HARDWARE_REVISION, 16, 1)]
    version: Annotated[str, VERSION]
    payload_size_bytes: Annotated[int, Integer(1, MAX_FILE_BYTES)]
    payload_sha256: Annotated[bytes, DIGEST]
    program_size_bytes: Annotated[int, Integer(1, MAX_PROGRAM_BYTES)]
    program_sha256: Annotated[bytes, DIGEST]
    payload_md5: Annotated[bytes | None, Optional(Hex(16, 16))] = None
    about: Annotated[str, Text(256)] = ""

    @property
    def identification(self) -> str:
        """How the image is called in image_to_activate_info."""
        return f"{self.model} {self.version}"

    def encode(self) -> bytes:
        """Canonical JSON. Raises LocalProtocolError if a field breaks its own rule."""
        body = encode_object(self)
        try:
            decode_object(Manifest, body, "")
        except RemoteProtocolError as error:
            raise LocalProtocolError(f"manifest: {error}") from None
        return encode_json(body)

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Raises FirmwareError naming the field that is wrong."""
        try:
            manifest = decode_object(cls, decode_json(data, MAX_MANIFEST_BYTES), "")
        except RemoteProtocolError as error:
            raise FirmwareError(FirmwareFault.MANIFEST, str(error)) from None
        if manifest.encode() != data:
            raise FirmwareError(FirmwareFault.MANIFEST, "not in its canonical form (RFC 8259, members in order)")
        return manifest

    def check_target(self, model: str, hardware_revision: str) -> None:
        """Raises FirmwareError unless it is for a meter of that model and hardware revision."""
        if self.model != model:
            raise FirmwareError(FirmwareFault.MODEL, f"for model {self.model}, this meter is {model}")
        if hardware_revision not in self.hardware_revisions:
            revisions = ", ".join(self.hardware_revisions)
            raise FirmwareError(FirmwareFault.HARDWARE, f"for {revisions}, this meter is {hardware_revision}")
