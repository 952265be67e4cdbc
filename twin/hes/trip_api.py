"""REST interface of leakage trips and their waveforms."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from protocols.headend.shapes import utc_text
from twin.hes.console import supply_page
from twin.hes.service import HesService
from twin.hes.trip_tables import TripRow
from twin.hes.trips import samples_ma
from twin.hes.views import Problem

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such thing"}}


class TripView(BaseModel):
    """Direct currents are signed, the others RMS."""

    trip_id: int
    serial: str
    line: int
    number: int = Field(description="The meter's own count")
    cause: str = Field(description="ac, smooth-dc, smooth-dc-under-ac or sensor")
    time_utc: str = Field(description="By the meter's clock")
    smooth_dc_ma: float
    pulsating_dc_ma: float
    ac_ma: float
    high_frequency_ma: float
    total_ma: float
    line_hz: float
    dcu_id: str
    received_utc: str


class WaveformView(TripView):
    rate_hz: int
    trip_index: int = Field(description="The sample at which the meter decided")
    samples_ma: list[float] = Field(description="Residual current around the decision")


def _fields(row: TripRow) -> dict[str, Any]:
    return {
        "trip_id": row.trip_id,
        "serial": row.serial,
        "line": row.line,
        "number": row.number,
        "cause": row.cause,
        "time_utc": utc_text(row.time_utc_ms),
        "smooth_dc_ma": row.smooth_dc_ua / 1000,
        "pulsating_dc_ma": row.pulsating_dc_ua / 1000,
        "ac_ma": row.ac_ua / 1000,
        "high_frequency_ma": row.high_frequency_ua / 1000,
        "total_ma": row.total_ua / 1000,
        "line_hz": row.line_mhz / 1000,
        "dcu_id": row.dcu_id,
        "received_utc": utc_text(row.received_utc_ms),
    }


def supply_console() -> APIRouter:
    router = APIRouter()

    @router.get("/supply", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(supply_page())

    return router


def trip_router(service: HesService) -> APIRouter:
    router, store = APIRouter(prefix="/api", tags=["trips"]), service.trips.store

    @router.get("/trips", summary="Leakage trips, the newest first")
    async def trips(serial: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> list[TripView]:
        return [TripView(**_fields(row)) for row in store.trips(serial, limit)]

    @router.get("/trips/{trip_id}", summary="One trip with its waveform", responses=_NOT_FOUND)
    async def trip(trip_id: int) -> WaveformView:
        row = store.trip(trip_id)
        if row is None:
            raise HTTPException(404, f"no trip {trip_id}")
        samples = [round(value, 3) for value in samples_ma(row)]
        return WaveformView(**_fields(row), rate_hz=row.rate_hz, trip_index=row.trip_index, samples_ma=samples)

    return router
