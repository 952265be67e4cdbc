"""Table of the MDMS database for leakage trips."""

from __future__ import annotations

from sqlalchemy import BigInteger, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from twin.hes.tables import AutoId, Base


class TripRow(Base):
    """One trip of a meter, once: its number starts anew with a new flash, its time does not. Currents in microamperes;
    `samples` are signed 16-bit counts of `count_ua`, big-endian."""

    __tablename__ = "trips"
    __table_args__ = (UniqueConstraint("serial", "number", "time_utc_ms"),)
    trip_id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    serial: Mapped[str] = mapped_column(String(32), index=True)
    number: Mapped[int] = mapped_column(BigInteger)
    time_utc_ms: Mapped[int] = mapped_column(BigInteger)
    line: Mapped[int]
    cause: Mapped[str] = mapped_column(String(32))
    smooth_dc_ua: Mapped[int] = mapped_column(BigInteger)
    pulsating_dc_ua: Mapped[int] = mapped_column(BigInteger)
    ac_ua: Mapped[int] = mapped_column(BigInteger)
    high_frequency_ua: Mapped[int] = mapped_column(BigInteger)
    total_ua: Mapped[int] = mapped_column(BigInteger)
    line_mhz: Mapped[int]
    rate_hz: Mapped[int]
    count_ua: Mapped[int]
    trip_index: Mapped[int]
    samples: Mapped[bytes] = mapped_column(LargeBinary)
    dcu_id: Mapped[str] = mapped_column(String(64))
    collected_utc_ms: Mapped[int] = mapped_column(BigInteger)
    received_utc_ms: Mapped[int] = mapped_column(BigInteger)
