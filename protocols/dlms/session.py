"""One association that stands, seen from the server."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field

from protocols.dlms.action import MethodReference
from protocols.dlms.blocks import LongAnswer, LongRequest
from protocols.dlms.enums import DEFAULT_CONFORMANCE, Conformance, Mechanism
from protocols.dlms.gbt import GbtEndpoint
from protocols.dlms.get import AttributeReference
from protocols.dlms.objects import AccessTable, Caller
from protocols.dlms.security.ciphering import Ciphering
from protocols.dlms.security.general_protection import GeneralPeer

UNLIMITED_PDU_BYTES = 0xFFFF


@dataclass(frozen=True, slots=True)
class AssociationConfig:
    """One association that a server offers, by client SAP. Shared by all meters of a model.

    `ciphered` asks for the application context with ciphering; the server's security policy then holds. `instance`
    is F of its object 0.0.40.0.F.255. `pre_established` needs no AARQ and uses the broadcast key.
    """

    client_sap: int
    mechanism: Mechanism
    access: AccessTable
    instance: int
    ciphered: bool = False
    conformance: Conformance = DEFAULT_CONFORMANCE
    max_receive_pdu_bytes: int = 1024
    pre_established: bool = False


@dataclass(slots=True)
class Association:
    """An association offered, with what can change at run time. `secret` is that of mechanisms 1 and 6."""

    config: AssociationConfig
    secret: bytes = field(default=b"", repr=False)
    failures: int = 0
    """Failed authentications since the last right one."""
    locked_until_s: float = 0.0


class SessionState(enum.Enum):
    AUTHENTICATING = enum.auto()
    """AARE sent; the client must prove itself by reply_to_HLS_authentication."""
    ASSOCIATED = enum.auto()


class SessionEvent(enum.Enum):
    PROVED = enum.auto()


TRANSITIONS = {
    (SessionState.AUTHENTICATING, SessionEvent.PROVED): SessionState.ASSOCIATED,
    (SessionState.ASSOCIATED, SessionEvent.PROVED): SessionState.ASSOCIATED,  # the client lost our proof and asks again
}


@dataclass(slots=True)
class Session:
    """State of one association. `max_plain_bytes` is what fits into one APDU to the client before protection."""

    association: Association
    channel: Hashable
    caller: Caller
    access: AccessTable
    state: SessionState
    conformance: int
    max_plain_bytes: int
    max_apdu_bytes: int = UNLIMITED_PDU_BYTES
    """What the client takes in one APDU."""
    client_title: bytes = b""
    """Empty where nothing is ciphered."""
    dedicated: Ciphering | None = None
    peer: GeneralPeer | None = None
    """General protection towards the client, made when it is first needed."""
    last_signed_transaction: int = -1
    gbt: GbtEndpoint | None = None
    gbt_first: bytes = b""
    """First block of the exchange that `gbt` is for."""
    own_challenge: bytes = field(default=b"", repr=False)
    peer_challenge: bytes = field(default=b"", repr=False)
    request_bits: int = 0
    """Protection of the request being served, bits of Policy."""
    response_bits: int = 0
    """Protection that its answer must have, bits of Policy."""
    long_get: LongAnswer | None = None
    long_action_answer: LongAnswer | None = None
    finished_block: tuple[int, int, bytes] | None = None
    """Service, number and answer of the last block of the last long request: its client may not have heard it."""
    long_set: LongRequest[tuple[AttributeReference, ...]] | None = None
    long_action: LongRequest[tuple[MethodReference, ...]] | None = None

    def advance(self, event: SessionEvent) -> None:
        self.state = TRANSITIONS[self.state, event]
