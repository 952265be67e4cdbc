"""The operator's REST interface, and the console page.

Every endpoint is a coroutine that never waits outside the loop, so that the same application runs under uvicorn and,
in process, on the virtual clock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from protocols.errors import BadInputError
from protocols.headend.messages import CHANNELS, message_schema
from protocols.headend.topics import PREFIX
from twin.hes.console import console_page
from twin.hes.firmware_api import firmware_router
from twin.hes.profile_api import profile_router
from twin.hes.service import HesService
from twin.hes.shedding_api import shedding_console, shedding_router
from twin.hes.supply_api import supply_router
from twin.hes.tables import RequestStatus
from twin.hes.trip_api import supply_console, trip_router
from twin.hes.views import (
    DEFAULT_READ,
    DcuView,
    EventView,
    HealthView,
    MeterView,
    Problem,
    QuantityView,
    ReadBody,
    ReadingView,
    RequestView,
    dcu_view,
    event_view,
    meter_view,
    quantity_views,
    reading_view,
    request_view,
)

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such thing"}}
_BAD_INPUT: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "The request itself is wrong"}}
Limit = Annotated[int, Query(ge=1, le=10_000, description="At most so many, the newest")]


def create_app(service: HesService) -> FastAPI:
    """The application of one head-end."""
    app = FastAPI(
        title="OpenAMI twin: head-end",
        version="1",
        summary="Meters, on-demand readings and events of a simulated smart-metering system",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.include_router(_meters(service))
    app.include_router(_records(service))
    app.include_router(profile_router(service))
    app.include_router(firmware_router(service))
    app.include_router(supply_router(service))
    app.include_router(shedding_router(service))
    app.include_router(shedding_console())
    app.include_router(trip_router(service))
    app.include_router(supply_console())
    app.add_exception_handler(StarletteHTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)

    @app.get("/", include_in_schema=False)
    async def console() -> HTMLResponse:
        return HTMLResponse(console_page())

    return app


def _meters(service: HesService) -> APIRouter:
    router, store = APIRouter(prefix="/api", tags=["meters"]), service.store

    @router.get("/meters", summary="All meters that have registered")
    async def meters() -> list[MeterView]:
        return [meter_view(row) for row in store.meters()]

    @router.get("/meters/{serial}", summary="One meter", responses=_NOT_FOUND)
    async def meter(serial: str) -> MeterView:
        row = store.meter(serial)
        if row is None:
            raise HTTPException(404, f"no meter {serial!r} has registered")
        return meter_view(row)

    @router.post(
        "/meters/{serial}/readings",
        summary="Read a meter now (use case II)",
        status_code=202,
        responses={
            200: {"model": RequestView, "description": "The request has ended; `status` says how"},
            **_BAD_INPUT,
        },
    )
    async def read(
        serial: str,
        response: Response,
        body: ReadBody | None = None,
        wait: Annotated[bool, Query(description="Answer when the request has ended, by its deadline")] = False,
    ) -> RequestView:
        """Publishes a request to the meter's concentrator. Poll `/api/requests/{id}`, or use `wait`."""
        body = body or DEFAULT_READ
        try:
            request = service.request_reading(serial, body.quantities, body.timeout_s)
        except BadInputError as error:
            raise HTTPException(422, str(error)) from None
        if wait:
            request = await service.wait(request.request_id)
        if request.status != RequestStatus.PENDING:
            response.status_code = HTTPStatus.OK
        return request_view(request, store.readings(request_id=request.request_id))

    return router


def _records(service: HesService) -> APIRouter:
    router, store = APIRouter(prefix="/api"), service.store

    @router.get("/requests", tags=["requests"], summary="Requests, the newest first")
    async def requests(serial: str | None = None, limit: Limit = 100) -> list[RequestView]:
        return [request_view(row, store.readings(request_id=row.request_id)) for row in store.requests(serial, limit)]

    @router.get("/requests/{request_id}", tags=["requests"], summary="One request", responses=_NOT_FOUND)
    async def request(request_id: str) -> RequestView:
        row = store.request(request_id)
        if row is None:
            raise HTTPException(404, f"no request {request_id!r}")
        return request_view(row, store.readings(request_id=request_id))

    @router.get("/readings", tags=["readings"], summary="Values, the oldest first", responses=_BAD_INPUT)
    async def readings(
        serial: str | None = None,
        name: Annotated[str | None, Query(description="A quantity's name")] = None,
        since: Annotated[datetime | None, Query(description="Received at or after this time, ISO 8601")] = None,
        limit: Limit = 1000,
    ) -> list[ReadingView]:
        rows = store.readings(serial=serial, name=name, since_utc_ms=_utc_ms(since), limit=limit)
        return [reading_view(row) for row in rows]

    @router.get("/events", tags=["events"], summary="Events and refusals, the oldest first")
    async def events(kind: str | None = None, serial: str | None = None, limit: Limit = 1000) -> list[EventView]:
        return [event_view(row) for row in store.events(kind=kind, serial=serial, limit=limit)]

    @router.get("/dcus", tags=["concentrators"], summary="Concentrators and whether they are on line")
    async def dcus() -> list[DcuView]:
        return [dcu_view(row) for row in store.dcus()]

    @router.get("/quantities", tags=["meters"], summary="What can be asked for by name")
    async def quantities() -> list[QuantityView]:
        return quantity_views()

    @router.get("/schemas", tags=["concentrators"], summary="JSON Schemas of the MQTT messages, by topic")
    async def schemas() -> dict[str, list[dict[str, Any]]]:
        return {
            f"{PREFIX}/{{dcu_id}}/{channel}": [message_schema(of) for of in types]
            for channel, types in CHANNELS.items()
        }

    @router.get("/health", tags=["health"], summary="Whether the head-end works, and what it has refused")
    async def health() -> HealthView:
        return _health(service)

    return router


def _health(service: HesService) -> HealthView:
    store = service.store
    return HealthView(
        status="ok",
        utc=service.now_text(),
        meters=len(store.meters()),
        dcus_online=sum(row.state == "online" for row in store.dcus()),
        pending_requests=len(store.pending_requests()),
        rejected_messages=service.counters.rejected_messages,
        late_responses=service.counters.late_responses,
    )


def _utc_ms(moment: datetime | None) -> int | None:
    """A time without a zone is taken as UTC."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def _problem(status: int, detail: str) -> JSONResponse:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(problem.model_dump(), status, media_type="application/problem+json")


async def _http_problem(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, StarletteHTTPException):
        raise error
    return _problem(error.status_code, str(error.detail))


async def _validation_problem(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
    return _problem(422, "; ".join(faults))
