"""The server side of COSEM associations: APDUs in, APDUs out.

server = CosemServer(objects, associations, security=security, keys=key_source)
answer = server.handle(client_sap, apdu, now, channel=peer_address)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping

from protocols.dlms import acse
from protocols.dlms.access_service import AccessService
from protocols.dlms.accessor import ObjectAccessor, ServiceNotSupported
from protocols.dlms.action_service import ActionService
from protocols.dlms.associations import CURRENT_ASSOCIATION, Associations, Journal, LockoutPolicy, SecurityEvent
from protocols.dlms.enums import Conformance, ServiceError, StateError
from protocols.dlms.exception import ExceptionResponse
from protocols.dlms.gbt import GENERAL_BLOCK_TRANSFER, MAX_WINDOW, GbtAborted, GbtEndpoint, GeneralBlockTransfer
from protocols.dlms.gbt import OVERHEAD_BYTES as GBT_OVERHEAD_BYTES
from protocols.dlms.get_service import GetService
from protocols.dlms.notification import DATA_NOTIFICATION, EVENT_NOTIFICATION
from protocols.dlms.objects import CosemObject
from protocols.dlms.security.ciphering import GENERAL_GLO, GLO_TAGS
from protocols.dlms.security.gcm import ProtectionError
from protocols.dlms.server_protection import PROTECTED_TAGS, ServerProtection, response_control, seal_like
from protocols.dlms.server_security import ServerSecurity
from protocols.dlms.session import UNLIMITED_PDU_BYTES, Association, AssociationConfig, Session, SessionState
from protocols.dlms.set_service import SetService
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ports import KeySource, Trace

_NO_ASSOCIATION = ExceptionResponse(StateError.SERVICE_NOT_ALLOWED, ServiceError.OPERATION_NOT_POSSIBLE).encode()
_UNKNOWN_SERVICE = ExceptionResponse(StateError.SERVICE_UNKNOWN, ServiceError.SERVICE_NOT_SUPPORTED).encode()
_MALFORMED = ExceptionResponse(StateError.SERVICE_NOT_ALLOWED, ServiceError.OTHER_REASON).encode()
_DECIPHERING = ExceptionResponse(StateError.SERVICE_NOT_ALLOWED, ServiceError.DECIPHERING_ERROR).encode()
_TOO_LONG = ExceptionResponse(StateError.SERVICE_NOT_ALLOWED, ServiceError.PDU_TOO_LONG).encode()

_SERVICE_BITS = {
    0xC0: int(Conformance.GET),
    0xC1: int(Conformance.SET),
    0xC3: int(Conformance.ACTION),
    0xD9: int(Conformance.ACCESS),
}
_ACTION = 0xC3
_GBT = int(Conformance.GENERAL_BLOCK_TRANSFER)
_LEAST_GBT_BYTES = 16


class CosemServer:
    """All associations of one logical device.

    Objects raise AccessDenied for what they cannot do; any other exception of an object is a bug (or the power that
    fails), and comes out of `handle` as it is.
    """

    def __init__(
        self,
        objects: Iterable[CosemObject],
        associations: Iterable[Association],
        *,
        security: ServerSecurity | None,
        keys: KeySource,
        trace: Trace | None = None,
        on_security_event: Callable[[SecurityEvent], None] | None = None,
        lockout: LockoutPolicy | None = None,
        max_sessions: int = 8,
    ) -> None:
        """`keys` gives the challenges. A secret or key is never traced."""
        self.accessor = ObjectAccessor(objects)
        self.security = security
        self._journal = Journal(trace, on_security_event)
        self._associations = Associations(
            associations, security, keys, self._journal, lockout or LockoutPolicy(), max_sessions
        )
        self._protection = None if security is None else ServerProtection(security, self._associations.peer_of)
        self._sessions = self._associations.sessions
        self._pre_established = self._associations.pre_established
        self._burst = 1
        self._more: list[bytes] = []
        self._services: dict[int, Callable[[Session, bytes], bytes | None]] = {
            0xC0: GetService(self.accessor),
            0xC1: SetService(self.accessor),
            0xC3: ActionService(self.accessor),
            0xD9: AccessService(self.accessor),
        }

    @property
    def associations(self) -> Mapping[int, Association]:
        """What is offered, by client SAP."""
        return self._associations.offered

    @property
    def sessions(self) -> Mapping[tuple[int, Hashable], Session]:
        """Associations that stand, by client SAP and channel."""
        return self._sessions

    @property
    def refusals(self) -> Counter[str]:
        """How often what was refused, by reason."""
        return self._journal.refusals

    def close(self, channel: Hashable) -> None:
        """The channel is gone, and its associations with it."""
        self._associations.close(channel)

    def close_idle(self, now: float, idle_s: float) -> None:
        """Close the associations that were not used for `idle_s` seconds."""
        self._associations.close_idle(now, idle_s)

    def close_all(self) -> None:
        """Power failed, or the device restarts: no association is left."""
        self._sessions.clear()

    # the way of an APDU

    def handle(
        self, client_sap: int, apdu: bytes, now: float, *, channel: Hashable = None, age_s: float = 0.0
    ) -> bytes | None:
        """The answer to one APDU, None if there is none. Never raises on anything that a peer may send.

        `channel` is where the peer sits (its address, its connection): an association belongs to the channel that
        opened it. `now` is in seconds; `age_s` is how long the APDU was on its way, where the transport can tell.
        """
        if not apdu:
            return None
        session = self._sessions.get((client_sap, channel)) or self._pre_established.get(client_sap)
        try:
            if session is None:
                return self._without_session(client_sap, apdu, now, channel)
            session.caller.now, session.caller.age_s = now, age_s
            return self._with_session(session, apdu, channel)
        except ProtectionError as error:
            answer = self._protection_failed(client_sap, now, session, error)
        except ServiceNotSupported:
            self._journal.count("service_not_supported", client_sap, now)
            answer = _UNKNOWN_SERVICE
        except RemoteProtocolError:
            self._journal.count("malformed", client_sap, now)
            answer = _MALFORMED
        return None if client_sap in self._pre_established else answer

    def handle_all(self, client_sap: int, apdu: bytes, now: float, *, channel: Hashable = None) -> tuple[bytes, ...]:
        """As `handle`, for transports that carry several APDUs in a row: general-block-transfer then streams the
        windows that the client can take, where `handle` sends one block at a time."""
        self._burst, self._more = MAX_WINDOW, []
        try:
            answer = self.handle(client_sap, apdu, now, channel=channel)
            return () if answer is None else (answer, *self._more)
        finally:
            self._burst, self._more = 1, []

    def _without_session(self, client_sap: int, apdu: bytes, now: float, channel: Hashable) -> bytes | None:
        if apdu[0] == acse.AARQ:
            return self._associations.associate(client_sap, apdu, now, channel)
        self._journal.count("no_association", client_sap, now)
        return _NO_ASSOCIATION

    def _with_session(self, session: Session, apdu: bytes, channel: Hashable) -> bytes | None:
        tag = apdu[0]
        if len(apdu) > session.association.config.max_receive_pdu_bytes:
            return self._refuse(session, "pdu_too_long", _TOO_LONG)
        if tag in self._services or tag in PROTECTED_TAGS:
            return self._answer(session, apdu)
        if tag == GENERAL_BLOCK_TRANSFER:
            return self._block_transfer(session, apdu)
        if tag == acse.RLRQ:
            return self._associations.release(session, apdu)
        if tag == acse.AARQ:
            caller = session.caller
            return self._associations.associate(caller.client_sap, apdu, caller.now, channel)
        return self._refuse(session, "unknown_apdu", _UNKNOWN_SERVICE)

    def _answer(self, session: Session, apdu: bytes) -> bytes | None:
        answer = self._serve_plain(session, apdu) if apdu[0] in self._services else self._serve_protected(session, apdu)
        if answer is None or len(answer) <= session.max_apdu_bytes or answer[0] == 0xD8:
            return answer
        if session.conformance & _GBT and session.max_apdu_bytes > _LEAST_GBT_BYTES + GBT_OVERHEAD_BYTES:
            session.gbt, session.gbt_first = self._endpoint(session), b""
            return self._burst_of(session.gbt.send(answer))
        return self._refuse(session, "answer_too_long", _TOO_LONG)

    def _serve_plain(self, session: Session, apdu: bytes) -> bytes | None:
        config, security = session.association.config, self.security
        if config.pre_established or (config.ciphered and security is not None and security.required_request):
            return self._refuse(session, "not_protected", _NO_ASSOCIATION)
        session.request_bits = session.response_bits = 0
        answer = self._serve(session, apdu)
        if answer is None or not config.ciphered or security is None:
            return answer
        bits = session.response_bits | security.required_response
        if not bits & 0x60:
            return answer
        form = apdu[0] if answer[0] in GLO_TAGS else GENERAL_GLO
        return seal_like(form, security.unicast(session.client_title), answer, response_control(bits))

    def _serve_protected(self, session: Session, apdu: bytes) -> bytes | None:
        protection, security = self._protection, self.security
        if protection is None or security is None or not session.association.config.ciphered:
            return self._refuse(session, "not_ciphered", _NO_ASSOCIATION)
        request = protection.open(session, apdu)
        session.request_bits = request.bits
        session.response_bits = (request.bits << 3 & 0x60) | security.required_response
        answer = self._serve(session, request.plain)
        if answer is None or request.is_broadcast:
            return None
        sealed = request.seal(answer, session.response_bits)
        if security.apply_staged():
            self._journal.emit("keys_changed", session.caller.client_sap, "key_transfer", session.caller.now)
        return sealed

    def _serve(self, session: Session, apdu: bytes) -> bytes | None:
        tag = apdu[0]
        service = self._services.get(tag)
        if service is None:
            return self._refuse(session, "unknown_service", _UNKNOWN_SERVICE)
        config = session.association.config
        if tag == _ACTION and config.mechanism.is_high and self._associations.is_hls_reply(apdu):
            return self._associations.reply_to_hls(session, apdu)
        if session.state is not SessionState.ASSOCIATED:
            return self._refuse(session, "not_authenticated", _NO_ASSOCIATION)
        if not session.conformance & _SERVICE_BITS[tag]:
            return self._refuse(session, "unknown_service", _UNKNOWN_SERVICE)
        return service(session, apdu)

    # general-block-transfer

    def _endpoint(self, session: Session) -> GbtEndpoint:
        limit = session.association.config.max_receive_pdu_bytes
        block_bytes = min(session.max_apdu_bytes, UNLIMITED_PDU_BYTES) - GBT_OVERHEAD_BYTES
        return GbtEndpoint(block_bytes, window=MAX_WINDOW, burst=self._burst, limit_bytes=64 * limit)

    def _block_transfer(self, session: Session, apdu: bytes) -> bytes | None:
        if not session.conformance & _GBT or session.association.config.pre_established:
            return self._refuse(session, "unknown_service", _UNKNOWN_SERVICE)
        block = GeneralBlockTransfer.decode(apdu)
        if session.gbt is None or (block.block_number == 1 and block.content and block.content != session.gbt_first):
            session.gbt, session.gbt_first = self._endpoint(session), block.content
        endpoint = session.gbt
        try:
            outgoing, complete = endpoint.receive(block)
        except GbtAborted:
            session.gbt = None
            raise
        if complete is None:
            return self._burst_of(outgoing)
        if not complete or complete[0] == GENERAL_BLOCK_TRANSFER:
            raise RemoteProtocolError("blocks that carry nothing, or blocks")
        if complete[0] not in self._services and complete[0] not in PROTECTED_TAGS:
            return self._refuse(session, "unknown_apdu", _UNKNOWN_SERVICE)
        is_plain = complete[0] in self._services
        answer = self._serve_plain(session, complete) if is_plain else self._serve_protected(session, complete)
        return None if answer is None else self._burst_of(endpoint.send(answer))

    def _burst_of(self, apdus: list[bytes]) -> bytes | None:
        self._more += apdus[1:]
        return apdus[0] if apdus else None

    # unasked

    def notify(self, client_sap: int, apdu: bytes, *, channel: Hashable = None) -> bytes:
        """A DataNotification or EventNotification, protected as the security policy asks for towards that client.

        Raises LocalProtocolError if there is no such association, or it must be protected and no client is known.
        """
        association = self._associations.offered.get(client_sap)
        if association is None or apdu[0] not in (DATA_NOTIFICATION, EVENT_NOTIFICATION):
            raise LocalProtocolError(f"no notification {apdu[:1].hex()} to client {client_sap}")
        security = self.security
        if not association.config.ciphered or security is None or not security.required_response:
            return apdu
        session = self._sessions.get((client_sap, channel))
        title = session.client_title if session is not None else security.client_system_title
        if title is None:
            raise LocalProtocolError("a notification that must be protected, and no client's system title is known")
        control = response_control(security.required_response)
        return seal_like(GENERAL_GLO, security.unicast(title), apdu, control)

    # refusing

    def _refuse(self, session: Session, reason: str, answer: bytes) -> bytes | None:
        self._journal.count(reason, session.caller.client_sap, session.caller.now)
        return None if session.association.config.pre_established else answer

    def _protection_failed(self, client_sap: int, now: float, session: Session | None, error: ProtectionError) -> bytes:
        self._journal.count(error.reason, client_sap, now)
        self._journal.emit("protection", client_sap, error.reason, now, late_s=error.late_s)
        if error.reason == "policy":
            return _NO_ASSOCIATION
        if error.reason != "replay" or self.security is None or session is None or not session.client_title:
            return _DECIPHERING
        least = min(self.security.unicast(session.client_title).receive.least, 0xFFFFFFFF)
        counter_error = ServiceError.INVOCATION_COUNTER_ERROR
        return ExceptionResponse(StateError.SERVICE_NOT_ALLOWED, counter_error, least).encode()


__all__ = [
    "CURRENT_ASSOCIATION",
    "Association",
    "AssociationConfig",
    "CosemServer",
    "LockoutPolicy",
    "SecurityEvent",
    "ServerSecurity",
]
