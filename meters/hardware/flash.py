"""NOR flash: erase blocks and pages; programming only clears bits; blocks wear out; power can fail anywhere."""

from __future__ import annotations

import os
import random
import struct
import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import BadInputError, LocalProtocolError, TwinError

ERASED = 0xFF
_MAGIC = b"OAMIFLSH"
_HEADER = struct.Struct(">8sHIIII")
_HEADER_BYTES = 64
_BLOCK_STATE = struct.Struct(">IB")
IMAGE_VERSION = 1


class PowerLostError(TwinError):
    """The supply failed during a flash operation: for the firmware, the processor stops here."""


class FlashError(TwinError):
    """The device reports that a program or erase operation failed: the block is bad."""


@dataclass(frozen=True, slots=True)
class FlashGeometry:
    """Sizes of the device. Raises LocalProtocolError if they are not positive."""

    page_bytes: int = 256
    pages_per_block: int = 16
    block_count: int = 512

    def __post_init__(self) -> None:
        if min(self.page_bytes, self.pages_per_block, self.block_count) < 1:
            raise LocalProtocolError(f"a flash needs positive sizes: {self}")

    @property
    def block_bytes(self) -> int:
        return self.page_bytes * self.pages_per_block

    @property
    def size_bytes(self) -> int:
        return self.block_bytes * self.block_count


class Flash:
    """The device. `read`, `program` and `erase` are the firmware's, the rest is the bench's.

    Erased blocks take no memory. With an image file (`Flash.open`), every operation is in the file when it returns,
    so that the end of the process is a power cut and nothing else.
    """

    def __init__(self, geometry: FlashGeometry | None = None, *, endurance_erases: int = 100_000) -> None:
        self.geometry = geometry or FlashGeometry()
        self.endurance_erases = endurance_erases
        self._blocks: dict[int, bytearray] = {}
        self._erases = array("I", bytes(4 * self.geometry.block_count))
        self._bad: set[int] = set()
        self._file: int | None = None
        self.operations = 0
        """Program and erase operations so far: the cut points of a power failure."""
        self._fail_at: int | None = None
        self._fail_progress = 0.0
        self._dead = False
        self.on_power_lost: Callable[[], None] | None = None

    # the firmware's face

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Raises LocalProtocolError outside the device, PowerLostError without power."""
        self._check_range(offset_bytes, size_bytes)
        self._check_alive()
        block_bytes = self.geometry.block_bytes
        out = bytearray()
        while size_bytes:
            block, start = divmod(offset_bytes, block_bytes)
            size = min(size_bytes, block_bytes - start)
            data = self._blocks.get(block)
            out += b"\xff" * size if data is None else data[start : start + size]
            offset_bytes += size
            size_bytes -= size
        return bytes(out)

    def program(self, offset_bytes: int, data: bytes) -> None:
        """Clear bits within one page: what is read afterwards is old AND new.

        Raises FlashError on a bad block, LocalProtocolError across a page boundary, PowerLostError if the supply
        fails: the page is then torn.
        """
        self._check_range(offset_bytes, len(data))
        page_bytes = self.geometry.page_bytes
        if offset_bytes // page_bytes != (offset_bytes + max(len(data), 1) - 1) // page_bytes:
            raise LocalProtocolError(f"{len(data)} bytes at {offset_bytes:#x} cross a page of {page_bytes}")
        block, start = divmod(offset_bytes, self.geometry.block_bytes)
        progress = self._begin()
        if block in self._bad:
            raise FlashError(f"program of bad block {block} failed")
        content = self._blocks.setdefault(block, bytearray(b"\xff" * self.geometry.block_bytes))
        written = data if progress is None else self._torn_program(data, progress)
        stop = start + len(written)
        kept = int.from_bytes(content[start:stop], "big") & int.from_bytes(written, "big")
        content[start:stop] = kept.to_bytes(len(written), "big")
        self._store(block, start, len(data))
        if progress is not None:
            self._lose_power(f"while programming {offset_bytes:#x}")

    def erase(self, block: int) -> None:
        """Set every bit of a block.

        Raises FlashError on a bad or worn-out block, PowerLostError if the supply fails: the block is then torn.
        """
        self._check_range(block * self.geometry.block_bytes, self.geometry.block_bytes)
        progress = self._begin()
        self._erases[block] += 1
        if self._erases[block] > self.endurance_erases:
            self._bad.add(block)
        if block in self._bad:
            self._store(block, 0, 0)
            raise FlashError(f"erase of bad block {block} failed")
        if progress is None:
            self._blocks.pop(block, None)
        elif block in self._blocks:
            self._tear_erase(self._blocks[block], progress)
        self._store(block, 0, self.geometry.block_bytes)
        if progress is not None:
            self._lose_power(f"while erasing block {block}")

    # bench verbs

    def fail_power_at(self, operation: int, progress: float = 0.0) -> None:
        """Power fails in the operation with this number (`operations` counts them), when `progress` of it is done.

        Progress 0 is before the operation has touched a bit, 1 after it has finished.
        """
        self._fail_at, self._fail_progress = operation, progress

    def power_up(self) -> None:
        """The device works again after a power failure. One that has not happened yet still will."""
        self._dead = False

    def cancel_failure(self) -> None:
        """Forget a power failure that has not happened yet."""
        self._fail_at = None

    def mark_bad(self, block: int) -> None:
        """From now on programming and erasing `block` fails; what it holds can be read."""
        self._check_range(block * self.geometry.block_bytes, 1)
        self._bad.add(block)
        self._store(block, 0, 0)

    @property
    def bad_blocks(self) -> frozenset[int]:
        return frozenset(self._bad)

    def erase_count(self, block: int) -> int:
        """How often a block has been erased. Raises LocalProtocolError for one that there is not."""
        self._check_range(block * self.geometry.block_bytes, 1)
        return self._erases[block]

    def flip_bit(self, offset_bytes: int, bit: int) -> None:
        """Invert a stored bit, as disturbance or ageing would."""
        self._check_range(offset_bytes, 1)
        block, start = divmod(offset_bytes, self.geometry.block_bytes)
        content = self._blocks.setdefault(block, bytearray(b"\xff" * self.geometry.block_bytes))
        content[start] ^= 1 << bit
        self._store(block, start, 1)

    @property
    def used_bytes(self) -> int:
        """Memory that this emulation holds for blocks that are not erased."""
        return len(self._blocks) * self.geometry.block_bytes

    # image files

    def image(self) -> bytes:
        """The device as an image file: header, wear and bad blocks, contents."""
        geometry = self.geometry
        header = _HEADER.pack(
            _MAGIC,
            IMAGE_VERSION,
            geometry.page_bytes,
            geometry.pages_per_block,
            geometry.block_count,
            self.endurance_erases,
        )
        out = bytearray(header + zlib.crc32(header).to_bytes(4, "big")).ljust(_HEADER_BYTES, b"\0")
        for block in range(geometry.block_count):
            out += _BLOCK_STATE.pack(self._erases[block], block in self._bad)
        empty = b"\xff" * geometry.block_bytes
        for block in range(geometry.block_count):
            out += self._blocks.get(block, empty)
        return bytes(out)

    def save(self, path: Path) -> None:
        """Write an image file, readable by its owner alone: a meter's flash holds keys."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.image())

    @classmethod
    def load(cls, path: Path) -> Flash:
        """A device with the contents of an image file. Raises BadInputError if it is none."""
        return cls.from_image(path.read_bytes(), name=str(path))

    @classmethod
    def from_image(cls, image: bytes, *, name: str | None = None) -> Flash:
        """Raises BadInputError if `image` is not a flash image of this version and of the size it declares."""
        head_end = _HEADER.size + 4
        if len(image) < _HEADER_BYTES or image[:8] != _MAGIC:
            raise BadInputError("not a flash image (its first 8 bytes are wrong)", file=name)
        if zlib.crc32(image[: _HEADER.size]) != int.from_bytes(image[_HEADER.size : head_end], "big"):
            raise BadInputError("the flash image's header is damaged (checksum)", file=name)
        _, version, page_bytes, pages_per_block, block_count, endurance = _HEADER.unpack_from(image)
        if version != IMAGE_VERSION:
            raise BadInputError(f"flash image version {version}, this program reads {IMAGE_VERSION}", file=name)
        flash = cls(FlashGeometry(page_bytes, pages_per_block, block_count), endurance_erases=endurance)
        content = _HEADER_BYTES + block_count * _BLOCK_STATE.size
        if len(image) != content + flash.geometry.size_bytes:
            raise BadInputError(
                f"flash image of {len(image)} bytes, its header says {content + flash.geometry.size_bytes}", file=name
            )
        flash._restore(image, content)
        return flash

    @classmethod
    def open(cls, path: Path, geometry: FlashGeometry | None = None) -> Flash:
        """The device whose contents live in `path`, made erased if there is no such file; every write goes there.

        Raises BadInputError if the file is not a flash image.
        """
        if path.exists():
            flash = cls.load(path)
        else:
            flash = cls(geometry)
            # Never leave half an image behind: it appears under its name when it is whole.
            partial = path.with_name(path.name + ".new")
            flash.save(partial)
            partial.replace(path)
        flash._file = os.open(path, os.O_RDWR)
        return flash

    def close(self) -> None:
        """Let go of the image file, if there is one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # inside

    def _restore(self, image: bytes, content: int) -> None:
        block_bytes = self.geometry.block_bytes
        for block in range(self.geometry.block_count):
            self._erases[block], bad = _BLOCK_STATE.unpack_from(image, _HEADER_BYTES + block * _BLOCK_STATE.size)
            if bad:
                self._bad.add(block)
            data = image[content + block * block_bytes : content + (block + 1) * block_bytes]
            if data.count(ERASED) != block_bytes:
                self._blocks[block] = bytearray(data)

    def _store(self, block: int, start: int, size_bytes: int) -> None:
        if self._file is None:
            return
        state = _BLOCK_STATE.pack(self._erases[block], block in self._bad)
        os.pwrite(self._file, state, _HEADER_BYTES + block * _BLOCK_STATE.size)
        if size_bytes:
            content = self._blocks.get(block)
            data = b"\xff" * size_bytes if content is None else bytes(content[start : start + size_bytes])
            base = _HEADER_BYTES + self.geometry.block_count * _BLOCK_STATE.size
            os.pwrite(self._file, data, base + block * self.geometry.block_bytes + start)

    def _check_range(self, offset_bytes: int, size_bytes: int) -> None:
        if offset_bytes < 0 or size_bytes < 0 or offset_bytes + size_bytes > self.geometry.size_bytes:
            raise LocalProtocolError(f"{size_bytes} bytes at {offset_bytes:#x} are outside the flash")

    def _check_alive(self) -> None:
        if self._dead:
            raise PowerLostError("the flash has no power")

    def _begin(self) -> float | None:
        """Count an operation. Returns how far it gets before power fails, or None if it does not fail."""
        self._check_alive()
        number = self.operations
        self.operations += 1
        return self._fail_progress if number == self._fail_at else None

    def _lose_power(self, where: str) -> None:
        self._dead = True
        self._fail_at = None
        if self.on_power_lost is not None:
            self.on_power_lost()
        raise PowerLostError(f"power failed {where}")

    def _torn_program(self, data: bytes, progress: float) -> bytes:
        """What was programmed of `data`: `progress` of the bits that were to be cleared, all over the page."""
        if progress >= 1:
            return data
        kept = self._bits(len(data), 1 - progress)
        return bytes(value | keep for value, keep in zip(data, kept, strict=True))

    def _bits(self, size_bytes: int, share: float) -> bytes:
        """Bytes with about `share` of their bits set, the same for the same operation."""
        rng = random.Random(f"torn/{self.operations}")
        return bytes(sum((rng.random() < share) << bit for bit in range(8)) for _ in range(size_bytes))

    def _tear_erase(self, content: bytearray, progress: float) -> None:
        """Cells reach the erased state one by one: `progress` of the bits are set, all over the block."""
        done = b"\xff" * len(content) if progress >= 1 else self._bits(len(content), progress)
        content[:] = bytes(value | erased for value, erased in zip(content, done, strict=True))
