"""REST interface of firmware: upload, campaigns, progress; and its page of the console."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import AwareDatetime, BaseModel, Field

from protocols.errors import BadInputError
from protocols.firmware.faults import FirmwareError
from protocols.headend.shapes import utc_text
from twin.hes.console import firmware_page
from twin.hes.firmware import DEFAULT_TIMEOUT_S, FirmwareService
from twin.hes.firmware_tables import FirmwareCampaignRecord, FirmwareImage, FirmwareMeterRecord
from twin.hes.profile_views import utc_ms
from twin.hes.service import HesService
from twin.hes.views import Problem

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such thing"}}
_BAD_INPUT: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "The request itself is wrong"}}


class ImageView(BaseModel):
    """A firmware file that was accepted."""

    image_id: str
    model: str
    version: str
    hardware_revisions: str
    about: str
    size_bytes: int
    program_size_bytes: int
    sha256: str
    uploaded_utc: str


class CampaignBody(BaseModel):
    """Which meters get an image, and when they change over."""

    serials: list[str] | None = Field(default=None, min_length=1, description="Left out: all meters of its model")
    dcu_id: str | None = Field(default=None, description="Only meters of this concentrator")
    activate_at: AwareDatetime | None = Field(default=None, description="Left out: each as soon as it can")
    timeout_s: float = DEFAULT_TIMEOUT_S


class CampaignMeterView(BaseModel):
    """How far one meter is. `repaired` blocks went to it alone."""

    serial: str
    progress: str
    blocks: int
    repaired: int
    detail: str
    changed_utc: str


class CampaignView(BaseModel):
    """A campaign at one concentrator."""

    campaign_id: str
    image_id: str
    model: str
    version: str
    dcu_id: str
    phase: str
    detail: str
    size_bytes: int
    fetched_bytes: int
    blocks_total: int
    blocks_multicast: int
    blocks_unicast: int
    created_utc: str
    activate_utc: str | None
    deadline_utc: str
    ended_utc: str | None
    meters: list[CampaignMeterView]


def image_view(row: FirmwareImage) -> ImageView:
    return ImageView(
        image_id=row.image_id,
        model=row.model,
        version=row.version,
        hardware_revisions=row.hardware_revisions,
        about=row.about,
        size_bytes=row.size_bytes,
        program_size_bytes=row.program_size_bytes,
        sha256=row.sha256,
        uploaded_utc=utc_text(row.uploaded_utc_ms),
    )


def _meter_view(row: FirmwareMeterRecord) -> CampaignMeterView:
    return CampaignMeterView(
        serial=row.serial,
        progress=row.progress,
        blocks=row.blocks,
        repaired=row.repaired,
        detail=row.detail,
        changed_utc=utc_text(row.changed_utc_ms),
    )


def campaign_view(firmware: FirmwareService, row: FirmwareCampaignRecord) -> CampaignView:
    image = firmware.store.image(row.image_id)
    return CampaignView(
        campaign_id=row.campaign_id,
        image_id=row.image_id,
        model="" if image is None else image.model,
        version="" if image is None else image.version,
        dcu_id=row.dcu_id,
        phase=row.phase,
        detail=row.detail,
        size_bytes=0 if image is None else image.size_bytes,
        fetched_bytes=row.fetched_bytes,
        blocks_total=row.blocks_total,
        blocks_multicast=row.blocks_multicast,
        blocks_unicast=row.blocks_unicast,
        created_utc=utc_text(row.created_utc_ms),
        activate_utc=None if row.activate_utc_ms is None else utc_text(row.activate_utc_ms),
        deadline_utc=utc_text(row.deadline_utc_ms),
        ended_utc=None if row.ended_utc_ms is None else utc_text(row.ended_utc_ms),
        meters=[_meter_view(meter) for meter in firmware.store.meters(row.campaign_id)],
    )


def firmware_router(service: HesService) -> APIRouter:
    router, firmware = APIRouter(tags=["firmware"]), service.firmware

    @router.get("/firmware", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(firmware_page())

    @router.post("/api/firmware", summary="Upload a firmware file", status_code=201, responses=_BAD_INPUT)
    async def upload(data: Annotated[bytes, Body(media_type="application/octet-stream")] = b"") -> ImageView:
        """Refused, with the check that it has failed: magic, format, size, manifest, hash, checksum, signature."""
        try:
            return image_view(firmware.upload(data))
        except FirmwareError as error:
            raise HTTPException(422, f"the firmware file is refused: {error}") from None

    @router.get("/api/firmware", summary="Firmware files, the newest first")
    async def images() -> list[ImageView]:
        return [image_view(row) for row in firmware.store.images()]

    @router.post(
        "/api/firmware/{image_id}/campaigns",
        summary="Bring an image to meters (use case VII): a campaign for each concentrator",
        status_code=202,
        responses={200: {"description": "All campaigns have ended"}, **_BAD_INPUT},
    )
    async def start(
        image_id: str,
        response: Response,
        body: CampaignBody | None = None,
        wait: Annotated[bool, Query(description="Answer when all have ended, by the time-out")] = False,
    ) -> list[CampaignView]:
        """Poll `/api/firmware-campaigns/{id}` for the progress of every meter, or use `wait`."""
        body = body or CampaignBody()
        activate_ms = None if body.activate_at is None else utc_ms(body.activate_at)
        try:
            started = firmware.start(
                image_id,
                serials=body.serials,
                dcu_id=body.dcu_id,
                activate_utc_ms=activate_ms,
                timeout_s=body.timeout_s,
            )
        except BadInputError as error:
            raise HTTPException(422, str(error)) from None
        if wait:
            started = [await firmware.wait(record.campaign_id) for record in started]
            response.status_code = HTTPStatus.OK
        return [campaign_view(firmware, record) for record in started]

    @router.get("/api/firmware-campaigns", summary="Campaigns, the newest first")
    async def campaigns(limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> list[CampaignView]:
        return [campaign_view(firmware, row) for row in firmware.store.campaigns(limit)]

    @router.get("/api/firmware-campaigns/{campaign_id}", summary="One campaign, meter by meter", responses=_NOT_FOUND)
    async def campaign(campaign_id: str) -> CampaignView:
        row = firmware.store.campaign(campaign_id)
        if row is None:
            raise HTTPException(404, f"no campaign {campaign_id!r}")
        return campaign_view(firmware, row)

    return router
