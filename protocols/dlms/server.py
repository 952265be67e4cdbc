"""The server side of COSEM associations: APDUs in, APDUs out.

server = CosemServer(objects, associations, security=security, keys=key_source)
answer = server.handle(client_sap, apdu, now, channel=peer_address)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from protocols.dlms import acse, action
from protocols.dlms.accessor import ObjectAccessor, ServiceNotSupported
from protocols.dlms.action import MethodOutcome
from protocols.dlms.action_service import ActionService
from protocols.dlms.associating import AssociationRefused, open_association, request_bits, required
from protocols.dlms.data import Tag, octet_string
from protocols.dlms.enums import (
    AcseUserDiagnostic,
    ActionResult,
    AssociationResult,
    Conformance,
    Mechanism,
    ReleaseResponseReason,
    ServiceError,
    StateError,
)
from protocols.dlms.exception import ExceptionResponse
from protocols.dlms.get_service import GetService
from protocols.dlms.initiate import InitiateRequest
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import Caller, CosemObject
from protocols.dlms.security.ciphering import (
    DED_TAGS,
    GENERAL_DED,
    GENERAL_GLO,
    GLO_TAGS,
    PLAIN_OF_DED,
    PLAIN_OF_GLO,
    Ciphering,
    unwrap,
    unwrap_general,
    wrap,
    wrap_general,
)
from protocols.dlms.security.gcm import BROADCAST, ProtectionError
from protocols.dlms.security.hls import HlsExchange
from protocols.dlms.server_security import ServerSecurity
from protocols.dlms.session import (
    UNLIMITED_PDU_BYTES,
    Association,
    AssociationConfig,
    Session,
    SessionEvent,
    SessionState,
)
from protocols.dlms.set_service import SetService
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ports import KeySource, Trace

CURRENT_ASSOCIATION = ObisCode(bytes((0, 0, 40, 0, 0, 255)))
_REPLY_TO_HLS = 1
_ASSOCIATION_LN = 15

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


@dataclass(frozen=True, slots=True)
class LockoutPolicy:
    """After `max_failures` failed authentications in a row an association is closed to all for `lock_s` seconds."""

    max_failures: int = 5
    lock_s: float = 60.0


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """Something for the meter's event log: `kind` is one of `refused`, `locked`, `associated`, `released`,
    `protection` (a wrong tag, a replay), `keys_changed`."""

    kind: str
    client_sap: int
    reason: str
    now: float


class CosemServer:
    """All associations of one logical device.

    `refusals` counts what was refused, by reason. Objects raise AccessDenied for what they cannot do; any other
    exception of an object is a bug, and comes out of `handle` as it is.
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
        self.associations = {association.config.client_sap: association for association in associations}
        self.security = security
        self.refusals: Counter[str] = Counter()
        self.accessor = ObjectAccessor(objects)
        self._keys = keys
        self._trace = trace
        self._on_security_event = on_security_event
        self._lockout = lockout or LockoutPolicy()
        self._max_sessions = max_sessions
        self._sessions: dict[tuple[int, Hashable], Session] = {}
        self._services: dict[int, Callable[[Session, bytes], bytes | None]] = {
            0xC0: GetService(self.accessor),
            0xC1: SetService(self.accessor),
            0xC3: ActionService(self.accessor),
        }
        self._pre_established = {
            sap: self._pre_established_session(association)
            for sap, association in self.associations.items()
            if association.config.pre_established
        }

    # sessions

    @property
    def sessions(self) -> Mapping[tuple[int, Hashable], Session]:
        """Associations that stand, by client SAP and channel."""
        return self._sessions

    def close(self, channel: Hashable) -> None:
        """The channel is gone, and its associations with it."""
        for key in [key for key in self._sessions if key[1] == channel]:
            del self._sessions[key]

    def close_all(self) -> None:
        """Power failed, or the device restarts: no association is left."""
        self._sessions.clear()

    def _pre_established_session(self, association: Association) -> Session:
        config = association.config
        caller = Caller(config.client_sap, association=association)
        return Session(
            association=association,
            channel=None,
            caller=caller,
            access=config.access,
            state=SessionState.ASSOCIATED,
            conformance=int(config.conformance),
            max_plain_bytes=UNLIMITED_PDU_BYTES,
        )

    # the way of an APDU

    def handle(self, client_sap: int, apdu: bytes, now: float, *, channel: Hashable = None) -> bytes | None:
        """The answer to one APDU, None if there is none. Never raises on anything that a peer may send.

        `channel` is where the peer sits (its address, its connection): an association belongs to the channel that
        opened it. `now` is in seconds.
        """
        session = self._sessions.get((client_sap, channel)) or self._pre_established.get(client_sap)
        if not apdu:
            return None
        tag = apdu[0]
        try:
            if tag == acse.AARQ:
                return self._associate(client_sap, apdu, now, channel)
            if session is None:
                self._count("no_association", client_sap, now)
                return _NO_ASSOCIATION
            session.caller.now = now
            if len(apdu) > session.association.config.max_receive_pdu_bytes:
                return self._refuse(session, "pdu_too_long", _TOO_LONG)
            if tag in self._services:
                return self._serve_plain(session, apdu)
            if tag == acse.RLRQ:
                return self._release(session, apdu)
            if tag in PLAIN_OF_GLO or tag in PLAIN_OF_DED or tag in (GENERAL_GLO, GENERAL_DED):
                return self._serve_ciphered(session, apdu)
            return self._refuse(session, "unknown_apdu", _UNKNOWN_SERVICE)
        except ProtectionError as error:
            return self._protection_failed(client_sap, now, session, error)
        except ServiceNotSupported:
            self._count("service_not_supported", client_sap, now)
            return None if client_sap in self._pre_established else _UNKNOWN_SERVICE
        except RemoteProtocolError:
            self._count("malformed", client_sap, now)
            return None if client_sap in self._pre_established else _MALFORMED

    def _serve_plain(self, session: Session, apdu: bytes) -> bytes | None:
        config = session.association.config
        if (config.ciphered and self.security is not None and required(self.security)) or config.pre_established:
            return self._refuse(session, "not_protected", _NO_ASSOCIATION)
        session.request_bits = session.response_bits = 0
        answer = self._serve(session, apdu)
        if session.response_bits and answer is not None and self.security is not None and config.ciphered:
            control = (session.response_bits & 0x60) >> 1
            return self._seal(self.security.unicast(session.client_title), answer, control, apdu[0])
        return answer

    def _serve(self, session: Session, apdu: bytes) -> bytes | None:
        tag = apdu[0]
        service = self._services.get(tag)
        if service is None or not session.conformance & _SERVICE_BITS[tag]:
            return self._refuse(session, "unknown_service", _UNKNOWN_SERVICE)
        if tag == 0xC3 and session.association.config.mechanism.is_high and self._is_hls_reply(apdu):
            return self._reply_to_hls(session, apdu)
        if session.state is not SessionState.ASSOCIATED:
            return self._refuse(session, "not_authenticated", _NO_ASSOCIATION)
        return service(session, apdu)

    def _serve_ciphered(self, session: Session, apdu: bytes) -> bytes | None:
        tag = apdu[0]
        security = self.security
        if security is None or not session.association.config.ciphered:
            return self._refuse(session, "not_ciphered", _NO_ASSOCIATION)
        if tag in (GENERAL_GLO, GENERAL_DED):
            title, sealed = unwrap_general(apdu)
            is_dedicated, plain_tag = tag == GENERAL_DED, None
        else:
            title, sealed = b"", unwrap(apdu)
            is_dedicated = tag in PLAIN_OF_DED
            plain_tag = PLAIN_OF_DED[tag] if is_dedicated else PLAIN_OF_GLO[tag]
        ciphering = self._ciphering(session, title, sealed, is_dedicated=is_dedicated)
        if not sealed or required(security) & ~request_bits(sealed[0]):
            # before the counter is looked at: an APDU without a tag must not be able to use counters up
            raise ProtectionError("less protection than the policy asks for", "policy")
        control, _, plain = ciphering.open(sealed)
        session.request_bits = bits = request_bits(control)
        if not plain or (plain_tag is not None and plain[0] != plain_tag):
            raise RemoteProtocolError("the protected APDU is not of its tag's kind")
        session.response_bits = bits << 3 | int(security.policy) & 0x60
        answer = self._serve(session, plain)
        if answer is None or control & BROADCAST:
            return None
        response_control = (session.response_bits & 0x60) >> 1
        sealed_answer = self._seal(ciphering, answer, response_control, tag, is_dedicated=is_dedicated)
        if security.apply_staged():
            self._emit("keys_changed", session.caller.client_sap, "key_transfer", session.caller.now)
        return sealed_answer

    def _ciphering(self, session: Session, title: bytes, sealed: bytes, *, is_dedicated: bool) -> Ciphering:
        security = self.security
        if security is None:
            raise LocalProtocolError("no security setup")
        is_broadcast = len(sealed) > 0 and bool(sealed[0] & BROADCAST)
        if is_broadcast is not session.association.config.pre_established:
            raise ProtectionError("the key set is not the association's", "wrong_key_set")
        if is_broadcast:
            title = title or security.client_system_title or b""
            if not security.is_known(title) or security.keys.broadcast is None:
                raise ProtectionError("no such broadcaster", "unknown_title")
            return security.broadcast(title)
        ciphering = session.dedicated if is_dedicated else security.unicast(session.client_title)
        if ciphering is None:
            raise ProtectionError("no dedicated key was agreed", "no_dedicated_key")
        if title and title != ciphering.peer_title:
            raise ProtectionError("not the title that the association was opened with", "wrong_title")
        return ciphering

    @staticmethod
    def _seal(
        ciphering: Ciphering, answer: bytes, control: int, request_tag: int, *, is_dedicated: bool = False
    ) -> bytes:
        if request_tag in (GENERAL_GLO, GENERAL_DED):
            return wrap_general(request_tag, ciphering.own_title, ciphering.seal(answer, control))
        tag = (DED_TAGS if is_dedicated else GLO_TAGS).get(answer[0])
        if tag is None:  # an ExceptionResponse has no protected form of its own
            return answer
        return wrap(tag, ciphering.seal(answer, control))

    # opening and closing

    def _associate(self, client_sap: int, apdu: bytes, now: float, channel: Hashable) -> bytes | None:
        aarq = acse.Aarq.decode(apdu)
        association = self.associations.get(client_sap)
        title = self.security.system_title if self.security is not None and aarq.calling_ap_title else None
        if association is None or association.config.pre_established:
            self._count("unknown_client", client_sap, now)
            refused = AssociationRefused(AcseUserDiagnostic.NO_REASON_GIVEN, "unknown_client")
            return refused.aare(aarq.context, title)
        if now < association.locked_until_s:
            self._count("locked", client_sap, now)
            transient = AssociationResult.REJECTED_TRANSIENT
            locked = AssociationRefused(AcseUserDiagnostic.AUTHENTICATION_FAILURE, "locked", result=transient)
            return locked.aare(aarq.context, title)
        key = (client_sap, channel)
        pending = self._sessions.get(key)
        if pending is not None and pending.state is not SessionState.AUTHENTICATING:
            pending = None
        try:
            opening = open_association(association, aarq, channel, now, self.security, self._keys, pending)
        except AssociationRefused as refused:
            if refused.counts:
                self._authentication_failed(association, now, refused.reason)
            self._count(refused.reason, client_sap, now)
            self._emit("refused", client_sap, refused.reason, now)
            return refused.aare(aarq.context, title)
        self._sessions.pop(key, None)
        self._make_room()
        self._sessions[key] = opening.session
        if opening.session.state is SessionState.ASSOCIATED:
            self._associated(opening.session)
        return opening.aare

    def _make_room(self) -> None:
        """Forget the oldest association that is not authenticated, or the oldest at all."""
        while len(self._sessions) >= self._max_sessions:
            waiting = (key for key, item in self._sessions.items() if item.state is SessionState.AUTHENTICATING)
            open_to_all = (
                key for key, item in self._sessions.items() if item.association.config.mechanism is Mechanism.NONE
            )
            victim = next(waiting, None) or next(open_to_all, None) or next(iter(self._sessions))
            del self._sessions[victim]

    def _associated(self, session: Session) -> None:
        session.association.failures = 0
        self._emit("associated", session.caller.client_sap, "", session.caller.now)

    def _authentication_failed(self, association: Association, now: float, reason: str) -> None:
        association.failures += 1
        if association.failures >= self._lockout.max_failures:
            association.failures = 0
            association.locked_until_s = now + self._lockout.lock_s
            self._emit("locked", association.config.client_sap, reason, now)

    @staticmethod
    def _is_hls_reply(apdu: bytes) -> bool:
        return (
            len(apdu) > 11
            and apdu[1] == 1
            and apdu[3:5] == b"\x00\x0f"
            and apdu[5:9] == CURRENT_ASSOCIATION[:4]
            and apdu[11] == _REPLY_TO_HLS
        )

    def _reply_to_hls(self, session: Session, apdu: bytes) -> bytes:
        """Passes 3 and 4: the client's proof, and ours."""
        request = action.decode_request(apdu)
        if not isinstance(request, action.ActionRequestNormal):
            raise RemoteProtocolError("reply_to_HLS_authentication in blocks")
        association = session.association
        invoke = request.invoke_id_and_priority
        exchange = self._exchange(session)
        argument = request.argument
        proof = argument.value if argument is not None and argument.tag == Tag.OCTET_STRING else b""
        now, client_sap = session.caller.now, session.caller.client_sap
        if now < association.locked_until_s or not exchange.is_proved(proof):
            self._authentication_failed(association, now, "wrong_proof")
            self._sessions.pop((client_sap, session.channel), None)
            self._count("wrong_proof", client_sap, now)
            self._emit("refused", client_sap, "wrong_proof", now)
            return action.ActionResponseNormal(invoke, MethodOutcome(ActionResult.OTHER_REASON)).encode()
        session.advance(SessionEvent.PROVED)
        self._associated(session)
        outcome = MethodOutcome(ActionResult.SUCCESS, octet_string(exchange.prove()))
        return action.ActionResponseNormal(invoke, outcome).encode()

    def _exchange(self, session: Session) -> HlsExchange:
        security = self.security
        if security is None:
            raise LocalProtocolError("a high mechanism without a security setup")
        ciphering = security.unicast(session.client_title)
        return HlsExchange(
            mechanism=session.association.config.mechanism,
            own_title=ciphering.own_title,
            peer_title=ciphering.peer_title,
            own_challenge=session.own_challenge,
            peer_challenge=session.peer_challenge,
            secret=session.association.secret,
            ciphering=ciphering,
        )

    def _release(self, session: Session, apdu: bytes) -> bytes:
        """RLRQ. Where the policy asks for protection, it must carry a protected InitiateRequest: else anyone could
        close the association of another."""
        rlrq = acse.Rlrq.decode(apdu)
        information, response = rlrq.user_information, None
        bits = 0
        if information is not None and information[:1] == b"\x21" and self.security is not None:
            control, _, information = self.security.unicast(session.client_title).open(unwrap(information))
            bits = request_bits(control)
        if information is not None:
            InitiateRequest.decode(information)
        is_bound = session.association.config.ciphered and self.security is not None
        if session.association.config.pre_established or (
            is_bound and self.security is not None and required(self.security) & ~bits
        ):
            self._count("release_not_protected", session.caller.client_sap, session.caller.now)
            return acse.Rlre(ReleaseResponseReason.NOT_FINISHED).encode()
        self._sessions.pop((session.caller.client_sap, session.channel), None)
        self._emit("released", session.caller.client_sap, "", session.caller.now)
        return acse.Rlre(ReleaseResponseReason.NORMAL, response).encode()

    # refusing

    def _refuse(self, session: Session, reason: str, answer: bytes) -> bytes | None:
        self._count(reason, session.caller.client_sap, session.caller.now)
        return None if session.association.config.pre_established else answer

    def _protection_failed(
        self, client_sap: int, now: float, session: Session | None, error: ProtectionError
    ) -> bytes | None:
        self._count(error.reason, client_sap, now)
        self._emit("protection", client_sap, error.reason, now)
        if session is None or session.association.config.pre_established:
            return None
        if error.reason == "replay" and self.security is not None:
            least = min(self.security.unicast(session.client_title).receive.least, 0xFFFFFFFF)
            counter_error = ServiceError.INVOCATION_COUNTER_ERROR
            return ExceptionResponse(StateError.SERVICE_NOT_ALLOWED, counter_error, least).encode()
        if error.reason == "policy":
            return _NO_ASSOCIATION
        return _DECIPHERING

    def _count(self, reason: str, client_sap: int, now: float) -> None:
        self.refusals[reason] += 1
        if self._trace is not None:
            self._trace("dlms.refused", client_sap=client_sap, reason=reason, now=now)

    def _emit(self, kind: str, client_sap: int, reason: str, now: float) -> None:
        if self._on_security_event is not None:
            self._on_security_event(SecurityEvent(kind, client_sap, reason, now))


__all__ = [
    "CURRENT_ASSOCIATION",
    "Association",
    "AssociationConfig",
    "CosemServer",
    "LockoutPolicy",
    "SecurityEvent",
    "ServerSecurity",
]
