"""What is on a meter's flash: the rows of its profiles and logs, read from a copy of the chip's image."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from meters.firmware.compiled import compile_model
from meters.firmware.partitions import EVENT_LOGS, PROFILES, PartitionView
from meters.firmware.profiles import TableLayout
from meters.firmware.row_log import RowLog
from meters.hardware.flash import Flash
from protocols.dlms.data import Data, decode
from protocols.dlms.date_time import DateTime
from protocols.dlms.objects import Caller, object_key
from protocols.dlms.units import ScalerUnit
from protocols.headend.shapes import utc_text
from twin.hes.profile_store import ProfileStore
from twin.hes.profile_tables import ProfileRow
from twin.rigs.meters import RigMeter

_UTC_BYTES = 4
_UNIT_ATTRIBUTE = {3: 3, 4: 3}
_STATUS_GROUPS = (96, 10)
_DATE_TIME_BYTES = 12


@dataclass(frozen=True, slots=True)
class FlashRow:
    """One row as both sides should have it: captured (UTC, ms), status word, the other values with their scalers."""

    obis: str
    captured_utc_ms: int
    status: int | None
    values: tuple[Decimal | str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows on flash, those of them that the database lacks, those that it holds and no flash does, and doubles.

    `missing` counts rows captured up to the moment of comparison; `invented` those younger than the oldest row of
    their table on flash.
    """

    on_flash: int
    missing: int
    invented: int
    doubled: int


def flash_rows(meter: RigMeter) -> list[FlashRow]:
    """Every row that the meter keeps, at most as many of each table as it promises to; needs a running firmware for
    the scalers alone."""
    tables = compile_model(meter.provision.model).tables
    if tables is None:
        return []
    chip = Flash.from_image(meter.flash.image())
    obis = {table.name: table.obis for table in (*tables.companion.profiles, *tables.companion.logs)}
    rows: list[FlashRow] = []
    for partition, layouts in ((PROFILES, tables.profiles), (EVENT_LOGS, tables.logs)):
        for name, layout in layouts.items():
            log = RowLog(
                PartitionView(chip, partition),
                row_bytes=layout.row_bytes,
                first_block=layout.first_block,
                block_count=layout.block_count,
            )
            units = _units(meter, layout)
            kept = [raw for _, raw in log.rows()][-layout.entries :]
            rows += [_row(obis[name], layout, units, decode(raw[_UTC_BYTES:])) for raw in kept]
    return rows


def compare(meter: RigMeter, store: ProfileStore, until_utc_s: float) -> Comparison:
    """The meter's flash with the database, row by row, up to `until_utc_s` by the meter's clock."""
    on_flash = Counter(flash_rows(meter))
    oldest: dict[str, int] = {}
    for row in on_flash:
        oldest[row.obis] = min(oldest.get(row.obis, row.captured_utc_ms), row.captured_utc_ms)
    stored = Counter(
        row for row in stored_rows(store, meter.serial) if row.captured_utc_ms >= oldest.get(row.obis, 1 << 62)
    )
    until_ms = until_utc_s * 1000
    due = Counter({row: count for row, count in on_flash.items() if row.captured_utc_ms <= until_ms})
    return Comparison(
        on_flash=sum(due.values()),
        missing=sum((due - stored).values()),
        invented=sum(1 for row in stored if row not in on_flash),
        doubled=sum(
            count - on_flash[row] for row, count in stored.items() if row in on_flash and count > on_flash[row]
        ),
    )


def stored_rows(store: ProfileStore, serial: str) -> list[FlashRow]:
    """What the database holds of a meter, in the same form."""
    return [_stored(row) for row in store.all_rows(serial)]


def _units(meter: RigMeter, layout: TableLayout) -> list[ScalerUnit | None]:
    firmware = meter.meter.firmware
    units: list[ScalerUnit | None] = []
    for column in layout.columns:
        source, unit = column.source, None
        attribute = _UNIT_ATTRIBUTE.get(source.class_id) if source.attribute_id == 2 else None
        if attribute is not None and firmware is not None:
            found = firmware.server.accessor.find(object_key(source.class_id, source.obis))
            answer = None if found is None else found.read(attribute, None, Caller(client_sap=0))
            unit = ScalerUnit.from_data(answer) if isinstance(answer, Data) else None
        units.append(unit)
    return units


def _row(obis: str, layout: TableLayout, units: list[ScalerUnit | None], row: Data) -> FlashRow:
    captured_utc_ms, status, values = 0, None, []
    for column, unit, cell in zip(layout.columns, units, row.value, strict=True):
        if column.is_clock:
            captured_utc_ms = round(DateTime.decode(cell.value).to_utc_s() * 1000)
        elif column.source.class_id == 1 and tuple(column.source.obis[2:4]) == _STATUS_GROUPS:
            status = int(cell.value)
        elif isinstance(cell.value, bytes) and len(cell.value) == _DATE_TIME_BYTES:
            values.append(_time_text(cell.value))
        else:
            number = Decimal(cell.value)
            values.append(number if unit is None else number.scaleb(unit.scaler))
    return FlashRow(obis, captured_utc_ms, status, tuple(values))


def _time_text(raw: bytes) -> Decimal | str:
    return utc_text(round(DateTime.decode(raw).to_utc_s() * 1000))


def _stored(row: ProfileRow) -> FlashRow:
    values = tuple(_value(text) for text in json.loads(row.values_json))
    return FlashRow(row.obis, row.captured_utc_ms or 0, row.status, values)


def _value(text: str | None) -> Decimal | str:
    try:
        return Decimal(text or "")
    except InvalidOperation:
        return text or ""
