"""REST interface of disconnections and reconnections."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, Field

from protocols.errors import BadInputError
from protocols.headend.shapes import utc_text
from protocols.headend.supply import SupplyAction
from protocols.leakage_protection import MAX_LINES
from twin.hes.service import HesService
from twin.hes.supply import DEFAULT_TIMEOUT_S
from twin.hes.supply_tables import SupplyRecord
from twin.hes.tables import RequestStatus
from twin.hes.views import Problem

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such thing"}}
_BAD_INPUT: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "The request itself is wrong"}}


class SupplyBody(BaseModel):
    """What to do with which line, and for how long to try."""

    model_config = {"extra": "forbid"}
    action: SupplyAction
    line: Annotated[int, Field(ge=1, le=MAX_LINES, description="Tenant line of the meter")] = 1
    timeout_s: Annotated[float, Field(ge=1, le=86_400, description="The request is not tried any more after it")] = (
        DEFAULT_TIMEOUT_S
    )


class SupplyView(BaseModel):
    request_id: str
    serial: str
    dcu_id: str
    line: int
    action: str
    status: str = Field(
        description="pending, ok, ready, refused, failed, timeout, unknown-meter, undefined or error; ok means that "
        "the contacts were read back where they were to be"
    )
    connected: bool | None = Field(description="What the meter's contacts were last read as")
    reason: str = Field(description="Why the meter's leakage protection refused; empty where it did not")
    detail: str
    created_utc: str
    deadline_utc: str
    completed_utc: str | None


def supply_view(record: SupplyRecord) -> SupplyView:
    completed_ms = record.completed_utc_ms
    return SupplyView(
        request_id=record.request_id,
        serial=record.serial,
        dcu_id=record.dcu_id,
        line=record.line,
        action=record.action,
        status=record.status,
        connected=record.connected,
        reason=record.reason or "",
        detail=record.detail or "",
        created_utc=utc_text(record.created_utc_ms),
        deadline_utc=utc_text(record.deadline_utc_ms),
        completed_utc=None if completed_ms is None else utc_text(completed_ms),
    )


def supply_router(service: HesService) -> APIRouter:
    router, supply = APIRouter(prefix="/api", tags=["supply"]), service.supply

    @router.post(
        "/meters/{serial}/supply",
        summary="Disconnect or reconnect a line",
        status_code=202,
        responses={200: {"model": SupplyView, "description": "The request has ended; `status` says how"}, **_BAD_INPUT},
    )
    async def switch(
        serial: str,
        response: Response,
        body: SupplyBody,
        wait: Annotated[bool, Query(description="Answer when the request has ended, by its deadline")] = False,
    ) -> SupplyView:
        """The meter's own leakage protection has the last word on every closing."""
        try:
            record = supply.request(serial, body.action, body.line, body.timeout_s)
        except BadInputError as error:
            raise HTTPException(422, str(error)) from None
        if wait:
            record = await supply.wait(record.request_id)
        if record.status != RequestStatus.PENDING:
            response.status_code = HTTPStatus.OK
        return supply_view(record)

    @router.get("/supply-requests", summary="Disconnections and reconnections, the newest first")
    async def requests(
        serial: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
    ) -> list[SupplyView]:
        return [supply_view(record) for record in supply.store.requests(serial, limit)]

    @router.get("/supply-requests/{request_id}", summary="One request", responses=_NOT_FOUND)
    async def one(request_id: str) -> SupplyView:
        record = supply.store.request(request_id)
        if record is None:
            raise HTTPException(404, f"no request {request_id!r}")
        return supply_view(record)

    return router
