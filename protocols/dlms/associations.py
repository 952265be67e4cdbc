"""A server's associations: opening, proving, closing, and locking out who guesses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from protocols.dlms import acse, action
from protocols.dlms.action import MethodOutcome
from protocols.dlms.associating import AssociationRefused, open_association
from protocols.dlms.data import Tag, octet_string
from protocols.dlms.enums import (
    AcseUserDiagnostic,
    ActionResult,
    AssociationResult,
    Mechanism,
    ReleaseResponseReason,
)
from protocols.dlms.initiate import InitiateRequest
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import Caller
from protocols.dlms.security.ciphering import unwrap
from protocols.dlms.security.general_protection import GeneralPeer
from protocols.dlms.security.hls import HlsExchange
from protocols.dlms.server_protection import request_bits
from protocols.dlms.server_security import ServerSecurity
from protocols.dlms.session import Association, Session, SessionEvent, SessionState
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ports import KeySource, Trace

CURRENT_ASSOCIATION = ObisCode(bytes((0, 0, 40, 0, 0, 255)))
_REPLY_TO_HLS = 1


@dataclass(frozen=True, slots=True)
class LockoutPolicy:
    """After `max_failures` failed authentications in a row an association is closed to all for `lock_s` seconds."""

    max_failures: int = 5
    lock_s: float = 60.0


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """Something for the meter's event log: `kind` is one of `refused`, `locked`, `associated`, `released`,
    `protection` (a wrong tag, a replay), `keys_changed`. `late_s` is how long a replay's number has been refused, None
    where that is not known."""

    kind: str
    client_sap: int
    reason: str
    now: float
    late_s: float | None = None


class Journal:
    """Counts what is refused, and tells whoever wants to know."""

    def __init__(self, trace: Trace | None, on_security_event: Callable[[SecurityEvent], None] | None) -> None:
        self.refusals: Counter[str] = Counter()
        self._trace = trace
        self._on_security_event = on_security_event

    def count(self, reason: str, client_sap: int, now: float) -> None:
        self.refusals[reason] += 1
        if self._trace is not None:
            self._trace("dlms.refused", client_sap=client_sap, reason=reason, now=now)

    def emit(self, kind: str, client_sap: int, reason: str, now: float, *, late_s: float | None = None) -> None:
        if self._on_security_event is not None:
            self._on_security_event(SecurityEvent(kind, client_sap, reason, now, late_s))


class Associations:
    """Sessions by client SAP and channel, at most `max_sessions` of them."""

    def __init__(
        self,
        offered: Iterable[Association],
        security: ServerSecurity | None,
        keys: KeySource,
        journal: Journal,
        lockout: LockoutPolicy,
        max_sessions: int,
    ) -> None:
        self.offered = {association.config.client_sap: association for association in offered}
        self.sessions: dict[tuple[int, Hashable], Session] = {}
        self.pre_established = {
            sap: _pre_established(association)
            for sap, association in self.offered.items()
            if association.config.pre_established
        }
        self._security = security
        self._keys = keys
        self._journal = journal
        self._lockout = lockout
        self._max_sessions = max_sessions

    # opening

    def associate(self, client_sap: int, apdu: bytes, now: float, channel: Hashable) -> bytes:
        """The AARE to an AARQ. Raises RemoteProtocolError if the AARQ is malformed."""
        aarq = acse.Aarq.decode(apdu)
        association = self.offered.get(client_sap)
        security = self._security
        title = security.system_title if security is not None and aarq.calling_ap_title else None
        if association is None or association.config.pre_established:
            self._journal.count("unknown_client", client_sap, now)
            refused = AssociationRefused(AcseUserDiagnostic.NO_REASON_GIVEN, "unknown_client")
            return refused.aare(aarq.context, title)
        if now < association.locked_until_s:
            self._journal.count("locked", client_sap, now)
            transient = AssociationResult.REJECTED_TRANSIENT
            locked = AssociationRefused(AcseUserDiagnostic.AUTHENTICATION_FAILURE, "locked", result=transient)
            return locked.aare(aarq.context, title)
        key = (client_sap, channel)
        pending = self.sessions.get(key)
        if pending is not None and pending.state is not SessionState.AUTHENTICATING:
            pending = None
        try:
            opening = open_association(association, aarq, channel, now, security, self._keys, pending)
        except AssociationRefused as refused:
            if refused.counts:
                self._failed(association, now, refused.reason)
            self._journal.count(refused.reason, client_sap, now)
            self._journal.emit("refused", client_sap, refused.reason, now)
            return refused.aare(aarq.context, title)
        self.sessions.pop(key, None)
        self._make_room()
        self.sessions[key] = opening.session
        if opening.session.state is SessionState.ASSOCIATED:
            self._succeeded(opening.session)
        return opening.aare

    def _make_room(self) -> None:
        """Forget the oldest association that anyone can open, then one that is not proved yet, then any."""
        sessions = self.sessions
        while len(sessions) >= self._max_sessions:
            waiting = (key for key, item in sessions.items() if item.state is SessionState.AUTHENTICATING)
            unproved = (key for key, item in sessions.items() if item.association.config.mechanism is Mechanism.NONE)
            del sessions[next(unproved, None) or next(waiting, None) or next(iter(sessions))]

    def _succeeded(self, session: Session) -> None:
        session.association.failures = 0
        self._journal.emit("associated", session.caller.client_sap, "", session.caller.now)

    def _failed(self, association: Association, now: float, reason: str) -> None:
        association.failures += 1
        if association.failures >= self._lockout.max_failures:
            association.failures = 0
            association.locked_until_s = now + self._lockout.lock_s
            self._journal.emit("locked", association.config.client_sap, reason, now)

    # proving

    @staticmethod
    def is_hls_reply(apdu: bytes) -> bool:
        """Whether an ACTION request invokes reply_to_HLS_authentication of an association object."""
        is_association = len(apdu) > 11 and apdu[3:5] == b"\x00\x0f" and apdu[5:9] == CURRENT_ASSOCIATION[:4]
        return is_association and apdu[1] == 1 and apdu[11] == _REPLY_TO_HLS

    def reply_to_hls(self, session: Session, apdu: bytes) -> bytes:
        """Passes 3 and 4: the client's proof, and ours. Raises RemoteProtocolError if the request is malformed."""
        request = action.decode_request(apdu)
        if not isinstance(request, action.ActionRequestNormal):
            raise RemoteProtocolError("reply_to_HLS_authentication in blocks")
        association, invoke = session.association, request.invoke_id_and_priority
        exchange = self._exchange(session)
        argument = request.argument
        proof = argument.value if argument is not None and argument.tag == Tag.OCTET_STRING else b""
        now, client_sap = session.caller.now, session.caller.client_sap
        if now < association.locked_until_s or not exchange.is_proved(proof):
            self._failed(association, now, "wrong_proof")
            self.sessions.pop((client_sap, session.channel), None)
            self._journal.count("wrong_proof", client_sap, now)
            self._journal.emit("refused", client_sap, "wrong_proof", now)
            return action.ActionResponseNormal(invoke, MethodOutcome(ActionResult.OTHER_REASON)).encode()
        session.advance(SessionEvent.PROVED)
        self._succeeded(session)
        outcome = MethodOutcome(ActionResult.SUCCESS, octet_string(exchange.prove()))
        return action.ActionResponseNormal(invoke, outcome).encode()

    def _exchange(self, session: Session) -> HlsExchange:
        security = self._security
        if security is None:
            raise LocalProtocolError("a high mechanism without a security setup")
        ciphering, asymmetric = security.unicast(session.client_title), security.asymmetric
        return HlsExchange(
            mechanism=session.association.config.mechanism,
            own_title=ciphering.own_title,
            peer_title=ciphering.peer_title,
            own_challenge=session.own_challenge,
            peer_challenge=session.peer_challenge,
            secret=session.association.secret,
            ciphering=ciphering,
            signer=None if asymmetric is None else asymmetric.signer,
            verifier=None if asymmetric is None else asymmetric.verifier(session.client_title),
        )

    def peer_of(self, session: Session) -> GeneralPeer:
        """General protection towards the client of a session."""
        if self._security is None:
            raise LocalProtocolError("general protection without a security setup")
        if session.peer is None:
            session.peer = self._security.peer(session.client_title, self._keys)
        return session.peer

    # closing

    def release(self, session: Session, apdu: bytes) -> bytes:
        """The RLRE to an RLRQ. Where the policy asks for protection, the RLRQ must carry a protected InitiateRequest:
        else anyone could close the association of another."""
        rlrq = acse.Rlrq.decode(apdu)
        information, bits = rlrq.user_information, 0
        config, security = session.association.config, self._security
        if information is not None and information[:1] == b"\x21" and security is not None:
            control, _, information = security.unicast(session.client_title).open(
                unwrap(information), now=session.caller.now
            )
            bits = request_bits(control)
        if information is not None:
            InitiateRequest.decode(information)
        required = security.required_request if config.ciphered and security is not None else 0
        if config.pre_established or required & ~bits:
            self._journal.count("release_not_protected", session.caller.client_sap, session.caller.now)
            return acse.Rlre(ReleaseResponseReason.NOT_FINISHED).encode()
        self.sessions.pop((session.caller.client_sap, session.channel), None)
        self._journal.emit("released", session.caller.client_sap, "", session.caller.now)
        return acse.Rlre(ReleaseResponseReason.NORMAL).encode()

    def close_idle(self, now: float, idle_s: float) -> None:
        for key in [key for key, item in self.sessions.items() if now - item.caller.now >= idle_s]:
            del self.sessions[key]

    def close(self, channel: Hashable) -> None:
        for key in [key for key in self.sessions if key[1] == channel]:
            del self.sessions[key]


def _pre_established(association: Association) -> Session:
    config = association.config
    return Session(
        association=association,
        channel=None,
        caller=Caller(config.client_sap, association=association),
        access=config.access,
        state=SessionState.ASSOCIATED,
        conformance=int(config.conformance),
        max_plain_bytes=0xFFFF,
    )
