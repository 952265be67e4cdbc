"""Tables of the MDMS database for profiles, event logs, bundles and the concentrators' clocks."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from twin.hes.tables import AutoId, Base


class ProfileLayout(Base):
    """What the values of rows mean: one row for each set of columns that was ever seen."""

    __tablename__ = "profile_layouts"
    digest: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    obis: Mapped[str] = mapped_column(String(23))
    period_s: Mapped[int] = mapped_column(BigInteger)
    columns_json: Mapped[str] = mapped_column(Text)


class ProfileRow(Base):
    """One captured row of a meter, once: `digest` is over all that it says. `values_json` is in the order of the
    layout's columns, numbers as exact text. `source` is the request or the bundle that brought it first."""

    __tablename__ = "profile_rows"
    __table_args__ = (
        UniqueConstraint("serial", "obis", "digest"),
        Index("profile_rows_by_time", "serial", "name", "captured_utc_ms"),
    )
    row_id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    serial: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(64))
    obis: Mapped[str] = mapped_column(String(23))
    digest: Mapped[str] = mapped_column(String(32))
    layout_digest: Mapped[str] = mapped_column(ForeignKey("profile_layouts.digest"))
    captured_utc_ms: Mapped[int | None] = mapped_column(BigInteger)
    clock_status: Mapped[int | None]
    status: Mapped[int | None] = mapped_column(BigInteger)
    values_json: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(64))
    received_utc_ms: Mapped[int] = mapped_column(BigInteger)


class ProfileRequestRecord(Base):
    """An operator's request for a range, how far it has come and how it ended."""

    __tablename__ = "profile_requests"
    request_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(unique=True)
    serial: Mapped[str] = mapped_column(String(32))
    dcu_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(64))
    from_utc_ms: Mapped[int] = mapped_column(BigInteger)
    to_utc_ms: Mapped[int] = mapped_column(BigInteger)
    covered_utc_ms: Mapped[int] = mapped_column(BigInteger)
    """The part of the range before it has come."""
    chunks: Mapped[int] = mapped_column(default=0)
    rows: Mapped[int] = mapped_column(default=0)
    duplicates: Mapped[int] = mapped_column(default=0)
    status: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(String(512), default="")
    created_utc_ms: Mapped[int] = mapped_column(BigInteger)
    deadline_utc_ms: Mapped[int] = mapped_column(BigInteger)
    completed_utc_ms: Mapped[int | None] = mapped_column(BigInteger)


class BundleRecord(Base):
    """A concentrator's daily bundle. Its parts are kept until it is whole and stored."""

    __tablename__ = "bundles"
    dcu_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    bundle_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    parts: Mapped[int]
    meters: Mapped[int] = mapped_column(default=0)
    rows: Mapped[int] = mapped_column(default=0)
    pushed: Mapped[int] = mapped_column(default=0)
    duplicates: Mapped[int] = mapped_column(default=0)
    detail: Mapped[str] = mapped_column(String(512), default="")
    created_utc_ms: Mapped[int | None] = mapped_column(BigInteger)
    received_utc_ms: Mapped[int] = mapped_column(BigInteger)


class BundlePartRecord(Base):
    __tablename__ = "bundle_parts"
    dcu_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    bundle_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class DcuClockRecord(Base):
    """The last comparison of a concentrator's clock with network time."""

    __tablename__ = "dcu_clocks"
    dcu_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    offset_s: Mapped[float]
    round_trip_s: Mapped[float]
    source: Mapped[str] = mapped_column(String(16))
    holdover_s: Mapped[int]
    uncertainty_ms: Mapped[int]
    is_flagged: Mapped[bool]
    checked_utc_ms: Mapped[int] = mapped_column(BigInteger)
