"""What is printed on a meter."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.errors import LocalProtocolError


@dataclass(frozen=True, slots=True)
class MeterIdentity:
    """Serial number (ASCII, 1 to 16 characters) and the radio's EUI-64 (8 bytes, as printed).

    Raises LocalProtocolError if they are of another form.
    """

    serial: str
    eui64: bytes

    def __post_init__(self) -> None:
        if not (self.serial.isascii() and 1 <= len(self.serial) <= 16):
            raise LocalProtocolError(f"a serial number has 1 to 16 ASCII characters: {self.serial!r}")
        if len(self.eui64) != 8:
            raise LocalProtocolError(f"an EUI-64 has 8 bytes, not {len(self.eui64)}")

    def logical_device_name(self, manufacturer: str) -> bytes:
        """Manufacturer's three letters and the end of the serial number, 16 bytes (IEC 62056-6-2, 4.1.8.2)."""
        return (manufacturer + self.serial[-13:].rjust(13, "0")).encode("ascii")
