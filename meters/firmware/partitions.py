"""How the flash is divided. A partition is frozen, and checked when the table is made."""

from __future__ import annotations

from dataclasses import dataclass

from meters.hardware.flash import ERASED, Flash, FlashGeometry
from protocols.errors import LocalProtocolError, TwinError

LAYOUT_VERSION = 2
"""Of everything that the firmware keeps in flash; `meters.firmware.layout` says what changed."""


class StorageError(TwinError):
    """The flash cannot hold what it must: every spare block is bad, or a value is too big."""


@dataclass(frozen=True, slots=True)
class FlashPartition:
    """A range of whole erase blocks."""

    name: str
    offset_bytes: int
    size_bytes: int

    def __post_init__(self) -> None:
        if self.offset_bytes < 0 or self.size_bytes <= 0:
            raise LocalProtocolError(f"partition {self.name}: {self.size_bytes} bytes at {self.offset_bytes:#x}")

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.size_bytes


BOOTLOADER = FlashPartition("bootloader", offset_bytes=0x00_0000, size_bytes=0x01_0000)
PARAMETERS = FlashPartition("parameters", offset_bytes=0x01_0000, size_bytes=0x01_0000)
COUNTERS = FlashPartition("counters", offset_bytes=0x02_0000, size_bytes=0x01_0000)
CREDIT = FlashPartition("credit", offset_bytes=0x03_0000, size_bytes=0x00_6000)
PROTECTION = FlashPartition("protection", offset_bytes=0x03_6000, size_bytes=0x00_4000)
TRIPS = FlashPartition("trips", offset_bytes=0x03_A000, size_bytes=0x00_6000)
EVENT_LOGS = FlashPartition("event_logs", offset_bytes=0x04_0000, size_bytes=0x02_0000)
PROFILES = FlashPartition("profiles", offset_bytes=0x06_0000, size_bytes=0x06_0000)
STAGING = FlashPartition("staging", offset_bytes=0x0C_0000, size_bytes=0x06_0000)
SLOT_A = FlashPartition("slot_a", offset_bytes=0x12_0000, size_bytes=0x07_0000)
SLOT_B = FlashPartition("slot_b", offset_bytes=0x19_0000, size_bytes=0x07_0000)

PARTITIONS = (
    BOOTLOADER,
    PARAMETERS,
    COUNTERS,
    CREDIT,
    PROTECTION,
    TRIPS,
    EVENT_LOGS,
    PROFILES,
    STAGING,
    SLOT_A,
    SLOT_B,
)
"""For devices of 2 MiB and more; the same in every layout so far."""


def check_partitions(partitions: tuple[FlashPartition, ...], geometry: FlashGeometry) -> None:
    """Raises LocalProtocolError if partitions overlap, are not whole blocks, or do not fit the device."""
    end_bytes = 0
    for partition in sorted(partitions, key=lambda item: item.offset_bytes):
        if partition.offset_bytes < end_bytes:
            raise LocalProtocolError(f"partition {partition.name} overlaps the one before it")
        if partition.offset_bytes % geometry.block_bytes or partition.size_bytes % geometry.block_bytes:
            raise LocalProtocolError(f"partition {partition.name} is not whole blocks of {geometry.block_bytes} bytes")
        end_bytes = partition.end_bytes
    if end_bytes > geometry.size_bytes:
        raise LocalProtocolError(f"partitions end at {end_bytes:#x}, the flash at {geometry.size_bytes:#x}")


class PartitionView:
    """A partition of a device, with offsets and block numbers of its own."""

    __slots__ = ("_base", "_first_block", "_flash", "partition")

    def __init__(self, flash: Flash, partition: FlashPartition) -> None:
        check_partitions((partition,), flash.geometry)
        self._flash = flash
        self._base = partition.offset_bytes
        self._first_block = partition.offset_bytes // flash.geometry.block_bytes
        self.partition = partition

    @property
    def size_bytes(self) -> int:
        return self.partition.size_bytes

    @property
    def block_bytes(self) -> int:
        return self._flash.geometry.block_bytes

    @property
    def block_count(self) -> int:
        return self.size_bytes // self.block_bytes

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._check(offset_bytes, size_bytes)
        return self._flash.read(self._base + offset_bytes, size_bytes)

    def program(self, offset_bytes: int, data: bytes) -> None:
        """Program `data`, page by page, in order. Raises FlashError as the device does."""
        self._check(offset_bytes, len(data))
        page_bytes = self._flash.geometry.page_bytes
        done = 0
        while done < len(data):
            at = offset_bytes + done
            size = min(len(data) - done, page_bytes - at % page_bytes)
            self._flash.program(self._base + at, data[done : done + size])
            done += size

    def is_erased(self, block: int) -> bool:
        """Every bit of the block is set: it need not be erased to be written."""
        content = self.read(block * self.block_bytes, self.block_bytes)
        return content.count(ERASED) == self.block_bytes

    def erase(self, block: int) -> None:
        self._check(block * self.block_bytes, self.block_bytes)
        self._flash.erase(self._first_block + block)

    def _check(self, offset_bytes: int, size_bytes: int) -> None:
        if offset_bytes < 0 or size_bytes < 0 or offset_bytes + size_bytes > self.size_bytes:
            raise LocalProtocolError(
                f"{size_bytes} bytes at {offset_bytes:#x} are outside partition {self.partition.name}"
            )
