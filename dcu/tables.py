"""Profiles and event logs as the meter has them, and as the head-end gets them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from dcu.dlms_session import MeterSession
from dcu.readings import NUMBERS, Result, fits, text_of, utc_ms
from dcu.storage import Storage, StorageError
from protocols.dlms.client import AttributeReference
from protocols.dlms.data import Data, Tag, octet_string
from protocols.dlms.data import decode as decode_data
from protocols.dlms.data import encode as encode_data
from protocols.dlms.date_time import DateTime
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.selective import CaptureObject, EntryDescriptor, RangeDescriptor
from protocols.dlms.units import ScalerUnit
from protocols.errors import RemoteProtocolError, TwinError
from protocols.headend.bulk import Table, TableColumn, TableRow
from protocols.headend.shapes import utc_text

_LOG = logging.getLogger(__name__)
_LAYOUT_PREFIX = "layout."

CLASS_PROFILE = 7
_CLASS_DATA, _CLASS_CLOCK = 1, 8
_BUFFER, _CAPTURE_OBJECTS, _CAPTURE_PERIOD = 2, 3, 4
_UNIT_ATTRIBUTES = {(3, 2): 3, (4, 2): 3, (5, 2): 4, (5, 3): 4}
"""Where scaler and unit of a captured attribute are, by class and attribute."""
_UNDEFINED = (DataAccessResult.OBJECT_UNDEFINED, DataAccessResult.OBJECT_CLASS_INCONSISTENT)
_DATE_TIME_BYTES = 12
_MAX_TEXT = 512
_SPEC = "IEC 62056-6-2, class 7"


class NoSuchTableError(TwinError):
    """The meter has none of the objects that were looked for."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """What a meter's profile captures. Meters of one model and firmware have the same; it is read once."""

    name: str
    obis: ObisCode
    period_s: int
    captured: tuple[CaptureObject, ...]
    units: tuple[ScalerUnit | None, ...]

    @property
    def clock_column(self) -> int | None:
        """The column with the time of the row."""
        return next((index for index, item in enumerate(self.captured) if _is_clock(item)), None)

    @property
    def status_column(self) -> int | None:
        """The column with the profile's status word (0-x:96.10.y, value group C 96 and D 10)."""
        for index, item in enumerate(self.captured):
            if item.class_id == _CLASS_DATA and tuple(item.obis[2:4]) == (96, 10):
                return index
        return None

    def table(self, rows: Sequence[Data]) -> Table:
        """Rows as the head-end gets them. Raises RemoteProtocolError for one that is not of this layout."""
        own = (self.clock_column, self.status_column)
        columns = tuple(
            TableColumn(str(item.obis), item.class_id, item.attribute_id, "" if unit is None else unit.unit.symbol)
            for index, (item, unit) in enumerate(zip(self.captured, self.units, strict=True))
            if index not in own
        )
        return Table(self.name, str(self.obis), self.period_s, columns, tuple(self._row(row) for row in rows))

    def captured_s(self, row: Data) -> float | None:
        """When a row was captured by the meter's clock, in seconds since 1970 UTC; None if that is not one instant."""
        column = self.clock_column
        if column is None or row.tag != Tag.STRUCTURE or len(row.value) != len(self.captured):
            return None
        moment_ms = utc_ms(row.value[column])
        return None if moment_ms is None else moment_ms / 1000

    def _row(self, row: Data) -> TableRow:
        if row.tag != Tag.STRUCTURE or len(row.value) != len(self.captured):
            raise RemoteProtocolError(f"a row that is not a structure of {len(self.captured)}", spec=_SPEC)
        clock, status = self.clock_column, self.status_column
        values = tuple(
            _cell(cell, unit)
            for index, (cell, unit) in enumerate(zip(row.value, self.units, strict=True))
            if index not in (clock, status)
        )
        return TableRow(
            values,
            captured_utc_ms=None if clock is None else utc_ms(row.value[clock]),
            clock_status=None if clock is None else _clock_status(row.value[clock]),
            status=None if status is None else _status(row.value[status]),
        )


def _is_clock(item: CaptureObject) -> bool:
    return item.class_id == _CLASS_CLOCK and item.attribute_id == 2


def _clock_status(cell: Data) -> int | None:
    if isinstance(cell.value, DateTime):
        return int(cell.value.status)
    return cell.value[-1] if isinstance(cell.value, bytes) and len(cell.value) == _DATE_TIME_BYTES else None


def _status(cell: Data) -> int | None:
    """A status word, None where it is not an unsigned number of 32 bits."""
    value = cell.value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32:
        return value
    return None


def _cell(cell: Data, unit: ScalerUnit | None) -> Decimal | str | None:
    value = cell.value
    if cell.tag == Tag.NULL:
        return None
    if cell.tag in NUMBERS:
        plain = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        number = plain if unit is None else plain.scaleb(unit.scaler)
        return number if fits(number) else None
    if isinstance(value, bytes) and len(value) == _DATE_TIME_BYTES:
        moment_ms = utc_ms(cell)
        if moment_ms is not None:
            return utc_text(moment_ms)
    return text_of(cell)[:_MAX_TEXT]


def rows_of(answer: Result) -> tuple[Data, ...]:
    """The rows of a buffer. Raises RemoteProtocolError if it is none or could not be read."""
    if isinstance(answer, DataAccessResult):
        raise RemoteProtocolError(f"the buffer cannot be read: {answer.name.lower()}", spec=_SPEC)
    if answer.tag == Tag.COMPACT_ARRAY:
        return tuple(answer.value.items)
    if answer.tag != Tag.ARRAY:
        raise RemoteProtocolError("a buffer that is not an array", spec=_SPEC)
    return tuple(answer.value)


def decode_row(raw: bytes) -> Data:
    """A row kept as its A-XDR bytes. Raises RemoteProtocolError."""
    return decode_data(raw)


class TableReader:
    """Reads tables over a meter's session. Layouts are read once for each model and firmware version, and kept on
    storage: rows that came before a restart can be read after it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._layouts: dict[tuple[str, ObisCode], TableLayout | None] = {}
        for name in storage.names():
            if name.startswith(_LAYOUT_PREFIX):
                self._load(name)

    def known(self, kind: str, obis: ObisCode) -> TableLayout | None:
        """The layout of a table, None if it was not read yet, or meters of this kind have no such table."""
        return self._layouts.get((kind, obis))

    async def find(self, session: MeterSession, kind: str, name: str, candidates: Sequence[str]) -> TableLayout:
        """The layout of the first of `candidates` that the meter has. `kind` names model and firmware.

        Raises NoSuchTableError, NoAnswerError, MeterRefusedError, RemoteProtocolError.
        """
        for candidate in candidates:
            obis = ObisCode.parse(candidate)
            if (kind, obis) not in self._layouts:
                self._keep(kind, obis, await self._read_layout(session, name, obis))
            layout = self._layouts[kind, obis]
            if layout is not None:
                return layout
        raise NoSuchTableError(f"the meter has no profile {name}")

    async def range(self, session: MeterSession, layout: TableLayout, start_s: int, end_s: int) -> tuple[Data, ...]:
        """The rows captured from `start_s` to `end_s` (UTC), both included, in the order of the buffer."""
        (rows,) = await self.ranges(session, [(layout, start_s)], end_s)
        return rows

    async def ranges(
        self, session: MeterSession, wanted: Sequence[tuple[TableLayout, int]], end_s: int
    ) -> list[tuple[Data, ...]]:
        """The rows of several tables, each from its own start to `end_s` (UTC, both included), asked for together."""
        references = [
            AttributeReference(CLASS_PROFILE, layout.obis, _BUFFER, _selector(layout, start_s, end_s))
            for layout, start_s in wanted
        ]
        return [rows_of(answer) for answer in await session.get(references)]

    async def oldest_s(self, session: MeterSession, layout: TableLayout) -> float | None:
        """When the first row of the buffer was captured, None if it has none."""
        selector = EntryDescriptor(from_entry=1, to_entry=1)
        (answer,) = await session.get([AttributeReference(CLASS_PROFILE, layout.obis, _BUFFER, selector)])
        times = [layout.captured_s(row) for row in rows_of(answer)] if isinstance(answer, Data) else []
        return times[0] if times else None

    async def _read_layout(self, session: MeterSession, name: str, obis: ObisCode) -> TableLayout | None:
        wanted = [AttributeReference(CLASS_PROFILE, obis, number) for number in (_CAPTURE_OBJECTS, _CAPTURE_PERIOD)]
        captured_answer, period_answer = await session.get(wanted)
        if captured_answer in _UNDEFINED:
            return None
        if isinstance(captured_answer, DataAccessResult) or captured_answer.tag != Tag.ARRAY:
            raise RemoteProtocolError(f"capture_objects of {obis} cannot be read", spec=_SPEC)
        captured = tuple(CaptureObject.from_data(item) for item in captured_answer.value)
        period = period_answer.value if isinstance(period_answer, Data) else 0
        units = await self._read_units(session, captured)
        return TableLayout(name, obis, period if isinstance(period, int) else 0, captured, units)

    def _keep(self, kind: str, obis: ObisCode, layout: TableLayout | None) -> None:
        self._layouts[kind, obis] = layout
        if layout is None:
            return
        name = _LAYOUT_PREFIX + hashlib.sha256(f"{kind} {obis}".encode()).hexdigest()[:16]
        try:
            self._storage.write(name, _encode_layout(kind, layout))
        except StorageError as error:
            _LOG.error("layout of %s is known until the next restart only: %s", obis, error)

    def _load(self, name: str) -> None:
        try:
            kind, layout = _decode_layout(self._storage.read(name) or b"")
        except (ValueError, KeyError, TypeError, RemoteProtocolError) as error:
            _LOG.error("record %s is unreadable and was skipped: %s", name, error)
            return
        self._layouts[kind, layout.obis] = layout

    @staticmethod
    async def _read_units(session: MeterSession, captured: Sequence[CaptureObject]) -> tuple[ScalerUnit | None, ...]:
        places = [_UNIT_ATTRIBUTES.get((item.class_id, item.attribute_id)) for item in captured]
        references = [
            AttributeReference(item.class_id, item.obis, place)
            for item, place in zip(captured, places, strict=True)
            if place is not None
        ]
        answers = iter(await session.get(references) if references else [])
        units: list[ScalerUnit | None] = []
        for place in places:
            answer = next(answers) if place is not None else None
            units.append(ScalerUnit.from_data(answer) if isinstance(answer, Data) else None)
        return tuple(units)


def _selector(layout: TableLayout, start_s: int, end_s: int) -> RangeDescriptor:
    clock = layout.clock_column
    if clock is None:
        raise RemoteProtocolError(f"{layout.obis} captures no time", spec=_SPEC)
    start, end = (octet_string(DateTime.from_utc_s(limit_s).encode()) for limit_s in (start_s, end_s))
    return RangeDescriptor(layout.captured[clock], start, end)


def _encode_layout(kind: str, layout: TableLayout) -> bytes:
    fields = {
        "kind": kind,
        "name": layout.name,
        "obis": str(layout.obis),
        "period_s": layout.period_s,
        "captured": [encode_data(item.to_data()).hex() for item in layout.captured],
        "units": [None if unit is None else encode_data(unit.to_data()).hex() for unit in layout.units],
    }
    return json.dumps(fields, sort_keys=True).encode()


def _decode_layout(data: bytes) -> tuple[str, TableLayout]:
    fields = json.loads(data)
    captured = tuple(CaptureObject.from_data(decode_data(bytes.fromhex(item))) for item in fields["captured"])
    units = tuple(
        None if item is None else ScalerUnit.from_data(decode_data(bytes.fromhex(item))) for item in fields["units"]
    )
    layout = TableLayout(fields["name"], ObisCode.parse(fields["obis"]), int(fields["period_s"]), captured, units)
    return str(fields["kind"]), layout


__all__ = ["CLASS_PROFILE", "NoSuchTableError", "TableLayout", "TableReader", "decode_row", "rows_of"]
