"""The authenticator, at the border router: judges devices by their certificates, and gives them the group keys."""

from __future__ import annotations

import enum
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from protocols.errors import RemoteProtocolError
from protocols.mesh.authentication.eap import Assembly, Eap, EapCode, EapMethod, EapTls, fragments
from protocols.mesh.authentication.eapol import Eapol, EapolType, Kmp
from protocols.mesh.authentication.eapol_key import (
    NONCE_BYTES,
    EapolKey,
    KeyData,
    KeyInformation,
    wrap_key_data,
)
from protocols.mesh.authentication.pairwise import PairwiseKey, pmk_id
from protocols.mesh.authentication.supplicant import EAPOL_HEAD_BYTES, PMK_BYTES
from protocols.mesh.authentication.tls import TlsServer, TlsState
from protocols.mesh.authentication.trust import MeshCredentials, RefusalReason
from protocols.mesh.key_ring import KeyRing
from protocols.mesh.timers import AuthenticationTimers

SESSIONS_MAX = 4096


class SessionState(enum.Enum):
    IDLE = "idle"
    IDENTITY = "waiting for the identity"
    TLS = "in EAP-TLS"
    FIRST = "waiting for the second message of the 4-way handshake"
    THIRD = "waiting for the fourth message of the 4-way handshake"
    GROUP = "waiting for the second message of the group key handshake"


class AuthenticatorPort(Protocol):
    """Called by `Authenticator`. Devices are EUI-64s."""

    def send(self, supplicant: bytes, via: bytes | None, kmp: Kmp, pdu: bytes) -> None:
        """To a device, through the relay with this IPv6 address (None: it is a neighbour)."""
        ...

    def authenticated(self, supplicant: bytes) -> None:
        """The device has proved itself and has the group keys."""
        ...

    def refused(self, supplicant: bytes, reason: RefusalReason, detail: str) -> None: ...


@dataclass(slots=True)
class Session:
    """What is known of one device. PMK and PTK outlast a conversation."""

    supplicant: bytes
    via: bytes | None = None
    state: SessionState = SessionState.IDLE
    deadline: float | None = None
    repetitions: int = 0
    sent: tuple[Kmp, bytes] | None = field(default=None, repr=False)
    heard_at: float = 0.0
    identifier: int = 0
    tls: TlsServer | None = None
    assembly: Assembly = field(default_factory=Assembly)
    outgoing: list[EapTls] = field(default_factory=list)
    pmk: bytes = field(default=b"", repr=False)
    ptk: PairwiseKey | None = field(default=None, repr=False)
    pending: PairwiseKey | None = field(default=None, repr=False)
    anonce: bytes = b""
    replay_counter: int = 0
    missing: frozenset[int] = frozenset()


class Authenticator:
    """Conversations with many devices, `parallel` of them at the same time; others ask again later."""

    def __init__(
        self,
        eui64: bytes,
        credentials: MeshCredentials,
        timers: AuthenticationTimers,
        rng: random.Random,
        keys: KeyRing,
        counters: Counter[str],
        port: AuthenticatorPort,
    ) -> None:
        self._eui64 = eui64
        self._credentials = credentials
        self._timers = timers
        self._rng = rng
        self._keys = keys
        self._counters = counters
        self._port = port
        self._sessions: dict[bytes, Session] = {}
        self._busy: dict[bytes, Session] = {}
        self._revoked: set[bytes] = set()
        self._now = 0.0

    # life

    def stop(self) -> None:
        """Forget every device but those that were revoked."""
        self._sessions.clear()
        self._busy.clear()

    def revoke(self, supplicant: bytes) -> None:
        """The device gets no key any more; those that it has are to be replaced (`rotate`)."""
        self._revoked.add(supplicant)
        self._sessions.pop(supplicant, None)
        self._busy.pop(supplicant, None)

    def next_deadline(self) -> float | None:
        return min((s.deadline for s in self._busy.values() if s.deadline is not None), default=None)

    def handle_timer(self, now: float) -> None:
        self._now = now
        for session in list(self._busy.values()):
            if session.deadline is None or now < session.deadline or session.sent is None:
                continue
            if session.repetitions >= self._timers.retransmissions:
                self._counters["auth_unanswered"] += 1
                self._end(session)
                continue
            session.repetitions += 1
            self._arm(session)
            self._port.send(session.supplicant, session.via, *session.sent)

    def _arm(self, session: Session) -> None:
        longest_s = self._timers.retransmit_s * (1 << session.repetitions)
        session.deadline = self._now + longest_s * self._rng.uniform(1.0, 1.2)

    def _send(self, session: Session, state: SessionState, kmp: Kmp, pdu: bytes) -> None:
        """Send what has to be answered."""
        session.state, session.sent, session.repetitions = state, (kmp, pdu), 0
        self._busy[session.supplicant] = session
        self._arm(session)
        self._port.send(session.supplicant, session.via, kmp, pdu)

    def _end(self, session: Session) -> None:
        session.state, session.deadline, session.sent = SessionState.IDLE, None, None
        session.tls, session.pending = None, None
        session.outgoing.clear()
        self._busy.pop(session.supplicant, None)

    # messages

    def receive(self, supplicant: bytes, via: bytes | None, pdu: bytes, now: float) -> None:
        """An EAPOL PDU of a device, through the relay with this IPv6 address. Raises RemoteProtocolError."""
        self._now = now
        eapol = Eapol.decode(pdu)
        key = EapolKey.decode(eapol.body) if eapol.type is EapolType.KEY else None
        if key is not None and key.information & KeyInformation.REQUEST:
            self._asked(supplicant, via, key)
            return
        session = self._busy.get(supplicant)
        if session is None:
            raise RemoteProtocolError("an EAPOL message outside a conversation")
        session.via, session.heard_at = via, now
        if key is not None:
            self._receive_key(session, key, pdu[:EAPOL_HEAD_BYTES])
        elif eapol.type is EapolType.EAP:
            self._receive_eap(session, Eap.decode(eapol.body))
        else:
            raise RemoteProtocolError(f"EAPOL {eapol.type.name} in a conversation")

    def _asked(self, supplicant: bytes, via: bytes | None, key: EapolKey) -> None:
        """Initial EAPOL-Key: begin where both ends still agree."""
        if supplicant in self._revoked:
            self._send_failure(Session(supplicant, via))
            self._port.refused(supplicant, RefusalReason.REVOKED, "")
            return
        session = self._sessions.get(supplicant)
        if session is None:
            session = self._new_session(supplicant)
        if supplicant in self._busy and self._now - session.heard_at < self._timers.retransmit_s:
            return
        if supplicant not in self._busy and len(self._busy) >= self._timers.parallel:
            self._counters["auth_busy"] += 1
            return
        self._end(session)
        session.via, session.heard_at = via, self._now
        data = KeyData.decode(key.key_data)
        session.missing = self._keys.indices - (data.gtkl or frozenset())
        pmk_agrees = bool(session.pmk) and data.pmk_id == pmk_id(session.pmk, self._eui64, supplicant)
        ptk = session.ptk
        if not pmk_agrees:
            self._begin_eap(session)
        elif ptk is not None and data.ptk_id == ptk.identifier(self._eui64, supplicant) and session.missing:
            self._send_group_keys(session, ptk)
        else:
            self._begin_four_way(session)

    def _new_session(self, supplicant: bytes) -> Session:
        if len(self._sessions) >= SESSIONS_MAX:
            idle = next((known for known in self._sessions if known not in self._busy), None)
            if idle is not None:
                del self._sessions[idle]
        session = self._sessions[supplicant] = Session(supplicant)
        return session

    # EAP

    def _begin_eap(self, session: Session) -> None:
        session.pmk, session.ptk = b"", None
        self._counters["auth_started"] += 1
        self._request(session, SessionState.IDENTITY, EapMethod.IDENTITY, b"")

    def _request(self, session: Session, state: SessionState, method: EapMethod, data: bytes) -> None:
        session.identifier = session.identifier + 1 & 0xFF
        request = Eap(EapCode.REQUEST, session.identifier, method, data)
        self._send(session, state, Kmp.EAP, Eapol(EapolType.EAP, request.encode()).encode())

    def _receive_eap(self, session: Session, eap: Eap) -> None:
        if eap.code is not EapCode.RESPONSE:
            raise RemoteProtocolError(f"EAP {eap.code.name} from a supplicant")
        if eap.identifier != session.identifier:
            return  # an answer to a repetition
        if session.state is SessionState.IDENTITY and eap.method == EapMethod.IDENTITY:
            session.tls = TlsServer(self._credentials, session.supplicant)
            session.assembly = Assembly()
            self._request(session, SessionState.TLS, EapMethod.TLS, EapTls(start=True).encode())
        elif session.state is SessionState.TLS and eap.method == EapMethod.TLS and session.tls is not None:
            self._receive_tls(session, session.tls, EapTls.decode(eap.data))
        else:
            raise RemoteProtocolError(f"EAP method {eap.method} in state {session.state.name}")

    def _receive_tls(self, session: Session, tls: TlsServer, packet: EapTls) -> None:
        if packet.data:
            flight = session.assembly.add(packet)
            session.outgoing = [] if flight is None else fragments(tls.receive(flight))
            following = session.outgoing.pop(0) if session.outgoing else EapTls()
            if tls.state is not TlsState.FAILED or following.data:
                self._request(session, SessionState.TLS, EapMethod.TLS, following.encode())
                return
        elif session.outgoing:
            self._request(session, SessionState.TLS, EapMethod.TLS, session.outgoing.pop(0).encode())
            return
        if tls.state is TlsState.ESTABLISHED:
            self._succeed(session, tls)
        else:
            self._refuse(session, tls)

    def _succeed(self, session: Session, tls: TlsServer) -> None:
        session.pmk = tls.msk[:PMK_BYTES]
        session.tls = None
        success = Eap(EapCode.SUCCESS, session.identifier)
        pdu = Eapol(EapolType.EAP, success.encode()).encode()
        self._port.send(session.supplicant, session.via, Kmp.EAP, pdu)
        self._begin_four_way(session)

    def _refuse(self, session: Session, tls: TlsServer) -> None:
        failure = tls.failure
        self._end(session)
        self._send_failure(session)
        if failure is None:
            self._port.refused(session.supplicant, RefusalReason.PROTOCOL, "the handshake was broken off")
        else:
            self._port.refused(session.supplicant, failure.reason, str(failure))

    def _send_failure(self, session: Session) -> None:
        failure = Eap(EapCode.FAILURE, session.identifier)
        pdu = Eapol(EapolType.EAP, failure.encode()).encode()
        self._port.send(session.supplicant, session.via, Kmp.EAP, pdu)

    # keys

    def _send_key(
        self, session: Session, state: SessionState, kmp: Kmp, key: EapolKey, ptk: PairwiseKey | None
    ) -> None:
        pdu = Eapol(EapolType.KEY, key.encode()).encode()
        if ptk is not None:
            head = pdu[:EAPOL_HEAD_BYTES]
            pdu = head + key.sealed(ptk.kck, head).encode()
        self._send(session, state, kmp, pdu)

    def _next_counter(self, session: Session) -> int:
        session.replay_counter += 1
        return session.replay_counter

    def _begin_four_way(self, session: Session) -> None:
        session.anonce = self._credentials.keys.random_bytes(NONCE_BYTES)
        data = KeyData(pmk_id=pmk_id(session.pmk, self._eui64, session.supplicant))
        flags = KeyInformation.PAIRWISE | KeyInformation.ACK
        key = EapolKey(flags, self._next_counter(session), session.anonce, data.encode(), key_bytes=16)
        self._send_key(session, SessionState.FIRST, Kmp.FOUR_WAY, key, None)

    def _receive_key(self, session: Session, key: EapolKey, head: bytes) -> None:
        if key.replay_counter != session.replay_counter or key.information & KeyInformation.ACK:
            raise RemoteProtocolError("an EAPOL-Key answer to something else")
        if session.state is SessionState.FIRST:
            self._receive_second(session, key, head)
            return
        ptk = session.pending if session.state is SessionState.THIRD else session.ptk
        if session.state not in (SessionState.THIRD, SessionState.GROUP) or ptk is None:
            raise RemoteProtocolError(f"an EAPOL-Key message in state {session.state.name}")
        if not key.is_authentic(ptk.kck, head):
            raise RemoteProtocolError("an EAPOL-Key answer that is not authentic")
        is_first_time = session.ptk is None
        session.ptk = ptk
        self._end(session)
        self._counters["auth_keys_given"] += 1
        if is_first_time:
            self._port.authenticated(session.supplicant)

    def _receive_second(self, session: Session, key: EapolKey, head: bytes) -> None:
        ptk = PairwiseKey.derive(session.pmk, self._eui64, session.supplicant, session.anonce, key.nonce)
        if not key.is_authentic(ptk.kck, head):
            raise RemoteProtocolError("the second message of a 4-way handshake that is not authentic")
        session.pending = ptk
        data = KeyData(gtks=tuple(self._keys.items()), gtkl=self._keys.indices)
        flags = KeyInformation.PAIRWISE | KeyInformation.INSTALL | KeyInformation.ACK
        flags |= KeyInformation.SECURE | KeyInformation.ENCRYPTED
        wrapped = wrap_key_data(ptk.kek, data)
        third = EapolKey(flags, self._next_counter(session), session.anonce, wrapped, key_bytes=16)
        self._send_key(session, SessionState.THIRD, Kmp.FOUR_WAY, third, ptk)

    def _send_group_keys(self, session: Session, ptk: PairwiseKey) -> None:
        wanted = tuple(item for item in self._keys.items() if item[0] in session.missing)
        data = KeyData(gtks=wanted, gtkl=self._keys.indices)
        flags = KeyInformation.ACK | KeyInformation.SECURE | KeyInformation.ENCRYPTED
        key = EapolKey(flags, self._next_counter(session), key_data=wrap_key_data(ptk.kek, data), key_bytes=16)
        self._send_key(session, SessionState.GROUP, Kmp.GROUP_KEY, key, ptk)
