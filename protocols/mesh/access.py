"""Access control of one node: its own authentication in join state 2, its part as a relay, and the group keys."""

from __future__ import annotations

from collections.abc import Callable

from protocols.errors import RemoteProtocolError
from protocols.mesh.authentication.authenticator import Authenticator
from protocols.mesh.authentication.eap import Eap, EapCode
from protocols.mesh.authentication.eapol import Eapol, EapolType, Kmp, RelayMessage
from protocols.mesh.authentication.eapol_key import EapolKey, KeyInformation
from protocols.mesh.authentication.supplicant import Supplicant
from protocols.mesh.authentication.trust import RefusalReason
from protocols.mesh.config import LinkKey, Role
from protocols.mesh.core import NodeCore
from protocols.mesh.events import (
    AccessRefused,
    AuthenticationFailed,
    DeviceAuthenticated,
    GroupKeysChanged,
)
from protocols.mesh.join import JoinEvent, JoinState
from protocols.mesh.key_ring import GTK_COUNT, KeyRing
from protocols.mesh.wisun import MULTIPLEX_KMP, Multiplex, PayloadElements

_RELAYED_PER_S = 8.0
_RELAYED_BURST = 16.0
"""Strangers may make a relay send; not more than this."""
_REKEY_SPREAD_S_PER_NODE = 0.5

SendFrame = Callable[[bytes, PayloadElements], None]
"""An EAPOL frame to a neighbour."""
SendRelay = Callable[[bytes, bytes], None]
"""A relay's message to an IPv6 address."""


class Access:
    """Implements the ports of supplicant and authenticator. Without credentials keys are provisioned, and it idles."""

    def __init__(
        self,
        core: NodeCore,
        keys: KeyRing,
        send_frame: SendFrame,
        send_relay: SendRelay,
        happened: Callable[[JoinEvent], None],
        raise_pan_version: Callable[[], None],
    ) -> None:
        self._core = core
        self._keys = keys
        self._send_frame = send_frame
        self._send_relay = send_relay
        self._happened = happened
        self._raise_pan_version = raise_pan_version
        self.root_address: Callable[[], bytes | None] = lambda: None
        self.parent: Callable[[], bytes | None] = lambda: None
        self.pan_size: Callable[[], int] = lambda: 1
        self._state = JoinState.OFF
        self._target: bytes | None = None
        self._refusals = 0
        self._keys_of_pan: int | None = None
        self._activate_at: tuple[float, int] | None = None
        self._remove_at: tuple[float, int] | None = None
        self._relay_tokens, self._tokens_at = _RELAYED_BURST, 0.0
        self._supplicant: Supplicant | None = None
        self._authenticator: Authenticator | None = None
        config, timers = core.config, core.profile.authentication
        self._timers = timers
        if config.credentials is None:
            return
        if config.role is Role.ROOT:
            self._authenticator = Authenticator(
                config.eui64, config.credentials, timers, core.rng, keys, core.counters, _RootPort(self)
            )
            for eui64 in sorted(config.revoked):
                self._authenticator.revoke(eui64)
        else:
            self._supplicant = Supplicant(config.eui64, config.credentials, timers, core.rng, _DevicePort(self))

    # join states

    def enter(self, state: JoinState, target: bytes | None) -> None:
        """The node is in this state now. `target` is the neighbour whose advertisement it chose."""
        previous, self._state = self._state, state
        if state in (JoinState.OFF, JoinState.SELECT_PAN):
            if self._supplicant is not None:
                self._supplicant.stop()
                if previous is JoinState.CONFIGURE:
                    # The keys say nothing to this PAN: whatever they were, they are not its keys any more.
                    self._keys.clear()
            if self._authenticator is not None:
                self._authenticator.stop()
        elif state is JoinState.AUTHENTICATE:
            self._authenticate(target)
        elif state is JoinState.OPERATIONAL and self._authenticator is not None:
            self._resume_rotation()

    def _authenticate(self, target: bytes | None) -> None:
        supplicant = self._supplicant
        if supplicant is None:
            self._core.trace("mesh.authenticated", method="provisioned link key")
            self._happened(JoinEvent.AUTHENTICATED)
        elif len(self._keys) and self._keys_of_pan == self._core.pan_id:
            self._core.trace("mesh.authenticated", method="keys that are held")
            self._happened(JoinEvent.AUTHENTICATED)
        else:
            self._keys.clear()
            if self._keys_of_pan != self._core.pan_id:
                supplicant.forget()
            self._keys_of_pan = self._core.pan_id
            self._target = target
            supplicant.start(self._keys.indices, self._core.now, self._delay_s())

    def _delay_s(self) -> float:
        """Before the first question: short, but the longer the more often this device was refused."""
        delay_s = self._core.rng.uniform(0.0, self._timers.first_within_s)
        if self._refusals:
            longest_s = min(self._timers.refused_s * 2.0 ** (self._refusals - 1), self._timers.refused_max_s)
            delay_s += longest_s * self._core.rng.uniform(0.75, 1.0)
        return delay_s

    def hear_configuration(self, key_index: int, hashes: tuple[bytes, ...], *, is_present: bool) -> None:
        """A PAN configuration, authentic under that key. `is_present`: its version is the newest that was heard."""
        if not is_present or self._core.config.role is Role.ROOT:
            return
        self._keys.adopt(key_index)
        supplicant = self._supplicant
        if supplicant is None:
            return
        missing, stale = self._keys.compare(hashes)
        for index in sorted(stale):
            self._keys.remove(index)
        if missing:
            self._core.counters["gtk_missing"] += 1
            delay_s = self._core.rng.uniform(0.0, self._timers.first_within_s)
            delay_s += self._core.rng.uniform(0.0, _REKEY_SPREAD_S_PER_NODE * self.pan_size())
            supplicant.start(self._keys.indices - missing, self._core.now, delay_s)

    # the root's keys

    def rotate(self, key: LinkKey) -> None:
        """Root only: install a new group key, 1 to 4, use it after a while, and then end the one before it."""
        previous = self._keys.active_index
        self._keys.remove(key.index)
        self._keys.install(key.index, key.key)
        now = self._core.now
        self._activate_at = (now + self._timers.activation_s, key.index)
        self._remove_at = (now + self._timers.activation_s + self._timers.removal_s, previous)
        self._keys_changed("installed", key.index)

    def _resume_rotation(self) -> None:
        """The root restarted with more than one key: a rotation was under way, and begins its waits anew."""
        indices = [index for index, _ in self._keys.items()]
        if len(indices) < 2 or self._remove_at is not None:
            return
        now, removal_at = self._core.now, self._core.now + self._timers.removal_s
        if indices[-1] != self._keys.active_index:
            self._activate_at = (now + self._timers.activation_s, indices[-1])
            self._remove_at = (removal_at + self._timers.activation_s, self._keys.active_index)
        else:
            self._remove_at = (removal_at, indices[-2])

    def revoke(self, eui64: bytes) -> None:
        """Root only: refuse a device from now on. What it knows ends with the next rotation."""
        if self._authenticator is not None:
            self._authenticator.revoke(eui64)
            self._core.trace("mesh.revoked", eui64=eui64.hex())

    def _keys_changed(self, what: str, index: int) -> None:
        self._core.trace("mesh.group_key", what=what, index=index, live=sorted(self._keys.indices))
        keys = tuple(LinkKey(known, key) for known, key in self._keys.items())
        self._core.events.append(GroupKeysChanged(keys, self._keys.active_index))
        self._raise_pan_version()

    # time

    def next_deadline(self) -> float | None:
        if self._supplicant is None and self._authenticator is None and self._remove_at is None:
            return None
        deadlines = (
            self._supplicant.deadline if self._supplicant is not None else None,
            self._authenticator.next_deadline() if self._authenticator is not None else None,
            self._activate_at and self._activate_at[0],
            self._remove_at and self._remove_at[0],
        )
        return min((at for at in deadlines if at is not None), default=None)

    def handle_timer(self) -> None:
        now = self._core.now
        if self._activate_at is not None and now >= self._activate_at[0]:
            index, self._activate_at = self._activate_at[1], None
            self._keys.adopt(index)
            self._keys_changed("activated", index)
        if self._remove_at is not None and now >= self._remove_at[0]:
            index, self._remove_at = self._remove_at[1], None
            if index != self._keys.active_index:
                self._keys.remove(index)
                self._keys_changed("removed", index)
        if self._supplicant is not None:
            if self._state is not JoinState.AUTHENTICATE:
                self._target = self.parent() or self._target
            self._supplicant.handle_timer(now)
        if self._authenticator is not None:
            self._authenticator.handle_timer(now)

    # messages

    def receive_frame(self, source: bytes, elements: PayloadElements) -> None:
        """An EAPOL frame of a neighbour. Raises RemoteProtocolError."""
        multiplex = elements.multiplex
        if multiplex is None or multiplex.kmp_id is None or multiplex.kmp_id not in list(Kmp):
            raise RemoteProtocolError("an EAPOL frame without a key management message")
        kmp, pdu = Kmp(multiplex.kmp_id), multiplex.payload
        if is_from_authenticator(pdu):
            if self._supplicant is None or source != self._target:
                self._core.counters["eapol_unexpected"] += 1
                return
            self._supplicant.receive(pdu, self._core.now)
        elif self._authenticator is not None:
            self._authenticator.receive(source, None, pdu, self._core.now)
        elif self._supplicant is not None:
            self._relay_up(RelayMessage(source, kmp, pdu))

    def _relay_up(self, message: RelayMessage) -> None:
        root, now = self.root_address(), self._core.now
        self._relay_tokens = min(_RELAYED_BURST, self._relay_tokens + (now - self._tokens_at) * _RELAYED_PER_S)
        self._tokens_at = now
        if self._state is not JoinState.OPERATIONAL or root is None or self._relay_tokens < 1.0:
            self._core.counters["eapol_not_relayed"] += 1
            return
        self._relay_tokens -= 1.0
        self._core.counters["eapol_relayed_up"] += 1
        self._send_relay(root, message.encode())

    def receive_relayed(self, source: bytes, payload: bytes) -> None:
        """A datagram to the relay's port: at the root one of a relay, at a relay one of the root.

        Raises RemoteProtocolError.
        """
        message = RelayMessage.decode(payload)
        if self._authenticator is not None:
            self._authenticator.receive(message.supplicant, source, message.pdu, self._core.now)
        elif self._supplicant is not None and source == self.root_address():
            self._core.counters["eapol_relayed_down"] += 1
            self._send_pdu(message.supplicant, message.kmp, message.pdu)
        else:
            raise RemoteProtocolError("a relay's message from somebody else than the root")

    def _send_pdu(self, destination: bytes, kmp: Kmp, pdu: bytes) -> None:
        # The schedule lets the receiver answer at once, whatever it has heard of this node before.
        schedule = self._core.config.radio.unicast_schedule()
        multiplex = Multiplex(MULTIPLEX_KMP, pdu, int(kmp))
        self._send_frame(destination, PayloadElements(unicast_schedule=schedule, multiplex=multiplex))

    # what supplicant and authenticator report

    def send_to_target(self, kmp: Kmp, pdu: bytes) -> None:
        if self._target is not None:
            self._send_pdu(self._target, kmp, pdu)

    def send_to_supplicant(self, supplicant: bytes, via: bytes | None, kmp: Kmp, pdu: bytes) -> None:
        if via is None:
            self._send_pdu(supplicant, kmp, pdu)
        else:
            self._send_relay(via, RelayMessage(supplicant, kmp, pdu).encode())

    def keys_received(self, gtks: tuple[tuple[int, bytes], ...]) -> None:
        self._refusals = 0
        for index, key in gtks:
            if index <= GTK_COUNT:
                self._keys.install(index, key)
        self._core.trace("mesh.group_keys", live=sorted(self._keys.indices))
        if self._state is JoinState.AUTHENTICATE:
            self._core.trace("mesh.authenticated", method="certificate")
            self._happened(JoinEvent.AUTHENTICATED)

    def device_refused(self, reason: RefusalReason, detail: str) -> None:
        """This device did not get in, or does not stay in."""
        self._core.counters["auth_failed"] += 1
        self._core.events.append(AuthenticationFailed(reason, detail))
        self._core.trace("mesh.authentication_failed", reason=reason.value, detail=detail)
        if reason is not RefusalReason.TIME_OUT:
            self._refusals += 1
            self._keys.clear()
        if self._state is JoinState.AUTHENTICATE:
            self._happened(JoinEvent.AUTHENTICATION_FAILED)
        elif reason is not RefusalReason.TIME_OUT and self._state is not JoinState.OFF:
            self._happened(JoinEvent.PAN_TIMED_OUT)

    def supplicant_refused(self, supplicant: bytes, reason: RefusalReason, detail: str) -> None:
        """Root: another device does not get in."""
        self._core.counters[f"refused_{reason.name.lower()}"] += 1
        self._core.events.append(AccessRefused(supplicant, reason, detail))
        self._core.trace("mesh.access_refused", eui64=supplicant.hex(), reason=reason.value, detail=detail)

    def supplicant_authenticated(self, supplicant: bytes) -> None:
        """Root: another device is in."""
        self._core.counters["authenticated"] += 1
        self._core.events.append(DeviceAuthenticated(supplicant))
        self._core.trace("mesh.access_granted", eui64=supplicant.hex())


class _DevicePort:
    """`SupplicantPort`."""

    def __init__(self, access: Access) -> None:
        self.send = access.send_to_target
        self.keys_received = access.keys_received
        self.refused = access.device_refused


class _RootPort:
    """`AuthenticatorPort`."""

    def __init__(self, access: Access) -> None:
        self.send = access.send_to_supplicant
        self.authenticated = access.supplicant_authenticated
        self.refused = access.supplicant_refused


def is_from_authenticator(pdu: bytes) -> bool:
    """Which way an EAPOL PDU goes: requests, results and key messages that want an answer come from the
    authenticator. Raises RemoteProtocolError."""
    eapol = Eapol.decode(pdu)
    if eapol.type is EapolType.EAP:
        return Eap.decode(eapol.body).code is not EapCode.RESPONSE
    return eapol.type is EapolType.KEY and bool(EapolKey.decode(eapol.body).information & KeyInformation.ACK)
