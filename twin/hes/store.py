"""The MDMS database: SQLite in a file or in memory, or whatever else SQLAlchemy is given an URL for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, create_engine, event, func, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from protocols.dlms.security.key_management import wrap_key
from protocols.errors import BadInputError
from protocols.headend.groups import BroadcastGroup
from protocols.headend.json_text import decimal_text
from protocols.headend.messages import (
    DcuStatus,
    Event,
    EventKind,
    MeterCredentials,
    ReadingResponse,
    Registration,
    RegistrationStatus,
)
from protocols.headend.quantities import BY_OBIS
from twin.hes.certificates import certificate_objection
from twin.hes.firmware_store import FirmwareStore
from twin.hes.profile_store import ProfileStore
from twin.hes.shedding_store import SheddingStore
from twin.hes.supply_store import SupplyStore
from twin.hes.tables import (
    Base,
    DcuRecord,
    EventRecord,
    Meter,
    MeterState,
    Reading,
    RegistrationRecord,
    Request,
    RequestStatus,
    Shipment,
)
from twin.hes.trips import TripStore
from twin.hes.vault import KeyVault

MEMORY_URL = "sqlite://"

_STATE_AFTER_EVENT: dict[tuple[str, str], MeterState] = {
    (MeterState.REGISTERED, EventKind.METER_LOST): MeterState.UNREACHABLE,
    (MeterState.UNREACHABLE, EventKind.METER_RECOVERED): MeterState.REGISTERED,
    (MeterState.REGISTERED, EventKind.METER_REFUSED): MeterState.REFUSED,
    (MeterState.UNREACHABLE, EventKind.METER_REFUSED): MeterState.REFUSED,
}
"""What a concentrator's event makes of its meter's state; other pairs change nothing."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a registration."""

    status: RegistrationStatus
    detail: str
    is_repeat: bool


class Store:
    """Reads and writes of the head-end, each in a transaction of its own. Rows that are returned are detached."""

    def __init__(self, url: str, vault: KeyVault) -> None:
        """Raises BadInputError when the URL is not one, its driver is missing, or the database cannot be opened."""
        self._vault = vault
        self._engine = _engine(url)
        try:
            Base.metadata.create_all(self._engine)
        except DBAPIError as error:
            self._engine.dispose()
            raise BadInputError(f"the database cannot be opened: {error.orig}", key="db") from None
        self.profiles = ProfileStore(self._engine)
        self.firmware = FirmwareStore(self._engine)
        self.supply = SupplyStore(self._engine)
        self.shedding = SheddingStore(self._engine)
        self.trips = TripStore(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    # shipments

    def add_shipment(self, eui64: bytes, meter: MeterCredentials, master_key: bytes | None = None) -> None:
        """Announce a meter, or replace what was announced for this EUI-64 or serial number.

        With its `master_key`, new keys can be brought to it: it can be in a broadcast group.
        """
        wrap = self._vault.wrap
        with self._session() as session:
            old = session.scalar(select(Shipment).where(Shipment.serial == meter.serial))
            if old is not None:
                session.delete(old)
                session.flush()
            session.merge(
                Shipment(
                    eui64=eui64.hex(),
                    serial=meter.serial,
                    system_title=meter.system_title.hex(),
                    security_suite=meter.security_suite,
                    wrapped_encryption_key=wrap(meter.encryption_key),
                    wrapped_authentication_key=wrap(meter.authentication_key),
                    wrapped_master_key=None if master_key is None else wrap(master_key),
                    signing_certificate_pem=meter.signing_certificate_pem,
                    agreement_certificate_pem=meter.agreement_certificate_pem,
                    revoked=False,
                )
            )

    def shipment(self, eui64: bytes) -> Shipment | None:
        with self._session() as session:
            return session.get(Shipment, eui64.hex())

    def shipment_of(self, serial: str) -> Shipment | None:
        with self._session() as session:
            return session.scalar(select(Shipment).where(Shipment.serial == serial))

    def credentials(self, shipment: Shipment, dcu_id: str) -> MeterCredentials:
        """The keys of a shipment, unwrapped, for the concentrator that is to read the meter."""
        unwrap = self._vault.unwrap
        return MeterCredentials(
            serial=shipment.serial,
            system_title=bytes.fromhex(shipment.system_title),
            security_suite=shipment.security_suite,
            encryption_key=unwrap(shipment.wrapped_encryption_key),
            authentication_key=unwrap(shipment.wrapped_authentication_key),
            broadcast_group=self._broadcast_group(shipment, dcu_id),
            signing_certificate_pem=shipment.signing_certificate_pem,
            agreement_certificate_pem=shipment.agreement_certificate_pem,
        )

    def _broadcast_group(self, shipment: Shipment, dcu_id: str) -> BroadcastGroup | None:
        """What the meters of a concentrator share, wrapped for this one."""
        if shipment.wrapped_master_key is None:
            return None
        master = self._vault.unwrap(shipment.wrapped_master_key)
        broadcast = self._vault.derive(f"broadcast key of {dcu_id}")
        authentication = self._vault.derive(f"broadcast authentication key of {dcu_id}")
        return BroadcastGroup(broadcast, authentication, wrap_key(master, broadcast), wrap_key(master, authentication))

    def revoke(self, serial: str) -> Shipment | None:
        """Mark a shipment, and its meter if it has registered. None when there is none."""
        with self._session() as session:
            shipment = session.scalar(select(Shipment).where(Shipment.serial == serial))
            if shipment is None:
                return None
            shipment.revoked = True
            meter = session.get(Meter, serial)
            if meter is not None:
                meter.state = MeterState.REVOKED
            return shipment

    # meters

    def register(self, dcu_id: str, message: Registration, now_ms: int) -> Judgement:
        """Judge a registration and make or update the meter's one row. Repeated deliveries change nothing."""
        with self._session() as session:
            before = session.get(RegistrationRecord, (dcu_id, message.id))
            if before is not None:
                return Judgement(RegistrationStatus(before.status), before.detail, is_repeat=True)
            reason = _objection(session.get(Shipment, message.eui64.hex()), message)
            status = RegistrationStatus.REFUSED if reason else _upsert_meter(session, dcu_id, message, now_ms)
            session.add(
                RegistrationRecord(
                    dcu_id=dcu_id,
                    registration_id=message.id,
                    serial=message.serial,
                    eui64=message.eui64.hex(),
                    status=status.value,
                    detail=reason,
                    received_utc_ms=now_ms,
                )
            )
            return Judgement(status, reason, is_repeat=False)

    def meters(self) -> list[Meter]:
        with self._session() as session:
            return list(session.scalars(select(Meter).order_by(Meter.serial)))

    def meter(self, serial: str) -> Meter | None:
        with self._session() as session:
            return session.get(Meter, serial)

    def registrations(self, serial: str | None = None) -> list[RegistrationRecord]:
        """In the order in which they came."""
        query = select(RegistrationRecord).order_by(
            RegistrationRecord.received_utc_ms, RegistrationRecord.dcu_id, RegistrationRecord.registration_id
        )
        if serial is not None:
            query = query.where(RegistrationRecord.serial == serial)
        with self._session() as session:
            return list(session.scalars(query))

    # requests and readings

    def next_sequence(self) -> int:
        with self._session() as session:
            return (session.scalar(select(func.max(Request.sequence))) or 0) + 1

    def add_request(self, request: Request) -> None:
        with self._session() as session:
            session.add(request)

    def request(self, request_id: str) -> Request | None:
        with self._session() as session:
            return session.get(Request, request_id)

    def requests(self, serial: str | None = None, limit: int = 100) -> list[Request]:
        """The newest first."""
        query = select(Request).order_by(Request.sequence.desc()).limit(limit)
        if serial is not None:
            query = query.where(Request.serial == serial)
        with self._session() as session:
            return list(session.scalars(query))

    def pending_requests(self) -> list[Request]:
        with self._session() as session:
            return list(
                session.scalars(
                    select(Request).where(Request.status == RequestStatus.PENDING).order_by(Request.sequence)
                )
            )

    def complete(self, request_id: str, status: RequestStatus, detail: str, now_ms: int) -> bool:
        """End a pending request without an answer; False if it has ended already."""
        with self._session() as session:
            request = session.get(Request, request_id)
            if request is None or request.status != RequestStatus.PENDING:
                return False
            request.status, request.detail, request.completed_utc_ms = status.value, detail, now_ms
            return True

    def complete_with(self, response: ReadingResponse, now_ms: int) -> bool:
        """End a pending request with the concentrator's answer and keep its values; False if it has ended already."""
        with self._session() as session:
            request = session.get(Request, response.request_id)
            if request is None or request.status != RequestStatus.PENDING:
                return False
            request.status, request.detail = RequestStatus(response.status.value).value, response.detail
            request.completed_utc_ms, request.attempts = now_ms, response.attempts
            request.missing_json = json.dumps([[item.obis, item.reason.value] for item in response.missing])
            session.add_all(_reading_rows(response, now_ms))
            return True

    def readings(
        self,
        *,
        serial: str | None = None,
        request_id: str | None = None,
        name: str | None = None,
        since_utc_ms: int | None = None,
        limit: int | None = None,
    ) -> list[Reading]:
        """The oldest first; with `limit`, the newest `limit` of them."""
        query = select(Reading)
        if serial is not None:
            query = query.where(Reading.serial == serial)
        if request_id is not None:
            query = query.where(Reading.request_id == request_id)
        if name is not None:
            query = query.where(Reading.name == name)
        if since_utc_ms is not None:
            query = query.where(Reading.received_utc_ms >= since_utc_ms)
        with self._session() as session:
            return list(session.scalars(query.order_by(Reading.reading_id.desc()).limit(limit)))[::-1]

    # events and concentrators

    def add_event(self, source: str, message: Event, now_ms: int) -> bool:
        """Keep an event and what it says about its meter; False for one that is there already."""
        with self._session() as session:
            query = select(EventRecord).where(EventRecord.source == source, EventRecord.event_id == message.id)
            if session.scalar(query) is not None:
                return False
            session.add(
                EventRecord(
                    source=source,
                    event_id=message.id,
                    kind=message.kind,
                    serial=message.serial,
                    eui64=None if message.eui64 is None else message.eui64.hex(),
                    details_json=json.dumps(dict(message.details), sort_keys=True),
                    time_utc_ms=message.time_utc_ms,
                    received_utc_ms=now_ms,
                )
            )
            meter = _meter_of(session, message)
            if meter is not None and meter.dcu_id == source:
                meter.state = _STATE_AFTER_EVENT.get((meter.state, message.kind), meter.state)
            return True

    def events(
        self, *, kind: str | None = None, serial: str | None = None, limit: int | None = None
    ) -> list[EventRecord]:
        """The oldest first; with `limit`, the newest `limit` of them."""
        query = select(EventRecord)
        if kind is not None:
            query = query.where(EventRecord.kind == kind)
        if serial is not None:
            query = query.where(EventRecord.serial == serial)
        with self._session() as session:
            return list(session.scalars(query.order_by(EventRecord.sequence.desc()).limit(limit)))[::-1]

    def set_status(self, dcu_id: str, message: DcuStatus, now_ms: int) -> bool:
        """Keep a concentrator's status; False if it says nothing new."""
        with self._session() as session:
            row = session.get(DcuRecord, dcu_id)
            if row is None:
                row = DcuRecord(dcu_id=dcu_id, state="", firmware_version="", changed_utc_ms=now_ms)
                session.add(row)
            firmware = message.firmware_version or row.firmware_version
            if (row.state, row.firmware_version) == (message.state.value, firmware):
                return False
            row.state, row.firmware_version, row.changed_utc_ms = message.state.value, firmware, now_ms
            return True

    def dcu(self, dcu_id: str) -> DcuRecord | None:
        with self._session() as session:
            return session.get(DcuRecord, dcu_id)

    def dcus(self) -> list[DcuRecord]:
        with self._session() as session:
            return list(session.scalars(select(DcuRecord).order_by(DcuRecord.dcu_id)))


def _engine(url: str) -> Engine:
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        if url in (MEMORY_URL, "sqlite:///:memory:"):
            engine = create_engine(url, poolclass=StaticPool)
        else:
            engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise BadInputError(f"is no database that can be used: {error}", key="db") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Durable against a crash of the process without a disk flush for each transaction."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _objection(shipment: Shipment | None, message: Registration) -> str:
    """Why a meter may not register; empty if it may."""
    if shipment is None:
        return "no shipment announced this EUI-64"
    if shipment.revoked:
        return "the meter is revoked"
    if shipment.serial != message.serial:
        return "the serial number is not the one that was shipped with this EUI-64"
    if shipment.system_title != message.system_title.hex():
        return "the system title is not the one that was shipped"
    if message.security_suite < shipment.security_suite:
        return "the security suite is lower than the one that was shipped"
    return certificate_objection(shipment.signing_certificate_pem, message)


def _upsert_meter(session: Session, dcu_id: str, message: Registration, now_ms: int) -> RegistrationStatus:
    meter = session.get(Meter, message.serial)
    status = RegistrationStatus.REGISTERED if meter is None else RegistrationStatus.UPDATED
    if meter is None:
        meter = Meter(serial=message.serial, registrations=0, first_registered_utc_ms=now_ms)
        session.add(meter)
    meter.eui64, meter.system_title = message.eui64.hex(), message.system_title.hex()
    meter.logical_device_name, meter.model = message.logical_device_name, message.model
    meter.hardware_revision, meter.firmware_version = message.hardware_revision, message.firmware_version
    meter.security_suite = message.security_suite
    meter.authentication_mechanism = message.authentication_mechanism
    meter.public_keys_json = json.dumps([[item.purpose.value, item.key.hex()] for item in message.public_keys])
    meter.signing_certificate_pem = message.signing_certificate_pem
    meter.dcu_id, meter.state = dcu_id, MeterState.REGISTERED.value
    meter.registrations += 1
    meter.last_registered_utc_ms = now_ms
    return status


def _meter_of(session: Session, message: Event) -> Meter | None:
    if message.serial is not None:
        return session.get(Meter, message.serial)
    if message.eui64 is not None:
        return session.scalar(select(Meter).where(Meter.eui64 == message.eui64.hex()))
    return None


def _reading_rows(response: ReadingResponse, now_ms: int) -> list[Reading]:
    rows = []
    for item in response.values:
        quantity = BY_OBIS.get(item.obis)
        rows.append(
            Reading(
                request_id=response.request_id,
                serial=response.serial,
                obis=item.obis,
                name=item.obis if quantity is None else quantity.name,
                value=decimal_text(item.value) if isinstance(item.value, Decimal) else item.value,
                number=float(item.value) if isinstance(item.value, Decimal) else None,
                unit=item.unit,
                capture_time_utc_ms=item.capture_time_utc_ms,
                meter_time_utc_ms=response.meter_time_utc_ms,
                received_utc_ms=now_ms,
            )
        )
    return rows
