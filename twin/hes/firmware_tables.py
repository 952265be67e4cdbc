"""Tables of the MDMS database for meters' firmware: images, campaigns, and how far each meter is."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from twin.hes.tables import Base


class FirmwareImage(Base):
    """A firmware file that was accepted. `image_id` is the beginning of the file's SHA-256."""

    __tablename__ = "firmware_images"
    image_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(32))
    version: Mapped[str] = mapped_column(String(32))
    hardware_revisions: Mapped[str] = mapped_column(String(512))
    about: Mapped[str] = mapped_column(String(256))
    size_bytes: Mapped[int]
    program_size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    data: Mapped[bytes] = mapped_column(LargeBinary)
    uploaded_utc_ms: Mapped[int] = mapped_column(BigInteger)


class FirmwareCampaignRecord(Base):
    """What one concentrator was told to bring to its meters. An operator's campaign over several has one each."""

    __tablename__ = "firmware_campaigns"
    campaign_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(unique=True)
    image_id: Mapped[str] = mapped_column(ForeignKey("firmware_images.image_id"))
    dcu_id: Mapped[str] = mapped_column(String(64))
    phase: Mapped[str] = mapped_column(String(16))
    """`ordered` until the concentrator has said something, then what it says."""
    detail: Mapped[str] = mapped_column(String(512), default="")
    reports: Mapped[int] = mapped_column(default=0)
    """Number of the newest report."""
    fetched_bytes: Mapped[int] = mapped_column(default=0)
    blocks_total: Mapped[int] = mapped_column(default=0)
    blocks_multicast: Mapped[int] = mapped_column(default=0)
    blocks_unicast: Mapped[int] = mapped_column(default=0)
    created_utc_ms: Mapped[int] = mapped_column(BigInteger)
    activate_utc_ms: Mapped[int | None] = mapped_column(BigInteger)
    deadline_utc_ms: Mapped[int] = mapped_column(BigInteger)
    ended_utc_ms: Mapped[int | None] = mapped_column(BigInteger)


class FirmwareMeterRecord(Base):
    """One meter of a campaign. `report` is the number of the report that said so."""

    __tablename__ = "firmware_meters"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("firmware_campaigns.campaign_id"), primary_key=True)
    serial: Mapped[str] = mapped_column(String(32), primary_key=True)
    progress: Mapped[str] = mapped_column(String(16))
    blocks: Mapped[int] = mapped_column(default=0)
    repaired: Mapped[int] = mapped_column(default=0)
    detail: Mapped[str] = mapped_column(String(512), default="")
    report: Mapped[int] = mapped_column(default=0)
    changed_utc_ms: Mapped[int] = mapped_column(BigInteger)
