"""The client side of one COSEM association, sans-I/O: requests are made as bytes, answers become events.

    client = ClientAssociation(config, security=security, keys=key_source)
    send(client.associate())
    for event in client.receive(answer):
        match event:
            case Send(apdu): send(apdu)               # the association goes on by itself: HLS passes, next blocks
            case Associated(): send(client.get(AttributeReference(3, obis, 2)))
            case GetDone(results): ...
            case Refused(): ...

`protocols.dlms.reading` has whole flows (associate, discover, read a profile) as generators over it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from protocols.dlms import acse
from protocols.dlms.access import AccessItem
from protocols.dlms.action import ActionRequestNormal, ActionResponseNormal, MethodReference, decode_response
from protocols.dlms.client_events import (
    AccessDone,
    ActionDone,
    Associated,
    ClientConfig,
    Event,
    GetDone,
    NotificationReceived,
    Refused,
    Released,
    RequestFailed,
    Send,
    SetDone,
)
from protocols.dlms.client_opening import ClientOpening, refusal_of
from protocols.dlms.client_protection import ClientProtection
from protocols.dlms.client_requests import AccessOperation, ActionOperation, GetOperation, Operation, SetOperation
from protocols.dlms.client_security import ClientSecurity
from protocols.dlms.data import Data, octet_string
from protocols.dlms.enums import (
    ActionResult,
    AssociationResult,
    Conformance,
    ReleaseResponseReason,
)
from protocols.dlms.exception import (
    CONFIRMED_SERVICE_ERROR,
    EXCEPTION_RESPONSE,
    ConfirmedServiceError,
    ExceptionResponse,
)
from protocols.dlms.gbt import GENERAL_BLOCK_TRANSFER, GbtEndpoint, GeneralBlockTransfer
from protocols.dlms.gbt import OVERHEAD_BYTES as GBT_OVERHEAD_BYTES
from protocols.dlms.get import AttributeReference
from protocols.dlms.obis import ObisCode
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ports import KeySource, Trace

_CURRENT_ASSOCIATION = ObisCode(bytes((0, 0, 40, 0, 0, 255)))
_CONFIRMED = 0xC0
"""Invoke-id-and-priority: confirmed, high priority."""
_PROTECTION_OVERHEAD_BYTES = 30
_GENERAL_OVERHEAD_BYTES = 180
"""Header of general-ciphering and the longest key-info: an ephemeral key with its signature."""
_SIGNING_OVERHEAD_BYTES = 110
_LEAST_PDU_BYTES = 64
_NOTIFICATIONS = (0x0F, 0xC2)


class ClientState(enum.Enum):
    IDLE = enum.auto()
    ASSOCIATING = enum.auto()
    """The AARQ is out."""
    AUTHENTICATING = enum.auto()
    """Our proof is out, the server's is due."""
    ASSOCIATED = enum.auto()
    AWAITING = enum.auto()
    """A request is out."""
    RELEASING = enum.auto()
    """The RLRQ is out."""


class Cause(enum.Enum):
    """What moves the state."""

    ASSOCIATE = enum.auto()
    ACCEPTED = enum.auto()
    CHALLENGED = enum.auto()
    PROVED = enum.auto()
    REFUSED = enum.auto()
    REQUEST = enum.auto()
    ANSWERED = enum.auto()
    RELEASE = enum.auto()
    RELEASED = enum.auto()
    NOT_RELEASED = enum.auto()
    ABANDON = enum.auto()


TRANSITIONS = {
    (ClientState.IDLE, Cause.ASSOCIATE): ClientState.ASSOCIATING,
    (ClientState.ASSOCIATING, Cause.ACCEPTED): ClientState.ASSOCIATED,
    (ClientState.ASSOCIATING, Cause.CHALLENGED): ClientState.AUTHENTICATING,
    (ClientState.ASSOCIATING, Cause.REFUSED): ClientState.IDLE,
    (ClientState.AUTHENTICATING, Cause.PROVED): ClientState.ASSOCIATED,
    (ClientState.AUTHENTICATING, Cause.REFUSED): ClientState.IDLE,
    (ClientState.ASSOCIATED, Cause.REQUEST): ClientState.AWAITING,
    (ClientState.AWAITING, Cause.ANSWERED): ClientState.ASSOCIATED,
    (ClientState.ASSOCIATED, Cause.RELEASE): ClientState.RELEASING,
    (ClientState.RELEASING, Cause.RELEASED): ClientState.IDLE,
    (ClientState.RELEASING, Cause.NOT_RELEASED): ClientState.ASSOCIATED,
    **{(state, Cause.ABANDON): ClientState.IDLE for state in ClientState},
}


class ClientAssociation:
    """One association with one server, reused for one after another. One request is out at a time."""

    def __init__(
        self,
        config: ClientConfig,
        *,
        security: ClientSecurity | None = None,
        keys: KeySource,
        trace: Trace | None = None,
    ) -> None:
        """Raises LocalProtocolError if the configuration needs keys, and `security` is None."""
        if security is None and (config.ciphered or config.mechanism.is_high):
            raise LocalProtocolError(f"mechanism {config.mechanism.name} and ciphering need a ClientSecurity")
        self.config = config
        self.state = ClientState.IDLE
        self.conformance = config.conformance
        self._security = security
        self._trace = trace
        self._invoke = 0
        self._operation: Operation | None = None
        self._last_plain = b""
        self._protection = ClientProtection(config, security, keys)
        self._opening = ClientOpening(config, security, keys, self._protection)
        self._gbt: GbtEndpoint | None = None
        self._server_max_bytes = _LEAST_PDU_BYTES

    # requests

    def associate(self) -> bytes:
        """The AARQ. Raises LocalProtocolError unless IDLE."""
        self._advance(Cause.ASSOCIATE)
        self._protection.end()
        self._opening.begin()
        return self._opening.aarq()

    def get(self, *references: AttributeReference) -> bytes:
        """GET of one attribute or of a list. Raises LocalProtocolError unless ASSOCIATED."""
        return self._start(GetOperation(self._next_invoke(), references, self.config.max_answer_bytes))

    def set(self, reference: AttributeReference, value: Data) -> bytes:
        return self.set_many(((reference, value),))

    def set_many(self, writes: Sequence[tuple[AttributeReference, Data]]) -> bytes:
        """SET of one attribute or of a list, in blocks if it must. Raises LocalProtocolError unless ASSOCIATED."""
        return self._start(
            SetOperation(self._next_invoke(), writes, self._room_bytes(Conformance.BLOCK_SET), self.conformance)
        )

    def action(self, reference: MethodReference, argument: Data | None = None) -> bytes:
        return self.action_many(((reference, argument),))

    def action_many(self, calls: Sequence[tuple[MethodReference, Data | None]]) -> bytes:
        """ACTION of one method or of a list, in blocks if it must. Raises LocalProtocolError unless ASSOCIATED."""
        limit_bytes = self.config.max_answer_bytes
        room_bytes = self._room_bytes(Conformance.BLOCK_ACTION)
        return self._start(ActionOperation(self._next_invoke(), calls, room_bytes, self.conformance, limit_bytes))

    def access(self, *items: AccessItem) -> bytes:
        """ACCESS: reads, writes and invocations at once. Raises LocalProtocolError unless ASSOCIATED."""
        return self._start(AccessOperation(self._next_invoke(), items))

    def release(self) -> bytes:
        """The RLRQ. Raises LocalProtocolError unless ASSOCIATED."""
        self._advance(Cause.RELEASE)
        return self._opening.rlrq()

    def repeat(self) -> bytes:
        """The last APDU again, for a transport that lost it or its answer; a ciphered one under a fresh counter.

        Raises LocalProtocolError if nothing is out.
        """
        if self.state is ClientState.ASSOCIATING:
            return self._opening.aarq()
        if self.state is ClientState.RELEASING:
            return self._opening.rlrq()
        if self._gbt is not None:
            return self._gbt.repeat()[0]
        if self.state in (ClientState.AUTHENTICATING, ClientState.AWAITING):
            return self._protect(self._last_plain)
        raise LocalProtocolError(f"nothing to repeat while {self.state.name}")

    def abandon(self) -> None:
        """Forget the request and the association; back to IDLE. For a transport that was lost."""
        self._operation = self._gbt = None
        self._protection.end()
        self._advance(Cause.ABANDON)

    def abandon_request(self) -> None:
        """Forget the request that is out, keep the association; a late answer is then no answer."""
        self._end_request()

    # answers

    def receive(self, apdu: bytes) -> tuple[Event, ...]:
        """What an APDU from the server means. Raises RemoteProtocolError if it breaks the protocol or its protection
        is wrong; the state is then unchanged, and the right answer may still come."""
        if not apdu:
            raise RemoteProtocolError("an empty APDU")
        tag = apdu[0]
        if tag == acse.AARE:
            return self._on_aare(acse.Aare.decode(apdu))
        if tag == acse.RLRE:
            return self._on_rlre(acse.Rlre.decode(apdu))
        if tag == EXCEPTION_RESPONSE:
            return self._on_exception(ExceptionResponse.decode(apdu))
        if tag == CONFIRMED_SERVICE_ERROR:
            return self._on_service_error(ConfirmedServiceError.decode(apdu))
        if tag == GENERAL_BLOCK_TRANSFER:
            return self._on_block(GeneralBlockTransfer.decode(apdu))
        return self._on_whole(apdu)

    def _on_block(self, block: GeneralBlockTransfer) -> tuple[Event, ...]:
        if self.state is not ClientState.AWAITING or not self.conformance & Conformance.GENERAL_BLOCK_TRANSFER:
            raise RemoteProtocolError(f"a general-block-transfer while {self.state.name}")
        if self._gbt is None:
            self._gbt = self._endpoint()
        outgoing, complete = self._gbt.receive(block)
        sends = tuple(Send(apdu) for apdu in outgoing)
        if complete is None:
            return sends
        self._gbt = None
        return (*sends, *self._on_whole(complete)) if complete else sends

    def _on_whole(self, apdu: bytes) -> tuple[Event, ...]:
        plain = self._protection.unprotect(apdu)
        if plain[0] in _NOTIFICATIONS:
            return (NotificationReceived(plain),)
        if plain[0] == EXCEPTION_RESPONSE:
            return self._on_exception(ExceptionResponse.decode(plain))
        if self.state is ClientState.AUTHENTICATING:
            return self._on_proof(plain)
        if self.state is not ClientState.AWAITING or self._operation is None:
            raise RemoteProtocolError(f"an answer while {self.state.name}")
        return self._on_answer(self._operation, plain)

    def _on_answer(self, operation: Operation, plain: bytes) -> tuple[Event, ...]:
        outcome = operation.advance(plain)
        if outcome is None:
            return ()
        if isinstance(outcome, bytes):
            self._last_plain = outcome
            return (Send(self._protect(outcome)),)
        self._end_request()
        return (outcome,)

    def _on_aare(self, aare: acse.Aare) -> tuple[Event, ...]:
        if self.state is ClientState.AUTHENTICATING and self._opening.is_repetition(aare):
            return ()
        if self.state is not ClientState.ASSOCIATING:
            raise RemoteProtocolError(f"an AARE while {self.state.name}")
        if aare.result is not AssociationResult.ACCEPTED:
            reason = refusal_of(aare)
            self._advance(Cause.REFUSED)
            return (Refused(reason, int(aare.diagnostic)),)
        response = self._opening.accept(aare)
        self.conformance = Conformance(int(response.conformance) & int(self.config.conformance))
        self._server_max_bytes = max(response.max_receive_pdu_bytes or 0xFFFF, _LEAST_PDU_BYTES)
        self._protection.begin(self._opening.dedicated_key)
        if not self.config.mechanism.is_high:
            self._advance(Cause.ACCEPTED)
            return (self._associated(),)
        self._advance(Cause.CHALLENGED)
        reference = MethodReference(15, _CURRENT_ASSOCIATION, 1)
        proof = octet_string(self._opening.prove())
        self._last_plain = ActionRequestNormal(self._next_invoke(), reference, proof).encode()
        return (Send(self._protect(self._last_plain)),)

    def _on_proof(self, plain: bytes) -> tuple[Event, ...]:
        response = decode_response(plain)
        if not isinstance(response, ActionResponseNormal):
            raise RemoteProtocolError("reply_to_HLS_authentication is answered with a list or in blocks")
        result, returned = response.outcome
        if result is not ActionResult.SUCCESS:
            self._advance(Cause.REFUSED)
            return (Refused(f"the server does not accept our proof: {result.name.lower()}"),)
        if not self._opening.is_proved(returned):
            self._advance(Cause.REFUSED)
            return (Refused("the server's proof is wrong: it does not know the key"),)
        self._advance(Cause.PROVED)
        return (self._associated(),)

    def _associated(self) -> Associated:
        title = None if self._security is None else self._security.server_system_title
        return Associated(self.conformance, self._server_max_bytes, title)

    def _on_rlre(self, rlre: acse.Rlre) -> tuple[Event, ...]:
        if self.state is not ClientState.RELEASING:
            raise RemoteProtocolError(f"an RLRE while {self.state.name}")
        if rlre.reason is ReleaseResponseReason.NOT_FINISHED:
            self._advance(Cause.NOT_RELEASED)
            return (RequestFailed("the server does not release the association"),)
        self._advance(Cause.RELEASED)
        return (Released(),)

    def _on_exception(self, exception: ExceptionResponse) -> tuple[Event, ...]:
        reason = f"{exception.state_error.name.lower()}, {exception.service_error.name.lower()}"
        if self.state in (ClientState.ASSOCIATING, ClientState.AUTHENTICATING):
            self._advance(Cause.REFUSED)
            return (Refused(reason),)
        if self.state is ClientState.RELEASING:
            self._advance(Cause.RELEASED)
            return (Released(),)
        if self.state is ClientState.AWAITING:
            self._end_request()
            return (RequestFailed(reason, exception),)
        raise RemoteProtocolError(f"an ExceptionResponse ({reason}) while {self.state.name}")

    def _on_service_error(self, error: ConfirmedServiceError) -> tuple[Event, ...]:
        reason = f"{error.service.name.lower()}, {error.kind.name.lower()} {error.value}"
        if self.state in (ClientState.ASSOCIATING, ClientState.AUTHENTICATING):
            self._advance(Cause.REFUSED)
            return (Refused(reason),)
        if self.state is ClientState.AWAITING:
            self._end_request()
            return (RequestFailed(reason, error),)
        raise RemoteProtocolError(f"a ConfirmedServiceError ({reason}) while {self.state.name}")

    # building

    def _advance(self, cause: Cause) -> None:
        state = TRANSITIONS.get((self.state, cause))
        if state is None:
            raise LocalProtocolError(f"{cause.name} while {self.state.name}")
        if self._trace is not None:
            self._trace("dlms.client", server_sap=self.config.server_sap, cause=cause.name, state=state.name)
        self.state = state

    def _end_request(self) -> None:
        self._operation = self._gbt = None
        self._advance(Cause.ANSWERED)

    def _next_invoke(self) -> int:
        self._invoke = (self._invoke + 1) & 0x0F
        return _CONFIRMED | self._invoke

    def _start(self, operation: Operation) -> bytes:
        if self.state is not ClientState.ASSOCIATED:
            raise LocalProtocolError(f"a request while {self.state.name}")
        plain = operation.first()
        self._advance(Cause.REQUEST)
        self._operation, self._last_plain = operation, plain
        return self._protect(plain)

    def _protect(self, plain: bytes) -> bytes:
        """Protected, and in its first block if it is too long for the server."""
        apdu = self._protection.protect(plain)
        self._gbt = None
        if len(apdu) <= self._server_max_bytes or not self.conformance & Conformance.GENERAL_BLOCK_TRANSFER:
            return apdu
        self._gbt = self._endpoint()
        return self._gbt.send(apdu)[0]

    def _endpoint(self) -> GbtEndpoint:
        config = self.config
        block_bytes = self._server_max_bytes - GBT_OVERHEAD_BYTES
        return GbtEndpoint(block_bytes, window=config.gbt_window, burst=1, limit_bytes=config.max_answer_bytes)

    def _room_bytes(self, blocks: Conformance) -> int:
        """What a plain APDU may have before it is cut by the service itself."""
        if self.conformance & Conformance.GENERAL_BLOCK_TRANSFER and not self.conformance & blocks:
            return self.config.max_answer_bytes
        return self._server_max_bytes - self._overhead_bytes

    @property
    def _overhead_bytes(self) -> int:
        config = self.config
        ciphering = _PROTECTION_OVERHEAD_BYTES if config.ciphered else 0
        general = _GENERAL_OVERHEAD_BYTES if config.key_scheme is not None else 0
        return ciphering + general + (_SIGNING_OVERHEAD_BYTES if config.sign else 0)


__all__ = [
    "AccessDone",
    "AccessItem",
    "ActionDone",
    "Associated",
    "AttributeReference",
    "ClientAssociation",
    "ClientConfig",
    "ClientSecurity",
    "ClientState",
    "Event",
    "GetDone",
    "MethodReference",
    "NotificationReceived",
    "Refused",
    "Released",
    "RequestFailed",
    "Send",
    "SetDone",
]
