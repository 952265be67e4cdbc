"""Tables of the MDMS database. Times are UTC in milliseconds since 1970; keys are only ever there wrapped."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

AutoId = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only in an INTEGER key."""


class MeterState(StrEnum):
    REGISTERED = "registered"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    REVOKED = "revoked"


class RequestStatus(StrEnum):
    """PENDING, or how it ended; all but the first are `protocols.headend.messages.ReadingStatus`."""

    PENDING = "pending"
    OK = "ok"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    UNKNOWN_METER = "unknown-meter"
    ERROR = "error"


class Base(DeclarativeBase):
    pass


class Shipment(Base):
    """A meter that a manufacturer announced: who may register. Keys are wrapped by RFC 3394 under the vault's key."""

    __tablename__ = "shipments"
    eui64: Mapped[str] = mapped_column(String(16), primary_key=True)
    serial: Mapped[str] = mapped_column(String(32), unique=True)
    system_title: Mapped[str] = mapped_column(String(16))
    security_suite: Mapped[int]
    wrapped_encryption_key: Mapped[bytes] = mapped_column(LargeBinary)
    wrapped_authentication_key: Mapped[bytes] = mapped_column(LargeBinary)
    wrapped_master_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    signing_certificate_pem: Mapped[str | None] = mapped_column(Text)
    agreement_certificate_pem: Mapped[str | None] = mapped_column(Text)
    revoked: Mapped[bool] = mapped_column(default=False)


class Meter(Base):
    """A meter that has registered: one row each, whatever happens."""

    __tablename__ = "meters"
    serial: Mapped[str] = mapped_column(String(32), primary_key=True)
    eui64: Mapped[str] = mapped_column(String(16), unique=True)
    system_title: Mapped[str] = mapped_column(String(16))
    logical_device_name: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(64))
    hardware_revision: Mapped[str] = mapped_column(String(64))
    firmware_version: Mapped[str] = mapped_column(String(64))
    security_suite: Mapped[int]
    authentication_mechanism: Mapped[int]
    public_keys_json: Mapped[str] = mapped_column(Text)
    signing_certificate_pem: Mapped[str | None] = mapped_column(Text)
    dcu_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    registrations: Mapped[int]
    first_registered_utc_ms: Mapped[int] = mapped_column(BigInteger)
    last_registered_utc_ms: Mapped[int] = mapped_column(BigInteger)


class RegistrationRecord(Base):
    """Every registration that was judged, refusals too. The key makes repeated delivery harmless."""

    __tablename__ = "registrations"
    dcu_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    registration_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    serial: Mapped[str] = mapped_column(String(32))
    eui64: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(String(512))
    received_utc_ms: Mapped[int] = mapped_column(BigInteger)


class Request(Base):
    """An operator's request and how it ended."""

    __tablename__ = "requests"
    request_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(unique=True)
    serial: Mapped[str] = mapped_column(String(32))
    dcu_id: Mapped[str] = mapped_column(String(64))
    objects: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(String(512), default="")
    missing_json: Mapped[str] = mapped_column(Text, default="[]")
    attempts: Mapped[int] = mapped_column(default=0)
    created_utc_ms: Mapped[int] = mapped_column(BigInteger)
    deadline_utc_ms: Mapped[int] = mapped_column(BigInteger)
    completed_utc_ms: Mapped[int | None] = mapped_column(BigInteger)


class Reading(Base):
    """One value of one object. `value` is exact text, `number` the same for arithmetic, where it is one."""

    __tablename__ = "readings"
    __table_args__ = (UniqueConstraint("request_id", "obis"), Index("readings_by_meter", "serial", "obis"))
    reading_id: Mapped[int] = mapped_column(AutoId, primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.request_id"))
    serial: Mapped[str] = mapped_column(String(32))
    obis: Mapped[str] = mapped_column(String(23))
    name: Mapped[str] = mapped_column(String(64))
    value: Mapped[str] = mapped_column(String(512))
    number: Mapped[float | None]
    unit: Mapped[str] = mapped_column(String(16))
    capture_time_utc_ms: Mapped[int | None] = mapped_column(BigInteger)
    meter_time_utc_ms: Mapped[int | None] = mapped_column(BigInteger)
    received_utc_ms: Mapped[int] = mapped_column(BigInteger)


class EventRecord(Base):
    """What concentrators and the head-end itself report. `source` is a concentrator's id, or `hes`."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("source", "event_id"),)
    sequence: Mapped[int] = mapped_column(AutoId, primary_key=True)
    source: Mapped[str] = mapped_column(String(64))
    event_id: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    serial: Mapped[str | None] = mapped_column(String(32))
    eui64: Mapped[str | None] = mapped_column(String(16))
    details_json: Mapped[str] = mapped_column(Text)
    time_utc_ms: Mapped[int] = mapped_column(BigInteger)
    received_utc_ms: Mapped[int] = mapped_column(BigInteger)


class DcuRecord(Base):
    """A concentrator as its status messages describe it."""

    __tablename__ = "dcus"
    dcu_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    firmware_version: Mapped[str] = mapped_column(String(64))
    changed_utc_ms: Mapped[int] = mapped_column(BigInteger)
