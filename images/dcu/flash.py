"""The NAND chip as a file: pages with their spare areas, programmed on the host as the board's own kernel would.

A page is 2,048 bytes and 64 bytes of spare area, in this order, as the kernel's simulator keeps it. Bytes 40 to 63 of
the spare area hold the error-correcting code: the Hamming code of the kernel's software ECC, three bytes for each 256
bytes of data. The two bytes in front are the bad-block mark, 0xff in a good block.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from images.dcu.layout import (
    BLOCK_BYTES,
    BLOCKS,
    CARD_BYTES,
    OOB_BYTES,
    PAGE_BYTES,
    PAGES_PER_BLOCK,
    SUB_PAGE_BYTES,
    Partition,
)
from images.dcu.workshop import BuildError

ECC_STEP_BYTES = 256
_ECC_OFFSET = 40
_TABLE_PATTERN_OFFSET = 8
_ERASED_PAGE = b"\xff" * PAGE_BYTES
_ERASED_SPARE = b"\xff" * OOB_BYTES
_PARITY = bytes(value.bit_count() & 1 for value in range(256))
# For each bit of a byte's index: a mask that picks the bytes whose index has that bit.
_LINES = tuple(
    int.from_bytes(bytes(0xFF if index >> bit & 1 else 0 for index in range(ECC_STEP_BYTES)), "little")
    for bit in range(8)
)
_COLUMNS = (0xF0, 0x0F, 0xCC, 0x33, 0xAA, 0x55)


def hamming(step: bytes) -> bytes:
    """The code of 256 bytes of data: line parities 15 to 8, 7 to 0, column parities with two set bits below."""
    parities = int.from_bytes(step.translate(_PARITY), "little")
    total = parities.bit_count() & 1
    lines = 0
    for bit, mask in enumerate(_LINES):
        odd = (parities & mask).bit_count() & 1
        lines |= (odd << 1 | (odd ^ total)) << 2 * bit
    column = int.from_bytes(step, "little")
    for width in (1024, 512, 256, 128, 64, 32, 16, 8):
        column ^= column >> width
    column &= 0xFF
    columns = 0
    for mask in _COLUMNS:
        columns = columns << 1 | ((column & mask).bit_count() & 1)
    return bytes((~(lines >> 8) & 0xFF, ~lines & 0xFF, (~columns & 0x3F) << 2 | 3))


def program_page(data: bytes) -> bytes:
    """A programmed page with its spare area; a page of 0xff stays erased."""
    if data == _ERASED_PAGE:
        return data + _ERASED_SPARE
    spare = bytearray(_ERASED_SPARE)
    for number in range(PAGE_BYTES // ECC_STEP_BYTES):
        step = data[number * ECC_STEP_BYTES : (number + 1) * ECC_STEP_BYTES]
        spare[_ECC_OFFSET + 3 * number : _ECC_OFFSET + 3 * number + 3] = hamming(step)
    return data + bytes(spare)


def read_page(dump: bytes) -> bytes:
    """The data of one page of a dump. Raises BuildError where its code does not fit its data."""
    data = dump[:PAGE_BYTES]
    if program_page(data) != dump:
        raise BuildError("a page of the flash dump does not fit its error-correcting code")
    return data


def erase_counter_header(image_sequence: int) -> bytes:
    """UBI's header of a block that holds nothing: never erased, data from the second page on."""
    head = struct.pack(">4sB3xQIII32x", b"UBI#", 1, 0, SUB_PAGE_BYTES, PAGE_BYTES, image_sequence)
    return head + struct.pack(">I", zlib.crc32(head) ^ 0xFFFFFFFF)


def _blank_block(image_sequence: int) -> bytes:
    first = erase_counter_header(image_sequence).ljust(PAGE_BYTES, b"\xff")
    return program_page(first) + (_ERASED_PAGE + _ERASED_SPARE) * (PAGES_PER_BLOCK - 1)


def _program_block(data: bytes) -> bytes:
    pages = (data[offset : offset + PAGE_BYTES] for offset in range(0, BLOCK_BYTES, PAGE_BYTES))
    return b"".join(program_page(page) for page in pages)


def _partition_blocks(partition: Partition, ubi_image: Path, image_sequence: int) -> Iterator[bytes]:
    image = ubi_image.read_bytes()
    used, rest = divmod(len(image), BLOCK_BYTES)
    if rest or used > partition.blocks:
        raise BuildError(f"{ubi_image.name} has {used} blocks, partition {partition.name} {partition.blocks}")
    for number in range(used):
        yield _program_block(image[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])
    blank = _blank_block(image_sequence)
    for _ in range(partition.blocks - used):
        yield blank


def _bad_block_table(pattern: bytes) -> bytes:
    """The block that holds the table of bad blocks: two bits a block, set for a good one; pattern and version spare."""
    spare = bytearray(_ERASED_SPARE)
    spare[_TABLE_PATTERN_OFFSET : _TABLE_PATTERN_OFFSET + 5] = pattern + b"\x01"
    return _ERASED_PAGE + bytes(spare) + (_ERASED_PAGE + _ERASED_SPARE) * (PAGES_PER_BLOCK - 1)


def write_card(target: Path, contents: list[tuple[Partition, Path]], image_sequence: int) -> None:
    """Write the chip with these partitions from its first block on, and the unused rest of the card behind it.

    The last two blocks are the table of bad blocks and its mirror, without which the kernel reads every block at start.
    """
    erased_block = (_ERASED_PAGE + _ERASED_SPARE) * PAGES_PER_BLOCK
    with target.open("wb") as file:
        written = 0
        for partition, ubi_image in contents:
            for block in _partition_blocks(partition, ubi_image, image_sequence):
                file.write(block)
                written += 1
        for _ in range(BLOCKS - written - 2):
            file.write(erased_block)
        file.write(_bad_block_table(b"1tbB"))
        file.write(_bad_block_table(b"Bbt0"))
        file.truncate(CARD_BYTES)
