"""REST interface of load shedding."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from protocols.errors import BadInputError
from protocols.headend.shapes import utc_text
from protocols.headend.supply import SupplyAction
from twin.hes.console import shedding_page
from twin.hes.service import HesService
from twin.hes.shedding import DEFAULT_TIMEOUT_S, MAX_STAGGER_S, OrderResult
from twin.hes.views import Problem

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such thing"}}
_BAD_INPUT: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "The request itself is wrong"}}


class GroupBody(BaseModel):
    """The meters of a group, in the order in which they are restored."""

    model_config = {"extra": "forbid"}
    serials: Annotated[list[str], Field(min_length=1, max_length=100_000)]


class GroupView(BaseModel):
    group: str
    serials: list[str]


class OrderBody(BaseModel):
    """What to do with a group: restore with a stagger, so that not all loads come back at once."""

    model_config = {"extra": "forbid"}
    action: SupplyAction
    stagger_s: Annotated[float, Field(ge=0, le=MAX_STAGGER_S, description="Time between one meter and the next")] = 0.0
    timeout_s: Annotated[float, Field(ge=1, le=86_400, description="For each meter, from when it is due")] = (
        DEFAULT_TIMEOUT_S
    )


class PartView(BaseModel):
    serial: str
    status: str = Field(description="waiting, withdrawn, or the status of the meter's supply request")
    verified: bool = Field(description="The meter's contacts were read back where the order wants them")
    connected: bool | None
    detail: str
    due_utc: str
    completed_utc: str | None


class OrderView(BaseModel):
    order_id: str
    group: str
    action: str
    status: str = Field(description="pending, done (all verified), partial (some were not), withdrawn")
    verified: int
    stagger_s: float
    created_utc: str
    meters: list[PartView]


def order_view(result: OrderResult) -> OrderView:
    order = result.order
    return OrderView(
        order_id=order.order_id,
        group=order.group,
        action=order.action,
        status=result.status,
        verified=result.verified,
        stagger_s=order.stagger_s,
        created_utc=utc_text(order.created_utc_ms),
        meters=[
            PartView(
                serial=part.serial,
                status=part.status,
                verified=part.verified,
                connected=part.connected,
                detail=part.detail,
                due_utc=utc_text(part.due_utc_ms),
                completed_utc=None if part.completed_utc_ms is None else utc_text(part.completed_utc_ms),
            )
            for part in result.parts
        ],
    )


def shedding_router(service: HesService) -> APIRouter:
    router, shedding = APIRouter(prefix="/api/shedding", tags=["load shedding"]), service.shedding

    @router.get("/groups", summary="Groups and their meters")
    async def groups() -> list[GroupView]:
        return [GroupView(group=name, serials=serials) for name, serials in shedding.store.groups().items()]

    @router.put("/groups/{group}", summary="Make a group, or replace its meters", responses=_BAD_INPUT)
    async def define(group: str, body: GroupBody) -> GroupView:
        try:
            return GroupView(group=group, serials=shedding.define(group, body.serials))
        except BadInputError as error:
            raise HTTPException(422, str(error)) from None

    @router.delete("/groups/{group}", summary="Forget a group", status_code=204, responses=_NOT_FOUND)
    async def remove(group: str) -> None:
        if not shedding.remove(group):
            raise HTTPException(404, f"no group {group!r}")

    @router.post(
        "/groups/{group}/orders",
        summary="Disconnect or restore a group",
        status_code=202,
        responses={200: {"model": OrderView, "description": "All parts have ended; `status` says how"}, **_BAD_INPUT},
    )
    async def order(
        group: str,
        response: Response,
        body: OrderBody,
        wait: Annotated[bool, Query(description="Answer when every meter's part has ended")] = False,
    ) -> OrderView:
        """Each meter's result is read back from its own contacts."""
        try:
            result = shedding.order(group, body.action, stagger_s=body.stagger_s, timeout_s=body.timeout_s)
        except BadInputError as error:
            raise HTTPException(422, str(error)) from None
        if wait:
            result = await shedding.wait(result.order.order_id)
        if result.status != "pending":
            response.status_code = HTTPStatus.OK
        return order_view(result)

    @router.get("/orders", summary="Orders, the newest first")
    async def orders(limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> list[OrderView]:
        return [order_view(shedding.result(order.order_id)) for order in shedding.store.orders(limit)]

    @router.get("/orders/{order_id}", summary="One order", responses=_NOT_FOUND)
    async def one(order_id: str) -> OrderView:
        try:
            return order_view(shedding.result(order_id))
        except KeyError:
            raise HTTPException(404, f"no order {order_id!r}") from None

    return router


def shedding_console() -> APIRouter:
    router = APIRouter()

    @router.get("/shedding", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(shedding_page())

    return router
