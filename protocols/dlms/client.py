"""The client side of one COSEM association, sans-I/O: requests are made as bytes, answers become events.

    client = ClientAssociation(config, security=security, keys=key_source)
    send(client.associate())
    for event in client.receive(answer):
        match event:
            case Send(apdu): send(apdu)               # the association goes on by itself: HLS passes, next blocks
            case Associated(): send(client.get(reference))
            case GetDone(results): ...
            case Refused(): ...

`protocols.dlms.reading` has whole flows (associate, discover, read a profile) as generators over it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.dlms.data import Data
from protocols.dlms.enums import DEFAULT_CONFORMANCE, ActionResult, Conformance, DataAccessResult, Mechanism
from protocols.dlms.obis import ObisCode
from protocols.dlms.security.counters import CounterStore
from protocols.dlms.security.keys import Policy, Suite, SymmetricKeys
from protocols.dlms.selective import Selector
from protocols.ports import KeySource, Trace


@dataclass(frozen=True, slots=True)
class AttributeReference:
    class_id: int
    obis: ObisCode
    attribute_id: int
    selector: Selector | None = None


@dataclass(frozen=True, slots=True)
class MethodReference:
    class_id: int
    obis: ObisCode
    method_id: int


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """`policy` says how requests are protected once associated, and what answers must have."""

    client_sap: int
    server_sap: int = 1
    mechanism: Mechanism = Mechanism.NONE
    ciphered: bool = False
    policy: Policy = Policy.AUTHENTICATED_AND_ENCRYPTED
    general_ciphering: bool = False
    """True sends general-glo-ciphering, False the glo- form of each service."""
    dedicated_key: bool = False
    conformance: Conformance = DEFAULT_CONFORMANCE
    max_receive_pdu_bytes: int = 1024
    secret: bytes = field(default=b"", repr=False)
    """Of mechanisms 1 and 6."""


class ClientSecurity:
    """The client's keys for one meter. Counters in `store` are never used twice."""

    def __init__(
        self,
        system_title: bytes,
        keys: SymmetricKeys,
        store: CounterStore,
        *,
        suite: Suite = Suite.SUITE_0,
        server_system_title: bytes | None = None,
    ) -> None:
        """`server_system_title` None takes the one that the AARE brings."""


class ClientState(enum.Enum):
    IDLE = enum.auto()
    ASSOCIATING = enum.auto()
    AUTHENTICATING = enum.auto()
    ASSOCIATED = enum.auto()
    AWAITING = enum.auto()
    """A request is out."""
    RELEASING = enum.auto()


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
    """For each method its result, and the data or access error that it returned (None if nothing)."""

    results: tuple[tuple[ActionResult, Data | DataAccessResult | None], ...]


@dataclass(frozen=True, slots=True)
class Released:
    pass


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The server answered the request with an exception or an error; the association stays as `state` says."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotificationReceived:
    """A DataNotification or EventNotification that came unasked."""

    apdu: object


Event = Send | Associated | Refused | GetDone | SetDone | ActionDone | Released | RequestFailed | NotificationReceived


class ClientAssociation:
    def __init__(
        self,
        config: ClientConfig,
        *,
        security: ClientSecurity | None = None,
        keys: KeySource,
        trace: Trace | None = None,
    ) -> None:
        self.config = config
        self.state = ClientState.IDLE

    def associate(self) -> bytes:
        """The AARQ. Raises LocalProtocolError unless IDLE."""
        raise NotImplementedError

    def get(self, *references: AttributeReference) -> bytes:
        """GET of one attribute or of a list. Raises LocalProtocolError unless ASSOCIATED."""
        raise NotImplementedError

    def set(self, reference: AttributeReference, value: Data) -> bytes:
        raise NotImplementedError

    def set_many(self, writes: Sequence[tuple[AttributeReference, Data]]) -> bytes:
        raise NotImplementedError

    def action(self, reference: MethodReference, argument: Data | None = None) -> bytes:
        raise NotImplementedError

    def action_many(self, calls: Sequence[tuple[MethodReference, Data | None]]) -> bytes:
        raise NotImplementedError

    def release(self) -> bytes:
        """The RLRQ."""
        raise NotImplementedError

    def repeat(self) -> bytes:
        """The last APDU again, for a transport that lost it or its answer; a ciphered one under a fresh counter."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Forget the request or the association that is under way; back to IDLE."""
        raise NotImplementedError

    def receive(self, apdu: bytes) -> tuple[Event, ...]:
        """What an APDU from the server means. Raises RemoteProtocolError if it breaks the protocol or its protection
        is wrong; the state is then unchanged, and the right answer may still come."""
        raise NotImplementedError
