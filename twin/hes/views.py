"""What the REST interface shows: response bodies and how rows become them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, Field

from protocols.headend.json_text import decimal_text
from protocols.headend.quantities import BY_NAME, BY_OBIS, QUANTITIES
from protocols.headend.shapes import utc_text
from twin.hes.certificates import CertificateSummary, summary
from twin.hes.tables import DcuRecord, EventRecord, Meter, Reading, Request

_PER_KILO = {"W": "kW", "Wh": "kWh", "var": "kvar", "varh": "kvarh", "VA": "kVA", "VAh": "kVAh"}


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class PublicKeyView(BaseModel):
    purpose: str
    key: str = Field(description="Uncompressed point without its leading 04, in hex")


class MeterView(BaseModel):
    serial: str
    eui64: str
    system_title: str
    logical_device_name: str
    model: str
    hardware_revision: str
    firmware_version: str
    security_suite: int
    authentication_mechanism: int
    public_keys: list[PublicKeyView]
    certificate: CertificateSummary | None = Field(description="What the meter proved itself by, under suite 1")
    dcu_id: str
    state: str = Field(description="registered, unreachable, refused or revoked")
    registrations: int = Field(description="How often it has registered; power recovery adds one, never a row")
    first_registered_utc: str
    last_registered_utc: str


class ValueView(BaseModel):
    name: str
    label: str
    obis: str
    value: float | str = Field(description="Scaler applied")
    value_text: str = Field(description="The same, exact")
    unit: str = Field(description="The meter's unit, empty where it has none")
    display: str = Field(description="For people: W, Wh, var and varh in thousands")
    capture_time_utc: str | None = Field(None, description="When a maximum occurred")


class ReadingView(ValueView):
    serial: str
    request_id: str
    meter_time_utc: str | None = Field(None, description="The meter's clock when it was read")
    received_utc: str


class MissingView(BaseModel):
    name: str
    obis: str
    reason: str = Field(description="undefined, denied or unavailable")


class RequestView(BaseModel):
    request_id: str
    serial: str
    dcu_id: str
    status: str = Field(description="pending, ok, timeout, refused, unknown-meter or error")
    detail: str
    quantities: list[str]
    values: list[ValueView]
    missing: list[MissingView]
    attempts: int
    meter_time_utc: str | None
    created_utc: str
    deadline_utc: str
    completed_utc: str | None


class EventView(BaseModel):
    sequence: int
    source: str
    event_id: str
    kind: str
    serial: str | None
    eui64: str | None
    details: dict[str, str]
    time_utc: str
    received_utc: str


class DcuView(BaseModel):
    dcu_id: str
    state: str
    firmware_version: str
    changed_utc: str


class QuantityView(BaseModel):
    name: str
    label: str
    obis: str
    unit: str


class HealthView(BaseModel):
    status: str
    utc: str
    meters: int
    dcus_online: int
    pending_requests: int
    rejected_messages: int
    late_responses: int


class ReadBody(BaseModel):
    """What to read and for how long to wait."""

    model_config = {"extra": "forbid"}
    quantities: Annotated[
        list[str] | None, Field(description="Names from /api/quantities; none means the usual ones")
    ] = None
    timeout_s: Annotated[float, Field(ge=1, le=86_400, description="The request is not tried any more after it")] = 60.0


DEFAULT_READ = ReadBody()


def _utc(utc_ms: int | None) -> str | None:
    return None if utc_ms is None else utc_text(utc_ms)


def display_text(value: str, number: float | None, unit: str) -> str:
    """`value` for people: energy and power in thousands, exactly."""
    if number is None:
        return value
    if unit in _PER_KILO:
        return f"{decimal_text(Decimal(value).scaleb(-3))} {_PER_KILO[unit]}"
    return f"{value} {unit}".rstrip()


def meter_view(row: Meter) -> MeterView:
    return MeterView(
        serial=row.serial,
        eui64=row.eui64,
        system_title=row.system_title,
        logical_device_name=row.logical_device_name,
        model=row.model,
        hardware_revision=row.hardware_revision,
        firmware_version=row.firmware_version,
        security_suite=row.security_suite,
        authentication_mechanism=row.authentication_mechanism,
        public_keys=[PublicKeyView(purpose=purpose, key=key) for purpose, key in json.loads(row.public_keys_json)],
        certificate=None if row.signing_certificate_pem is None else summary(row.signing_certificate_pem),
        dcu_id=row.dcu_id,
        state=row.state,
        registrations=row.registrations,
        first_registered_utc=utc_text(row.first_registered_utc_ms),
        last_registered_utc=utc_text(row.last_registered_utc_ms),
    )


def _value_fields(row: Reading) -> dict[str, Any]:
    quantity = BY_NAME.get(row.name)
    return {
        "name": row.name,
        "label": row.name if quantity is None else quantity.label,
        "obis": row.obis,
        "value": row.value if row.number is None else row.number,
        "value_text": row.value,
        "unit": row.unit,
        "display": display_text(row.value, row.number, row.unit),
        "capture_time_utc": _utc(row.capture_time_utc_ms),
    }


def reading_view(row: Reading) -> ReadingView:
    return ReadingView(
        **_value_fields(row),
        serial=row.serial,
        request_id=row.request_id,
        meter_time_utc=_utc(row.meter_time_utc_ms),
        received_utc=utc_text(row.received_utc_ms),
    )


def _name_of(obis: str) -> str:
    quantity = BY_OBIS.get(obis)
    return obis if quantity is None else quantity.name


def request_view(row: Request, readings: list[Reading]) -> RequestView:
    return RequestView(
        request_id=row.request_id,
        serial=row.serial,
        dcu_id=row.dcu_id,
        status=row.status,
        detail=row.detail,
        quantities=[_name_of(obis) for obis, _ in json.loads(row.objects)],
        values=[ValueView(**_value_fields(reading)) for reading in readings],
        missing=[
            MissingView(name=_name_of(obis), obis=obis, reason=reason) for obis, reason in json.loads(row.missing_json)
        ],
        attempts=row.attempts,
        meter_time_utc=_utc(readings[0].meter_time_utc_ms) if readings else None,
        created_utc=utc_text(row.created_utc_ms),
        deadline_utc=utc_text(row.deadline_utc_ms),
        completed_utc=_utc(row.completed_utc_ms),
    )


def event_view(row: EventRecord) -> EventView:
    return EventView(
        sequence=row.sequence,
        source=row.source,
        event_id=row.event_id,
        kind=row.kind,
        serial=row.serial,
        eui64=row.eui64,
        details=json.loads(row.details_json),
        time_utc=utc_text(row.time_utc_ms),
        received_utc=utc_text(row.received_utc_ms),
    )


def dcu_view(row: DcuRecord) -> DcuView:
    return DcuView(
        dcu_id=row.dcu_id,
        state=row.state,
        firmware_version=row.firmware_version,
        changed_utc=utc_text(row.changed_utc_ms),
    )


def quantity_views() -> list[QuantityView]:
    return [QuantityView(name=item.name, label=item.label, obis=item.obis, unit=item.unit) for item in QUANTITIES]
