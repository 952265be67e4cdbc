"""The messages between DCU and head-end. JSON on the wire, one object a message, told apart by its `type`.

Delivery is at least once (MQTT QoS 1): every message can come twice. `id` names a message, and stays the same when
it is sent again; answers name the `request_id` that they answer. Receivers act once on each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, TypeAlias

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.headend.bulk import BundleAck, BundlePart, ProfileChunk, ProfileEnd, ProfileRequest
from protocols.headend.firmware import FirmwareCampaign, FirmwareChunk, FirmwareFetch, FirmwareReport
from protocols.headend.groups import BroadcastGroup
from protocols.headend.json_text import decode_json, encode_json
from protocols.headend.kinds import DETAIL, EUI64, ID, NAME, OBIS, SERIAL, UTC
from protocols.headend.shapes import (
    Amount,
    Choice,
    Flag,
    Hex,
    Integer,
    ListOf,
    Nested,
    Optional,
    Pairs,
    Text,
    decode_object,
    encode_object,
    object_schema,
    wrong,
)
from protocols.headend.supply import SupplyRequest, SupplyResponse
from protocols.headend.time_check import ClockQuery, ClockReport, TimeAnswer, TimeRequest
from protocols.headend.topics import Channel
from protocols.headend.trips import TripReport

_TITLE = Hex(8, 8)
_KEY = Hex(16, 32)
_PEM = Text(8192)
_SUITE = Integer(0, 2)


class CredentialsStatus(StrEnum):
    GRANTED = "granted"
    UNKNOWN = "unknown"
    REVOKED = "revoked"


class RegistrationStatus(StrEnum):
    REGISTERED = "registered"
    UPDATED = "updated"
    REFUSED = "refused"


class ReadingStatus(StrEnum):
    OK = "ok"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    UNKNOWN_METER = "unknown-meter"
    ERROR = "error"


class MissingReason(StrEnum):
    """Why an object that was asked for is not among the values."""

    UNDEFINED = "undefined"
    DENIED = "denied"
    UNAVAILABLE = "unavailable"


class DcuState(StrEnum):
    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class CredentialsRequest:
    """DCU to head-end: a device with this EUI-64 has joined the mesh; may it be read, and with which keys?"""

    TYPE: ClassVar[str] = "credentials-request"
    id: Annotated[str, ID]
    eui64: Annotated[bytes, EUI64]
    time_utc_ms: Annotated[int, UTC]


@dataclass(frozen=True, slots=True)
class MeterCredentials:
    """What the DCU needs to associate with a meter as its management client. Keys are in no repr."""

    serial: Annotated[str, SERIAL]
    system_title: Annotated[bytes, _TITLE]
    security_suite: Annotated[int, _SUITE]
    encryption_key: Annotated[bytes, _KEY] = field(repr=False)
    authentication_key: Annotated[bytes, _KEY] = field(repr=False)
    broadcast_group: Annotated[BroadcastGroup | None, Optional(Nested(BroadcastGroup))] = field(
        default=None, repr=False
    )
    """None for a meter that cannot be in one: nobody knows its master key."""
    signing_certificate_pem: Annotated[str | None, Optional(_PEM)] = field(default=None, repr=False)
    agreement_certificate_pem: Annotated[str | None, Optional(_PEM)] = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Head-end to DCU: answers `CredentialsRequest`. `meter` is there exactly when the status is GRANTED.

    REVOKED also comes unasked, with an id of the head-end's: the DCU then ends its association with the meter.
    """

    TYPE: ClassVar[str] = "credentials"
    request_id: Annotated[str, ID]
    eui64: Annotated[bytes, EUI64]
    status: Annotated[CredentialsStatus, Choice(CredentialsStatus)]
    meter: Annotated[MeterCredentials | None, Optional(Nested(MeterCredentials))] = None

    def check(self) -> None:
        if (self.meter is not None) != (self.status is CredentialsStatus.GRANTED):
            raise wrong("meter", "must be there exactly when status is granted")


class KeyPurpose(StrEnum):
    SIGNING = "signing"
    AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An uncompressed point without its leading 04: 64 octets on P-256, 96 on P-384."""

    purpose: Annotated[KeyPurpose, Choice(KeyPurpose)]
    key: Annotated[bytes, Hex(64, 96)]


@dataclass(frozen=True, slots=True)
class Registration:
    """DCU to head-end: a meter has proved that it holds its keys, and said this about itself (use case I).

    Under security suite 1, `signing_certificate_pem` is the certificate that the DCU has checked.
    """

    TYPE: ClassVar[str] = "registration"
    id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    eui64: Annotated[bytes, EUI64]
    system_title: Annotated[bytes, _TITLE]
    logical_device_name: Annotated[str, NAME]
    model: Annotated[str, NAME]
    hardware_revision: Annotated[str, NAME]
    firmware_version: Annotated[str, NAME]
    security_suite: Annotated[int, _SUITE]
    authentication_mechanism: Annotated[int, Integer(0, 7, "COSEM authentication mechanism id, IEC 62056-5-3")]
    public_keys: Annotated[tuple[PublicKey, ...], ListOf(Nested(PublicKey), 4)]
    time_utc_ms: Annotated[int, UTC]
    signing_certificate_pem: Annotated[str | None, Optional(_PEM)] = None


@dataclass(frozen=True, slots=True)
class RegistrationAck:
    """Head-end to DCU: REGISTERED made a row, UPDATED found the meter's row, REFUSED did neither and says why."""

    TYPE: ClassVar[str] = "registration-ack"
    request_id: Annotated[str, ID]
    eui64: Annotated[bytes, EUI64]
    status: Annotated[RegistrationStatus, Choice(RegistrationStatus)]
    detail: Annotated[str, DETAIL] = ""


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """One COSEM object; of an extended register (class 4), the capture time is read along with the value."""

    obis: Annotated[str, OBIS]
    class_id: Annotated[int, Integer(0, 65535)]


@dataclass(frozen=True, slots=True)
class ReadingRequest:
    """Head-end to DCU: read these objects of this meter. After the deadline it must not be tried any more."""

    TYPE: ClassVar[str] = "reading-request"
    id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    objects: Annotated[tuple[ObjectReference, ...], ListOf(Nested(ObjectReference), 64, 1)]
    deadline_utc_ms: Annotated[int, UTC]


@dataclass(frozen=True, slots=True)
class ReadingValue:
    """`value` has the scaler applied (exact decimal) or is text; `unit` is the meter's, empty where it has none.

    `capture_time_utc_ms` is when a maximum occurred, for objects that keep it.
    """

    obis: Annotated[str, OBIS]
    value: Annotated[Decimal | str, Amount()]
    unit: Annotated[str, Text(16)]
    capture_time_utc_ms: Annotated[int | None, Optional(UTC)] = None


@dataclass(frozen=True, slots=True)
class MissingValue:
    obis: Annotated[str, OBIS]
    reason: Annotated[MissingReason, Choice(MissingReason)]


@dataclass(frozen=True, slots=True)
class ReadingResponse:
    """DCU to head-end: answers `ReadingRequest`, once for each request id.

    OK carries values and names what the meter does not have in `missing`; any other status carries no value and
    says in `detail` what happened. `meter_time_utc_ms` is the meter's clock when it was read, `completed_utc_ms`
    the DCU's.
    """

    TYPE: ClassVar[str] = "reading-response"
    request_id: Annotated[str, ID]
    serial: Annotated[str, SERIAL]
    status: Annotated[ReadingStatus, Choice(ReadingStatus)]
    completed_utc_ms: Annotated[int, UTC]
    values: Annotated[tuple[ReadingValue, ...], ListOf(Nested(ReadingValue), 64)] = ()
    missing: Annotated[tuple[MissingValue, ...], ListOf(Nested(MissingValue), 64)] = ()
    meter_time_utc_ms: Annotated[int | None, Optional(UTC)] = None
    attempts: Annotated[int, Integer(0, 1000)] = 0
    detail: Annotated[str, DETAIL] = ""

    def check(self) -> None:
        if (self.values or self.missing) and self.status is not ReadingStatus.OK:
            raise wrong("values", "must be empty when status is not ok")


class EventKind(StrEnum):
    """Kinds that every head-end must know; a DCU may send others."""

    METER_REFUSED = "meter-refused"
    METER_UNKNOWN = "meter-unknown"
    METER_LOST = "meter-lost"
    METER_RECOVERED = "meter-recovered"
    DCU_STARTED = "dcu-started"


@dataclass(frozen=True, slots=True)
class Event:
    """DCU to head-end: something happened. `details` are (name, text) pairs in the order of their names."""

    TYPE: ClassVar[str] = "event"
    id: Annotated[str, ID]
    kind: Annotated[str, Text(64, "[a-z][a-z0-9-]*", 1)]
    time_utc_ms: Annotated[int, UTC]
    serial: Annotated[str | None, Optional(SERIAL)] = None
    eui64: Annotated[bytes | None, Optional(EUI64)] = None
    details: Annotated[tuple[tuple[str, str], ...], Pairs()] = ()


@dataclass(frozen=True, slots=True)
class DcuStatus:
    """Retained on the status topic: ONLINE by the DCU itself, OFFLINE by its will, which has no time."""

    TYPE: ClassVar[str] = "dcu-status"
    state: Annotated[DcuState, Choice(DcuState)]
    firmware_version: Annotated[str, NAME] = ""
    clean: Annotated[bool, Flag()] = False
    time_utc_ms: Annotated[int | None, Optional(UTC)] = None


Message: TypeAlias = (
    CredentialsRequest
    | Credentials
    | Registration
    | RegistrationAck
    | ReadingRequest
    | ReadingResponse
    | Event
    | DcuStatus
    | ProfileRequest
    | ProfileChunk
    | ProfileEnd
    | BundlePart
    | BundleAck
    | ClockQuery
    | ClockReport
    | FirmwareCampaign
    | FirmwareFetch
    | FirmwareChunk
    | FirmwareReport
    | SupplyRequest
    | SupplyResponse
    | TripReport
    | TimeRequest
    | TimeAnswer
)

CHANNELS: dict[Channel, tuple[type[Message], ...]] = {
    Channel.REQUEST: (ReadingRequest, ProfileRequest, ClockQuery, FirmwareCampaign, FirmwareChunk, SupplyRequest),
    Channel.RESPONSE: (
        ReadingResponse,
        ProfileChunk,
        ProfileEnd,
        ClockReport,
        FirmwareFetch,
        FirmwareReport,
        SupplyResponse,
    ),
    Channel.BUNDLE: (BundlePart,),
    Channel.BUNDLE_ACK: (BundleAck,),
    Channel.CREDENTIALS_REQUEST: (CredentialsRequest,),
    Channel.CREDENTIALS: (Credentials,),
    Channel.REGISTRATION: (Registration,),
    Channel.REGISTRATION_ACK: (RegistrationAck,),
    Channel.EVENT: (Event, TripReport),
    Channel.STATUS: (DcuStatus,),
    Channel.TIME_REQUEST: (TimeRequest,),
    Channel.TIME: (TimeAnswer,),
}
"""What may travel on which channel."""

MESSAGE_TYPES: dict[str, type[Message]] = {of.TYPE: of for types in CHANNELS.values() for of in types}
_CHANNEL_OF: dict[type[Any], Channel] = {of: channel for channel, types in CHANNELS.items() for of in types}


def channel_of(message: Message) -> Channel:
    """The channel on which `message` travels."""
    return _CHANNEL_OF[type(message)]


def encode_message(message: Message) -> bytes:
    """Canonical JSON of `message`, UTF-8. Raises LocalProtocolError when it breaks its own schema."""
    body = encode_object(message)
    try:
        _check(decode_object(type(message), body, ""))
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"{message.TYPE}: {error}") from None
    return encode_json({"type": message.TYPE, **body})


def decode_message(payload: bytes, channel: Channel | None = None) -> Message:
    """The message in `payload`; given a channel, only what may travel on it.

    Raises RemoteProtocolError naming the field that is wrong.
    """
    value = decode_json(payload)
    name = value.get("type") if isinstance(value, dict) else None
    if not isinstance(name, str):
        raise wrong("type", "is missing")
    of = MESSAGE_TYPES.get(name)
    if of is None:
        raise wrong("type", "is unknown")
    if channel is not None and of not in CHANNELS[channel]:
        raise wrong("type", f"{name} may not travel on the {channel} topic")
    message = decode_object(of, value, "", ignore=frozenset({"type"}))
    _check(message)
    return message


def message_schema(of: type[Message]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a message."""
    body = object_schema(of)
    body["properties"] = {"type": {"const": of.TYPE}, **body["properties"]}
    body["required"] = ["type", *body["required"]]
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": of.TYPE}
    return {**title, "description": (of.__doc__ or "").strip(), **body}


def _check(message: Message) -> None:
    check = getattr(message, "check", None)
    if check is not None:
        check()
