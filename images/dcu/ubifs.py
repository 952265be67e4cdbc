"""Takes out of a fresh UBIFS image what differs from build to build: its random identity and inode change times."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from images.dcu.layout import LEB_BYTES
from images.dcu.workshop import BuildError

_MAGIC = 0x06101831
_HEADER = struct.Struct("<IIQIBBxx")
"""Common header of every node: magic, CRC-32, sequence number, length, node type, group type."""
_NODE_INODE, _NODE_SUPERBLOCK = 0, 6
_INODE_TIMES = struct.Struct("<QQQIII")
"""Access, change and modification time in seconds, then the same in nanoseconds."""
_INODE_TIMES_OFFSET = 24 + 16 + 8 + 8
_UUID_OFFSET = 24 + 84
_UUID = bytes.fromhex("49484d34303030404f70656e414d4900")


def _nodes(image: bytearray) -> Iterator[tuple[int, int, int]]:
    """Offset, length and type of every node."""
    for start in range(0, len(image), LEB_BYTES):
        offset, end = start, min(start + LEB_BYTES, len(image))
        while offset + _HEADER.size <= end:
            magic, crc, _, length, kind, _ = _HEADER.unpack_from(image, offset)
            if magic != _MAGIC or length < _HEADER.size or offset + length > end:
                offset += 8
                continue
            if zlib.crc32(image[offset + 8 : offset + length]) ^ 0xFFFFFFFF != crc:
                offset += 8
                continue
            yield offset, length, kind
            offset += -(-length // 8) * 8


def normalize(path: Path, time_s: int) -> None:
    """Give every inode of the image the same times, in seconds since 1970, and the image a fixed identity.

    Raises BuildError if it is no UBIFS image.
    """
    image = bytearray(path.read_bytes())
    superblocks = 0
    for offset, length, kind in _nodes(image):
        if kind == _NODE_SUPERBLOCK:
            superblocks += 1
            image[offset + _UUID_OFFSET : offset + _UUID_OFFSET + 16] = _UUID
        elif kind == _NODE_INODE:
            _INODE_TIMES.pack_into(image, offset + _INODE_TIMES_OFFSET, time_s, time_s, time_s, 0, 0, 0)
        else:
            continue
        crc = zlib.crc32(image[offset + 8 : offset + length]) ^ 0xFFFFFFFF
        struct.pack_into("<I", image, offset + 4, crc)
    if superblocks != 1:
        raise BuildError(f"{path.name} is no UBIFS image: {superblocks} superblocks")
    path.write_bytes(image)
