"""A crash-safe store of small records on flash: a cut at any point leaves the old values or the new ones.

A partition is divided into areas of whole blocks. Records are appended to the active area; the newest of a key wins.
When it is full, the live records are copied to the next area, whose header is programmed last: that one write makes
it the active one. A record counts only if its checksum is right, so a torn one never was.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

from meters.firmware.partitions import PartitionView, StorageError
from meters.hardware.flash import ERASED, FlashError
from protocols.cursor import Reader
from protocols.errors import LocalProtocolError, RemoteProtocolError

_AREA_HEADER = struct.Struct(">4sHHI")
_AREA_MAGIC = b"OARS"
_AREA_VERSION = 1
_AREA_HEADER_BYTES = 16
_RECORD_HEADER = struct.Struct(">HI")
_END = 0xFFFF
_DELETED = 0xFFFF
_ALIGNMENT = 4

Entries = Mapping[str, bytes | None]


class RecordStore:
    """Values of bytes by key (ASCII, at most 255). All of it is also in RAM.

    Raises StorageError when no good area is left, or the live records do not fit one.
    """

    def __init__(self, view: PartitionView, *, area_blocks: int = 2) -> None:
        self._view = view
        self._area_bytes = area_blocks * view.block_bytes
        self._area_blocks = area_blocks
        self._area_count = view.size_bytes // self._area_bytes
        if self._area_count < 2:
            raise LocalProtocolError(f"partition {view.partition.name} has no room for two areas")
        self._values: dict[str, bytes] = {}
        self._active: int | None = None
        self._generation = 0
        self._end = self._area_bytes
        self._bad_areas: set[int] = set()
        self.damaged_records = 0
        """Records whose checksum was wrong at the start: torn by a power cut, or disturbed."""
        self._mount()

    def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    def names(self, prefix: str = "") -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        return sorted(key for key in self._values if key.startswith(prefix))

    def put(self, key: str, value: bytes) -> None:
        """Returns when the value survives a power cut."""
        self.put_many({key: value})

    def delete(self, key: str) -> None:
        if key in self._values:
            self.put_many({key: None})

    def put_many(self, entries: Entries) -> None:
        """Change several values at once: after a power cut all of them are new, or none. None deletes."""
        changed = {key: value for key, value in entries.items() if self._values.get(key) != value}
        if not changed:
            return
        record = _encode_record(changed)
        values = self._values | {key: value for key, value in changed.items() if value is not None}
        for key, value in changed.items():
            if value is None:
                values.pop(key, None)
        if not self._append(record):
            self._compact(values)
        self._values = values

    # the counter stores of protocols.dlms

    def load(self, name: str) -> int | None:
        """A number saved under `name`."""
        value = self._values.get(name)
        return None if value is None else int.from_bytes(value, "big")

    def save(self, name: str, value: int) -> None:
        self.put(name, value.to_bytes(8, "big"))

    # inside

    def _mount(self) -> None:
        for area in range(self._area_count):
            generation = self._read_header(area)
            if generation is not None and generation > self._generation:
                self._active, self._generation = area, generation
        if self._active is None:
            return
        content = self._view.read(self._active * self._area_bytes, self._area_bytes)
        self._end = self._replay(content)

    def _replay(self, content: bytes) -> int:
        """Take every good record. Returns where the next may be appended: the area's end if its tail is not clean.

        A record that was disturbed does not hide those behind it: an old counter must not come back.
        """
        position = good_end = _AREA_HEADER_BYTES
        while position + _RECORD_HEADER.size <= len(content):
            if content[position : position + 2] == b"\xff\xff" and content.count(ERASED, position) == (
                len(content) - position
            ):
                break
            record = _decode_record(content, position)
            if record is None:
                position += _ALIGNMENT
                continue
            self.damaged_records += position != good_end
            entries, position = record
            good_end = position
            for key, value in entries:
                if value is None:
                    self._values.pop(key, None)
                else:
                    self._values[key] = value
        if content.count(ERASED, good_end) != len(content) - good_end:
            self.damaged_records += 1
            return len(content)
        return good_end

    def _read_header(self, area: int) -> int | None:
        raw = self._view.read(area * self._area_bytes, _AREA_HEADER.size + 4)
        magic, version, _, generation = _AREA_HEADER.unpack_from(raw)
        if magic != _AREA_MAGIC or zlib.crc32(raw[: _AREA_HEADER.size]) != int.from_bytes(raw[-4:], "big"):
            return None
        if version != _AREA_VERSION:
            raise StorageError(f"partition {self._view.partition.name} has layout version {version}")
        return int(generation)

    def _append(self, record: bytes) -> bool:
        """Program a record behind the others. False if it does not fit, or the flash refuses: compact then."""
        if self._active is None or self._end + len(record) > self._area_bytes:
            return False
        try:
            self._write(self._active * self._area_bytes + self._end, record)
        except FlashError:
            self._end = self._area_bytes
            self._bad_areas.add(self._active)
            return False
        self._end += len(record)
        return True

    def _write(self, offset_bytes: int, data: bytes) -> None:
        self._view.program(offset_bytes, data)
        if self._view.read(offset_bytes, len(data)) != data:
            raise FlashError(f"{len(data)} bytes at {offset_bytes:#x} do not read back")

    def _compact(self, values: dict[str, bytes]) -> None:
        """Make the next good area the active one, with `values` in it."""
        start = -1 if self._active is None else self._active
        for step in range(1, self._area_count + 1):
            area = (start + step) % self._area_count
            if area == self._active or area in self._bad_areas:
                continue
            try:
                self._end = self._fill(area, values)
            except FlashError:
                self._bad_areas.add(area)
                continue
            self._active = area
            return
        raise StorageError(f"partition {self._view.partition.name} has no good area left")

    def _fill(self, area: int, values: dict[str, bytes]) -> int:
        records = [_encode_record({key: values[key]}) for key in sorted(values)]
        end = _AREA_HEADER_BYTES + sum(map(len, records))
        if end > self._area_bytes:
            raise StorageError(
                f"partition {self._view.partition.name}: {end} bytes of live records, an area has {self._area_bytes}"
            )
        for block in range(self._area_blocks):
            self._view.erase(area * self._area_blocks + block)
        base = area * self._area_bytes
        self._write(base + _AREA_HEADER_BYTES, b"".join(records))
        generation = self._generation + 1
        header = _AREA_HEADER.pack(_AREA_MAGIC, _AREA_VERSION, 0, generation)
        self._write(base, header + zlib.crc32(header).to_bytes(4, "big"))
        self._generation = generation
        return end


def _encode_record(entries: Entries) -> bytes:
    body = bytearray()
    for key, value in entries.items():
        name = key.encode("ascii")
        size = _DELETED if value is None else len(value)
        if not 1 <= len(name) <= 255 or (value is not None and size >= _DELETED):
            raise LocalProtocolError(f"a record cannot hold key {key!r} with {size} bytes")
        body += bytes((len(name),)) + name + size.to_bytes(2, "big") + (value or b"")
    if len(body) >= _END:
        raise LocalProtocolError(f"a record cannot hold {len(body)} bytes")
    length = len(body).to_bytes(2, "big")
    record = length + zlib.crc32(length + body).to_bytes(4, "big") + body
    return record + b"\0" * (-len(record) % _ALIGNMENT)


def _decode_record(content: bytes, position: int) -> tuple[list[tuple[str, bytes | None]], int] | None:
    """The entries of the record at `position` and where it ends; None if there is no good record."""
    length, checksum = _RECORD_HEADER.unpack_from(content, position)
    end = position + _RECORD_HEADER.size + length
    if length in (0, _END) or end > len(content):
        return None
    body = content[position + _RECORD_HEADER.size : end]
    if zlib.crc32(content[position : position + 2] + body) != checksum:
        return None
    try:
        entries = list(_decode_entries(Reader(body)))
    except (RemoteProtocolError, UnicodeDecodeError):
        return None
    return entries, end + -end % _ALIGNMENT


def _decode_entries(reader: Reader) -> Iterator[tuple[str, bytes | None]]:
    while reader.remaining:
        key = reader.take(reader.u8()).decode("ascii")
        size = reader.u16()
        yield key, None if size == _DELETED else reader.take(size)
