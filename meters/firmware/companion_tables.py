"""A companion profile applied to a model: the objects that it adds, and where its tables lie in flash."""

from __future__ import annotations

from dataclasses import dataclass

from meters.firmware.partitions import EVENT_LOGS, PROFILES, FlashPartition
from meters.firmware.profiles import CLOCK_BYTES, Column, TableLayout
from meters.firmware.row_log import rows_per_block
from meters.firmware.row_values import CLASS_SIZES, value_tag
from meters.models.companion import Companion, LogTable, ProfileTable
from meters.models.schema import MeterModel, ObjectRow
from protocols.dlms.obis import ObisCode
from protocols.dlms.selective import CaptureObject
from protocols.errors import TwinError

CLOCK_OBIS = ObisCode.parse("0-0:1.0.0*255")
_STATUS_BYTES = 2
_CLASSES = (1, 3, 4, 5)


class CompanionError(TwinError):
    """A companion profile asks a model for what it does not have."""


@dataclass(frozen=True, slots=True)
class CompanionTables:
    """Objects in addition to the model's own, and the layouts of logs and profiles by name."""

    companion: Companion
    rows: tuple[ObjectRow, ...]
    logs: dict[str, TableLayout]
    profiles: dict[str, TableLayout]
    wide_codes: bool
    """Event codes above 255 make all of them long-unsigned."""


def apply_companion(companion: Companion, model: MeterModel) -> CompanionTables:
    """Raises CompanionError if a column is not in the model, rights are missing, or the flash is too small."""
    wide = any(row.code > 255 for row in companion.events.values())
    rows = [row for table in companion.logs for row in _log_rows(table)]
    rows += [row for table in companion.profiles for row in _profile_rows(table)]
    for row in rows:
        if row.rights not in model.rights:
            raise CompanionError(f"companion profile {companion.companion} needs rights called {row.rights}")
        if any(own.obis == row.obis and own.class_id == row.class_id for own in model.objects):
            raise CompanionError(f"{row.obis} is the model's own and companion profile {companion.companion}'s")
    return CompanionTables(
        companion,
        tuple(rows),
        _layouts(companion.logs, model, EVENT_LOGS, 3 if wide else 2),
        _layouts(companion.profiles, model, PROFILES, 0),
        wide,
    )


def _log_rows(table: LogTable) -> list[ObjectRow]:
    return [
        _row(
            table.code,
            1,
            f"{table.title}: newest event",
            "table-data",
            shows="event_code",
            settings={"log": table.name},
        ),
        _row(table.obis, 7, table.title, "logs", settings={"log": table.name}),
    ]


def _profile_rows(table: ProfileTable) -> list[ObjectRow]:
    rows = [_row(table.obis, 7, table.title, "profiles", settings={"profile": table.name})]
    if table.status is not None:
        name, settings = f"{table.title}: status", {"profile": table.name}
        rows.append(_row(table.status, 1, name, "table-data", shows="profile_status", settings=settings))
    return rows


def _row(
    obis: str, class_id: int, name: str, rights: str, *, settings: dict[str, str], shows: str | None = None
) -> ObjectRow:
    document: dict[str, object] = {"obis": obis, "class": class_id, "name": name, "rights": rights, "with": settings}
    if shows is not None:
        document["shows"] = shows
    return ObjectRow.model_validate(document)


def _layouts(
    tables: list[LogTable] | list[ProfileTable], model: MeterModel, partition: FlashPartition, code_bytes: int
) -> dict[str, TableLayout]:
    layouts: dict[str, TableLayout] = {}
    block_bytes = model.flash.page_bytes * model.flash.pages_per_block
    block = 0
    for table in tables:
        columns = tuple(
            column for text in table.columns if (column := _column(text, table, model, code_bytes)) is not None
        )
        layout = TableLayout(table.name, columns, table.entries, block, 0)
        rows = rows_per_block(block_bytes, layout.row_bytes)
        # One block more than the rows fill: while the oldest is erased, the promised rows are still there.
        count = -(-table.entries // rows) + 1
        layouts[table.name] = TableLayout(table.name, columns, table.entries, block, max(count, 2))
        block += max(count, 2)
    if block * block_bytes > partition.size_bytes:
        raise CompanionError(
            f"logs or profiles need {block * block_bytes} bytes of flash, {partition.name} has {partition.size_bytes}"
        )
    return layouts


def _column(text: str, table: LogTable | ProfileTable, model: MeterModel, code_bytes: int) -> Column | None:
    if text == "clock":
        return Column(CaptureObject(8, CLOCK_OBIS, 2), CLOCK_BYTES)
    if text == "status" and isinstance(table, ProfileTable) and table.status is not None:
        return Column(CaptureObject(1, ObisCode.parse(table.status), 2), _STATUS_BYTES)
    if text == "code" and isinstance(table, LogTable):
        return Column(CaptureObject(1, ObisCode.parse(table.code), 2), code_bytes)
    obis, _, attribute = text.removesuffix("?").partition("/")
    code, attribute_id = str(ObisCode.parse(obis)), int(attribute or 2)
    found = next((row for row in model.objects if row.obis == code and row.class_id in _CLASSES), None)
    if found is None:
        if text.endswith("?"):
            return None
        raise CompanionError(f"{table.name} captures {code}, which model {model.model} has not")
    size_of = CLASS_SIZES.get((found.class_id, attribute_id))
    size_bytes = None if size_of is None else size_of(value_tag(found))
    if size_bytes is None:
        raise CompanionError(f"{table.name} captures attribute {attribute_id} of {code}, whose size is not fixed")
    return Column(CaptureObject(found.class_id, ObisCode.parse(code), attribute_id), size_bytes)
