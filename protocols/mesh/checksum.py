"""Frame check sequences of IEEE 802.15.4-2015, 7.2.11: CRC-16 for short frames, CRC-32 for SUN ones.

Both are sent low byte first and run over everything before them.
"""

from __future__ import annotations

from binascii import crc_hqx
from zlib import crc32

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

FCS16_BYTES = 2
FCS32_BYTES = 4
MAX_SHORT_PSDU_BYTES = 127
"""Up to this maximum size, frames carry the 2-byte FCS."""


def fcs16(data: bytes) -> bytes:
    """ITU-T CRC-16 as 802.15.4 uses it: reflected, initial value 0. 2 bytes.

    `crc_hqx` is the same polynomial with the other bit order, so the bits are mirrored on the way in and out.
    """
    mirrored = crc_hqx(data.translate(_REVERSED), 0)
    return mirrored.to_bytes(2, "big").translate(_REVERSED)


def fcs32(data: bytes) -> bytes:
    """The IEEE 802 CRC-32. 4 bytes. Content under 4 bytes is extended with zeros for the computation."""
    return crc32(data if len(data) >= 4 else data.ljust(4, b"\0")).to_bytes(4, "little")


def fcs_size(max_psdu_bytes: int) -> int:
    """Bytes of FCS on a PHY whose frames have at most `max_psdu_bytes`."""
    return FCS16_BYTES if max_psdu_bytes <= MAX_SHORT_PSDU_BYTES else FCS32_BYTES


def append_fcs(data: bytes, size_bytes: int) -> bytes:
    return data + (fcs32(data) if size_bytes == FCS32_BYTES else fcs16(data))


def has_valid_fcs(psdu: bytes, size_bytes: int) -> bool:
    if len(psdu) <= size_bytes:
        return False
    content, fcs = psdu[:-size_bytes], psdu[-size_bytes:]
    return fcs == (fcs32(content) if size_bytes == FCS32_BYTES else fcs16(content))
