"""What the REST interface shows of profiles and bundles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field

from protocols.headend.quantities import BY_OBIS
from protocols.headend.shapes import utc_text
from twin.hes.profile_marks import find_gaps, marks
from twin.hes.profile_tables import BundleRecord, DcuClockRecord, ProfileLayout, ProfileRequestRecord, ProfileRow


class ProfileBody(BaseModel):
    """Which range to read and for how long to try."""

    model_config = {"extra": "forbid", "populate_by_name": True}
    start: Annotated[AwareDatetime, Field(alias="from", description="Captured at or after, ISO 8601 with its zone")]
    end: Annotated[AwareDatetime, Field(alias="to", description="Captured at or before")]
    timeout_s: Annotated[float, Field(ge=1, le=604_800, description="The request is not tried any more after it")] = (
        1800.0
    )


class ProfileRequestView(BaseModel):
    request_id: str
    serial: str
    dcu_id: str
    profile: str
    status: str = Field(description="pending, ok, timeout, refused, unknown-meter, undefined or error")
    detail: str
    from_utc: str
    to_utc: str
    covered_utc: str = Field(description="Everything in the range before it has come")
    progress: float = Field(description="Part of the range that has come, 0 to 1")
    rows: int = Field(description="New rows")
    duplicates: int = Field(description="Rows that were there already")
    created_utc: str
    deadline_utc: str
    completed_utc: str | None


class ColumnView(BaseModel):
    obis: str
    name: str
    attribute_id: int
    unit: str


class ProfileRowView(BaseModel):
    captured_utc: str | None
    status: int | None
    clock_status: int | None
    marks: list[str] = Field(description="What makes the row doubtful, by the meter's own words")
    values: list[str | None] = Field(description="In the order of the columns, exact")
    source: str = Field(description="The request or the bundle that brought it")


class GapView(BaseModel):
    from_utc: str
    to_utc: str
    missing: int
    cause: str = Field(description="power-failure, clock-change or unknown")


class ProfileView(BaseModel):
    serial: str
    profile: str
    period_s: int
    columns: list[ColumnView]
    rows: list[ProfileRowView]
    gaps: list[GapView]


class BundleView(BaseModel):
    dcu_id: str
    bundle_id: str
    status: str = Field(description="receiving, stored or refused")
    size_bytes: int
    parts: int
    meters: int
    rows: int
    pushed: int = Field(description="Rows that meters had pushed; the others were pulled")
    duplicates: int
    detail: str
    created_utc: str | None
    received_utc: str


class DcuClockView(BaseModel):
    dcu_id: str
    offset_s: float = Field(description="The concentrator's clock minus network time")
    round_trip_s: float
    source: str = Field(description="gps, ptp, network, holdover or free")
    holdover_s: int = Field(description="How long it has been without its reference; 0 while it has one")
    uncertainty_ms: int = Field(description="How far it itself believes to be off at most")
    flagged: bool = Field(description="It disagrees with network time")
    checked_utc: str


def utc_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def profile_request_view(row: ProfileRequestRecord) -> ProfileRequestView:
    span_ms = max(1, row.to_utc_ms - row.from_utc_ms)
    done = 1.0 if row.status == "ok" else min(1.0, (row.covered_utc_ms - row.from_utc_ms) / span_ms)
    return ProfileRequestView(
        request_id=row.request_id,
        serial=row.serial,
        dcu_id=row.dcu_id,
        profile=row.name,
        status=row.status,
        detail=row.detail,
        from_utc=utc_text(row.from_utc_ms),
        to_utc=utc_text(row.to_utc_ms),
        covered_utc=utc_text(row.covered_utc_ms),
        progress=done,
        rows=row.rows,
        duplicates=row.duplicates,
        created_utc=utc_text(row.created_utc_ms),
        deadline_utc=utc_text(row.deadline_utc_ms),
        completed_utc=None if row.completed_utc_ms is None else utc_text(row.completed_utc_ms),
    )


def profile_view(
    serial: str,
    name: str,
    rows: Sequence[ProfileRow],
    layouts: dict[str, ProfileLayout],
    from_utc_ms: int | None,
    to_utc_ms: int | None,
) -> ProfileView:
    """Rows with their marks, and the gaps between them. Columns are those of the newest row."""
    layout = layouts[rows[-1].layout_digest] if rows else None
    period_s = 0 if layout is None else layout.period_s
    return ProfileView(
        serial=serial,
        profile=name,
        period_s=period_s,
        columns=[] if layout is None else [_column(item) for item in json.loads(layout.columns_json)],
        rows=[
            ProfileRowView(
                captured_utc=None if row.captured_utc_ms is None else utc_text(row.captured_utc_ms),
                status=row.status,
                clock_status=row.clock_status,
                marks=list(marks(row)),
                values=json.loads(row.values_json),
                source=row.source,
            )
            for row in rows
        ],
        gaps=[
            GapView(
                from_utc=utc_text(gap.from_utc_ms), to_utc=utc_text(gap.to_utc_ms), missing=gap.missing, cause=gap.cause
            )
            for gap in find_gaps(rows, period_s, from_utc_ms, to_utc_ms)
        ],
    )


def _column(item: tuple[str, int, int, str]) -> ColumnView:
    obis, _, attribute_id, unit = item
    quantity = BY_OBIS.get(obis)
    return ColumnView(obis=obis, name=obis if quantity is None else quantity.name, attribute_id=attribute_id, unit=unit)


def bundle_view(row: BundleRecord) -> BundleView:
    return BundleView(
        dcu_id=row.dcu_id,
        bundle_id=row.bundle_id,
        status=row.status,
        size_bytes=row.size_bytes,
        parts=row.parts,
        meters=row.meters,
        rows=row.rows,
        pushed=row.pushed,
        duplicates=row.duplicates,
        detail=row.detail,
        created_utc=None if row.created_utc_ms is None else utc_text(row.created_utc_ms),
        received_utc=utc_text(row.received_utc_ms),
    )


def clock_view(row: DcuClockRecord) -> DcuClockView:
    return DcuClockView(
        dcu_id=row.dcu_id,
        offset_s=row.offset_s,
        round_trip_s=row.round_trip_s,
        source=row.source,
        holdover_s=row.holdover_s,
        uncertainty_ms=row.uncertainty_ms,
        flagged=row.is_flagged,
        checked_utc=utc_text(row.checked_utc_ms),
    )
