"""The supplicant: a device that asks for the group keys, proves itself by EAP-TLS, and takes the keys."""

from __future__ import annotations

import enum
import random
from dataclasses import replace
from typing import Protocol

from protocols.errors import RemoteProtocolError
from protocols.mesh.authentication.eap import Assembly, Eap, EapCode, EapMethod, EapTls, fragments
from protocols.mesh.authentication.eapol import Eapol, EapolType, Kmp
from protocols.mesh.authentication.eapol_key import (
    NONCE_BYTES,
    EapolKey,
    KeyData,
    KeyInformation,
    unwrap_key_data,
)
from protocols.mesh.authentication.pairwise import PairwiseKey, pmk_id
from protocols.mesh.authentication.tls import TlsClient, TlsState
from protocols.mesh.authentication.trust import MeshCredentials, RefusalReason
from protocols.mesh.timers import AuthenticationTimers

PMK_BYTES = 32
EAPOL_HEAD_BYTES = 4


class SupplicantState(enum.Enum):
    IDLE = "idle"
    WAITING = "waiting before it asks"
    ASKED = "asked for keys"
    EAP = "in EAP-TLS"
    FOUR_WAY = "in the 4-way handshake"


class SupplicantPort(Protocol):
    """Called by `Supplicant`."""

    def send(self, kmp: Kmp, pdu: bytes) -> None:
        """Towards the authenticator, through whoever is the target now."""
        ...

    def keys_received(self, gtks: tuple[tuple[int, bytes], ...]) -> None: ...

    def refused(self, reason: RefusalReason, detail: str) -> None:
        """The supplicant is idle again."""
        ...


class Supplicant:
    """One device's side. PMK and PTK are kept from one conversation to the next, in RAM."""

    def __init__(
        self,
        eui64: bytes,
        credentials: MeshCredentials,
        timers: AuthenticationTimers,
        rng: random.Random,
        port: SupplicantPort,
    ) -> None:
        self._eui64 = eui64
        self._credentials = credentials
        self._timers = timers
        self._rng = rng
        self._port = port
        self.state = SupplicantState.IDLE
        self.deadline: float | None = None
        self._attempts = 0
        self._held: frozenset[int] = frozenset()
        self._now = 0.0
        self._authenticator = b""
        self._pmk = b""
        self._ptk: PairwiseKey | None = None
        self._pending: PairwiseKey | None = None
        self._anonce = self._snonce = b""
        self._replay_counter = -1
        self._tls: TlsClient | None = None
        self._assembly = Assembly()
        self._outgoing: list[EapTls] = []
        self._last: tuple[int, bytes] | None = None

    # life

    def start(self, held: frozenset[int], now: float, delay_s: float) -> None:
        """Ask for the group keys that are not in `held`, after `delay_s`. Does nothing if it is at it already."""
        if self.state is SupplicantState.IDLE:
            self._held = held
            self._attempts = 0
            self._change(SupplicantState.WAITING, now, delay_s)

    def stop(self) -> None:
        """End a conversation; keys of earlier ones stay."""
        self.state = SupplicantState.IDLE
        self.deadline = None
        self._tls = None
        self._outgoing.clear()

    def forget(self) -> None:
        """Forget PMK and PTK too."""
        self.stop()
        self._pmk, self._ptk, self._pending = b"", None, None

    def _change(self, state: SupplicantState, now: float, deadline_s: float) -> None:
        self.state = state
        self.deadline = now + deadline_s

    def handle_timer(self, now: float) -> None:
        if self.deadline is None or now < self.deadline:
            return
        if self._attempts >= self._timers.attempts:
            self._give_up(RefusalReason.TIME_OUT, "")
            return
        self._ask(now)

    def _ask(self, now: float) -> None:
        """Initial EAPOL-Key of Wi-SUN FAN: which keys are here, by their names."""
        longest_s = self._timers.retry_s * (1 << self._attempts)
        self._attempts += 1
        self._change(SupplicantState.ASKED, now, longest_s * self._rng.uniform(0.9, 1.1))
        data = KeyData(gtkl=self._held)
        if self._pmk:
            data = replace(data, pmk_id=pmk_id(self._pmk, self._authenticator, self._eui64))
        if self._ptk is not None:
            data = replace(data, ptk_id=self._ptk.identifier(self._authenticator, self._eui64))
        key = EapolKey(KeyInformation.REQUEST, 0, key_data=data.encode())
        self._port.send(Kmp.EAP, Eapol(EapolType.KEY, key.encode()).encode())

    def _give_up(self, reason: RefusalReason, detail: str) -> None:
        if reason is not RefusalReason.TIME_OUT:
            self.forget()
        self.stop()
        self._port.refused(reason, detail)

    # messages

    def receive(self, pdu: bytes, now: float) -> None:
        """An EAPOL PDU from the authenticator. Raises RemoteProtocolError."""
        if self.state in (SupplicantState.IDLE, SupplicantState.WAITING) and self._ptk is None:
            raise RemoteProtocolError("an EAPOL message that nobody asked for")
        self._now = now
        eapol = Eapol.decode(pdu)
        if eapol.type is EapolType.EAP:
            self._receive_eap(Eap.decode(eapol.body))
        elif eapol.type is EapolType.KEY:
            self._receive_key(EapolKey.decode(eapol.body), pdu[:EAPOL_HEAD_BYTES])
        else:
            raise RemoteProtocolError(f"EAPOL {eapol.type.name} from the authenticator")

    def _progress(self, state: SupplicantState) -> None:
        self._change(state, self._now, self._timers.retry_s)

    # EAP

    def _receive_eap(self, eap: Eap) -> None:
        if self.state not in (SupplicantState.ASKED, SupplicantState.EAP):
            raise RemoteProtocolError("EAP that was not asked for")
        if eap.code is EapCode.SUCCESS:
            self._succeed()
        elif eap.code is EapCode.FAILURE:
            self._fail()
        elif eap.code is EapCode.REQUEST:
            if self._last is not None and self._last[0] == eap.identifier and eap.method != EapMethod.IDENTITY:
                self._port.send(Kmp.EAP, self._last[1])
            else:
                self._receive_request(eap)
        else:
            raise RemoteProtocolError("an EAP response from the authenticator")

    def _receive_request(self, eap: Eap) -> None:
        self._progress(SupplicantState.EAP)
        if eap.method == EapMethod.IDENTITY:
            self._tls = None
            self._respond(eap, EapMethod.IDENTITY, self._credentials.certificate.common_name.encode())
        elif eap.method != EapMethod.TLS:
            self._respond(eap, EapMethod.NAK, bytes((EapMethod.TLS,)))
        else:
            self._respond(eap, EapMethod.TLS, self._receive_tls(EapTls.decode(eap.data)).encode())

    def _respond(self, eap: Eap, method: EapMethod, data: bytes) -> None:
        response = Eap(EapCode.RESPONSE, eap.identifier, method, data)
        pdu = Eapol(EapolType.EAP, response.encode()).encode()
        self._last = (eap.identifier, pdu)
        self._port.send(Kmp.EAP, pdu)

    def _receive_tls(self, packet: EapTls) -> EapTls:
        """Our answer to a fragment: the next one of ours, an acknowledgement, or the next flight."""
        if packet.start:
            self._tls = TlsClient(self._credentials)
            self._assembly = Assembly()
            self._outgoing = fragments(self._tls.start())
        elif self._tls is None:
            raise RemoteProtocolError("EAP-TLS that did not begin", spec="RFC 5216, 2.1")
        elif packet.data:
            flight = self._assembly.add(packet)
            self._outgoing = [] if flight is None else fragments(self._tls.receive(flight))
        return self._outgoing.pop(0) if self._outgoing else EapTls()

    def _succeed(self) -> None:
        tls = self._tls
        if tls is None or tls.state is not TlsState.ESTABLISHED or tls.peer is None or tls.peer.system_title is None:
            raise RemoteProtocolError("EAP success before the handshake has succeeded", spec="RFC 5216, 2.1.1")
        self._pmk = tls.msk[:PMK_BYTES]
        self._authenticator = tls.peer.system_title
        self._ptk = self._tls = None
        self._replay_counter = -1
        self._progress(SupplicantState.FOUR_WAY)

    def _fail(self) -> None:
        failure = None if self._tls is None else self._tls.failure
        if failure is None:
            self._give_up(RefusalReason.REFUSED_BY_PEER, "EAP failure")
        else:
            self._give_up(failure.reason, str(failure))

    # keys

    def _receive_key(self, key: EapolKey, head: bytes) -> None:
        information = key.information
        if not information & KeyInformation.ACK:
            raise RemoteProtocolError("an EAPOL-Key message of another supplicant")
        if key.replay_counter <= self._replay_counter:
            raise RemoteProtocolError("an EAPOL-Key message that was here before")
        if not information & KeyInformation.MIC:
            self._receive_first(key)
        elif information & KeyInformation.PAIRWISE:
            self._receive_third(key, head)
        else:
            self._receive_group(key, head)

    def _receive_first(self, key: EapolKey) -> None:
        if not self._pmk or self.state not in (SupplicantState.ASKED, SupplicantState.FOUR_WAY):
            raise RemoteProtocolError("a 4-way handshake without a PMK")
        name = KeyData.decode(key.key_data).pmk_id
        if name is not None and name != pmk_id(self._pmk, self._authenticator, self._eui64):
            raise RemoteProtocolError("a 4-way handshake of another PMK")
        self._replay_counter = key.replay_counter
        if key.nonce != self._anonce or not self._snonce:
            self._anonce = key.nonce
            self._snonce = self._credentials.keys.random_bytes(NONCE_BYTES)
        self._pending = PairwiseKey.derive(self._pmk, self._authenticator, self._eui64, key.nonce, self._snonce)
        self._progress(SupplicantState.FOUR_WAY)
        answer = EapolKey(KeyInformation.PAIRWISE, key.replay_counter, self._snonce)
        self._answer(Kmp.FOUR_WAY, answer, self._pending)

    def _receive_third(self, key: EapolKey, head: bytes) -> None:
        ptk = self._pending or self._ptk
        if ptk is None or not key.is_authentic(ptk.kck, head) or key.nonce != self._anonce:
            raise RemoteProtocolError("the third message of a 4-way handshake that is not authentic")
        self._replay_counter = key.replay_counter
        data = unwrap_key_data(ptk.kek, key.key_data)
        self._ptk, self._pending, self._snonce = ptk, None, b""
        flags = KeyInformation.PAIRWISE | KeyInformation.SECURE
        self._answer(Kmp.FOUR_WAY, EapolKey(flags, key.replay_counter), ptk)
        self.stop()
        self._port.keys_received(data.gtks)

    def _receive_group(self, key: EapolKey, head: bytes) -> None:
        ptk = self._ptk
        if ptk is None or not key.is_authentic(ptk.kck, head):
            raise RemoteProtocolError("a group key message that is not authentic")
        self._replay_counter = key.replay_counter
        data = unwrap_key_data(ptk.kek, key.key_data)
        self._answer(Kmp.GROUP_KEY, EapolKey(KeyInformation.SECURE, key.replay_counter), ptk)
        self.stop()
        self._port.keys_received(data.gtks)

    def _answer(self, kmp: Kmp, key: EapolKey, ptk: PairwiseKey) -> None:
        head = Eapol(EapolType.KEY, key.encode()).encode()[:EAPOL_HEAD_BYTES]
        self._port.send(kmp, head + key.sealed(ptk.kck, head).encode())
