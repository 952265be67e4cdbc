"""Profiles and event logs between DCU and head-end: by range on request (case III), in a daily bundle (case IV).

A row is one capture of a meter. Rows have no number on the wire: a row is known by its meter, its table and all that
it says, so one that comes twice is one row.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from protocols.headend.json_text import Json
from protocols.headend.kinds import COUNT, DETAIL, ID, NAME, OBIS, SERIAL, UTC
from protocols.headend.shapes import Amount, Choice, Hex, Integer, ListOf, Nested, Optional, Text, wrong

MAX_ROWS = 512
"""Rows of one table in one message."""
MAX_PART_BYTES = 49_152
"""Bytes of a bundle in one message: 64 KiB of JSON with its base64."""
MAX_BUNDLE_BYTES = 16 * 1024 * 1024
_UNSIGNED_32 = Integer(0, 2**32 - 1)
_BYTE = Integer(0, 255)


class Cell:
    """A captured value: an exact decimal, text, or null where the meter has kept nothing."""

    __slots__ = ("_amount",)

    def __init__(self) -> None:
        self._amount = Amount()

    def json_name(self, name: str) -> str:
        return name

    def schema(self) -> dict[str, Any]:
        return {"type": ["number", "string", "null"], "maxLength": self._amount.max_length}

    def encode(self, value: Decimal | str | None) -> Json:
        return value

    def decode(self, value: Json, path: str) -> Decimal | str | None:
        return None if value is None else self._amount.decode(value, path)


class Base64:
    """Octets in base64 (RFC 4648, section 4), with padding."""

    __slots__ = ("max_bytes",)

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes

    def json_name(self, name: str) -> str:
        return name

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64", "maxLength": -(-self.max_bytes // 3) * 4}

    def encode(self, value: bytes) -> Json:
        return base64.b64encode(value).decode("ascii")

    def decode(self, value: Json, path: str) -> bytes:
        if not isinstance(value, str) or len(value) > -(-self.max_bytes // 3) * 4:
            raise wrong(path, "must be base64 of a permitted length")
        try:
            octets = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise wrong(path, "is not base64") from None
        if base64.b64encode(octets).decode("ascii") != value or len(octets) > self.max_bytes:
            raise wrong(path, "is not the one base64 text of its octets")
        return octets


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One captured attribute that is a value: neither the time of the row nor its status."""

    obis: Annotated[str, OBIS]
    class_id: Annotated[int, Integer(0, 65535)]
    attribute_id: Annotated[int, Integer(-128, 127)]
    unit: Annotated[str, Text(16)]


@dataclass(frozen=True, slots=True)
class TableRow:
    """`captured_utc_ms` None where the meter's time of the row is not one instant; scalers are applied.

    `clock_status` is the status byte of that time (IEC 62056-6-2, 4.1.6.1), `status` the profile's own status word.
    """

    values: Annotated[tuple[Decimal | str | None, ...], ListOf(Cell(), 64)]
    captured_utc_ms: Annotated[int | None, Optional(UTC)] = None
    clock_status: Annotated[int | None, Optional(_BYTE)] = None
    status: Annotated[int | None, Optional(_UNSIGNED_32)] = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one profile or log, oldest first. `period_s` is 0 where events or the calendar make the rows."""

    name: Annotated[str, NAME]
    obis: Annotated[str, OBIS]
    period_s: Annotated[int, _UNSIGNED_32]
    columns: Annotated[tuple[TableColumn, ...], ListOf(Nested(TableColumn), 64)]
    rows: Annotated[tuple[TableRow, ...], ListOf(Nested(TableRow), MAX_ROWS)] = ()

    def check(self) -> None:
        if any(len(row.values) != len(self.columns) for row in self.rows):
            raise wrong("rows", "must have one value for each column")


class ProfileStatus(StrEnum):
    """How a profile request ended at the DCU."""

    OK = "ok"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    UNKNOWN_METER = "unknown-meter"
    UNDEFINED = "undefined"
    """The meter has no such profile."""
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ProfileRequest:
    """Head-end to DCU: read the rows captured from `from_utc_ms` to `to_utc_ms`, both included (use case III).

    `candidates` are the objects to look for. It is kept over a restart of the DCU, and given up at the deadline.
    """

    TYPE: ClassVar[str] = "profile-request"
    id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    name: Annotated[str, NAME]
    candidates: Annotated[tuple[str, ...], ListOf(OBIS, 4, 1)]
    from_utc_ms: Annotated[int, UTC]
    to_utc_ms: Annotated[int, UTC]
    deadline_utc_ms: Annotated[int, UTC]

    def check(self) -> None:
        if self.from_utc_ms > self.to_utc_ms:
            raise wrong("from_utc", "must not be after to_utc")


@dataclass(frozen=True, slots=True)
class ProfileChunk:
    """DCU to head-end: the rows of one part of the range, from `from_utc_ms` to before `to_utc_ms`.

    The same part can come again, after a restart with other limits: the rows in it are the same rows.
    """

    TYPE: ClassVar[str] = "profile-chunk"
    request_id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    from_utc_ms: Annotated[int, UTC]
    to_utc_ms: Annotated[int, UTC]
    table: Annotated[Table, Nested(Table)]

    def check(self) -> None:
        self.table.check()


@dataclass(frozen=True, slots=True)
class ProfileEnd:
    """DCU to head-end: nothing more comes for this request. `rows` is how many it has sent, repetitions included."""

    TYPE: ClassVar[str] = "profile-end"
    request_id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    status: Annotated[ProfileStatus, Choice(ProfileStatus)]
    completed_utc_ms: Annotated[int, UTC]
    rows: Annotated[int, COUNT] = 0
    detail: Annotated[str, DETAIL] = ""


@dataclass(frozen=True, slots=True)
class MeterTables:
    """What one meter has to say in a bundle. `trouble` says why something of it is missing; it comes later then."""

    serial: Annotated[str, SERIAL]
    tables: Annotated[tuple[Table, ...], ListOf(Nested(Table), 256)]
    pushed: Annotated[int, COUNT] = 0
    """Rows that the meter had pushed by itself; the others were pulled."""
    trouble: Annotated[str, DETAIL] = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of a bundle (use case IV): canonical JSON, then gzip without a time stamp."""

    dcu_id: Annotated[str, Text(64, min_length=1)]
    bundle_id: Annotated[str, ID]
    created_utc_ms: Annotated[int, UTC]
    meters: Annotated[tuple[MeterTables, ...], ListOf(Nested(MeterTables), 10_000)]

    def check(self) -> None:
        for meter in self.meters:
            for table in meter.tables:
                table.check()


@dataclass(frozen=True, slots=True)
class BundlePart:
    """DCU to head-end: part `number` of `count` (from 1) of a bundle of `size_bytes` with this SHA-256."""

    TYPE: ClassVar[str] = "bundle-part"
    bundle_id: Annotated[str, ID]
    number: Annotated[int, Integer(1, 1024)]
    count: Annotated[int, Integer(1, 1024)]
    size_bytes: Annotated[int, Integer(1, MAX_BUNDLE_BYTES)]
    sha256: Annotated[bytes, Hex(32, 32)]
    data: Annotated[bytes, Base64(MAX_PART_BYTES)]

    def check(self) -> None:
        if self.number > self.count:
            raise wrong("number", "must not be above count")


class BundleStatus(StrEnum):
    STORED = "stored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class BundleAck:
    """Head-end to DCU: STORED, its rows are in the database and the DCU may drop it; REFUSED, it cannot be read."""

    TYPE: ClassVar[str] = "bundle-ack"
    bundle_id: Annotated[str, ID]
    status: Annotated[BundleStatus, Choice(BundleStatus)]
    rows: Annotated[int, COUNT] = 0
    duplicates: Annotated[int, COUNT] = 0
    detail: Annotated[str, DETAIL] = ""
