"""REST interface of profiles, bundles and the concentrators' clocks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import AwareDatetime

from protocols.errors import BadInputError
from protocols.headend.tables import BY_NAME
from twin.hes.profile_views import (
    BundleView,
    DcuClockView,
    ProfileBody,
    ProfileRequestView,
    ProfileView,
    bundle_view,
    clock_view,
    profile_request_view,
    profile_view,
    utc_ms,
)
from twin.hes.service import HesService
from twin.hes.tables import RequestStatus
from twin.hes.views import Problem

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such thing"}}
_BAD_INPUT: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "The request itself is wrong"}}


def profile_router(service: HesService) -> APIRouter:
    router, profiles = APIRouter(prefix="/api", tags=["profiles"]), service.profiles

    @router.post(
        "/meters/{serial}/profiles/{name}/requests",
        summary="Read a profile or an event log by range (use case III)",
        status_code=202,
        responses={200: {"model": ProfileRequestView, "description": "The request has ended"}, **_BAD_INPUT},
    )
    async def request(
        serial: str,
        name: str,
        response: Response,
        body: ProfileBody,
        wait: Annotated[bool, Query(description="Answer when the request has ended, by its deadline")] = False,
    ) -> ProfileRequestView:
        """Poll `/api/profile-requests/{id}` for the progress, or use `wait`."""
        try:
            record = profiles.request(serial, name, utc_ms(body.start), utc_ms(body.end), body.timeout_s)
        except BadInputError as error:
            raise HTTPException(422, str(error)) from None
        if wait:
            record = await profiles.wait(record.request_id)
        if record.status != RequestStatus.PENDING:
            response.status_code = HTTPStatus.OK
        return profile_request_view(record)

    @router.get("/meters/{serial}/profiles/{name}", summary="Rows with their marks, and gaps", responses=_NOT_FOUND)
    async def rows(
        serial: str,
        name: str,
        start: Annotated[
            AwareDatetime | None, Query(alias="from", description="Captured at or after, ISO 8601")
        ] = None,
        end: Annotated[AwareDatetime | None, Query(alias="to", description="Captured at or before")] = None,
    ) -> ProfileView:
        if name not in BY_NAME:
            raise HTTPException(404, f"no profile {name!r}; there are {', '.join(BY_NAME)}")
        limits = (None if start is None else utc_ms(start), None if end is None else utc_ms(end))
        found = profiles.store.rows(serial, name, *limits)
        return profile_view(serial, name, found, profiles.store.layouts(), *limits)

    @router.get("/profile-requests", summary="Requests for ranges, the newest first")
    async def requests(
        serial: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
    ) -> list[ProfileRequestView]:
        return [profile_request_view(row) for row in profiles.store.requests(serial, limit)]

    @router.get("/profile-requests/{request_id}", summary="One request and its progress", responses=_NOT_FOUND)
    async def one(request_id: str) -> ProfileRequestView:
        record = profiles.store.request(request_id)
        if record is None:
            raise HTTPException(404, f"no request {request_id!r}")
        return profile_request_view(record)

    @router.get("/bundles", tags=["concentrators"], summary="Daily bundles, the oldest first")
    async def bundles(dcu_id: str | None = None) -> list[BundleView]:
        return [bundle_view(row) for row in profiles.store.bundles(dcu_id)]

    @router.get("/clocks", tags=["concentrators"], summary="The concentrators' clocks against network time")
    async def clocks() -> list[DcuClockView]:
        return [clock_view(row) for row in profiles.store.clocks()]

    return router
