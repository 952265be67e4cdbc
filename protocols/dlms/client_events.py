"""What a client is set up with, and what an association tells it."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms.access import AccessResult
from protocols.dlms.action import MethodOutcome
from protocols.dlms.data import Data
from protocols.dlms.enums import (
    DEFAULT_CONFORMANCE,
    Conformance,
    DataAccessResult,
    Mechanism,
)
from protocols.dlms.exception import ConfirmedServiceError, ExceptionResponse
from protocols.dlms.security.general_protection import KeyScheme
from protocols.dlms.security.keys import Policy


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """`policy` says how requests are protected and what their answers must have, if `ciphered`."""

    client_sap: int
    server_sap: int = 1
    mechanism: Mechanism = Mechanism.NONE
    ciphered: bool = False
    policy: Policy = Policy.AUTHENTICATED_AND_ENCRYPTED
    general_ciphering: bool = False
    """True sends general-glo-ciphering, False the glo- form of each service."""
    key_scheme: KeyScheme | None = None
    """Not None sends general-ciphering, with a key that comes this way."""
    sign: bool = False
    """Wrap every request into general-signing, and ask for signed answers."""
    dedicated_key: bool = False
    """Agree on a key for this association, and use it."""
    gbt_window: int = 1
    """Blocks of general-block-transfer that the server may send in a row, where its transport allows it."""
    conformance: Conformance = DEFAULT_CONFORMANCE
    max_receive_pdu_bytes: int = 1024
    max_answer_bytes: int = 4 * 1024 * 1024
    """Of an answer in blocks."""
    secret: bytes = field(default=b"", repr=False)
    """Of mechanisms 1 and 6."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this APDU now."""

    apdu: bytes


@dataclass(frozen=True, slots=True)
class Associated:
    """The association stands; with a high mechanism both sides have proved themselves."""

    conformance: Conformance
    server_max_receive_pdu_bytes: int
    server_system_title: bytes | None


@dataclass(frozen=True, slots=True)
class Refused:
    """No association: the server said no, or failed to prove itself. `reason` is for people."""

    reason: str
    diagnostic: int | None = None


@dataclass(frozen=True, slots=True)
class GetDone:
    """One result for every reference that was asked for, in order."""

    results: tuple[Data | DataAccessResult, ...]


@dataclass(frozen=True, slots=True)
class SetDone:
    results: tuple[DataAccessResult, ...]


@dataclass(frozen=True, slots=True)
class ActionDone:
    outcomes: tuple[MethodOutcome, ...]


@dataclass(frozen=True, slots=True)
class AccessDone:
    results: tuple[AccessResult, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """The association is closed."""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The server answered the request with an error of the whole; the association still stands."""

    reason: str
    response: ExceptionResponse | ConfirmedServiceError | None = None


@dataclass(frozen=True, slots=True)
class NotificationReceived:
    """A DataNotification or EventNotification that came unasked, its protection taken off."""

    apdu: bytes


Event = (
    Send
    | Associated
    | Refused
    | GetDone
    | SetDone
    | ActionDone
    | AccessDone
    | Released
    | RequestFailed
    | NotificationReceived
)
