"""Table of the MDMS database for disconnections and reconnections."""

from __future__ import annotations

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from twin.hes.tables import Base


class SupplyRecord(Base):
    """An operator's request to switch a line, and how it ended. `status` is pending, or that of a `SupplyResponse`."""

    __tablename__ = "supply_requests"
    request_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(unique=True)
    serial: Mapped[str] = mapped_column(String(32))
    dcu_id: Mapped[str] = mapped_column(String(64))
    line: Mapped[int]
    action: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    connected: Mapped[bool | None]
    reason: Mapped[str] = mapped_column(String(32), default="")
    detail: Mapped[str] = mapped_column(String(512), default="")
    created_utc_ms: Mapped[int] = mapped_column(BigInteger)
    deadline_utc_ms: Mapped[int] = mapped_column(BigInteger)
    completed_utc_ms: Mapped[int | None] = mapped_column(BigInteger)
