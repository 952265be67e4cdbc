"""Firmware images and campaigns in the MDMS database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, defer

from protocols.firmware.manifest import Manifest
from protocols.headend.firmware import FirmwareReport, MeterProgress
from twin.hes.firmware_tables import FirmwareCampaignRecord, FirmwareImage, FirmwareMeterRecord

ORDERED = "ordered"


class FirmwareStore:
    """Each call is a transaction of its own. Rows that are returned are detached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    # images

    def add_image(self, data: bytes, manifest: Manifest, now_ms: int) -> FirmwareImage:
        """Keep a file under what `manifest` says of it. The same file twice is one image."""
        digest = hashlib.sha256(data).hexdigest()
        with self._session() as session:
            image = session.get(FirmwareImage, digest[:32])
            if image is None:
                image = FirmwareImage(
                    image_id=digest[:32],
                    model=manifest.model,
                    version=manifest.version,
                    hardware_revisions=", ".join(manifest.hardware_revisions),
                    about=manifest.about,
                    size_bytes=len(data),
                    program_size_bytes=manifest.program_size_bytes,
                    sha256=digest,
                    data=data,
                    uploaded_utc_ms=now_ms,
                )
                session.add(image)
            return image

    def image(self, image_id: str) -> FirmwareImage | None:
        with self._session() as session:
            return session.get(FirmwareImage, image_id)

    def images(self) -> list[FirmwareImage]:
        """The newest first, without their bytes."""
        query = select(FirmwareImage).options(defer(FirmwareImage.data)).order_by(FirmwareImage.uploaded_utc_ms.desc())
        with self._session() as session:
            return list(session.scalars(query))

    # campaigns

    def next_sequence(self) -> int:
        with self._session() as session:
            return (session.scalar(select(func.max(FirmwareCampaignRecord.sequence))) or 0) + 1

    def add_campaign(self, record: FirmwareCampaignRecord, serials: Sequence[str]) -> None:
        with self._session() as session:
            session.add(record)
            session.flush()
            session.add_all(
                FirmwareMeterRecord(
                    campaign_id=record.campaign_id,
                    serial=serial,
                    progress=MeterProgress.WAITING.value,
                    changed_utc_ms=record.created_utc_ms,
                )
                for serial in serials
            )

    def campaign(self, campaign_id: str) -> FirmwareCampaignRecord | None:
        with self._session() as session:
            return session.get(FirmwareCampaignRecord, campaign_id)

    def campaigns(self, limit: int = 100) -> list[FirmwareCampaignRecord]:
        """The newest first."""
        query = select(FirmwareCampaignRecord).order_by(FirmwareCampaignRecord.sequence.desc()).limit(limit)
        with self._session() as session:
            return list(session.scalars(query))

    def meters(self, campaign_id: str) -> list[FirmwareMeterRecord]:
        query = select(FirmwareMeterRecord).where(FirmwareMeterRecord.campaign_id == campaign_id)
        with self._session() as session:
            return list(session.scalars(query.order_by(FirmwareMeterRecord.serial)))

    def take_report(self, report: FirmwareReport, now_ms: int) -> bool:
        """Keep what a concentrator says; False if all of it is older than what is here, or of no campaign."""
        with self._session() as session:
            record = session.get(FirmwareCampaignRecord, report.campaign_id)
            if record is None:
                return False
            is_new = report.number > record.reports
            if is_new:
                record.reports, record.phase, record.detail = report.number, report.phase.value, report.detail
                record.fetched_bytes, record.blocks_total = report.fetched_bytes, report.blocks_total
                record.blocks_multicast, record.blocks_unicast = report.blocks_multicast, report.blocks_unicast
                if report.phase.has_ended and record.ended_utc_ms is None:
                    record.ended_utc_ms = now_ms
            for item in report.meters:
                row = session.get(FirmwareMeterRecord, (report.campaign_id, item.serial))
                if row is None or report.number <= row.report:
                    continue
                is_new = True
                row.report, row.progress, row.detail = report.number, item.progress.value, item.detail
                row.blocks, row.repaired, row.changed_utc_ms = item.blocks, item.repaired, report.time_utc_ms
            return is_new
